"""The kernels of a batch's statistics, and what kernels share that sum up what they have just written.

Values stand as rows with a column per channel. A program writes a part: count, mean and spread of every channel, which
is the sum of squares about that mean. Parts are merged in a fixed order. A program that sees several tiles follows mean
and spread of each place in a tile, and merges rows at the end. So nothing cancels where a channel lies far from zero. A
bias that was never added to the features moves the running mean alone.

Sizes: R rows, C channels, `parts` of 3 C numbers. Of a tile: BM rows, CB channels, PB parts.
"""

from collections.abc import Callable
from typing import Any

import triton
import triton.language as tl

from skelcontrast.kernels._batch_norm import tile_at

_jit: Callable[[Callable[..., Any]], Any] = triton.jit


@_jit
def follow(
    mean: tl.tensor, spread: tl.tensor, value: tl.tensor, there: tl.tensor, number: tl.tensor
) -> tuple[tl.tensor, tl.tensor]:
    """Move mean and spread by a tile, in which the rows that are there see their values of this number, from 1 on.

    What is not there must be finite, and of what is never counted, zero. Source: B. P. Welford, Technometrics 4 (1962).
    """
    share = 1.0 / number
    away = value.to(tl.float32) - mean
    mean += tl.where(there, share, 0.0)[:, None] * away
    spread += tl.where(there, 1.0 - share, 0.0)[:, None] * away * away
    return mean, spread


@_jit
def write_merged(
    sums: tl.tensor, mean: tl.tensor, spread: tl.tensor, count: tl.tensor, channel: tl.tensor, C: tl.tensor
) -> None:
    """Merge rows that have seen `count` values each, and write the part of this program.

    Source: T. F. Chan, G. H. Golub and R. J. LeVeque, COMPSTAT 1982.
    """
    count = count.to(tl.float32)
    whole, each = tl.sum(count), count[:, None]
    centre = tl.sum(each * mean, 0) / whole
    away = mean - centre[None, :]
    _write(sums, whole, centre, tl.sum(spread + each * away * away, 0), channel, C)


@_jit
def write_part(sums: tl.tensor, value: tl.tensor, there: tl.tensor, channel: tl.tensor, C: tl.tensor) -> None:
    """Write the part of a program that has seen one tile, of which some rows are there."""
    whole, there = tl.sum(there.to(tl.float32)), there[:, None]
    value = value.to(tl.float32)
    centre = tl.sum(tl.where(there, value, 0.0), 0) / whole
    away = tl.where(there, value - centre[None, :], 0.0)
    _write(sums, whole, centre, tl.sum(away * away, 0), channel, C)


@_jit
def _write(
    sums: tl.tensor, count: tl.tensor, mean: tl.tensor, spread: tl.tensor, channel: tl.tensor, C: tl.tensor
) -> None:
    part = sums + tl.program_id(0) * 3 * C + channel
    tl.store(part, tl.zeros_like(mean) + count, channel < C)
    tl.store(part + C, mean, channel < C)
    tl.store(part + 2 * C, spread, channel < C)


@_jit
def seen_by(unit: tl.tensor, units: tl.tensor, step: tl.tensor) -> tl.tensor:
    """Return how many of `units` there are at `unit` and every `step` behind it."""
    return (tl.maximum(units - unit, 0) + step - 1) // step


@_jit
def batch_statistics(
    x: tl.tensor, sums: tl.tensor, R: tl.tensor, C: tl.tensor, BM: tl.constexpr, CB: tl.constexpr
) -> None:
    """Write the parts of features."""
    mean, spread = tl.zeros((BM, CB), tl.float32), tl.zeros((BM, CB), tl.float32)
    row, number = tl.arange(0, BM), 0.0
    for tile in range(tl.program_id(0), tl.cdiv(R, BM), tl.num_programs(0)):
        where, mask, _, _ = tile_at(tile, R, C, BM, CB)
        number += 1.0
        mean, spread = follow(mean, spread, tl.load(x + where, mask, 0.0), tile * BM + row < R, number)
    count = seen_by(tl.program_id(0) * BM + row, R, tl.num_programs(0) * BM)
    write_merged(sums, mean, spread, count, tl.program_id(1) * CB + tl.arange(0, CB), C)


@_jit
def finish_statistics(
    sums: tl.tensor,
    mean: tl.tensor,
    inverse: tl.tensor,
    running_mean: tl.tensor,
    running_variance: tl.tensor,
    batches: tl.tensor,
    left_out: tl.tensor,
    parts: tl.tensor,
    R: tl.tensor,
    C: tl.tensor,
    momentum: tl.tensor,
    eps: tl.tensor,
    PB: tl.constexpr,
    CB: tl.constexpr,
    COUNT: tl.constexpr,
    BIAS: tl.constexpr,
) -> None:
    """Mean and inverse standard deviation of every channel; the running statistics move towards them.

    Means of parts are taken relative to that of the first.
    """
    part, channel = tl.arange(0, PB), tl.program_id(0) * CB + tl.arange(0, CB)
    present = channel < C
    # All that is read comes before all that is written, which the compiler does not reorder.
    first = tl.load(sums + C + channel, present, 0.0)
    mean_before = tl.load(running_mean + channel, present, 0.0).to(tl.float32)
    variance_before = tl.load(running_variance + channel, present, 0.0).to(tl.float32)
    bias = tl.load(left_out + channel, present, 0.0).to(tl.float32) if BIAS else tl.zeros((CB,), tl.float32)
    shifted, squares = tl.zeros((PB, CB), tl.float32), tl.zeros((PB, CB), tl.float32)
    for start in range(0, parts, PB):
        where = sums + (start + part)[:, None] * 3 * C + channel[None, :]
        mask = (start + part < parts)[:, None] & present[None, :]
        count, centre = tl.load(where, mask, 0.0), tl.load(where + C, mask, 0.0)
        spread, away = tl.load(where + 2 * C, mask, 0.0), centre - first[None, :]
        shifted += count * away
        squares += spread + count * away * away
    shift = tl.sum(shifted, 0) / R
    variance = tl.sum(squares, 0) / R - shift * shift
    variance = tl.where(variance < 0, 0.0, variance)
    value = first + shift
    tl.store(mean + channel, value, present)
    tl.store(inverse + channel, 1 / tl.sqrt(variance + eps), present)
    tl.store(running_mean + channel, mean_before + momentum * (value + bias - mean_before), present)
    unbiased = variance * (R / (R - 1.0))
    tl.store(running_variance + channel, variance_before + momentum * (unbiased - variance_before), present)
    if COUNT:
        counts = tl.program_id(0) == 0
        if counts:  # not as a mask: the interpreter of Triton 3.0 knows none of a single number
            tl.store(batches, tl.load(batches) + 1)
