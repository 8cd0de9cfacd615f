"""Graph convolution on a CPU, a few frames at a time, so that what lies between input and output stays in the cache.

The whole-batch products write P times the input (or output) to memory and read it back. Here a block of frames is laid
out joint by joint in a small scratch, gathered over the graph, projected, and written out, whatever the strides of
input and output; the backward pass gathers again rather than keep what was gathered.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

SCRATCH_BYTES = 1536 * 1024
"""What a block's gathered and projected features may take; 1 to 2 MiB were alike on one core of an AMD EPYC (Zen 2)."""


class _Block(NamedTuple):
    """Some frames of some samples."""

    samples: slice
    frames: slice

    def of(self, x: Tensor) -> Tensor:
        """Return the block of `x` (N, C, T, V) as a view (V, n, t, C)."""
        return x[self.samples, :, self.frames].permute(3, 0, 2, 1)


class _Scratch:
    """Room for one block, with the graph laid out for it; the last block may use less of it."""

    def __init__(self, x: Tensor, weight: Tensor, adjacency: Tensor) -> None:
        partitions, out_channels, in_channels = weight.shape
        self.partitions, self.joints = partitions, x.shape[3]
        self.graph = adjacency.transpose(1, 2).reshape(-1, self.joints)  # (P V, V), a row for every gathered joint
        per_joint = (in_channels, partitions * in_channels, out_channels)
        frame_bytes = self.joints * sum(per_joint[1:]) * x.element_size()
        self.frames = max(1, SCRATCH_BYTES * torch.get_num_threads() // frame_bytes)
        self._joints, self._gathered, self._outer = (
            x.new_empty(self.frames * self.joints * size) for size in per_joint
        )

    def blocks(self, x: Tensor) -> Iterator[_Block]:
        """Yield the blocks of `x` (N, C, T, V): whole samples, or frames of one where it has more than fit."""
        samples, _, frames, _ = x.shape
        if self.frames < frames:
            for n in range(samples):
                for t in range(0, frames, self.frames):
                    yield _Block(slice(n, n + 1), slice(t, t + self.frames))
        else:
            step = self.frames // max(1, frames)
            for n in range(0, samples, step):
                yield _Block(slice(n, n + step), slice(None))

    def gather(self, tile: Tensor) -> tuple[Tensor, Tensor]:
        """Lay out a tile (V, n, t, C) as (V, n t C) and gather it over the graph to (P V, n t C)."""
        joints = _take(self._joints, tile.shape).copy_(tile).flatten(1)
        gathered = _take(self._gathered, (self.graph.shape[0], joints.shape[1]))
        return joints, torch.mm(self.graph, joints, out=gathered)

    def rows(self, gathered: Tensor, channels: int) -> Tensor:
        """See gathered features as (P, V n t, C)."""
        return gathered.view(self.partitions, -1, channels)

    def outer(self, shape: torch.Size) -> Tensor:
        """Return room for a tile (V, n, t, C_out)."""
        return _take(self._outer, shape)


def _take(scratch: Tensor, shape: tuple[int, ...]) -> Tensor:
    return scratch[: math.prod(shape)].view(shape)


def shift_of(bias: Tensor, adjacency: Tensor) -> Tensor:
    """Return (V, C_out): a bias added before aggregation reaches joint w once for every unit of weight in column w."""
    return (adjacency.sum(1).to(bias.dtype)[:, :, None] * bias[:, None, :]).sum(0)


def blocked_graph_conv(x: Tensor, weight: Tensor, bias: Tensor, adjacency: Tensor, out: Tensor) -> None:
    """Write into `out` what `graph_conv` returns, aggregated first."""
    shift = shift_of(bias, adjacency)
    maps = [one.t() for one in weight]
    scratch = _Scratch(x, weight, adjacency)
    for block in scratch.blocks(x):
        _, gathered = scratch.gather(block.of(x))
        parts = scratch.rows(gathered, x.shape[1])
        into = block.of(out)
        outer = scratch.outer(into.shape)
        result = torch.mm(parts[0], maps[0], out=outer.view(-1, outer.shape[3]))
        for part, one in zip(parts[1:], maps[1:], strict=True):
            result.addmm_(part, one)
        torch.add(outer, shift[:, None, None], out=into)


def blocked_gradients(
    upstream: Tensor, x: Tensor, weight: Tensor, bias: Tensor, adjacency: Tensor, grad_x: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Write the gradient in x into `grad_x` and return those in weight, bias and adjacency."""
    scratch = _Scratch(x, weight, adjacency)
    grad_weight = torch.zeros_like(weight, memory_format=torch.contiguous_format)
    grad_graph = x.new_zeros(scratch.joints, scratch.graph.shape[0])
    grad_shift = x.new_zeros(scratch.joints, weight.shape[1])
    for block in scratch.blocks(x):
        joints, gathered = scratch.gather(block.of(x))
        tile = block.of(upstream)
        outer = scratch.outer(tile.shape).copy_(tile)
        grad_shift += outer.flatten(1, 2).sum(1)
        outer = outer.view(1, -1, outer.shape[3]).expand(scratch.partitions, -1, -1)
        parts = scratch.rows(gathered, x.shape[1])
        grad_weight.baddbmm_(outer.transpose(1, 2), parts)
        torch.bmm(outer, weight, out=parts)  # what was gathered has done its work: its gradient takes its room
        grad_graph.addmm_(joints, gathered.t())
        into = block.of(grad_x)
        into.copy_(torch.mm(scratch.graph.t(), gathered, out=joints).view(into.shape))
    grad_adjacency = grad_graph.view(scratch.joints, scratch.partitions, scratch.joints).transpose(0, 1)
    through_biases = (bias @ grad_shift.t())[:, None, :]
    return grad_weight, adjacency.sum(1) @ grad_shift, (grad_adjacency + through_biases).contiguous()
