"""Graph convolution for CUDA: gathered, projected and shifted in one kernel, and the same backwards."""

from typing import NamedTuple

import torch
import triton
from torch import Tensor

from skelcontrast.kernels._device import multiprocessors, on_device_of
from skelcontrast.kernels._graph_conv import backward_features, backward_maps, forward

_LAUNCH = {"num_warps": 8, "num_stages": 2}


class _Tile(NamedTuple):
    """Sizes of a tile, all powers of two: joints and partitions, padded; channels in and out; frames."""

    VP: int
    PP: int
    CB: int
    OB: int
    BB: int

    @classmethod
    def of(cls, weight: Tensor, joints: int) -> "_Tile":
        """Choose the tile of a layer: 64 rows of features, so many channels that a program's registers hold the rest.

        Looked up in what the compiler reports for compute capabilities 8.0 and 9.0: no or few registers spilled.
        """
        partitions, out_channels, in_channels = weight.shape
        joints, partitions = _padded(joints), triton.next_power_of_2(partitions)
        most = 64 if weight.element_size() <= 2 else 32
        inner = max(16, min(_padded(in_channels), most, 8192 // (joints * partitions)))
        return cls(joints, partitions, inner, min(_padded(out_channels), most), max(1, 64 // inner))


def _padded(size: int) -> int:
    return max(16, int(triton.next_power_of_2(size)))  # a matrix unit takes no less than 16


def triton_graph_conv(x: Tensor, weight: Tensor, shift: Tensor, adjacency: Tensor, out: Tensor) -> None:
    """Write into `out` what `graph_conv` returns; `shift` (V, C_out) is what the biases come to."""
    weight, shift, adjacency = weight.contiguous(), shift.contiguous(), adjacency.contiguous()
    tile, sizes = _Tile.of(weight, x.shape[3]), _sizes(x, weight)
    outer = triton.cdiv(weight.shape[1], tile.OB)
    grid = (_programs(x, tile, outer), outer)
    with on_device_of(x):
        forward[grid](x, *x.stride(), weight, shift, adjacency, out, *out.stride(), *sizes, **_options(tile, x))


def triton_gradients(
    upstream: Tensor, x: Tensor, weight: Tensor, adjacency: Tensor, grad_x: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Write the gradient in x into `grad_x` and return those in weight, shift and adjacency."""
    weight, adjacency = weight.contiguous(), adjacency.contiguous()
    partitions, out_channels, in_channels = weight.shape
    joints = x.shape[3]
    tile, sizes = _Tile.of(weight, joints), _sizes(x, weight)
    inner, outer = triton.cdiv(in_channels, tile.CB), triton.cdiv(out_channels, tile.OB)
    above, features = (upstream, *upstream.stride()), (x, *x.stride())
    options = _options(tile, x)
    programs = _programs(x, tile, inner)
    grad_graph = x.new_empty(programs * inner, tile.VP, tile.PP, tile.VP, dtype=torch.float32)
    with on_device_of(x):
        backward_features[programs, inner](
            *above, *features, weight, adjacency, grad_x, *grad_x.stride(), grad_graph, *sizes, **options
        )
    programs = _programs(x, tile, inner * outer)
    grad_maps = x.new_empty(programs, *weight.shape, dtype=torch.float32)
    grad_shift = x.new_empty(programs, joints, out_channels, dtype=torch.float32)
    with on_device_of(x):
        backward_maps[programs, inner, outer](*above, *features, adjacency, grad_maps, grad_shift, *sizes, **options)
    grad_adjacency = grad_graph.sum(0)[:joints, :partitions, :joints].transpose(0, 1).contiguous()
    return grad_maps.sum(0).to(x.dtype), grad_shift.sum(0).to(x.dtype), grad_adjacency.to(x.dtype)


def _sizes(x: Tensor, weight: Tensor) -> tuple[int, ...]:
    samples, in_channels, frames, joints = x.shape
    partitions, out_channels, _ = weight.shape
    return samples * frames, frames, joints, in_channels, out_channels, partitions


def _programs(x: Tensor, tile: _Tile, others: int) -> int:
    """Return how many programs share the frames: with as many `others` each, two for every multiprocessor."""
    tiles = -(-x.shape[0] * x.shape[2] // tile.BB)
    return max(1, min(-(-2 * multiprocessors(x) // others), tiles))


def _options(tile: _Tile, x: Tensor) -> dict[str, int | str]:
    return {**tile._asdict(), "DOT": _precision(x), **_LAUNCH}


def _precision(x: Tensor) -> str:
    """Return how products are taken: float32 in one product of tf32 where torch may do so too, else in three."""
    if x.dtype == torch.bfloat16 and not (x.is_cuda and torch.cuda.is_bf16_supported(including_emulation=False)):
        return "wide"
    return "tf32" if torch.backends.cuda.matmul.allow_tf32 else "tf32x3"
