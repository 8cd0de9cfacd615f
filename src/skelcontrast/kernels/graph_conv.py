"""Graph convolution for CUDA: gathered, projected and shifted in one kernel, and the same backwards."""

from typing import NamedTuple

import torch
from torch import Tensor

from skelcontrast._cuda import ROOMY, capability
from skelcontrast.kernels._device import ceil_div, multiprocessors, on_device_of, padded, power_of_two, precision_of
from skelcontrast.kernels._graph_conv import forward
from skelcontrast.kernels._graph_conv_gradients import add_up, backward_features, backward_maps


class _Tile(NamedTuple):
    """Sizes of a tile, all powers of two: joints and partitions, padded; channels in and out; frames. How it is run.

    Those that were fastest on an H200, among those of which the compiler reports few or no spilled registers.
    """

    VP: int
    PP: int
    CB: int
    OB: int
    BB: int
    num_warps: int = 4
    num_stages: int = 3

    @classmethod
    def forward(cls, weight: Tensor, x: Tensor, precision: str) -> "_Tile":
        """Choose the tile of a layer. Narrow numbers leave it more room than its gradients have."""
        tile = cls.backward(weight, x, precision)
        if x.element_size() > 2:
            return tile
        roomy = not x.is_cuda or capability(x.device) in ROOMY
        if roomy and weight.shape[2] >= 64 and tile.VP * tile.PP <= 128:
            return tile._replace(CB=64, BB=2)
        return tile._replace(BB=64 // tile.CB)

    @classmethod
    def backward(cls, weight: Tensor, x: Tensor, precision: str) -> "_Tile":
        """Choose the tile of a layer's gradients: 32 to 128 rows of features, so many channels as registers hold."""
        partitions, out_channels, in_channels = weight.shape
        joints, partitions = padded(x.shape[3]), power_of_two(partitions)
        most, inner, outer = 8192 // (joints * partitions), padded(in_channels), padded(out_channels)
        if x.element_size() <= 2:
            inner, outer = max(16, min(inner, 32, most)), min(outer, 64)
            fits = in_channels <= inner or not x.is_cuda or capability(x.device) in ROOMY
            return cls(joints, partitions, inner, outer, (128 if outer == 16 else 64) // inner, 4, 3 if fits else 2)
        if precision == "tf32" and min(inner, outer, most) >= 64:
            return cls(joints, partitions, 64, 64, 1, num_stages=2)
        inner, outer = max(16, min(inner, 32, most)), min(outer, 32)
        return cls(joints, partitions, inner, outer, 32 // inner, num_stages=3 if precision == "tf32" else 2)


def triton_graph_conv(x: Tensor, weight: Tensor, bias: Tensor, adjacency: Tensor, out: Tensor) -> None:
    """Write into `out` what `graph_conv` returns."""
    weight, bias, adjacency = weight.contiguous(), bias.contiguous(), adjacency.contiguous()
    precision = precision_of(x)
    tile = _Tile.forward(weight, x, precision)
    options = {**tile._asdict(), "DOT": precision}
    inner, outer = _blocks(weight, tile)
    grid = (_programs(x, tile, outer), outer)
    with on_device_of(x):
        forward[grid](
            x, *x.stride(), weight, bias, adjacency, out, *out.stride(), *_sizes(x, weight), STEPS=inner, **options
        )


def triton_gradients(
    upstream: Tensor, x: Tensor, weight: Tensor, bias: Tensor, adjacency: Tensor, grad_x: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Write the gradient in x into `grad_x` and return those in weight, bias and adjacency."""
    weight, bias, adjacency = weight.contiguous(), bias.contiguous(), adjacency.contiguous()
    precision = precision_of(x)
    tile = _Tile.backward(weight, x, precision)
    options = {**tile._asdict(), "DOT": precision}
    inner, outer = _blocks(weight, tile)
    above, features, sizes = (upstream, *upstream.stride()), (x, *x.stride()), _sizes(x, weight)
    programs = _programs(x, tile, inner)
    # A row of sums per program, as `add_up` reads it.
    reach = outer * adjacency[:, 0].numel()
    widths = [inner * adjacency.numel(), weight.numel(), bias.numel(), reach]
    width = sum(widths)
    sums = x.new_empty(programs, width, dtype=torch.float32)
    of_graph, *of_maps_and_bias = sums.split(widths, dim=1)
    gradients = torch.empty_like(adjacency), torch.empty_like(weight), torch.empty_like(bias)
    with on_device_of(x):
        backward_features[programs, inner](
            *above,
            *features,
            weight,
            adjacency,
            grad_x,
            *grad_x.stride(),
            of_graph,
            width,
            *sizes,
            STEPS=outer,
            **options,
        )
        backward_maps[programs, inner, outer](
            *above, *features, bias, adjacency, *of_maps_and_bias, width, *sizes, **options
        )
        rows = power_of_two(programs)
        columns = max(8, 4096 // rows)
        grid = (ceil_div(sum(gradient.numel() for gradient in gradients), columns),)
        add_up[grid](sums, *gradients, programs, width, *sizes[2:], INNER=inner, OUTER=outer, PB=rows, WB=columns)
    of_adjacency, of_weight, of_bias = gradients
    return of_weight, of_bias, of_adjacency


def _blocks(weight: Tensor, tile: _Tile) -> tuple[int, int]:
    """Return how many blocks of channels there are in and out."""
    return ceil_div(weight.shape[2], tile.CB), ceil_div(weight.shape[1], tile.OB)


def _sizes(x: Tensor, weight: Tensor) -> tuple[int, ...]:
    samples, in_channels, frames, joints = x.shape
    partitions, out_channels, _ = weight.shape
    return samples * frames, frames, joints, in_channels, out_channels, partitions


def _programs(x: Tensor, tile: _Tile, others: int) -> int:
    """Return how many programs share the frames: with as many `others` each, two for every multiprocessor."""
    tiles = ceil_div(x.shape[0] * x.shape[2], tile.BB)
    return max(1, min(ceil_div(2 * multiprocessors(x), others), tiles))
