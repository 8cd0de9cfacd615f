"""Graph convolution for CUDA: gathered, projected and shifted in one kernel, and the same backwards."""

from typing import NamedTuple

import torch
import triton
from torch import Tensor

from skelcontrast._cuda import ROOMY, capability
from skelcontrast.kernels._device import multiprocessors, on_device_of, padded, precision_of
from skelcontrast.kernels._graph_conv import add_up, backward_features, backward_maps, forward

_ROWS, _COLUMNS = 64, 32
"""Of a tile in which rows of sums are added up."""


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
    def of(cls, weight: Tensor, x: Tensor, precision: str) -> "_Tile":
        """Choose the tile of a layer: 32 to 128 rows of features, and so many channels as registers hold."""
        partitions, out_channels, in_channels = weight.shape
        joints, partitions = padded(x.shape[3]), triton.next_power_of_2(partitions)
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
    tile, options = _tile(weight, x)
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
    tile, options = _tile(weight, x)
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
        columns = triton.cdiv(sum(gradient.numel() for gradient in gradients), _COLUMNS)
        add_up[(columns,)](
            sums, *gradients, programs, width, *sizes[2:], INNER=inner, OUTER=outer, PB=_ROWS, WB=_COLUMNS
        )
    of_adjacency, of_weight, of_bias = gradients
    return of_weight, of_bias, of_adjacency


def _blocks(weight: Tensor, tile: _Tile) -> tuple[int, int]:
    """Return how many blocks of channels there are in and out."""
    return triton.cdiv(weight.shape[2], tile.CB), triton.cdiv(weight.shape[1], tile.OB)


def _sizes(x: Tensor, weight: Tensor) -> tuple[int, ...]:
    samples, in_channels, frames, joints = x.shape
    partitions, out_channels, _ = weight.shape
    return samples * frames, frames, joints, in_channels, out_channels, partitions


def _programs(x: Tensor, tile: _Tile, others: int) -> int:
    """Return how many programs share the frames: with as many `others` each, two for every multiprocessor."""
    tiles = -(-x.shape[0] * x.shape[2] // tile.BB)
    return max(1, min(-(-2 * multiprocessors(x) // others), tiles))


def _tile(weight: Tensor, x: Tensor) -> tuple[_Tile, dict[str, int | str]]:
    """Return the tile of a layer, and all that the kernels are told of it."""
    precision = precision_of(x)
    tile = _Tile.of(weight, x, precision)
    return tile, {**tile._asdict(), "DOT": precision}
