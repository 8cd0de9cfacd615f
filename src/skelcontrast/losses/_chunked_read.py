"""The bank read in pieces: an online softmax over chunks of the bank, in plain torch, on any device.

Everything of one chunk is held the wide way round, keys by queries: (chunk, R) for R queries. There both matrix
products run at full speed on a CPU, maxima and sums over keys are sums of whole rows, and a chunk splits into blocks
of keys without a copy. Softmaxes are taken in powers of 2, which a CPU computes in about half the time of powers of e.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from skelcontrast._autocast import autocast_off
from skelcontrast.losses._nearest_blocks import BLOCK, NearestBlocks

_LOG2_E = math.log2(math.e)
_ON_CPU, _ELSEWHERE = 2**18, 2**22
"""Similarities of one chunk: on a CPU so few that they stay in its cache, see docs/guide/performance.md; elsewhere so
many that a device is busy for longer than it takes to launch the work."""
_HEADROOM = 32.0
"""How far above its reference, in powers of 2, a logit may lie. Sums of 2^20 such weights of keys as long as 2^70 are
still finite in float32, and unit vectors stay within it down to a temperature of 0.045."""


def chunked_read(
    views: Tensor, positive: Tensor, bank: Tensor, temperature: float, k: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Read the bank for stacked views (G, N, D), see `bank_read`. Views and positives come in the dtype to compute in.

    Beyond its results it holds one chunk of similarities and of the bank, and as much again. It never waits for a
    device.

    A softmax may be taken relative to any reference that keeps its powers finite, which need not be the highest logit.
    So the reference moves only when a logit lies far above it, and while it is zero nothing has to be subtracted. To
    ask whether it must move would wait for a device, so elsewhere than on a CPU it moves with every chunk.
    """
    G, N, _ = views.shape
    may_ask = _may_ask(views)
    with autocast_off(views.device):
        queries = (views * (_LOG2_E / temperature)).flatten(0, 1).T.contiguous()
        # The positive is the first key that the running softmax has seen. It also holds the sum away from zero.
        attended = positive.repeat(G, 1)
        reference = (queries * attended.T).sum(dim=0)
        total = torch.ones_like(reference)
        is_zero = may_ask and bool((reference.abs() <= _HEADROOM).all())
        if is_zero:
            total = reference.exp2()
            attended, reference = attended.mul_(total[:, None]), torch.zeros_like(reference)
        nearest, size = _start(queries, bank, k)
        for keys, logits in _chunks(queries, bank, size):
            highest = _maxima(logits, nearest).amax(dim=0)
            if not may_ask or bool((highest > reference + _HEADROOM).any()):
                higher = torch.maximum(reference, highest)
                decay = (reference - higher).exp2_()
                total, attended = total.mul_(decay), attended.mul_(decay[:, None])
                reference, is_zero = higher, False
            weights = (logits if is_zero else logits.sub_(reference)).exp2_()[: keys.shape[0]]
            total = total.add_(weights.sum(dim=0))
            attended = attended.addmm_(weights.T, keys)
        log_partition = (reference + total.log2()) / _LOG2_E
        attended = attended.div_(total[:, None])
        rows = nearest.rows(bank, _at_once(bank))
    return log_partition.view(G, N), attended.view(views.shape), rows.view(G, N, k)


def chunked_rows(views: Tensor, bank: Tensor, k: int) -> Tensor:
    """Return the k nearest rows of the bank for stacked views (G, N, D), as (G, N, k)."""
    G, N, _ = views.shape
    with autocast_off(views.device):
        queries = views.flatten(0, 1).T.contiguous()
        nearest, size = _start(queries, bank, k)
        for _, logits in _chunks(queries, bank, size):
            _maxima(logits, nearest)
        return nearest.rows(bank, _at_once(bank)).view(G, N, k)


def chunk_size(queries: int, bank: Tensor) -> int:
    """Return how many keys to take at once: a multiple of the block, no more than hold all keys."""
    K, D = bank.shape
    return BLOCK * max(1, min(_at_once(bank) // max(queries, D) // BLOCK, -(-K // BLOCK)))


def chunked_context(
    own: Tensor, other: Tensor, own_bank: Tensor, other_bank: Tensor, temperature: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Read the products of two streams' similarities, see `cross_stream`. Views come in the dtype to compute in."""
    with autocast_off(own.device):
        queries = own.T.contiguous(), other.T.contiguous()
        attended = torch.zeros_like(own), torch.zeros_like(other)
        total = own.new_zeros(own.shape[0])
        peak = torch.full_like(total, -math.inf)
        size = min(chunk_size(own.shape[0], own_bank), chunk_size(own.shape[0], other_bank))
        banks = own_bank, other_bank
        pairs = zip(*(_chunks(z, bank, size) for z, bank in zip(queries, banks, strict=True)), strict=True)
        for (own_keys, own_products), (other_keys, other_products) in pairs:
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


def _may_ask(x: Tensor) -> bool:
    """Return whether the values of a tensor may decide what is done: only where there is no device to wait for."""
    return x.device.type == "cpu"


def _at_once(bank: Tensor) -> int:
    """Return how many similarities, or numbers of the bank, to hold at one time."""
    return _ON_CPU if bank.device.type == "cpu" else _ELSEWHERE


def _start(queries: Tensor, bank: Tensor, k: int) -> tuple[NearestBlocks, int]:
    """Return where the nearest keys of all queries (D, R) are kept, and the size of a chunk."""
    size = chunk_size(queries.shape[1], bank)
    blocks = -(-bank.shape[0] // size) * (size // BLOCK)  # of the whole bank
    # Their maxima never take more memory than the products of one chunk.
    return NearestBlocks(queries, k, room=min(size, blocks)), size


def _chunks(queries: Tensor, bank: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the keys of each chunk, and their dot products with the queries (D, R) as (chunk, R).

    One piece of memory serves all chunks. Rows behind the last key hold minus infinity, which has weight 0.
    """
    logits = queries.new_empty(size, queries.shape[1])
    for start in range(0, bank.shape[0], size):
        keys = bank[start : start + size].to(queries.dtype)
        torch.mm(keys, queries, out=logits[: keys.shape[0]])
        if keys.shape[0] < size:
            logits[keys.shape[0] :].fill_(-math.inf)
        yield keys, logits


def _maxima(products: Tensor, nearest: NearestBlocks) -> Tensor:
    """Return the highest products of every block of keys, (chunk / block, R), which are kept with the nearest."""
    place = nearest.place(products.shape[0] // BLOCK)
    size, queries = products.shape
    return torch.amax(products.view(size // BLOCK, BLOCK, queries), dim=1, out=place)
