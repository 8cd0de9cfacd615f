"""The fast twins as operators of torch: one node each for `torch.compile`, with a gradient in closed form.

The gradients are operators themselves and have none of their own: a second derivative raises.
"""

from typing import TypeAlias

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from skelcontrast.nn._graph_conv_blocked import blocked_gradients, blocked_graph_conv
from skelcontrast.nn._memory_format import memory_format_of
from skelcontrast.nn._spectral import spectral_conv, spectral_gradients

_Gradients: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor]


def _unset_like(x: Tensor, channels: int) -> Tensor:
    """Return an unset (N, `channels`, T, V) in the memory format of `x`."""
    shape = (x.shape[0], channels, *x.shape[2:])
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=memory_format_of(x))


@torch.library.custom_op("skelcontrast::graph_conv", mutates_args=())
def graph_conv_twin(x: Tensor, weight: Tensor, shift: Tensor, adjacency: Tensor, twin: str) -> Tensor:
    """Convolve x (N, C_in, T, V) with weight (P, C_out, C_in) over adjacency (P, V, V) and add shift (V, C_out)."""
    out = _unset_like(x, weight.shape[1])
    if twin == "triton":
        from skelcontrast.kernels.graph_conv import triton_graph_conv

        triton_graph_conv(x, weight, shift, adjacency, out)
    else:
        blocked_graph_conv(x, weight, shift, adjacency, out)
    return out


@torch.library.custom_op("skelcontrast::graph_conv_gradients", mutates_args=())
def graph_conv_gradients(upstream: Tensor, x: Tensor, weight: Tensor, adjacency: Tensor, twin: str) -> _Gradients:
    """Return the gradients in x, weight, shift and adjacency."""
    grad_x = _unset_like(x, x.shape[1])
    if twin == "triton":
        from skelcontrast.kernels.graph_conv import triton_gradients

        return grad_x, *triton_gradients(upstream, x, weight, adjacency, grad_x)
    return grad_x, *blocked_gradients(upstream, x, weight, adjacency, grad_x)


@graph_conv_twin.register_fake
def _(x: Tensor, weight: Tensor, _shift: Tensor, _adjacency: Tensor, _twin: str) -> Tensor:
    return _unset_like(x, weight.shape[1])


@graph_conv_gradients.register_fake
def _(_upstream: Tensor, x: Tensor, weight: Tensor, adjacency: Tensor, _twin: str) -> _Gradients:
    shift = weight.new_empty(x.shape[3], weight.shape[1])
    return _unset_like(x, x.shape[1]), torch.empty_like(weight), shift, torch.empty_like(adjacency)


class _Context(FunctionCtx):
    """What the gradient finds again."""

    saved_tensors: tuple[Tensor, Tensor, Tensor]
    twin: str


def _save(ctx: _Context, inputs: tuple[Tensor, Tensor, Tensor, Tensor, str], output: Tensor) -> None:  # noqa: ARG001  torch's signature
    x, weight, _, adjacency, ctx.twin = inputs
    ctx.save_for_backward(x, weight, adjacency)


def _gradient(ctx: _Context, upstream: Tensor) -> tuple[Tensor | None, ...]:
    return (*graph_conv_gradients(upstream, *ctx.saved_tensors, ctx.twin), None)


graph_conv_twin.register_autograd(_gradient, setup_context=_save)


@torch.library.custom_op("skelcontrast::spectral_conv", mutates_args=())
def spectral_twin(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolve x (N, C_in, T, V) over frames with weight (C_out, C_in, L) and add bias (C_out,); channels-last."""
    return spectral_conv(x, weight, bias)


@torch.library.custom_op("skelcontrast::spectral_conv_gradients", mutates_args=())
def spectral_gradients_twin(upstream: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients in x, channels-last, in weight and in bias."""
    return spectral_gradients(upstream, x, weight)


@spectral_twin.register_fake
def _(x: Tensor, weight: Tensor, _bias: Tensor) -> Tensor:
    shape = (x.shape[0], weight.shape[0], *x.shape[2:])
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


@spectral_gradients_twin.register_fake
def _(_upstream: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    grad_x = torch.empty(x.shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    return grad_x, torch.empty_like(weight), weight.new_empty(weight.shape[0])


class _SpectralContext(FunctionCtx):
    """What the gradient finds again."""

    saved_tensors: tuple[Tensor, Tensor]


def _save_spectral(ctx: _SpectralContext, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:  # noqa: ARG001  torch's signature
    ctx.save_for_backward(*inputs[:2])


def _spectral_gradient(ctx: _SpectralContext, upstream: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    gradients: tuple[Tensor, Tensor, Tensor] = spectral_gradients_twin(upstream, *ctx.saved_tensors)
    return gradients


spectral_twin.register_autograd(_spectral_gradient, setup_context=_save_spectral)


@torch.library.custom_op("skelcontrast::temporal_conv", mutates_args=())
def temporal_conv_twin(x: Tensor, weight: Tensor, bias: Tensor, stride: int) -> Tensor:
    """Convolve x (N, C_in, T, V) over frames with weight (C_out, C_in, L, 1) and add bias (C_out,); channels-last."""
    from skelcontrast.kernels.temporal_conv import triton_temporal_conv

    out = _unset_convolved(x, weight, stride)
    triton_temporal_conv(x.contiguous(memory_format=torch.channels_last), weight, bias, stride, out)
    return out


@torch.library.custom_op("skelcontrast::temporal_conv_gradients", mutates_args=())
def temporal_conv_gradients(upstream: Tensor, x: Tensor, weight: Tensor, stride: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients in x, channels-last, in weight and in bias."""
    from skelcontrast.kernels.temporal_conv import triton_gradients

    upstream, x = (value.contiguous(memory_format=torch.channels_last) for value in (upstream, x))
    grad_x = torch.empty(x.shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    return grad_x, *triton_gradients(upstream, x, weight, stride, grad_x)


def _unset_convolved(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    shape = (x.shape[0], weight.shape[0], -(-x.shape[2] // stride), x.shape[3])
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


@temporal_conv_twin.register_fake
def _(x: Tensor, weight: Tensor, _bias: Tensor, stride: int) -> Tensor:
    return _unset_convolved(x, weight, stride)


@temporal_conv_gradients.register_fake
def _(_upstream: Tensor, x: Tensor, weight: Tensor, _stride: int) -> tuple[Tensor, Tensor, Tensor]:
    grad_x = torch.empty(x.shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    return grad_x, torch.empty_like(weight), weight.new_empty(weight.shape[0])


class _TemporalContext(FunctionCtx):
    """What the gradient finds again."""

    saved_tensors: tuple[Tensor, Tensor]
    stride: int


def _save_temporal(ctx: _TemporalContext, inputs: tuple[Tensor, Tensor, Tensor, int], output: Tensor) -> None:  # noqa: ARG001  torch's signature
    x, weight, _, ctx.stride = inputs
    ctx.save_for_backward(x, weight)


def _temporal_gradient(ctx: _TemporalContext, upstream: Tensor) -> tuple[Tensor | None, ...]:
    return (*temporal_conv_gradients(upstream, *ctx.saved_tensors, ctx.stride), None)


temporal_conv_twin.register_autograd(_temporal_gradient, setup_context=_save_temporal)
