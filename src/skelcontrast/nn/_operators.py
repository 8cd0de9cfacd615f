"""The fast twins as operations of torch with gradients in closed form, see `Twin`."""

from contextlib import AbstractContextManager
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from skelcontrast.nn._graph_conv_blocked import blocked_gradients, blocked_graph_conv
from skelcontrast.nn._memory_format import memory_format_of
from skelcontrast.nn._spectral import spectral_conv, spectral_gradients
from skelcontrast.nn._twin import Gradients, Twin

_Five: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
_Four: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor]
_Three: TypeAlias = tuple[Tensor, Tensor, Tensor]


class _Context(FunctionCtx):
    """What a gradient finds again: tensors, and all else that the operation was told."""

    saved_tensors: tuple[Any, ...]
    how: tuple[Any, ...]


def _unset(x: Tensor, *sizes: int) -> Tensor:
    """Return an unset tensor of these sizes, channels-last."""
    return torch.empty(sizes, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


def _unset_like(x: Tensor, channels: int) -> Tensor:
    """Return an unset (N, `channels`, T, V) in the memory format of `x`."""
    shape = (x.shape[0], channels, *x.shape[2:])
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=memory_format_of(x))


def _as_it_is(x: Tensor) -> AbstractContextManager[Any]:
    """Return a context without autocast, in which backward may run though forward did not."""
    return torch.autocast(x.device.type, enabled=False)


def _of_parameter(value: Tensor) -> Tensor:
    """Return the unset gradient of a parameter."""
    return torch.empty_like(value, memory_format=torch.contiguous_format)


def _graph_conv(x: Tensor, weight: Tensor, bias: Tensor, adjacency: Tensor, twin: str) -> Tensor:
    out = _unset_like(x, weight.shape[1])
    if twin == "triton":
        from skelcontrast.kernels.graph_conv import triton_graph_conv

        triton_graph_conv(x, weight, bias, adjacency, out)
    else:
        with _as_it_is(x):
            blocked_graph_conv(x, weight, bias, adjacency, out)
    return out


def _graph_conv_fake(x: Tensor, weight: Tensor, _bias: Tensor, _adjacency: Tensor, _twin: str) -> Tensor:
    return _unset_like(x, weight.shape[1])


def _graph_conv_gradients(
    upstream: Tensor, x: Tensor, weight: Tensor, bias: Tensor, adjacency: Tensor, twin: str
) -> _Four:
    grad_x = _unset_like(x, x.shape[1])
    if twin == "triton":
        from skelcontrast.kernels.graph_conv import triton_gradients

        return grad_x, *triton_gradients(upstream, x, weight, bias, adjacency, grad_x)
    with _as_it_is(x):
        return grad_x, *blocked_gradients(upstream, x, weight, bias, adjacency, grad_x)


def _graph_conv_gradients_fake(
    _upstream: Tensor, x: Tensor, weight: Tensor, bias: Tensor, adjacency: Tensor, _twin: str
) -> _Four:
    return _unset_like(x, x.shape[1]), _of_parameter(weight), _of_parameter(bias), _of_parameter(adjacency)


def _save_graph_conv(ctx: _Context, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001  torch's signature
    *tensors, twin = inputs
    ctx.how = (twin,)
    ctx.save_for_backward(*tensors)


def _graph_conv_gradient(ctx: _Context, upstream: Tensor, gradients: Gradients) -> tuple[Tensor | None, ...]:
    return (*gradients(upstream, *ctx.saved_tensors, *ctx.how), None)


graph_conv_twin = Twin(
    "skelcontrast::graph_conv",
    _graph_conv,
    _graph_conv_fake,
    _graph_conv_gradients,
    _graph_conv_gradients_fake,
    save=_save_graph_conv,
    gradient=_graph_conv_gradient,
)
"""Convolve x (N, C_in, T, V) with weight (P, C_out, C_in) and bias (P, C_out) over adjacency (P, V, V)."""


def _spectral(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    with _as_it_is(x):
        return spectral_conv(x, weight, bias)


def _spectral_fake(x: Tensor, weight: Tensor, _bias: Tensor) -> Tensor:
    return _unset(x, x.shape[0], weight.shape[0], *x.shape[2:])


def _spectral_gradients(upstream: Tensor, x: Tensor, weight: Tensor) -> _Three:
    with _as_it_is(x):
        return spectral_gradients(upstream, x, weight)


def _spectral_gradients_fake(_upstream: Tensor, x: Tensor, weight: Tensor) -> _Three:
    return _unset(x, *x.shape), _of_parameter(weight), weight.new_empty(weight.shape[0])


def _save_spectral(ctx: _Context, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001  torch's signature
    ctx.save_for_backward(*inputs[:2])


def _spectral_gradient(ctx: _Context, upstream: Tensor, gradients: Gradients) -> tuple[Tensor | None, ...]:
    return gradients(upstream, *ctx.saved_tensors)


spectral_twin = Twin(
    "skelcontrast::spectral_conv",
    _spectral,
    _spectral_fake,
    _spectral_gradients,
    _spectral_gradients_fake,
    save=_save_spectral,
    gradient=_spectral_gradient,
)
"""Convolve x (N, C_in, T, V) over frames with weight (C_out, C_in, L) and add bias (C_out,); channels-last."""


def _temporal(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
    from skelcontrast.kernels.temporal_conv import triton_temporal_conv

    out = _temporal_fake(x, weight, bias, stride)
    triton_temporal_conv(x.contiguous(memory_format=torch.channels_last), weight, bias, stride, out)
    return out


def _temporal_fake(x: Tensor, weight: Tensor, _bias: Tensor | None, stride: int) -> Tensor:
    return _unset(x, x.shape[0], weight.shape[0], -(-x.shape[2] // stride), x.shape[3])


def _temporal_gradients(upstream: Tensor, x: Tensor, weight: Tensor, stride: int) -> _Three:
    from skelcontrast.kernels.temporal_conv import triton_gradients

    upstream, x = (value.contiguous(memory_format=torch.channels_last) for value in (upstream, x))
    grad_x = _unset(x, *x.shape)
    return grad_x, *triton_gradients(upstream, x, weight, stride, grad_x)


def _temporal_gradients_fake(_upstream: Tensor, x: Tensor, weight: Tensor, _stride: int) -> _Three:
    return _unset(x, *x.shape), _of_parameter(weight), weight.new_empty(weight.shape[0])


def _save_temporal(ctx: _Context, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001  torch's signature
    x, weight, bias, stride = inputs
    ctx.how = stride, bias is not None
    ctx.save_for_backward(x, weight)


def _temporal_gradient(ctx: _Context, upstream: Tensor, gradients: Gradients) -> tuple[Tensor | None, ...]:
    stride, has_bias = ctx.how
    of_x, of_weight, of_bias = gradients(upstream, *ctx.saved_tensors, stride)
    return of_x, of_weight, of_bias if has_bias else None, None


temporal_conv_twin = Twin(
    "skelcontrast::temporal_conv",
    _temporal,
    _temporal_fake,
    _temporal_gradients,
    _temporal_gradients_fake,
    save=_save_temporal,
    gradient=_temporal_gradient,
)
"""Convolve x (N, C_in, T, V) over frames with weight (C_out, C_in, L, 1), and add any bias (C_out,); channels-last."""


def _statistics(
    x: Tensor, running_mean: Tensor, running_variance: Tensor, left_out: Tensor | None, momentum: float, eps: float
) -> tuple[Tensor, Tensor]:
    from skelcontrast.kernels.batch_norm import triton_statistics

    return triton_statistics(x, running_mean, running_variance, left_out, momentum, eps)


statistics_operator = torch.library.custom_op(
    "skelcontrast::batch_statistics", _statistics, mutates_args=("running_mean", "running_variance")
)


@statistics_operator.register_fake
def _(
    x: Tensor, _mean: Tensor, _variance: Tensor, _left_out: Tensor | None, _momentum: float, _eps: float
) -> tuple[Tensor, Tensor]:
    mean, inverse = (x.new_empty(x.shape[1], dtype=torch.float32) for _ in range(2))
    return mean, inverse


def batch_statistics(
    x: Tensor, running_mean: Tensor, running_variance: Tensor, left_out: Tensor | None, momentum: float, eps: float
) -> tuple[Tensor, Tensor]:
    """Return mean and inverse standard deviation (C,) of x (N, C, T, V), channels-last; move the running statistics.

    The latter are those of x with a bias (C,) that was left out of it.
    """
    by = statistics_operator if torch.compiler.is_compiling() else _statistics
    mean, inverse = by(x, running_mean, running_variance, left_out, momentum, eps)
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
    from skelcontrast.kernels.batch_norm import Behind, triton_normalize

    return triton_normalize(x, mean, inverse, weight, bias, residual, seed, Behind(dropout, relu))


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
    from skelcontrast.kernels.batch_norm import Behind, triton_gradients

    upstream = upstream.contiguous(memory_format=torch.channels_last)
    inputs = upstream, x, out, mean, inverse, weight, bias, left_out, seed, Behind(dropout, relu)
    return triton_gradients(*inputs, with_residual=with_residual)


def _normalize_fake(
    x: Tensor,
    _mean: Tensor,
    _inverse: Tensor,
    _weight: Tensor,
    _bias: Tensor,
    _residual: Tensor | None,
    _left_out: Tensor | None,
    _seed: Tensor,
    _dropout: float,
    _relu: bool,
) -> Tensor:
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
    return torch.empty_like(x), _of_parameter(weight), _of_parameter(bias), of_residual, of_left_out


def _save_normalized(ctx: _Context, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, mean, inverse, weight, bias, residual, left_out, seed, dropout, relu = inputs
    ctx.how = dropout, relu, residual is not None
    # Without a residual the gradient of ReLU is found from x.
    ctx.save_for_backward(x, x if residual is None else output, mean, inverse, weight, bias, left_out, seed)


def _normalize_gradient(ctx: _Context, upstream: Tensor, gradients: Gradients) -> tuple[Tensor | None, ...]:
    of_x, of_weight, of_bias, of_residual, of_left_out = gradients(upstream, *ctx.saved_tensors, *ctx.how)
    added = of_residual if ctx.how[2] else None
    left_out = None if ctx.saved_tensors[6] is None else of_left_out
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
