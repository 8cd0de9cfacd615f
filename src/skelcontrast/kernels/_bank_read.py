"""The two kernels of the bank read.

`read_bank` gives every program some queries and a part of the bank; `finish` puts the parts of a query together with
its positive. Of the similarities nothing but their tile's maximum leaves the chip: the k nearest keys of a query lie in
the k tiles with the highest maxima, so `finish` computes those tiles anew and picks from them.

R queries are N samples of several views, one behind the other. SLOTS is k rounded up to a power of 2, 0 for none;
without ATTEND only the nearest keys are looked for. `scale` takes dot products to logits in powers of 2.
"""

from collections.abc import Callable
from typing import Any

import triton
import triton.language as tl

_jit: Callable[[Callable[..., None]], Any] = triton.jit


@_jit
def read_bank(
    views: tl.tensor,
    bank: tl.tensor,
    peaks: tl.tensor,
    totals: tl.tensor,
    sums: tl.tensor,
    maxima: tl.tensor,
    found: tl.tensor,
    R: tl.tensor,
    K: tl.tensor,
    D: tl.tensor,
    scale: tl.tensor,
    tiles: tl.tensor,
    PARTS: tl.constexpr,
    SLOTS: tl.constexpr,
    ATTEND: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
    WIDTH: tl.constexpr,
    PRECISION: tl.constexpr,
) -> None:
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    part = tl.program_id(1)
    column = tl.arange(0, WIDTH)
    z = tl.load(views + row[:, None] * D + column, mask=(row[:, None] < R) & (column < D), other=0.0)
    peak = tl.full((ROWS,), float("-inf"), tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    weighted = tl.zeros((ROWS, WIDTH), tl.float32)
    if SLOTS > 0:
        slot = tl.arange(0, SLOTS)
        best = tl.full((ROWS, SLOTS), float("-inf"), tl.float32)
        best_tile = tl.zeros((ROWS, SLOTS), tl.int32)
    for tile in range(part * tiles, min((part + 1) * tiles, tl.cdiv(K, KEYS))):
        key = tile * KEYS + tl.arange(0, KEYS)
        at = key.to(tl.int64)[:, None] * D + column
        s = tl.load(bank + at, mask=(key[:, None] < K) & (column < D), other=0.0).to(tl.float32)
        logits = tl.dot(z, tl.trans(s), input_precision=PRECISION) * scale
        logits = tl.where(key < K, logits, float("-inf"))
        highest = tl.max(logits, axis=1)
        if ATTEND:
            higher = tl.maximum(peak, highest)
            weights = tl.exp2(logits - higher[:, None])
            decay = tl.exp2(peak - higher)
            total = total * decay + tl.sum(weights, axis=1)
            weighted = tl.dot(weights, s, weighted * decay[:, None], input_precision=PRECISION)
            peak = higher
        if SLOTS > 0:
            # The tile takes the place of the worst one so far where it is better.
            worst = tl.min(best, axis=1)
            place = (slot == tl.argmin(best, axis=1)[:, None]) & (highest > worst)[:, None]
            best = tl.where(place, highest[:, None], best)
            best_tile = tl.where(place, tile, best_tile)
    at = row * PARTS + part
    if ATTEND:
        tl.store(peaks + at, peak, mask=row < R)
        tl.store(totals + at, total, mask=row < R)
        tl.store(sums + at.to(tl.int64)[:, None] * D + column, weighted, mask=(row[:, None] < R) & (column < D))
    if SLOTS > 0:
        tl.store(maxima + at[:, None] * SLOTS + slot, best, mask=row[:, None] < R)
        tl.store(found + at[:, None] * SLOTS + slot, best_tile, mask=row[:, None] < R)


@_jit
def finish(
    views: tl.tensor,
    positives: tl.tensor,
    bank: tl.tensor,
    peaks: tl.tensor,
    totals: tl.tensor,
    sums: tl.tensor,
    maxima: tl.tensor,
    found: tl.tensor,
    log_partition: tl.tensor,
    attended: tl.tensor,
    nearest: tl.tensor,
    N: tl.tensor,
    K: tl.tensor,
    D: tl.tensor,
    scale: tl.tensor,
    k: tl.tensor,
    PARTS: tl.constexpr,
    PARTS_UP: tl.constexpr,
    SLOTS: tl.constexpr,
    ATTEND: tl.constexpr,
    KEYS: tl.constexpr,
    WIDTH: tl.constexpr,
) -> None:
    row = tl.program_id(0)
    column = tl.arange(0, WIDTH)
    z = tl.load(views + row * D + column, mask=column < D, other=0.0)
    if ATTEND:
        part = tl.arange(0, PARTS_UP)
        at = row * PARTS + part
        positive = tl.load(positives + (row % N) * D + column, mask=column < D, other=0.0)
        peak = tl.load(peaks + at, mask=part < PARTS, other=float("-inf"))
        of_positive = tl.sum(z * positive, axis=0) * scale
        highest = tl.maximum(tl.max(peak, axis=0), of_positive)
        decay = tl.exp2(peak - highest)
        weight = tl.exp2(of_positive - highest)
        inside = (part[:, None] < PARTS) & (column < D)
        weighted = tl.load(sums + at.to(tl.int64)[:, None] * D + column, mask=inside, other=0.0)
        total = tl.sum(tl.load(totals + at, mask=part < PARTS, other=0.0) * decay, axis=0) + weight
        mean = (tl.sum(weighted * decay[:, None], axis=0) + weight * positive) / total
        tl.store(log_partition + row, (highest + tl.log2(total)) * 0.6931471805599453)
        tl.store(attended + row * D + column, mean, mask=column < D)
    if SLOTS > 0:
        # Tiles of all parts, best first; of each the logits anew.
        candidate = tl.arange(0, PARTS_UP * SLOTS)
        at = row * PARTS * SLOTS + candidate
        best = tl.load(maxima + at, mask=candidate < PARTS * SLOTS, other=float("-inf"))
        tile = tl.load(found + at, mask=candidate < PARTS * SLOTS, other=0)
        slot = tl.arange(0, SLOTS)[:, None]
        logits = tl.full((SLOTS, KEYS), float("-inf"), tl.float32)
        keys = tl.zeros((SLOTS, KEYS), tl.int32)
        for turn in range(k):
            is_best = candidate == tl.argmax(best, axis=0)
            is_there = tl.max(best, axis=0) > float("-inf")
            key = tl.sum(tl.where(is_best, tile, 0), axis=0) * KEYS + tl.arange(0, KEYS)
            best = tl.where(is_best, float("-inf"), best)
            at_key = key.to(tl.int64)[:, None] * D + column
            s = tl.load(bank + at_key, mask=(key[:, None] < K) & (column < D), other=0.0).to(tl.float32)
            anew = tl.where(key < tl.where(is_there, K, 0), tl.sum(s * z, axis=1), float("-inf"))
            logits = tl.where(slot == turn, anew, logits)
            keys = tl.where(slot == turn, key, keys)
        logits = tl.reshape(logits, (SLOTS * KEYS,))
        keys = tl.reshape(keys, (SLOTS * KEYS,))
        place = tl.arange(0, SLOTS * KEYS)
        for turn in range(k):
            is_best = place == tl.argmax(logits, axis=0)
            tl.store(
                nearest + row * k + turn, tl.minimum(tl.sum(tl.where(is_best, keys, 0), axis=0), K - 1).to(tl.int64)
            )
            logits = tl.where(is_best, float("-inf"), logits)
