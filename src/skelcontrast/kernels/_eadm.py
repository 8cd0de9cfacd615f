"""The kernels that decide what EADM drops, from features whose rows, frame by frame, are channels.

A program has one sample and a block of channels. It goes over their rows three times: for the mean of every channel,
for the variance, and for attention, which is summed over the block. Where one tile holds all rows, the compiler reads
them once. Another program for every sample adds up the blocks, in their order, and compares with the margin.

Sizes: R rows, which are T frames of V joints, C channels. Of a tile: BM rows, CB channels (a power of two, 8 at least,
that C is a multiple of), TB frames, VB joints.
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
    lambda_: tl.tensor,
    share: tl.tensor,
    R: tl.constexpr,
    C: tl.constexpr,
    BM: tl.constexpr,
    CB: tl.constexpr,
) -> None:
    """SimAM's attention of every row, summed over a block of channels; squares by `share` add up to a variance."""
    sample, block = tl.program_id(0).to(tl.int64), tl.program_id(1)
    x += sample * R * C + block * CB
    sums += (sample * tl.num_programs(1) + block) * R
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
        attention = _sum_of_inverses(1 + tl.exp2(centred * centred * scale - 0.7213475204444817))
        row = first + tl.arange(0, BM)
        tl.store(sums + row, attention, row < R)


@_jit
def _keep(attention: tl.tensor, present: tl.tensor, margin: tl.tensor) -> tuple[tl.tensor, tl.tensor]:
    """Say what has less attention than the margin, or all where nothing has; and how many that are."""
    keep = ((attention < margin) & present).to(tl.int32)
    keep = tl.where(tl.sum(keep, 0) > 0, keep, present.to(tl.int32))
    return keep, tl.sum(keep, 0)


@_jit
def drop_by_margin(
    sums: tl.tensor,
    joints: tl.tensor,
    frames: tl.tensor,
    factor: tl.tensor,
    blocks: tl.tensor,
    C: tl.tensor,
    T: tl.tensor,
    V: tl.tensor,
    margin: tl.tensor,
    TB: tl.constexpr,
    VB: tl.constexpr,
) -> None:
    """Which joints and frames of a sample stay, and the factor of every row: 0, or 1 by the shares that stay."""
    sample, frame, joint = tl.program_id(0).to(tl.int64), tl.arange(0, TB), tl.arange(0, VB)
    row = frame[:, None] * V + joint[None, :]
    present = (frame < T)[:, None] & (joint < V)[None, :]
    total = tl.zeros((TB, VB), tl.float32)
    for block in range(blocks):
        total += tl.load(sums + (sample * blocks + block) * T * V + row, present, 0.0)
    keep_joint, kept_joints = _keep(tl.sum(total, 0) / (C * T), joint < V, margin)
    keep_frame, kept_frames = _keep(tl.sum(total, 1) / (C * V), frame < T, margin)
    scale = 1 / (kept_joints.to(tl.float32) / V) * (1 / (kept_frames.to(tl.float32) / T))
    tl.store(joints + sample * V + joint, keep_joint != 0, joint < V)
    tl.store(frames + sample * T + frame, keep_frame != 0, frame < T)
    value = tl.where((keep_frame[:, None] & keep_joint[None, :]) != 0, scale, 0.0)
    tl.store(factor + sample * T * V + row, value.to(factor.dtype.element_ty), present)
