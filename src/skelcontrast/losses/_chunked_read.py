"""The bank read in pieces: an online softmax over chunks of the bank, in plain torch, on any device.

Everything of one chunk is held the wide way round, keys by queries: (chunk, R) for R queries. There both matrix
products run at full speed on a CPU, maxima and sums over keys are sums of whole rows, and a chunk splits into blocks
of keys without a copy. Softmaxes are taken in powers of 2, which a CPU computes in about half the time of powers of e.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from skelcontrast._autocast import autocast_off

_LOG2_E = math.log2(math.e)
_BLOCK = 16
"""Keys of which the nearest stands for all while the nearest are looked for."""
_ON_CPU, _ELSEWHERE = 2**19, 2**22
"""Similarities of one chunk: on a CPU so few that they stay in its cache, see docs/guide/performance.md; elsewhere so
many that a device is busy for longer than it takes to launch the work."""


def chunked_read(
    views: Tensor, positive: Tensor, bank: Tensor, temperature: float, k: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Read the bank for stacked views (G, N, D), see `bank_read`. Views and positives come in the dtype to compute in.

    Beyond its results it holds one chunk of similarities and of the bank. It never waits for the device.
    """
    G, N, _ = views.shape
    with autocast_off(views.device):
        queries = (views * (_LOG2_E / temperature)).flatten(0, 1).T.contiguous()
        # The positive is the first key that the running softmax has seen.
        attended = positive.repeat(G, 1)
        peak = (queries * attended.T).sum(dim=0)
        total = torch.ones_like(peak)
        nearest = _Nearest.none(queries, k)
        for start, keys, logits in _chunks(queries, bank, chunk_size(queries.shape[1], bank)):
            maxima = _maxima(logits)
            nearest = nearest.with_chunk(start, logits, maxima)
            higher = torch.maximum(peak, maxima.amax(dim=0))
            weights = logits.sub_(higher).exp2_()[: keys.shape[0]]
            decay = (peak - higher).exp2_()
            total = total.mul_(decay).add_(weights.sum(dim=0))
            attended = attended.mul_(decay[:, None]).addmm_(weights.T, keys)
            peak = higher
        log_partition = (peak + total.log2()) / _LOG2_E
        attended = attended.div_(total[:, None])
    return log_partition.view(G, N), attended.view(views.shape), nearest.in_bank(bank).view(G, N, k)


def chunked_rows(views: Tensor, bank: Tensor, k: int) -> Tensor:
    """Return the k nearest rows of the bank for stacked views (G, N, D), as (G, N, k)."""
    G, N, _ = views.shape
    with autocast_off(views.device):
        queries = views.flatten(0, 1).T.contiguous()
        nearest = _Nearest.none(queries, k)
        for start, _, logits in _chunks(queries, bank, chunk_size(queries.shape[1], bank)):
            nearest = nearest.with_chunk(start, logits, _maxima(logits))
    return nearest.in_bank(bank).view(G, N, k)


def chunk_size(queries: int, bank: Tensor) -> int:
    """Return how many keys to take at once: a multiple of the block, no more than hold all keys."""
    K, D = bank.shape
    fitting = (_ON_CPU if bank.device.type == "cpu" else _ELSEWHERE) // max(queries, D)
    return _BLOCK * max(1, min(fitting // _BLOCK, -(-K // _BLOCK)))


def chunked_context(
    own: Tensor, other: Tensor, own_bank: Tensor, other_bank: Tensor, temperature: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Read the products of two streams' similarities, see `_context_read`. Views come in the dtype to compute in."""
    with autocast_off(own.device):
        queries = own.T.contiguous(), other.T.contiguous()
        attended = torch.zeros_like(own), torch.zeros_like(other)
        total = own.new_zeros(own.shape[0])
        peak = torch.full_like(total, -math.inf)
        size = min(chunk_size(own.shape[0], own_bank), chunk_size(own.shape[0], other_bank))
        banks = own_bank, other_bank
        pairs = zip(*(_chunks(z, bank, size) for z, bank in zip(queries, banks, strict=True)), strict=True)
        for (_, own_keys, own_products), (_, other_keys, other_products) in pairs:
            # Not the rows behind the last key: there both are minus infinity, and their product is not.
            x, y = own_products[: own_keys.shape[0]], other_products[: other_keys.shape[0]]
            logits = x * y * (_LOG2_E / temperature)
            higher = torch.maximum(peak, logits.amax(dim=0))
            weights, decay = logits.sub_(higher).exp2_(), (peak - higher).exp2_()
            total = total.mul_(decay).add_(weights.sum(dim=0))
            attended[0].mul_(decay[:, None]).addmm_(y.mul_(weights).T, own_keys)
            attended[1].mul_(decay[:, None]).addmm_(x.mul_(weights).T, other_keys)
            peak = higher
        log_partition = (peak + total.log2()) / _LOG2_E
        return log_partition, attended[0].div_(total[:, None]), attended[1].div_(total[:, None])


def _chunks(queries: Tensor, bank: Tensor, size: int) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield the first row of each chunk, its keys, and their dot products with the queries (D, R) as (chunk, R).

    One piece of memory serves all chunks. Rows behind the last key hold minus infinity, which has weight 0.
    """
    logits = queries.new_empty(size, queries.shape[1])
    for start in range(0, bank.shape[0], size):
        keys = bank[start : start + size].to(queries.dtype)
        torch.mm(keys, queries, out=logits[: keys.shape[0]])
        if keys.shape[0] < size:
            logits[keys.shape[0] :].fill_(-math.inf)
        yield start, keys, logits


def _maxima(products: Tensor) -> Tensor:
    """Return the highest products of every block of keys, (chunk / block, R)."""
    return products.view(-1, _BLOCK, products.shape[1]).amax(dim=1)


class _Nearest(NamedTuple):
    """The nearest keys so far of R queries, nearest first: their products and rows, both (k, R)."""

    products: Tensor
    rows: Tensor
    offsets: Tensor
    """Rows of a block (block, 1)."""

    @classmethod
    def none(cls, queries: Tensor, k: int) -> "_Nearest":
        R, device = queries.shape[1], queries.device
        rows = torch.zeros(k, R, dtype=torch.int64, device=device)
        return cls(queries.new_full((k, R), -math.inf), rows, torch.arange(_BLOCK, device=device)[:, None])

    def with_chunk(self, start: int, products: Tensor, maxima: Tensor) -> "_Nearest":
        """Return the nearest of these and of a chunk (chunk, R) that begins at row `start` of the bank.

        The k nearest keys lie in the k blocks whose own nearest keys are nearest, so only those blocks are searched.
        """
        k, R = self.rows.shape
        if k == 0:
            return self
        searched = _highest(maxima, min(k, maxima.shape[0])).indices[:, None]  # (searched blocks, 1, R)
        found = products.view(-1, _BLOCK, R).gather(0, searched.expand(-1, _BLOCK, -1)).flatten(0, 1)
        rows = (searched * _BLOCK + (self.offsets + start)).flatten(0, 1)
        best = _highest(torch.cat([self.products, found]), k)
        return _Nearest(best.values, torch.cat([self.rows, rows]).gather(0, best.indices), self.offsets)

    def in_bank(self, bank: Tensor) -> Tensor:
        """Return the rows (R, k). Not even infinite products make them point behind the bank (K, D)."""
        return self.rows.T.clamp(max=bank.shape[0] - 1).contiguous()


def _highest(products: Tensor, k: int) -> "torch.return_types.max | torch.return_types.topk":
    """Return values and indices of the k highest in every column; of the highest alone in a fifth of the time."""
    return products.max(dim=0, keepdim=True) if k == 1 else products.topk(k, dim=0)
