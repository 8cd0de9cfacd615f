"""The kernels that decide what EADM drops, from features whose rows, frame by frame, are channels.

A program has one sample and a block of channels. It goes over their rows three times: for the mean of every channel,
for the variance, and for attention, which is summed over the block. Where one tile holds all rows, the compiler reads
them once. Another program for every sample adds up the blocks, in their order, and compares with the margin. Where a
batch is scaled as a whole, programs that count for every sample what stays come in between.

Where elements are dropped, what is multiplied with has a bit for every element, and nobody decides again: a word for
every row of a block, its lowest bit for the first channel.

Sizes: N samples of R rows, which are T frames of V joints, C channels. Of a tile: BM rows, CB channels (a power of two,
8 to 32, that C is a multiple of), TB frames, VB joints. ELEMENT: elements are dropped, not frames. BATCH: the batch is
scaled as a whole, not every sample.
"""

from collections.abc import Callable
from typing import Any

import triton
import triton.language as tl

_jit: Callable[[Callable[..., Any]], Any] = triton.jit


@_jit
def _rows(
    x: tl.tensor, first: tl.tensor, R: tl.constexpr, C: tl.constexpr, BM: tl.constexpr, CB: tl.constexpr
) -> tuple[tl.tensor, tl.tensor]:
    """Load rows of a block of channels, and say which are there."""
    row, channel = first + tl.arange(0, BM), tl.arange(0, CB)
    present = (row < R)[:, None]
    return tl.load(x + row[:, None] * C + channel[None, :], present, 0.0).to(tl.float32), present


@_jit
def _pairs(values: tl.tensor) -> tuple[tl.tensor, tl.tensor]:
    """Take neighbours in a row apart: every other value, and those between."""
    even, odd = tl.split(tl.reshape(values, (values.shape[0], values.shape[1] // 2, 2)))
    return even, odd


@_jit
def _sum_of_inverses(values: tl.tensor) -> tl.tensor:
    """Sum 1 / values over a row. Eight of them, between 1 and 2, have a common denominator: a division takes long."""
    a, b = _pairs(values)
    above, below = a + b, a * b
    for _ in tl.static_range(2):
        a, b = _pairs(above)
        c, d = _pairs(below)
        above, below = a * d + b * c, c * d
    return tl.sum(above / below, 1)


@_jit
def attention_sums(
    x: tl.tensor,
    sums: tl.tensor,
    words: tl.tensor,
    lambda_: tl.tensor,
    share: tl.tensor,
    least: tl.tensor,
    R: tl.constexpr,
    C: tl.constexpr,
    BM: tl.constexpr,
    CB: tl.constexpr,
    ELEMENT: tl.constexpr,
) -> None:
    """SimAM's attention of every row, summed over a block of channels; squares by `share` add up to a variance.

    An element stays while 1 / attention is more than `least`.
    """
    sample, block = tl.program_id(0).to(tl.int64), tl.program_id(1)
    x += sample * R * C + block * CB
    first_row = (sample * tl.num_programs(1) + block) * R
    total = tl.zeros((CB,), tl.float32)
    for first in range(0, R, BM):
        value, present = _rows(x, first, R, C, BM, CB)
        total += tl.sum(value, 0)
    mean = (total / R)[None, :]
    total = tl.zeros((CB,), tl.float32)
    for first in range(0, R, BM):
        value, present = _rows(x, first, R, C, BM, CB)
        centred = tl.where(present, value - mean, 0.0)
        total += tl.sum(centred * centred, 0)
    scale = (-1.4426950408889634 / (4 * (total * share + lambda_)))[None, :]  # powers are those of 2
    for first in range(0, R, BM):
        value, present = _rows(x, first, R, C, BM, CB)
        centred = tl.where(present, value - mean, 0.0)
        inverse = 1 + tl.exp2(centred * centred * scale - 0.7213475204444817)
        row = first + tl.arange(0, BM)
        tl.store(sums + first_row + row, _sum_of_inverses(inverse), row < R)
        if ELEMENT:
            bit = (tl.full((CB,), 1, tl.int32) << tl.arange(0, CB))[None, :]
            word = tl.sum(tl.where(inverse > least, bit, 0), 1)
            # The interpreter of Triton 3.0 sums up to 64 bits without saying so, and would store as many.
            tl.store(words + first_row + row, word.to(tl.int64).to(tl.int32), row < R)


@_jit
def _ones(word: tl.tensor) -> tl.tensor:
    """Count the bits that are set: in twos, fours and eights side by side, which a product adds up at the top."""
    word = word - ((word >> 1) & 0x55555555)
    word = (word & 0x33333333) + ((word >> 2) & 0x33333333)
    return (((word + (word >> 4)) & 0x0F0F0F0F) * 0x01010101) >> 24


@_jit
def _below(
    sums: tl.tensor,
    temporal: tl.tensor,
    sample: tl.tensor,
    blocks: tl.tensor,
    C: tl.tensor,
    T: tl.tensor,
    V: tl.tensor,
    margin: tl.tensor,
    TB: tl.constexpr,
    VB: tl.constexpr,
    ELEMENT: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor, tl.tensor, tl.tensor]:
    """Say which joints of a sample have less attention than the margin, which frames; count joints, frames or elements.

    Where elements are dropped, every frame stays.
    """
    frame, joint = tl.arange(0, TB), tl.arange(0, VB)
    row = frame[:, None] * V + joint[None, :]
    present = (frame < T)[:, None] & (joint < V)[None, :]
    total, ones = tl.zeros((TB, VB), tl.float32), tl.zeros((TB, VB), tl.int32)
    for first in range(0, blocks, 4):  # four at once: they are far away, and a load that waits for another takes long
        for more in tl.static_range(4):
            block = first + more + tl.zeros((TB, VB), tl.int32)
            at, there = (sample * blocks + block) * T * V + row, present & (block < blocks)
            total += tl.load(sums + at, there, 0.0)
            if ELEMENT:
                ones += _ones(tl.load(temporal + at, there, 0))
    joints = ((tl.sum(total, 0) / (C * T) < margin) & (joint < V)).to(tl.int32)
    if ELEMENT:
        frames, others = (frame < T).to(tl.int32), tl.sum(tl.sum(ones, 1), 0)
    else:
        frames = ((tl.sum(total, 1) / (C * V) < margin) & (frame < T)).to(tl.int32)
        others = tl.sum(frames, 0)
    return joints, frames, tl.sum(joints, 0), others


@_jit
def count_below(
    sums: tl.tensor,
    temporal: tl.tensor,
    counts: tl.tensor,
    blocks: tl.tensor,
    C: tl.tensor,
    T: tl.tensor,
    V: tl.tensor,
    margin: tl.tensor,
    TB: tl.constexpr,
    VB: tl.constexpr,
    ELEMENT: tl.constexpr,
) -> None:
    """How many joints of a sample have less attention than the margin, and how many frames, or elements."""
    sample = tl.program_id(0).to(tl.int64)
    _, _, joints, others = _below(sums, temporal, sample, blocks, C, T, V, margin, TB, VB, ELEMENT)
    tl.store(counts + 2 * sample, joints.to(tl.int64))
    tl.store(counts + 2 * sample + 1, others.to(tl.int64))


@_jit
def _scale(kept: tl.tensor, size: tl.tensor) -> tl.tensor:
    """By what is scaled up where so many stay; where none would, all do."""
    return 1 / (tl.where(kept > 0, kept, size).to(tl.float32) / size)


@_jit
def drop_by_margin(
    sums: tl.tensor,
    counts: tl.tensor,
    spatial: tl.tensor,
    temporal: tl.tensor,
    factor: tl.tensor,
    N: tl.tensor,
    all_joints: tl.tensor,
    all_others: tl.tensor,
    blocks: tl.tensor,
    C: tl.tensor,
    T: tl.tensor,
    V: tl.tensor,
    margin: tl.tensor,
    TB: tl.constexpr,
    VB: tl.constexpr,
    ELEMENT: tl.constexpr,
    BATCH: tl.constexpr,
) -> None:
    """Which joints and frames of a sample stay, and the factor of every row: 0, or 1 by the shares that stay.

    Shares are of so many joints and so many frames or elements, of the sample or of the batch.
    """
    sample, frame, joint = tl.program_id(0).to(tl.int64), tl.arange(0, TB), tl.arange(0, VB)
    row = frame[:, None] * V + joint[None, :]
    present = (frame < T)[:, None] & (joint < V)[None, :]
    joints, frames, kept_joints, kept_others = _below(sums, temporal, sample, blocks, C, T, V, margin, TB, VB, ELEMENT)
    if BATCH:
        of_joints, of_others = tl.zeros((256,), tl.int64), tl.zeros((256,), tl.int64)
        for first in range(0, N, 256):
            one = first + tl.arange(0, 256)
            of_joints += tl.load(counts + 2 * one, one < N, 0)
            of_others += tl.load(counts + 2 * one + 1, one < N, 0)
        kept_joints, kept_others = tl.sum(of_joints, 0), tl.sum(of_others, 0)
    joints, frames = tl.where(kept_joints > 0, joints, 1), tl.where(kept_others > 0, frames, 1)
    tl.store(spatial + sample * V + joint, joints != 0, joint < V)
    if not ELEMENT:
        tl.store(temporal + sample * T + frame, frames != 0, frame < T)
    elif kept_others == 0:
        for block in range(blocks):
            tl.store(temporal + (sample * blocks + block) * T * V + row, -1, present)
    scale = _scale(kept_joints, all_joints) * _scale(kept_others, all_others)
    value = tl.where((frames[:, None] & joints[None, :]) != 0, scale, 0.0)
    tl.store(factor + sample * T * V + row, value.to(factor.dtype.element_ty), present)
