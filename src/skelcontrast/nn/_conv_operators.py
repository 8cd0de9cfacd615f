"""The convolutions' fast twins as operations of torch with gradients in closed form, see `Twin`.

Backward may run under autocast though forward did not, so what is made of torch's operations computes without it.
"""

from typing import Any, TypeAlias

import torch
from torch import Tensor

from skelcontrast._autocast import autocast_off
from skelcontrast._once import once
from skelcontrast.nn._graph_conv_blocked import blocked_gradients, blocked_graph_conv
from skelcontrast.nn._memory_format import each, memory_format_of
from skelcontrast.nn._spectral import spectral_conv, spectral_gradients
from skelcontrast.nn._twin import Context, Gradients, Twin, unset_gradient

_Four: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor]
_Three: TypeAlias = tuple[Tensor, Tensor, Tensor]
_Two: TypeAlias = tuple[Tensor, Tensor]


def _unset(x: Tensor, *sizes: int) -> Tensor:
    """Return an unset tensor of these sizes, channels-last."""
    return torch.empty(sizes, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


def _unset_like(x: Tensor, channels: int) -> Tensor:
    """Return an unset (N, `channels`, T, V) in the memory format of `x`."""
    shape = (x.shape[0], channels, *x.shape[2:])
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=memory_format_of(x))


def _unset_sums(x: Tensor, parts: int, channels: int) -> Tensor:
    """Return unset parts of statistics."""
    return torch.empty((parts, 3, channels), dtype=torch.float32, device=x.device)


def _graph_conv(x: Tensor, weight: Tensor, bias: Tensor, adjacency: Tensor, twin: str) -> Tensor:
    out = _unset_like(x, weight.shape[1])
    if twin == "triton":
        from skelcontrast.kernels.graph_conv import triton_graph_conv

        triton_graph_conv(x, weight, bias, adjacency, out)
    else:
        with autocast_off(x.device):
            blocked_graph_conv(x, weight, bias, adjacency, out)
    return out


def _graph_conv_fake(x: Tensor, weight: Tensor, *_: object) -> Tensor:
    return _unset_like(x, weight.shape[1])


def _graph_conv_gradients(
    upstream: Tensor, x: Tensor, weight: Tensor, bias: Tensor, adjacency: Tensor, twin: str
) -> _Four:
    if twin == "triton":
        return _summed_graph_conv_gradients(upstream, x, weight, bias, adjacency, twin)
    grad_x = _unset_like(x, x.shape[1])
    with autocast_off(x.device):
        return grad_x, *blocked_gradients(upstream, x, weight, bias, adjacency, grad_x)


def _graph_conv_gradients_fake(
    _upstream: Tensor, x: Tensor, weight: Tensor, bias: Tensor, adjacency: Tensor, *_: object
) -> _Four:
    return _unset_like(x, x.shape[1]), unset_gradient(weight), unset_gradient(bias), unset_gradient(adjacency)


def _summed_graph_conv(x: Tensor, weight: Tensor, bias: Tensor, adjacency: Tensor, _twin: str) -> _Two:
    from skelcontrast.kernels.graph_conv import triton_graph_conv

    out, sums = _summed_graph_conv_fake(x, weight)
    triton_graph_conv(x, weight, bias, adjacency, out, sums)
    return out, sums


def _summed_graph_conv_fake(x: Tensor, weight: Tensor, *_: object) -> _Two:
    from skelcontrast.kernels.graph_conv import parts_of

    return _unset_like(x, weight.shape[1]), _unset_sums(x, parts_of(x, weight), weight.shape[1])


def _summed_graph_conv_gradients(
    upstream: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    adjacency: Tensor,
    _twin: str,
    added: Tensor | None = None,
    every: int = 1,
) -> _Four:
    from skelcontrast.kernels.graph_conv import triton_gradients

    grad_x = _unset_like(x, x.shape[1])
    return grad_x, *triton_gradients(upstream, x, weight, bias, adjacency, grad_x, added, every)


def _save_graph_conv(ctx: Context, inputs: tuple[Any, ...], output: object) -> None:  # noqa: ARG001  torch's signature
    *tensors, twin = inputs
    ctx.how = (twin,)
    ctx.save_for_backward(*tensors)


def _graph_conv_gradient(ctx: Context, upstream: Tensor, gradients: Gradients) -> tuple[Tensor | None, ...]:
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

summed_graph_conv_twin = Twin(
    "skelcontrast::summed_graph_conv",
    _summed_graph_conv,
    _summed_graph_conv_fake,
    _summed_graph_conv_gradients,
    _graph_conv_gradients_fake,
    save=_save_graph_conv,
    gradient=_graph_conv_gradient,
)
"""Do the same with kernels alone, and sum up what comes out, in parts (parts, 3, C_out) for `batch_statistics`."""


class _Branch(torch.autograd.Function):
    """The same, and frames of x, which an operator must not return. Older compilers follow global names alone."""

    @staticmethod
    def forward(ctx: Context, x: Tensor, weight: Tensor, bias: Tensor, adjacency: Tensor, every: int) -> _Three:
        convolve = summed_graph_conv_twin.operator if torch.compiler.is_compiling() else _summed_graph_conv
        out, sums = convolve(x, weight, bias, adjacency, "triton")
        ctx.mark_non_differentiable(sums)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, weight, bias, adjacency)
        ctx.how = (every,)
        return out, sums, each(x.view_as(x), every)

    @staticmethod
    def backward(ctx: Context, upstream: Tensor | None, _none: None, added: Tensor | None) -> tuple[Tensor | None, ...]:
        x, *others = ctx.saved_tensors
        if upstream is None:  # nothing was made of what was convolved
            of_x = torch.zeros_like(x)
            if added is not None:
                each(of_x, *ctx.how).copy_(added)
            return of_x, None, None, None, None
        given = (upstream, x, *others, "triton", added, *ctx.how)
        if torch.compiler.is_compiling():
            return *summed_graph_conv_twin.gradients_operator(*given), None
        return *once("graph_conv", lambda: _summed_graph_conv_gradients(*given), upstream, added, x, *others), None


def branched_graph_conv(x: Tensor, weight: Tensor, bias: Tensor, adjacency: Tensor, every: int) -> _Three:
    """Do the same as `summed_graph_conv_twin`; also return each `every`-th frame of x, for whoever else reads them.

    Autograd would add the gradient of what they make of it to this one's in an operation that reads both. So the
    kernel that writes this one's adds theirs.
    """
    made: _Three = _Branch.apply(x, weight, bias, adjacency, every)  # type: ignore[no-untyped-call]  # torch's
    return made


def _spectral(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    with autocast_off(x.device):
        return spectral_conv(x, weight, bias)


def _spectral_fake(x: Tensor, weight: Tensor, *_: object) -> Tensor:
    return _unset(x, x.shape[0], weight.shape[0], *x.shape[2:])


def _spectral_gradients(upstream: Tensor, x: Tensor, weight: Tensor) -> _Three:
    with autocast_off(x.device):
        return spectral_gradients(upstream, x, weight)


def _frame_gradients_fake(_upstream: Tensor, x: Tensor, weight: Tensor, *_: object) -> _Three:
    return _unset(x, *x.shape), unset_gradient(weight), weight.new_empty(weight.shape[0])


def _save_spectral(ctx: Context, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001  torch's signature
    ctx.save_for_backward(*inputs[:2])


def _spectral_gradient(ctx: Context, upstream: Tensor, gradients: Gradients) -> tuple[Tensor | None, ...]:
    return gradients(upstream, *ctx.saved_tensors)


spectral_twin = Twin(
    "skelcontrast::spectral_conv",
    _spectral,
    _spectral_fake,
    _spectral_gradients,
    _frame_gradients_fake,
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


def _summed_temporal(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> _Two:
    from skelcontrast.kernels.temporal_conv import triton_temporal_conv

    out, sums = _summed_temporal_fake(x, weight, bias, stride)
    triton_temporal_conv(x.contiguous(memory_format=torch.channels_last), weight, bias, stride, out, sums)
    return out, sums


def _summed_temporal_fake(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> _Two:
    from skelcontrast.kernels.temporal_conv import parts_of

    out = _temporal_fake(x, weight, bias, stride)
    return out, _unset_sums(x, parts_of(x, out), weight.shape[0])


def _save_temporal(ctx: Context, inputs: tuple[Any, ...], output: object) -> None:  # noqa: ARG001  torch's signature
    x, weight, bias, stride = inputs
    ctx.how = stride, bias is not None
    ctx.save_for_backward(x, weight)


def _temporal_gradient(ctx: Context, upstream: Tensor, gradients: Gradients) -> tuple[Tensor | None, ...]:
    stride, has_bias = ctx.how
    of_x, of_weight, of_bias = gradients(upstream, *ctx.saved_tensors, stride)
    return of_x, of_weight, of_bias if has_bias else None, None


temporal_conv_twin = Twin(
    "skelcontrast::temporal_conv",
    _temporal,
    _temporal_fake,
    _temporal_gradients,
    _frame_gradients_fake,
    save=_save_temporal,
    gradient=_temporal_gradient,
)
"""Convolve x (N, C_in, T, V) over frames with weight (C_out, C_in, L, 1), and add any bias (C_out,); channels-last."""

summed_temporal_conv_twin = Twin(
    "skelcontrast::summed_temporal_conv",
    _summed_temporal,
    _summed_temporal_fake,
    _temporal_gradients,
    _frame_gradients_fake,
    save=_save_temporal,
    gradient=_temporal_gradient,
)
"""Do the same, and sum up what comes out, in parts (parts, 3, C_out) for `batch_statistics`."""
