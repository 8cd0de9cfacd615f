"""Batch norm and what follows it as operations of torch, with gradients in closed form, see `Twin`."""

from typing import Any, TypeAlias

import torch
from torch import Tensor

from skelcontrast._operator import operator
from skelcontrast.nn._twin import Context, Gradients, Twin, unset_gradient

_Five: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def _statistics(
    x: Tensor,
    sums: Tensor | None,
    running_mean: Tensor,
    running_variance: Tensor,
    batches: Tensor | None,
    left_out: Tensor | None,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor]:
    from skelcontrast.kernels.batch_norm import triton_statistics

    return triton_statistics(x, sums, running_mean, running_variance, batches, left_out, momentum, eps)


def _unset(x: Tensor, *_: object) -> tuple[Tensor, Tensor]:
    mean, inverse = (x.new_empty(x.shape[1], dtype=torch.float32) for _ in range(2))
    return mean, inverse


statistics_operator = operator(
    "skelcontrast::batch_statistics", _statistics, _unset, mutates=("running_mean", "running_variance", "batches")
)


def batch_statistics(
    x: Tensor,
    sums: Tensor | None,
    running_mean: Tensor,
    running_variance: Tensor,
    batches: Tensor | None,
    left_out: Tensor | None,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """Return mean and inverse standard deviation (C,) of x (N, C, T, V), channels-last; move the running statistics.

    What has made x may also have summed it up, in parts (parts, 3, C) of count, mean and sum of squares about that
    mean. The running statistics are those of x with a bias (C,) that was left out of it. `batches` (int64, no axes)
    counts their moves.
    """
    moved = running_mean, running_variance, batches
    if not torch.compiler.is_compiling():
        return _statistics(x, sums, *moved, left_out, momentum, eps)
    # Of what has no gradient by its maker's word, not every version of the compiler knows that.
    sums, left_out = (None if value is None else value.detach() for value in (sums, left_out))
    mean, inverse = statistics_operator(x.detach(), sums, *moved, left_out, momentum, eps)
    return mean, inverse


def _normalize(
    x: Tensor,
    mean: Tensor,
    inverse: Tensor,
    weight: Tensor,
    bias: Tensor,
    residual: Tensor | None,
    _left_out: Tensor | None,
    seed: Tensor,
    dropout: float,
    relu: bool,
) -> Tensor:
    from skelcontrast.kernels.batch_norm import triton_normalize

    return triton_normalize(x, mean, inverse, weight, bias, residual, seed, dropout, relu)


def _normalize_gradients(
    upstream: Tensor,
    x: Tensor,
    out: Tensor,
    mean: Tensor,
    inverse: Tensor,
    weight: Tensor,
    bias: Tensor,
    left_out: Tensor | None,
    seed: Tensor,
    dropout: float,
    relu: bool,
    with_residual: bool,
) -> _Five:
    from skelcontrast.kernels.batch_norm import triton_gradients

    upstream = upstream.contiguous(memory_format=torch.channels_last)
    return triton_gradients(upstream, x, out, mean, inverse, weight, bias, left_out, seed, dropout, relu, with_residual)


def _normalize_fake(x: Tensor, *_: object) -> Tensor:
    return torch.empty_like(x)


def _normalize_gradients_fake(
    _upstream: Tensor,
    x: Tensor,
    _out: Tensor,
    _mean: Tensor,
    _inverse: Tensor,
    weight: Tensor,
    bias: Tensor,
    left_out: Tensor | None,
    _seed: Tensor,
    _dropout: float,
    _relu: bool,
    with_residual: bool,
) -> _Five:
    of_residual = torch.empty_like(x) if with_residual else x.new_empty(0)
    of_left_out = x.new_empty(0) if left_out is None else torch.empty_like(left_out)
    return torch.empty_like(x), unset_gradient(weight), unset_gradient(bias), of_residual, of_left_out


def _save_normalized(ctx: Context, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, mean, inverse, weight, bias, residual, left_out, seed, dropout, relu = inputs
    ctx.how = dropout, relu, residual is not None
    # Without a residual the gradient of ReLU is found from x.
    ctx.save_for_backward(x, x if residual is None else output, mean, inverse, weight, bias, left_out, seed)


def _normalize_gradient(ctx: Context, upstream: Tensor, gradients: Gradients) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors
    of_x, of_weight, of_bias, of_residual, of_left_out = gradients(upstream, *saved, *ctx.how)
    added, left_out = of_residual if ctx.how[2] else None, None if saved[6] is None else of_left_out
    return of_x, None, None, of_weight, of_bias, added, left_out, None, None, None


normalize_twin = Twin(
    "skelcontrast::normalize",
    _normalize,
    _normalize_fake,
    _normalize_gradients,
    _normalize_gradients_fake,
    save=_save_normalized,
    gradient=_normalize_gradient,
)
"""Return ``relu(residual + dropout(weight * (x - mean) * inverse + bias))``; features are channels-last.

Mean and inverse standard deviation are those of `x`, and its gradient knows that. A bias (C,) that was left out of `x`,
because it changes nothing here, gets the gradient of zero that it is due.
"""


def _normalize_two(
    x: Tensor,
    mean: Tensor,
    inverse: Tensor,
    weight: Tensor,
    bias: Tensor,
    _left_out: Tensor | None,
    other: Tensor,
    other_mean: Tensor,
    other_inverse: Tensor,
    other_weight: Tensor,
    other_bias: Tensor,
    _other_left_out: Tensor | None,
    seed: Tensor,
    dropout: float,
    relu: bool,
) -> Tensor:
    from skelcontrast.kernels.batch_norm import triton_normalize_two

    of_other = other, other_mean, other_inverse, other_weight, other_bias
    return triton_normalize_two(x, mean, inverse, weight, bias, *of_other, seed, dropout, relu)


def _normalize_two_gradients(
    upstream: Tensor,
    x: Tensor,
    mean: Tensor,
    inverse: Tensor,
    weight: Tensor,
    bias: Tensor,
    other: Tensor,
    other_mean: Tensor,
    other_inverse: Tensor,
    other_weight: Tensor,
    other_bias: Tensor,
    seed: Tensor,
    dropout: float,
    relu: bool,
    left_out: bool,
) -> _Five:
    from skelcontrast.kernels.batch_norm import triton_gradients_of_two

    upstream = upstream.contiguous(memory_format=torch.channels_last)
    of_other = other, other_mean, other_inverse, other_weight, other_bias
    return triton_gradients_of_two(upstream, x, mean, inverse, weight, bias, *of_other, seed, dropout, relu, left_out)


def _normalize_two_gradients_fake(_upstream: Tensor, x: Tensor, mean: Tensor, *rest: object) -> _Five:
    channels = len(mean)
    of_both = (mean.new_empty(2, size) for size in (channels, channels, channels if rest[-1] else 0))
    of_weight, of_bias, of_left_out = of_both
    return torch.empty_like(x), torch.empty_like(x), of_weight, of_bias, of_left_out


def _save_two(ctx: Context, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001  torch's signature
    *first, left_out = inputs[:6]
    *second, other_left_out = inputs[6:12]
    seed, dropout, relu = inputs[12:]
    ctx.how = dropout, relu, not (left_out is None and other_left_out is None)
    ctx.save_for_backward(*first, *second, seed, left_out, other_left_out)


def _gradient_of_two(ctx: Context, upstream: Tensor, gradients: Gradients) -> tuple[Tensor | None, ...]:
    *saved, left_out, other_left_out = ctx.saved_tensors
    of_x, of_other, *of_both = gradients(upstream, *saved, *ctx.how)
    own = _of_one(0, of_both, (*saved[3:5], left_out))
    others = _of_one(1, of_both, (*saved[8:10], other_left_out))
    return of_x, None, None, *own, of_other, None, None, *others, None, None, None


def _of_one(norm: int, of_both: list[Tensor], parameters: tuple[Tensor | None, ...]) -> list[Tensor | None]:
    """Pick the gradients in one norm's parameters, and in what was left out, from those in both norms' (2, C)."""
    pairs = zip(of_both, parameters, strict=True)
    return [None if parameter is None else both[norm].to(parameter.dtype) for both, parameter in pairs]


normalize_two_twin = Twin(
    "skelcontrast::normalize_two",
    _normalize_two,
    _normalize_fake,
    _normalize_two_gradients,
    _normalize_two_gradients_fake,
    save=_save_two,
    gradient=_gradient_of_two,
)
"""Return what `normalize_twin` does, where the residual is `other` with a norm of its own still to be applied.

The features `other` have mean and deviation of their own, and maybe a bias that was left out of them.
"""
