"""The kernels of the convolution over frames.

A product takes several frames at once. Its rows are (sample, block of J frames out, joint), its columns (frame,
channel), in and out, and between them lies a band of taps, zero where a frame in is out of reach of a frame out. So a
frame is read about ``1 + L / J`` times instead of L times, and products fill matrix units where channels are few. (What
is not finite spreads over its block: zero times infinity.) The gradient in x is the same kernel with another band. The
gradients in weight and bias stay on the chip until a program has seen its rows, and are written once per program, to be
added up in a fixed order.

A band is laid out once per call, in the dtype of the features, all K numbers of a column together. It is one to three
times as large as a weight of 9 taps and 64 channels or more; of fewer it is a larger multiple of a small weight.

Sizes: T frames of a sample in and U out, V joints, C and O channels, L taps, `blocks` of frames per sample, `rows` in
all. Of a block: F frames in, J out, JP padded. Of a tile: FB frames in at a time, CB and OB channels, BM rows. Frame f
of block b is ``b * STEP + FIRST + f``; frames f in and j out meet in tap ``TAP + f * PER_F + j * PER_J``, where there
is one. Features lie as (N, T, V, C), the K rows of a band as (block of CB channels, frame in, channel), with frames up
to a multiple of FB. DOT is the arithmetic of the products.
"""

from collections.abc import Callable
from typing import Any

import triton
import triton.language as tl

from skelcontrast.kernels._statistics import write_part

_jit: Callable[[Callable[..., Any]], Any] = triton.jit


@_jit
def _features(
    x: tl.tensor,
    row: tl.tensor,
    rows: tl.tensor,
    blocks: tl.tensor,
    f0: tl.tensor,
    c0: tl.tensor,
    T: tl.tensor,
    V: tl.constexpr,
    C: tl.constexpr,
    F: tl.constexpr,
    STEP: tl.constexpr,
    FIRST: tl.constexpr,
    FB: tl.constexpr,
    CB: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor]:
    """Offsets and mask of features as rows (sample, block, joint) and columns (frame, channel)."""
    block = row // V
    sample = block // blocks
    first = (block - sample * blocks) * STEP + FIRST
    column = tl.arange(0, FB * CB)
    f, channel = f0 + column // CB, c0 + column % CB
    where = (sample.to(tl.int64) * T + first) * (V * C) + (row - block * V) * C
    frame = first[:, None] + f[None, :]
    mask = (row < rows)[:, None] & ((f < F) & (channel < C))[None, :] & (frame >= 0) & (frame < T)
    return x + where[:, None] + (f * (V * C) + channel)[None, :], mask


@_jit
def lay_band(
    weight: tl.tensor,
    band: tl.tensor,
    per_out: tl.tensor,
    per_channel: tl.tensor,
    per_tap: tl.tensor,
    C: tl.constexpr,
    O: tl.constexpr,
    L: tl.constexpr,
    F: tl.constexpr,
    TAP: tl.constexpr,
    PER_F: tl.constexpr,
    PER_J: tl.constexpr,
    J: tl.constexpr,
    JP: tl.constexpr,
    CB: tl.constexpr,
    OB: tl.constexpr,
    K: tl.constexpr,
    KB: tl.constexpr,
) -> None:
    """Lay out taps as a band from a weight of any strides; a program writes KB of its K rows."""
    row, column = tl.program_id(0) * KB + tl.arange(0, KB), tl.arange(0, JP * OB)
    padded: tl.constexpr = K // ((C + CB - 1) // CB)  # rows of a block of channels
    f, channel = row % padded // CB, row // padded * CB + row % CB
    j, out = column // OB, tl.program_id(1) * OB + column % OB
    tap = (TAP + f * PER_F)[None, :] + (j * PER_J)[:, None]
    mask = (tap >= 0) & (tap < L) & ((f < F) & (channel < C))[None, :] & ((j < J) & (out < O))[:, None]
    where = tap * per_tap + (channel * per_channel)[None, :] + (out * per_out)[:, None]
    taps = tl.load(weight + where, mask, 0.0).to(band.dtype.element_ty)
    tl.store(band + (tl.program_id(1) * (JP * OB) + column)[:, None] * K + row[None, :], taps)


@_jit
def _dot(a: tl.tensor, b: tl.tensor, total: tl.tensor, DOT: tl.constexpr) -> tl.tensor:
    """Add a product to `total`; with "wide" of float32, for devices without products of bfloat16."""
    if DOT == "wide":
        total = tl.dot(a.to(tl.float32), b.to(tl.float32), total, input_precision="ieee")
    else:  # a return above would not keep the compiler from this
        total = tl.dot(a, b, total, input_precision=DOT)
    return total


@_jit
def convolve(
    x: tl.tensor,
    band: tl.tensor,
    bias: tl.tensor,
    y: tl.tensor,
    sums: tl.tensor,
    rows: tl.tensor,
    blocks: tl.tensor,
    T: tl.tensor,
    U: tl.tensor,
    V: tl.constexpr,
    C: tl.constexpr,
    O: tl.constexpr,
    F: tl.constexpr,
    STEP: tl.constexpr,
    FIRST: tl.constexpr,
    J: tl.constexpr,
    JP: tl.constexpr,
    FB: tl.constexpr,
    CB: tl.constexpr,
    OB: tl.constexpr,
    K: tl.constexpr,
    BM: tl.constexpr,
    BIAS: tl.constexpr,
    SUMS: tl.constexpr,
    DOT: tl.constexpr,
) -> None:
    """Outputs, or gradients in x without a bias; with SUMS also the parts of their statistics, see `_statistics`."""
    row, o0 = tl.program_id(0) * BM + tl.arange(0, BM), tl.program_id(1) * OB
    inner, column = tl.arange(0, FB * CB), tl.arange(0, JP * OB)
    taps = band + (tl.program_id(1) * (JP * OB) + column)[None, :] * K + inner[:, None]
    padded: tl.constexpr = K // ((C + CB - 1) // CB)  # rows of a block of channels
    total = tl.zeros((BM, JP * OB), tl.float32)
    for k0 in range(0, K, FB * CB):
        f0, c0 = k0 % padded // CB, k0 // padded * CB
        where, mask = _features(x, row, rows, blocks, f0, c0, T, V, C, F, STEP, FIRST, FB, CB)
        total = _dot(tl.load(where, mask, 0.0), tl.load(taps + k0), total, DOT)
    if BIAS:
        out = o0 + column % OB
        total += tl.load(bias + out, out < O, 0.0).to(tl.float32)[None, :]
    where, mask = _features(y, row, rows, blocks, 0, o0, U, V, O, J, J, 0, JP, OB)
    value = total.to(y.dtype.element_ty)
    tl.store(where, value, mask)
    if SUMS:
        frame = (row // V % blocks * J)[:, None] + tl.arange(0, JP)[None, :]
        there = (row < rows)[:, None] & (tl.arange(0, JP) < J)[None, :] & (frame < U)
        value, there = tl.reshape(value, (BM * JP, OB)), tl.reshape(there, (BM * JP,))
        write_part(sums, value, there, o0 + tl.arange(0, OB), O)


@_jit
def backward_weight(
    upstream: tl.tensor,
    x: tl.tensor,
    sums: tl.tensor,
    rows: tl.tensor,
    blocks: tl.constexpr,
    T: tl.constexpr,
    U: tl.constexpr,
    V: tl.constexpr,
    C: tl.constexpr,
    O: tl.constexpr,
    L: tl.constexpr,
    F: tl.constexpr,
    STEP: tl.constexpr,
    FIRST: tl.constexpr,
    TAP: tl.constexpr,
    PER_F: tl.constexpr,
    PER_J: tl.constexpr,
    J: tl.constexpr,
    JP: tl.constexpr,
    FB: tl.constexpr,
    CB: tl.constexpr,
    OB: tl.constexpr,
    BM: tl.constexpr,
    BR: tl.constexpr,
    DOT: tl.constexpr,
) -> None:
    """Gradients in weight (L, C, O) and bias (O), a row of both for each program and frame out of a block.

    The last programs along the second axis sum the bias alone: beside products it would take all of them longer.
    """
    o0, column = tl.program_id(2) * OB, tl.arange(0, JP * OB)
    j, out = column // OB, o0 + column % OB
    present = (j < J) & (out < O)
    part = sums + (tl.program_id(0) * J + j) * (L * C * O + O) + out
    if tl.program_id(1) == tl.num_programs(1) - 1:
        of_bias = tl.zeros((JP * OB,), tl.float32)
        for tile in range(tl.program_id(0), tl.cdiv(rows, BR), tl.num_programs(0)):
            row = tile * BR + tl.arange(0, BR)
            where, mask = _features(upstream, row, rows, blocks, 0, o0, U, V, O, J, J, 0, JP, OB)
            of_bias += tl.sum(tl.load(where, mask, 0.0).to(tl.float32), 0)
        tl.store(part + L * C * O, of_bias, present)
    else:
        groups = tl.cdiv(F, FB)
        f0, c0 = tl.program_id(1) % groups * FB, tl.program_id(1) // groups * CB
        of_weight = tl.zeros((FB * CB, JP * OB), tl.float32)
        for tile in range(tl.program_id(0), tl.cdiv(rows, BM), tl.num_programs(0)):
            row = tile * BM + tl.arange(0, BM)
            where, mask = _features(upstream, row, rows, blocks, 0, o0, U, V, O, J, J, 0, JP, OB)
            above = tl.load(where, mask, 0.0)
            where, mask = _features(x, row, rows, blocks, f0, c0, T, V, C, F, STEP, FIRST, FB, CB)
            of_weight = _dot(tl.trans(tl.load(where, mask, 0.0)), above, of_weight, DOT)
        inner = tl.arange(0, FB * CB)
        f, channel = f0 + inner // CB, c0 + inner % CB
        tap = (TAP + f * PER_F)[:, None] + (j * PER_J)[None, :]
        mask = (tap >= 0) & (tap < L) & (channel < C)[:, None] & present[None, :]
        tl.store(part[None, :] + (tap * C + channel[:, None]) * O, of_weight, mask)


@_jit
def add_taps(
    sums: tl.tensor,
    of_weight: tl.tensor,
    of_bias: tl.tensor,
    parts: tl.tensor,
    C: tl.constexpr,
    O: tl.constexpr,
    L: tl.constexpr,
    PB: tl.constexpr,
    WB: tl.constexpr,
) -> None:
    """Gradients in weight (O, C, L) and bias (O) from the rows of all programs."""
    column = tl.program_id(0) * WB + tl.arange(0, WB)
    total = tl.zeros((PB, WB), tl.float32)
    for first in range(0, parts, PB):
        part = first + tl.arange(0, PB)
        mask = (part < parts)[:, None] & (column < L * C * O + O)[None, :]
        total += tl.load(sums + part[:, None] * (L * C * O + O) + column[None, :], mask, 0.0)
    result = tl.sum(total, 0)
    where = column % O * (C * L) + column // O % C * L + column // (O * C)
    tl.store(of_weight + where, result.to(of_weight.dtype.element_ty), column < L * C * O)
    out = column - L * C * O
    tl.store(of_bias + out, result.to(of_bias.dtype.element_ty), (out >= 0) & (out < O))
