"""CrosSCLR's cross step: the neighbours that one stream finds are positives of the others."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from skelcontrast import _check
from skelcontrast.losses import _similarity
from skelcontrast.losses._operators import streamed_context, tied
from skelcontrast.losses._similarity import Reduction
from skelcontrast.losses.bank_read import BankRead, Implementation, check_implementation, check_k, choose, read_views


class CrossStream(NamedTuple):
    """The cross-stream loss: scalars, or (N,) each under ``reduction="none"``."""

    total: Tensor
    """Sum of the streams' losses."""
    streams: tuple[Tensor, ...]
    """Loss of each stream, in the order of the queries."""


def cross_stream(
    queries: Sequence[Tensor],
    keys: Sequence[Tensor],
    banks: Sequence[Tensor],
    *,
    temperature: float = 0.07,
    k: int = 1,
    context: bool = True,
    reduction: Reduction = "mean",
    implementation: Implementation = "auto",
) -> CrossStream:
    """Return CrosSCLR's cross-stream loss of two or more streams.

    For stream u and another stream v: v's query finds its k nearest keys in v's bank; the rows of u's bank with the
    same numbers, and u's own key, are the positives of u's query. The loss is their mean negative log-probability. With
    `context`, the distribution also has an entry for each row j, the product of both streams' similarities to it, and
    the neighbours are positives there too. A stream's loss is the mean over the other streams, the total the sum over
    all.

    Row j must hold the same sample in every bank, so fill the banks in the same order. The gradient reaches `queries`
    alone, through the context the queries of both streams. Computed in float32 at least, also under autocast.

    Args:
        queries: Embeddings of each stream (N, D); D may differ between streams. Expected to be unit vectors, which is
            not checked.
        keys: Key of each query, per stream, of the shape of its queries.
        banks: Stored keys of each stream (K, D), with the same K.
        temperature: Divides the similarities and the products of two, positive.
        k: Neighbours that each other stream hands over, from 1 to K.
        context: Whether the products of similarities take part.
        reduction: ``"mean"`` or ``"sum"`` over the batch, or ``"none"`` for losses (N,), in total and per stream.
        implementation: How the banks are read, see `bank_read`; only speed and memory depend on it. The streaming forms
            read each bank once for its own softmax and, for the context, each pair of banks once more; the latter is
            done in chunks under ``"triton"`` too.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If shapes, devices or settings do not fit, or the numbers of streams differ or are below 2.

    References:
        Li et al., 3D Human Action Representation Learning via Cross-View Consistency Pursuit (CrosSCLR), CVPR 2021, in
        the form of its released code. Deviates from that paper, which adds the positives' probabilities inside the
        logarithm, as `nnm` can. It is no part of AimCLR: only the rows marked § in Tables 3 to 6 of that paper use it.

    Example:
        Each query equals its key and one row of its bank; the other stream points to the other row. At temperature
        1 / ln 2 key, own row and other row are weighed 2 : 2 : 1, so a stream's loss is (ln 5/2 + ln 5) / 2.

        >>> import math
        >>> queries = [torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])]
        >>> loss = cross_stream(queries, queries, [torch.eye(2)] * 2, temperature=1 / math.log(2), context=False)
        >>> loss.total, loss.streams
        (tensor(2.5257), (tensor(1.2629), tensor(1.2629)))
    """
    owner = "cross_stream"
    _similarity.check_settings(owner, temperature, reduction)
    check_implementation(owner, implementation)
    _check_streams(queries, keys, banks)
    check_k(owner, k, "banks[0]", banks[0])
    streams = []
    for query, key, bank in zip(queries, keys, banks, strict=True):
        (read,) = read_views(owner, [query], key, bank, temperature=temperature, k=k, implementation=implementation)
        streams.append(_Stream(query, key.detach(), bank.detach(), read))

    losses = {}
    for one, other in itertools.combinations(range(len(streams)), 2):
        shared = _context(streams[one], streams[other], temperature, implementation) if context else None
        losses[one, other] = _pair(streams[one], streams[other], shared, temperature)
        losses[other, one] = _pair(streams[other], streams[one], shared, temperature)
    reduced = []
    for own in range(len(streams)):
        pairs = torch.stack([loss for (receiver, _), loss in losses.items() if receiver == own])
        reduced.append(_similarity.reduce(pairs.mean(dim=0), reduction))
    return CrossStream(torch.stack(reduced).sum(dim=0), tuple(reduced))


class _Stream(NamedTuple):
    query: Tensor
    key: Tensor
    bank: Tensor
    read: BankRead

    def products(self, rows: Tensor) -> Tensor:
        """Return the similarities of the queries to rows of the bank, (N, k) both."""
        query, keys = _similarity.widen_to(self.read.attended, self.query, self.bank[rows])
        return (keys * query[:, None]).sum(dim=2)


def _context(one: _Stream, other: _Stream, temperature: float, implementation: Implementation) -> Tensor:
    """Return ln of the sum over rows of exp(similarity of one stream * similarity of the other / temperature), (N,)."""
    banks = one.bank, other.bank
    dtype = _similarity.widest(one.query, other.query, *banks)
    query, other_query = one.query.to(dtype), other.query.to(dtype)
    if choose("cross_stream", implementation, one.bank, queries=2 * one.query.shape[0], dtype=dtype) == "dense":
        similarities = _similarity.dot_products(query, one.bank.to(dtype))
        products = similarities * _similarity.dot_products(other_query, other.bank.to(dtype))
        return (products / temperature).logsumexp(dim=1)
    log_partition, attended, other_attended = streamed_context(
        query.detach(), other_query.detach(), *banks, temperature
    )
    return tied(log_partition, temperature, query, attended, other_query, other_attended)


def _pair(own: _Stream, other: _Stream, context: Tensor | None, temperature: float) -> Tensor:
    """Return the losses (N,) of one stream under the neighbours of another."""
    query, key = _similarity.widen_to(own.read.attended, own.query, own.key)
    near, log_partition = own.products(other.read.neighbors), own.read.log_partition
    positives = [_similarity.positive_products(query, key), near]
    if context is not None:
        positives.append(near * other.products(other.read.neighbors))
        log_partition = torch.logaddexp(log_partition, context)
    return log_partition - torch.cat(positives, dim=1).mean(dim=1) / temperature


def _check_streams(queries: object, keys: object, banks: object) -> None:
    owner = "cross_stream"
    queries = _similarity.check_tensors(owner, "queries", queries, 2)
    keys = _similarity.check_tensors(owner, "keys", keys, 0)
    banks = _similarity.check_tensors(owner, "banks", banks, 0)
    for name, tensors in (("keys", keys), ("banks", banks)):
        if len(tensors) != len(queries):
            _check.fail(owner, name, f"hold {len(queries)} tensors, one per stream of `queries`", len(tensors))
    first = _similarity.check_embeddings(owner, "queries[0]", queries[0])
    hint = "Row j must hold one sample in all banks."
    for index, (query, key, bank) in enumerate(zip(queries, keys, banks, strict=True)):
        own, own_bank = f"queries[{index}]", f"banks[{index}]"
        _similarity.check_embeddings(owner, own, query)
        _check.shape(owner, own, query, "N D", N=first.shape[0], why="to match `queries[0]`")
        _check.same_device(owner, own, query, "queries[0]", first.device)
        _similarity.check_like(owner, f"keys[{index}]", key, own, query)
        _similarity.check_bank(owner, own_bank, bank, own, query)
        sizes = {"K": banks[0].shape[0], "D": query.shape[1]}
        _check.shape(owner, own_bank, bank, "K D", **sizes, why="to match `banks[0]`", hint=hint)


class CrossStreamLoss(nn.Module):
    """`cross_stream` with its settings.

    Args:
        temperature: Divides the similarities and the products of two, positive.
        k: Neighbours that each other stream hands over, at least 1.
        context: Whether the products of similarities take part.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        implementation: How the banks are read, see `bank_read`; only speed and memory depend on it.

    Raises:
        TypeError: If `k` is not an integer.
        ValueError: If a setting is out of range.

    References:
        CrosSCLR (Li et al., CVPR 2021).

    Example:
        >>> CrossStreamLoss(k=2)
        CrossStreamLoss(temperature=0.07, k=2, context=True, reduction='mean')
    """

    def __init__(
        self,
        *,
        temperature: float = 0.07,
        k: int = 1,
        context: bool = True,
        reduction: Reduction = "mean",
        implementation: Implementation = "auto",
    ) -> None:
        super().__init__()
        _similarity.check_settings("CrossStreamLoss", temperature, reduction)
        check_implementation("CrossStreamLoss", implementation)
        self.temperature = temperature
        self.k = _check.integer("CrossStreamLoss", "k", k, 1)
        self.context = context
        self.reduction: Reduction = reduction
        self.implementation: Implementation = implementation

    def forward(self, queries: Sequence[Tensor], keys: Sequence[Tensor], banks: Sequence[Tensor]) -> CrossStream:
        """Return the loss of queries (N, D), keys (N, D) and banks (K, D), one of each per stream."""
        return cross_stream(
            queries,
            keys,
            banks,
            temperature=self.temperature,
            k=self.k,
            context=self.context,
            reduction=self.reduction,
            implementation=self.implementation,
        )

    def extra_repr(self) -> str:
        """Show the settings."""
        return f"temperature={self.temperature}, k={self.k}, context={self.context}, reduction={self.reduction!r}"
