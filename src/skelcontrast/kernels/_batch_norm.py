"""The kernels of batch norm with dropout, a residual and ReLU behind it.

Features are rows of channels; `_statistics` has the kernels that find their mean and deviation. What is summed over
rows is summed by each program over some of them, written as a row of 2 C numbers, and added up in a fixed order.
Dropout's mask is never kept: it follows from a seed and the place of an element, so that the gradient draws it again.

Sizes: R rows, C channels. Of a tile: BM rows, CB channels (8 at least, which share one draw). Dropped is what draws
less than DROP of 65536. ADD says whether a residual is added, RELU whether negative values become zero.
"""

from collections.abc import Callable
from typing import Any

import triton
import triton.language as tl

_jit: Callable[[Callable[..., Any]], Any] = triton.jit


@_jit
def tile_at(
    tile: tl.tensor, R: tl.tensor, C: tl.tensor, BM: tl.constexpr, CB: tl.constexpr
) -> tuple[tl.tensor, tl.tensor, tl.tensor, tl.tensor]:
    """Offsets and mask of a tile, its channels and their mask."""
    row, channel = tile * BM + tl.arange(0, BM), tl.program_id(1) * CB + tl.arange(0, CB)
    present = channel < C
    return row.to(tl.int64)[:, None] * C + channel[None, :], (row < R)[:, None] & present[None, :], channel, present


@_jit
def _per_channel(values: tl.tensor, channel: tl.tensor, present: tl.tensor) -> tl.tensor:
    """Load a number for every channel, as a row."""
    return tl.load(values + channel, present, 0.0).to(tl.float32)[None, :]


@_jit
def _scaled(centred: tl.tensor, inverse: tl.tensor, weight: tl.tensor, bias: tl.tensor) -> tl.tensor:
    """Scale and shift centred features. ReLU's gradient asks for their sign again, so that it must be the same here."""
    return centred * (inverse * weight) + bias


@_jit
def _kept(
    seed: tl.tensor, tile: tl.tensor, C: tl.tensor, BM: tl.constexpr, CB: tl.constexpr, DROP: tl.constexpr
) -> tl.tensor:
    """Say which elements of a tile dropout keeps: 16 random bits each."""
    row, eight = tile * BM + tl.arange(0, BM), tl.program_id(1) * (CB // 8) + tl.arange(0, CB // 8)
    a, b, c, d = tl.randint4x(tl.load(seed), row[:, None] * tl.cdiv(C, 8) + eight[None, :], 7)
    words = tl.join(tl.join(a, b), tl.join(c, d)).to(tl.uint32, bitcast=True)
    return tl.reshape(tl.join(words & 0xFFFF, words >> 16) >= DROP, (BM, CB))


@_jit
def _dropped(value: tl.tensor, kept: tl.tensor, DROP: tl.constexpr) -> tl.tensor:
    """Scale what dropout keeps."""
    return tl.where(kept, value * (65536 / (65536 - DROP)), 0.0)


@_jit
def _of_features(
    above: tl.tensor,
    centred: tl.tensor,
    inverse: tl.tensor,
    weight: tl.tensor,
    of_bias: tl.tensor,
    of_weight: tl.tensor,
    R: tl.tensor,
    channel: tl.tensor,
    present: tl.tensor,
) -> tl.tensor:
    """Gradient in features, from the one behind their norm. Divisions are done once a channel."""
    deviation = _per_channel(inverse, channel, present)
    bias_part, weight_part = _per_channel(of_bias, channel, present) / R, _per_channel(of_weight, channel, present) / R
    common = centred * (deviation * weight_part) + bias_part
    return deviation * _per_channel(weight, channel, present) * (above - common)


@_jit
def normalize(
    x: tl.tensor,
    mean: tl.tensor,
    inverse: tl.tensor,
    weight: tl.tensor,
    bias: tl.tensor,
    residual: tl.tensor,
    seed: tl.tensor,
    y: tl.tensor,
    R: tl.tensor,
    C: tl.tensor,
    BM: tl.constexpr,
    CB: tl.constexpr,
    DROP: tl.constexpr,
    ADD: tl.constexpr,
    RELU: tl.constexpr,
) -> None:
    """Features that have mean and variance of their channel, then the rest."""
    tile = tl.program_id(0)
    where, mask, channel, present = tile_at(tile, R, C, BM, CB)
    centred = tl.load(x + where, mask, 0.0).to(tl.float32) - _per_channel(mean, channel, present)
    deviation, scale = _per_channel(inverse, channel, present), _per_channel(weight, channel, present)
    value = _scaled(centred, deviation, scale, _per_channel(bias, channel, present))
    if DROP > 0:
        value = _dropped(value, _kept(seed, tile, C, BM, CB, DROP), DROP)
    if ADD:
        value += tl.load(residual + where, mask, 0.0).to(tl.float32)
    if RELU:
        value = tl.where(value <= 0, 0.0, value)  # keeps what is not a number
    tl.store(y + where, value.to(y.dtype.element_ty), mask)


@_jit
def gradient_sums(
    upstream: tl.tensor,
    x: tl.tensor,
    y: tl.tensor,
    mean: tl.tensor,
    inverse: tl.tensor,
    weight: tl.tensor,
    bias: tl.tensor,
    seed: tl.tensor,
    of_residual: tl.tensor,
    sums: tl.tensor,
    R: tl.tensor,
    C: tl.tensor,
    BM: tl.constexpr,
    CB: tl.constexpr,
    DROP: tl.constexpr,
    ADD: tl.constexpr,
    RELU: tl.constexpr,
) -> None:
    """What gradients in bias and weight are sums of; the gradient in the residual, where there is one, is written."""
    of_bias, of_weight = tl.zeros((BM, CB), tl.float32), tl.zeros((BM, CB), tl.float32)
    for tile in range(tl.program_id(0), tl.cdiv(R, BM), tl.num_programs(0)):
        where, mask, channel, present = tile_at(tile, R, C, BM, CB)
        above = tl.load(upstream + where, mask, 0.0).to(tl.float32)
        centred = tl.load(x + where, mask, 0.0).to(tl.float32) - _per_channel(mean, channel, present)
        deviation = _per_channel(inverse, channel, present)
        if ADD:
            if RELU:
                above = tl.where(tl.load(y + where, mask, 0.0).to(tl.float32) <= 0, 0.0, above)
            tl.store(of_residual + where, above.to(of_residual.dtype.element_ty), mask)
        elif RELU:
            scale, shift = _per_channel(weight, channel, present), _per_channel(bias, channel, present)
            above = tl.where(_scaled(centred, deviation, scale, shift) <= 0, 0.0, above)
        if DROP > 0:
            above = _dropped(above, _kept(seed, tile, C, BM, CB, DROP), DROP)
        of_bias += above
        of_weight += above * (centred * deviation)
    channel = tl.program_id(1) * CB + tl.arange(0, CB)
    tl.store(sums + tl.program_id(0) * 2 * C + channel, tl.sum(of_bias, 0), channel < C)
    tl.store(sums + tl.program_id(0) * 2 * C + C + channel, tl.sum(of_weight, 0), channel < C)


@_jit
def finish_sums(
    sums: tl.tensor,
    of_bias: tl.tensor,
    of_weight: tl.tensor,
    of_left_out: tl.tensor,
    parts: tl.tensor,
    C: tl.tensor,
    PB: tl.constexpr,
    CB: tl.constexpr,
    BIAS: tl.constexpr,
) -> None:
    """Gradients in bias and weight, and in a bias that was left out, which is zero."""
    part, channel = tl.arange(0, PB), tl.program_id(0) * CB + tl.arange(0, CB)
    where = sums + part[:, None] * 2 * C + channel[None, :]
    mask = (part < parts)[:, None] & (channel < C)[None, :]
    tl.store(of_bias + channel, tl.sum(tl.load(where, mask, 0.0), 0), channel < C)
    tl.store(of_weight + channel, tl.sum(tl.load(where + C, mask, 0.0), 0), channel < C)
    if BIAS:
        tl.store(of_left_out + channel, tl.zeros((CB,), of_left_out.dtype.element_ty), channel < C)


@_jit
def gradient_features(
    upstream: tl.tensor,
    x: tl.tensor,
    mean: tl.tensor,
    inverse: tl.tensor,
    weight: tl.tensor,
    bias: tl.tensor,
    seed: tl.tensor,
    of_bias: tl.tensor,
    of_weight: tl.tensor,
    grad_x: tl.tensor,
    R: tl.tensor,
    C: tl.tensor,
    BM: tl.constexpr,
    CB: tl.constexpr,
    DROP: tl.constexpr,
    ADD: tl.constexpr,
    RELU: tl.constexpr,
) -> None:
    """Gradient in x; `upstream` is the gradient in the residual, where there is one."""
    tile = tl.program_id(0)
    where, mask, channel, present = tile_at(tile, R, C, BM, CB)
    above = tl.load(upstream + where, mask, 0.0).to(tl.float32)
    centred = tl.load(x + where, mask, 0.0).to(tl.float32) - _per_channel(mean, channel, present)
    if RELU and not ADD:
        deviation, scale = _per_channel(inverse, channel, present), _per_channel(weight, channel, present)
        value = _scaled(centred, deviation, scale, _per_channel(bias, channel, present))
        above = tl.where(value <= 0, 0.0, above)
    if DROP > 0:
        above = _dropped(above, _kept(seed, tile, C, BM, CB, DROP), DROP)
    result = _of_features(above, centred, inverse, weight, of_bias, of_weight, R, channel, present)
    tl.store(grad_x + where, result.to(grad_x.dtype.element_ty), mask)
