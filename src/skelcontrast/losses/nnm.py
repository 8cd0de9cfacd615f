"""Nearest neighbours mining: stored keys that lie near a query are positives too."""

from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from skelcontrast import _check
from skelcontrast.losses import _similarity
from skelcontrast.losses._similarity import Reduction
from skelcontrast.losses.bank_read import Implementation, check_implementation, check_k, nearest_rows, read_views

Positives: TypeAlias = Literal["sum", "mean", "logsumexp"]


def nearest_neighbors(
    queries: Sequence[Tensor], bank: Tensor, *, k: int = 1, implementation: Implementation = "auto"
) -> Tensor:
    """Return the rows of the bank with the highest dot products, for each of several embeddings of a batch.

    Computed in float32 at least, also under autocast, and without gradient. Which of two equally near keys is taken
    is left open.

    Args:
        queries: Embeddings of the views, one or more, each (N, D); expected to be unit vectors, which is not checked.
        bank: Stored keys (K, D).
        k: Neighbours of each view, from 1 to K.
        implementation: How the bank is read, see `bank_read`; only speed and memory depend on it.

    Returns:
        Rows (N, number of views * k) as int64, each view's nearest first. A row that several views find is there
        several times; `nnm` counts it once.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If shapes or devices do not fit, or `k` is out of range.

    References:
        AimCLR, Section 3.5 (the set N+ of Eq. 9); CrosSCLR (Li et al., CVPR 2021).

    Example:
        >>> a, b = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[0.0, 0.6, 0.8]])
        >>> nearest_neighbors([a, b], torch.eye(3))
        tensor([[0, 2]])
    """
    owner = "nearest_neighbors"
    check_implementation(owner, implementation)
    views = _similarity.check_views(owner, "queries", queries)
    _similarity.check_bank(owner, "bank", bank, "queries[0]", views[0])
    check_k(owner, k, "bank", bank)
    return torch.cat(nearest_rows(owner, views, bank, k=k, implementation=implementation), dim=1)


def nnm(
    query: Tensor,
    positive: Tensor,
    bank: Tensor,
    neighbors: Tensor,
    *,
    temperature: float = 0.07,
    positives: Positives = "sum",
    reduction: Reduction = "mean",
    implementation: Implementation = "auto",
) -> Tensor:
    """Return InfoNCE with several positives: the query's key and its neighbours in the bank.

    Computed in float32 at least, also under autocast. The gradient reaches `query` alone. Without neighbours (N, 0)
    every form is `info_nce`.

    Args:
        query: Embeddings (N, D), expected to be unit vectors, which is not checked.
        positive: Key of each query (N, D).
        bank: Stored keys (K, D).
        neighbors: Rows of the bank (N, P), int64, as `nearest_neighbors` returns them, or -1 for none. A row that
            occurs several times for a query counts once. That they lie in [-1, K) is not checked here.
        temperature: Divides the dot products, positive.
        positives: How the positives of a query enter: ``"sum"`` adds their negative log-probabilities (Eq. 9),
            ``"mean"`` averages them (the released code), ``"logsumexp"`` adds the probabilities inside one logarithm
            (CrosSCLR's paper).
        reduction: ``"mean"`` or ``"sum"`` over the batch, or ``"none"`` for the losses (N,).
        implementation: How the bank is read, see `bank_read`; only speed and memory depend on it.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If shapes, devices or settings do not fit.

    References:
        AimCLR, Eq. 9, which is ``"sum"``. Deviates from the paper with ``"mean"``, the form of the released code.

    Example:
        Of two stored keys the second equals the query, as its positive does. At temperature 1 / ln 2 the positive, the
        first key and the second are weighed 2 : 1 : 2. The positives have probability 2/5 each.

        >>> import math
        >>> query, bank = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0], [1.0, 0.0]])
        >>> neighbors = nearest_neighbors([query], bank)
        >>> nnm(query, query, bank, neighbors, temperature=1 / math.log(2))  # 2 ln 5/2
        tensor(1.8326)
        >>> nnm(query, query, bank, neighbors, temperature=1 / math.log(2), positives="logsumexp")  # ln 5/4
        tensor(0.2231)
    """
    _similarity.check_settings("nnm", temperature, reduction)
    check_positives("nnm", positives)
    check_implementation("nnm", implementation)
    _similarity.check_contrast("nnm", query, positive, bank)
    _check_neighbors(neighbors, query)
    (read,) = read_views("nnm", [query], positive, bank, temperature=temperature, implementation=implementation)
    losses = nnm_losses(query, positive, bank, neighbors, read.log_partition, temperature, positives)
    return _similarity.reduce(losses, reduction)


def nnm_losses(
    query: Tensor,
    positive: Tensor,
    bank: Tensor,
    neighbors: Tensor,
    log_partition: Tensor,
    temperature: float,
    positives: Positives,
) -> Tensor:
    """Return NNM of each sample (N,), given the log-partition of the queries (N,)."""
    rows, counts = _union(neighbors)
    query, positive, keys = _similarity.widen_to(log_partition, query, positive.detach(), bank.detach()[rows])
    keys = torch.cat([positive[:, None], keys], dim=1)
    logits = (keys * query[:, None]).sum(dim=2) / temperature
    if positives == "logsumexp":
        return log_partition - logits.masked_fill(~counts, -torch.inf).logsumexp(dim=1)
    losses = ((log_partition[:, None] - logits) * counts).sum(dim=1)
    return losses / counts.sum(dim=1) if positives == "mean" else losses


def check_positives(owner: str, positives: object) -> None:
    """Check the name of a form."""
    _check.choice(owner, "positives", positives, ("sum", "mean", "logsumexp"))


def _union(neighbors: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows of the bank (N, P), sorted, and which of [positive | rows] count (N, 1 + P): each row once."""
    rows = neighbors.sort(dim=1).values
    # A row that repeats stands, once sorted, behind its like; -1 stands before the first, which has none.
    new = rows.diff(dim=1, prepend=rows.new_full((rows.shape[0], 1), -1)) != 0
    return rows, torch.cat([new.new_ones(rows.shape[0], 1), new], dim=1)


def _check_neighbors(neighbors: object, query: Tensor) -> None:
    rows = _check.tensor("nnm", "neighbors", neighbors, floating=False)
    if rows.dtype != torch.int64:
        hint = "Pass rows of the bank, as `nearest_neighbors` returns them."
        _check.fail("nnm", "neighbors", "be int64", rows.dtype, hint=hint, kind=TypeError)
    fits = rows.ndim == 2 and rows.shape[0] == query.shape[0]
    why = "" if fits else f"to match `query` {_check.show(query.shape)}"
    _check.shape("nnm", "neighbors", rows, "N P", N=query.shape[0], why=why)
    _check.same_device("nnm", "neighbors", rows, "query", query.device)


class NNMLoss(nn.Module):
    """`nnm` with its settings.

    Args:
        temperature: Divides the dot products, positive.
        positives: ``"sum"`` (Eq. 9), ``"mean"`` (the released code) or ``"logsumexp"`` (CrosSCLR's paper).
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        implementation: How the bank is read, see `bank_read`; only speed and memory depend on it.

    Raises:
        ValueError: If a setting is out of range.

    References:
        AimCLR, Eq. 9.

    Example:
        >>> NNMLoss(positives="mean")
        NNMLoss(temperature=0.07, positives='mean', reduction='mean')
    """

    def __init__(
        self,
        *,
        temperature: float = 0.07,
        positives: Positives = "sum",
        reduction: Reduction = "mean",
        implementation: Implementation = "auto",
    ) -> None:
        super().__init__()
        _similarity.check_settings("NNMLoss", temperature, reduction)
        check_positives("NNMLoss", positives)
        check_implementation("NNMLoss", implementation)
        self.temperature = temperature
        self.positives: Positives = positives
        self.reduction: Reduction = reduction
        self.implementation: Implementation = implementation

    def forward(self, query: Tensor, positive: Tensor, bank: Tensor, neighbors: Tensor) -> Tensor:
        """Return the loss of queries (N, D), positives (N, D), a bank (K, D) and rows of it (N, P)."""
        return nnm(
            query,
            positive,
            bank,
            neighbors,
            temperature=self.temperature,
            positives=self.positives,
            reduction=self.reduction,
            implementation=self.implementation,
        )

    def extra_repr(self) -> str:
        """Show the settings."""
        return f"temperature={self.temperature}, positives={self.positives!r}, reduction={self.reduction!r}"
