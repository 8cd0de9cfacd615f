"""The kernels of two batch norms that are added up: of `x`, with dropout behind it, and of `other`; ReLU comes last.

`_batch_norm` says what their sizes are. ReLU's gradient asks for the sign of what was added up, which is computed again
from the features of both: so neither it nor what the norm of `other` returns goes through memory. Of a row of sums the
first 2 C numbers are for the gradients in both biases, the others for those in both weights. What one thread holds of a
tile, G rows, is added up before it is added to the sums, which take fewer registers so.
"""

from collections.abc import Callable
from typing import Any

import triton
import triton.language as tl

from skelcontrast.kernels._batch_norm import _dropped, _kept, _of_features, _per_channel, _scaled, tile_at

_jit: Callable[[Callable[..., Any]], Any] = triton.jit


@_jit
def _normalized(
    x: tl.tensor,
    mean: tl.tensor,
    inverse: tl.tensor,
    weight: tl.tensor,
    bias: tl.tensor,
    where: tl.tensor,
    mask: tl.tensor,
    channel: tl.tensor,
    present: tl.tensor,
) -> tuple[tl.tensor, tl.tensor]:
    """Load features; return them centred, and normalised."""
    centred = tl.load(x + where, mask, 0.0).to(tl.float32) - _per_channel(mean, channel, present)
    deviation, scale = _per_channel(inverse, channel, present), _per_channel(weight, channel, present)
    return centred, _scaled(centred, deviation, scale, _per_channel(bias, channel, present))


@_jit
def _added_up(value: tl.tensor, added: tl.tensor, kept: tl.tensor, DROP: tl.constexpr) -> tl.tensor:
    """Return what ReLU is told, the same wherever its sign is asked for."""
    if DROP > 0:
        value = _dropped(value, kept, DROP)
    return value + added


@_jit
def normalize_two(
    x: tl.tensor,
    mean: tl.tensor,
    inverse: tl.tensor,
    weight: tl.tensor,
    bias: tl.tensor,
    other: tl.tensor,
    other_mean: tl.tensor,
    other_inverse: tl.tensor,
    other_weight: tl.tensor,
    other_bias: tl.tensor,
    seed: tl.tensor,
    y: tl.tensor,
    R: tl.tensor,
    C: tl.tensor,
    BM: tl.constexpr,
    CB: tl.constexpr,
    DROP: tl.constexpr,
    RELU: tl.constexpr,
) -> None:
    """Features with both norms, and the rest."""
    tile = tl.program_id(0)
    where, mask, channel, present = tile_at(tile, R, C, BM, CB)
    _, value = _normalized(x, mean, inverse, weight, bias, where, mask, channel, present)
    _, added = _normalized(other, other_mean, other_inverse, other_weight, other_bias, where, mask, channel, present)
    kept = _kept(seed, tile, C, BM, CB, DROP) if DROP > 0 else mask
    value = _added_up(value, added, kept, DROP)
    if RELU:
        value = tl.where(value <= 0, 0.0, value)  # keeps what is not a number
    tl.store(y + where, value.to(y.dtype.element_ty), mask)


@_jit
def _gradients_above(
    upstream: tl.tensor,
    x: tl.tensor,
    mean: tl.tensor,
    inverse: tl.tensor,
    weight: tl.tensor,
    bias: tl.tensor,
    other: tl.tensor,
    other_mean: tl.tensor,
    other_inverse: tl.tensor,
    other_weight: tl.tensor,
    other_bias: tl.tensor,
    seed: tl.tensor,
    tile: tl.tensor,
    R: tl.tensor,
    C: tl.tensor,
    BM: tl.constexpr,
    CB: tl.constexpr,
    DROP: tl.constexpr,
    RELU: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor, tl.tensor, tl.tensor]:
    """Gradients behind both norms, each with the features of that norm, centred."""
    where, mask, channel, present = tile_at(tile, R, C, BM, CB)
    above = tl.load(upstream + where, mask, 0.0).to(tl.float32)
    first, value = _normalized(x, mean, inverse, weight, bias, where, mask, channel, present)
    second, added = _normalized(
        other, other_mean, other_inverse, other_weight, other_bias, where, mask, channel, present
    )
    kept = _kept(seed, tile, C, BM, CB, DROP) if DROP > 0 else mask
    if RELU:
        above = tl.where(_added_up(value, added, kept, DROP) <= 0, 0.0, above)
    dropped = _dropped(above, kept, DROP) if DROP > 0 else above
    return dropped, first, above, second


@_jit
def gradient_sums_of_two(
    upstream: tl.tensor,
    x: tl.tensor,
    mean: tl.tensor,
    inverse: tl.tensor,
    weight: tl.tensor,
    bias: tl.tensor,
    other: tl.tensor,
    other_mean: tl.tensor,
    other_inverse: tl.tensor,
    other_weight: tl.tensor,
    other_bias: tl.tensor,
    seed: tl.tensor,
    sums: tl.tensor,
    R: tl.tensor,
    C: tl.tensor,
    BM: tl.constexpr,
    CB: tl.constexpr,
    G: tl.constexpr,
    DROP: tl.constexpr,
    RELU: tl.constexpr,
) -> None:
    """What gradients in both biases and both weights are sums of."""
    of_bias, of_weight = tl.zeros((BM // G, CB), tl.float32), tl.zeros((BM // G, CB), tl.float32)
    of_other_bias, of_other_weight = tl.zeros((BM // G, CB), tl.float32), tl.zeros((BM // G, CB), tl.float32)
    for tile in range(tl.program_id(0), tl.cdiv(R, BM), tl.num_programs(0)):
        dropped, first, above, second = _gradients_above(
            upstream,
            x,
            mean,
            inverse,
            weight,
            bias,
            other,
            other_mean,
            other_inverse,
            other_weight,
            other_bias,
            seed,
            tile,
            R,
            C,
            BM,
            CB,
            DROP,
            RELU,
        )
        of_bias += tl.sum(tl.reshape(dropped, (G, BM // G, CB)), 0)
        of_weight += tl.sum(tl.reshape(dropped * first, (G, BM // G, CB)), 0)
        of_other_bias += tl.sum(tl.reshape(above, (G, BM // G, CB)), 0)
        of_other_weight += tl.sum(tl.reshape(above * second, (G, BM // G, CB)), 0)
    channel = tl.program_id(1) * CB + tl.arange(0, CB)
    where = sums + tl.program_id(0) * 4 * C + channel
    tl.store(where, tl.sum(of_bias, 0), channel < C)
    tl.store(where + C, tl.sum(of_other_bias, 0), channel < C)
    deviation = tl.load(inverse + channel, channel < C, 0.0)
    other_deviation = tl.load(other_inverse + channel, channel < C, 0.0)
    tl.store(where + 2 * C, tl.sum(of_weight, 0) * deviation, channel < C)
    tl.store(where + 3 * C, tl.sum(of_other_weight, 0) * other_deviation, channel < C)


@_jit
def gradient_features_of_two(
    upstream: tl.tensor,
    x: tl.tensor,
    mean: tl.tensor,
    inverse: tl.tensor,
    weight: tl.tensor,
    bias: tl.tensor,
    other: tl.tensor,
    other_mean: tl.tensor,
    other_inverse: tl.tensor,
    other_weight: tl.tensor,
    other_bias: tl.tensor,
    seed: tl.tensor,
    of_bias: tl.tensor,
    of_weight: tl.tensor,
    grad_x: tl.tensor,
    grad_other: tl.tensor,
    R: tl.tensor,
    C: tl.tensor,
    BM: tl.constexpr,
    CB: tl.constexpr,
    DROP: tl.constexpr,
    RELU: tl.constexpr,
) -> None:
    """Gradients in the features of both, from those in biases and weights, 2 C numbers each."""
    tile = tl.program_id(0)
    dropped, first, above, second = _gradients_above(
        upstream,
        x,
        mean,
        inverse,
        weight,
        bias,
        other,
        other_mean,
        other_inverse,
        other_weight,
        other_bias,
        seed,
        tile,
        R,
        C,
        BM,
        CB,
        DROP,
        RELU,
    )
    where, mask, channel, present = tile_at(tile, R, C, BM, CB)
    result = _of_features(dropped, first, inverse, weight, of_bias, of_weight, R, channel, present)
    tl.store(grad_x + where, result.to(grad_x.dtype.element_ty), mask)
    result = _of_features(above, second, other_inverse, other_weight, of_bias + C, of_weight + C, R, channel, present)
    tl.store(grad_other + where, result.to(grad_other.dtype.element_ty), mask)
