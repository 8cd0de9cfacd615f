"""Graph convolution for CUDA: gathered, projected and shifted in one kernel, and the same backwards."""

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from skelcontrast.kernels._device import ceil_div, multiprocessors, on_device_of, padded, power_of_two, precision_of
from skelcontrast.kernels._graph_conv import spread
from skelcontrast.kernels._graph_conv_gradients import add_up, backward_graph, backward_maps


class _Case(NamedTuple):
    """All that decides how features are convolved; the gradient in them is a case of its own."""

    frames: int
    """Of all samples."""
    joints: int
    fan_in: int
    fan_out: int
    partitions: int
    narrow: bool
    """Whether a feature has 16 bits."""
    precision: str
    device: torch.device

    @classmethod
    def of(cls, x: Tensor, fan_out: int, partitions: int) -> "_Case":
        """Return the case of features (N, C, T, V)."""
        samples, fan_in, frames, joints = x.shape
        sizes = samples * frames, joints, fan_in, fan_out, partitions
        return cls(*sizes, x.element_size() <= 2, precision_of(x), x.device)

    def plan(self, inner: int, outer: int, frames: int, blocks: int, per: int, **how: int) -> "_Plan":
        """Lay out tiles of so many channels in and out and frames, for several blocks of channels.

        So many programs for every multiprocessor, if there is work for them.
        """
        programs = min(ceil_div(per * multiprocessors(self.device), blocks), ceil_div(self.frames, frames))
        layer = {"V": self.joints, "C": self.fan_in, "O": self.fan_out, "P": self.partitions}
        tile = {"VP": padded(self.joints), "CB": inner, "OB": outer, "BB": frames}
        return _Plan(max(1, programs), {**layer, **tile, **how, "DOT": self.precision})


class _Plan(NamedTuple):
    """How a kernel is launched."""

    programs: int
    """That share the frames, for each block of channels."""
    options: dict[str, int | str]


@lru_cache(maxsize=1024)
def _plan(case: _Case) -> tuple[_Plan, int]:
    """Lay out a convolution, or the gradient in its input; also return the blocks of channels out."""
    widest = 64 if case.narrow else 32
    inner, outer = min(padded(case.fan_in), widest), min(padded(case.fan_out), widest)
    blocks = ceil_div(case.fan_out, outer)
    frames = 8 if case.narrow and max(inner, outer) == 16 else 4
    return case.plan(inner, outer, frames, blocks, 4, num_warps=4, num_stages=2), blocks


@lru_cache(maxsize=1024)
def _plan_graph(case: _Case) -> tuple[_Plan, int]:
    """Lay out the gradient in the adjacency; also return the blocks of channels in."""
    inner, outer = min(padded(case.fan_in), 32), min(padded(case.fan_out), 64 if case.narrow else 32)
    blocks = ceil_div(case.fan_in, inner)
    return case.plan(inner, outer, 4, blocks, 2, num_warps=4, num_stages=2), blocks


@lru_cache(maxsize=1024)
def _plan_maps(case: _Case) -> tuple[_Plan, int, int]:
    """Lay out the gradients in weight and bias; also return the blocks of channels in and out."""
    inner, outer = min(padded(case.fan_in), 32), min(padded(case.fan_out), 32)
    blocks = ceil_div(case.fan_in, inner), ceil_div(case.fan_out, outer)
    return case.plan(inner, outer, 4, blocks[0] * blocks[1], 2, num_warps=4, num_stages=2), *blocks


def triton_graph_conv(x: Tensor, weight: Tensor, bias: Tensor, adjacency: Tensor, out: Tensor) -> None:
    """Write into `out` what `graph_conv` returns."""
    (programs, options), blocks = _plan(_Case.of(x, weight.shape[1], weight.shape[0]))
    tensors = weight.contiguous(), bias.contiguous(), adjacency.contiguous()
    frames = x.shape[0] * x.shape[2]
    with on_device_of(x):
        spread[programs, blocks](
            x, *x.stride(), *tensors, out, *out.stride(), frames, x.shape[2], BACK=False, **options
        )


def triton_gradients(
    upstream: Tensor, x: Tensor, weight: Tensor, bias: Tensor, adjacency: Tensor, grad_x: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Write the gradient in x into `grad_x` and return those in weight, bias and adjacency."""
    weight, bias, adjacency = weight.contiguous(), bias.contiguous(), adjacency.contiguous()
    partitions, fan_out, fan_in = weight.shape
    above, features, length = (upstream, *upstream.stride()), (x, *x.stride()), (x.shape[0] * x.shape[2], x.shape[2])
    gradients = torch.empty_like(adjacency), torch.empty_like(weight), torch.empty_like(bias)
    with on_device_of(x):
        (programs, options), blocks = _plan(_Case.of(upstream, fan_in, partitions))
        spread[programs, blocks](
            *above, weight, bias, adjacency, grad_x, *grad_x.stride(), *length, BACK=True, **options
        )
        case = _Case.of(x, fan_out, partitions)
        (programs, options), inner = _plan_graph(case)
        graphs = _unset(x, programs * inner, adjacency.numel())
        backward_graph[programs, inner](*above, *features, weight, graphs, *length, **options)
        (programs, options), inner, outer = _plan_maps(case)
        maps = _unset(x, programs, weight.numel() + bias.numel() + outer * partitions * x.shape[3])
        backward_maps[programs, inner, outer](
            *above, *features, bias, adjacency, maps, maps.shape[1], *length, **options
        )
        rows = min(256, power_of_two(max(len(graphs), len(maps))))
        columns = max(8, 4096 // rows)
        sizes = {name: options[name] for name in ("V", "C", "O", "P")}
        numbers = sum(gradient.numel() for gradient in gradients)
        add_up[(ceil_div(numbers, columns),)](
            graphs, maps, *gradients, len(graphs), len(maps), maps.shape[1], outer, **sizes, RB=rows, WB=columns
        )
    of_adjacency, of_weight, of_bias = gradients
    return of_weight, of_bias, of_adjacency


def _unset(x: Tensor, *sizes: int) -> Tensor:
    """Return unset numbers in float32, where `x` is."""
    return torch.empty(sizes, dtype=torch.float32, device=x.device)
