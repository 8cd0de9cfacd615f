"""Dual distributional divergence minimisation: extreme views learn the normal view's distribution over the bank."""

from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from skelcontrast import _check
from skelcontrast.losses import _similarity
from skelcontrast.losses._similarity import Reduction
from skelcontrast.losses.bank_read import BankRead, Implementation, check_implementation, read_views

Form: TypeAlias = Literal["cross_entropy", "kl"]


def d3m(
    query: Tensor,
    extremes: Sequence[Tensor],
    positive: Tensor,
    bank: Tensor,
    *,
    temperature: float = 0.07,
    form: Form = "cross_entropy",
    reduction: Reduction = "mean",
    implementation: Implementation = "auto",
) -> Tensor:
    """Return the divergence of the extreme views' distributions from the query's, averaged over the views.

    Each distribution is over the positive and the bank together. The query's is the target and carries no gradient, nor
    do the keys: the gradient reaches `extremes` alone. Computed in float32 at least, also under autocast.

    Args:
        query: Embeddings of the normal view (N, D), expected to be unit vectors, which is not checked.
        extremes: Embeddings of the extreme views, one or more, each (N, D).
        positive: Key of each query (N, D).
        bank: Stored keys (K, D).
        temperature: Divides the dot products on both sides, positive.
        form: ``"cross_entropy"`` as in Eq. 7 and 8; ``"kl"`` subtracts the entropy of the target, which makes it the
            Kullback-Leibler divergence: the same gradients, and 0 where an extreme view's distribution is the query's.
        reduction: ``"mean"`` or ``"sum"`` over the batch, or ``"none"`` for the losses (N,).
        implementation: How the bank is read, see `bank_read`; only speed and memory depend on it.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If shapes, devices or settings do not fit, or there is no extreme view.

    References:
        AimCLR, Eq. 4, 5, 7 and 8, and the half sum L_D = (L_d1 + L_d2) / 2. The two lines of Eq. 7, one with the
        positive and one with the bank, are read as one sum over both, as in the released code.

    Example:
        The query is nearer to the positive, the extreme view to the one stored key. At temperature 1 / ln 3 the
        distributions are (3/4, 1/4) and (1/4, 3/4); their divergence is ln(3) / 2.

        >>> import math, torch
        >>> query, extreme = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
        >>> d3m(query, [extreme], query, extreme, temperature=1 / math.log(3), form="kl")
        tensor(0.5493)
    """
    _similarity.check_settings("d3m", temperature, reduction)
    check_form("d3m", form)
    check_implementation("d3m", implementation)
    _similarity.check_contrast("d3m", query, positive, bank)
    extremes = check_extremes("d3m", extremes, query, least=1)
    views = [query.detach(), *extremes]
    reads = read_views("d3m", views, positive, bank, temperature=temperature, implementation=implementation, attend=1)
    return _similarity.reduce(divergence(query, extremes, reads, temperature, form), reduction)


def divergence(
    query: Tensor, extremes: Sequence[Tensor], reads: Sequence[BankRead], temperature: float, form: Form
) -> Tensor:
    """Return the losses (N,) of extreme views, given what the query and they, in this order, read from the bank.

    The cross-entropy of p and p' over keys s is the sum of p (lse' - z'.s / t), which is lse' - z'.c / t with c the
    mean of the keys under p, the query's.
    """
    target, *others = reads
    query, *extremes = _similarity.widen_to(target.attended, query.detach(), *extremes)
    losses = []
    for extreme, read in zip(extremes, others, strict=True):
        log_partition = read.log_partition
        if form == "kl":
            # Differences first, so that equal distributions give an exact 0.
            log_partition, extreme = log_partition - target.log_partition.detach(), extreme - query
        losses.append(log_partition - (extreme * target.attended).sum(dim=1) / temperature)
    return torch.stack(losses).mean(dim=0)


def check_form(owner: str, form: object) -> None:
    """Check the name of a form."""
    _check.choice(owner, "form", form, ("cross_entropy", "kl"))


def check_extremes(owner: str, extremes: object, query: Tensor, *, least: int) -> Sequence[Tensor]:
    """Check that there are at least so many extreme views, each like their query."""
    views = _similarity.check_tensors(owner, "extremes", extremes, least)
    for index, view in enumerate(views):
        _similarity.check_like(owner, f"extremes[{index}]", view, "query", query)
    return views


class D3MLoss(nn.Module):
    """`d3m` with its settings.

    Args:
        temperature: Divides the dot products on both sides, positive.
        form: ``"cross_entropy"`` or ``"kl"``.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        implementation: How the bank is read, see `bank_read`; only speed and memory depend on it.

    Raises:
        ValueError: If a setting is out of range.

    References:
        AimCLR, Eq. 7 and 8.

    Example:
        >>> D3MLoss(form="kl")
        D3MLoss(temperature=0.07, form='kl', reduction='mean')
    """

    def __init__(
        self,
        *,
        temperature: float = 0.07,
        form: Form = "cross_entropy",
        reduction: Reduction = "mean",
        implementation: Implementation = "auto",
    ) -> None:
        super().__init__()
        _similarity.check_settings("D3MLoss", temperature, reduction)
        check_form("D3MLoss", form)
        check_implementation("D3MLoss", implementation)
        self.temperature = temperature
        self.form: Form = form
        self.reduction: Reduction = reduction
        self.implementation: Implementation = implementation

    def forward(self, query: Tensor, extremes: Sequence[Tensor], positive: Tensor, bank: Tensor) -> Tensor:
        """Return the loss of queries (N, D), extreme views (N, D) each, positives (N, D) and a bank (K, D)."""
        return d3m(
            query,
            extremes,
            positive,
            bank,
            temperature=self.temperature,
            form=self.form,
            reduction=self.reduction,
            implementation=self.implementation,
        )

    def extra_repr(self) -> str:
        """Show the settings."""
        return f"temperature={self.temperature}, form={self.form!r}, reduction={self.reduction!r}"
