"""Graph convolution for CUDA: gathered, projected and shifted in one kernel, and the same backwards."""

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from skelcontrast._cuda import ROOMY, capability
from skelcontrast.kernels._device import (
    are_known,
    ceil_div,
    multiprocessors,
    on_device_of,
    padded,
    power_of_two,
    precision_of,
    unset,
)
from skelcontrast.kernels._graph_conv import forward
from skelcontrast.kernels._graph_conv_gradients import add_up, backward_features, backward_maps
from skelcontrast.kernels.graph_conv_wide import is_wide, wide_gradients, wide_graph_conv


class _Case(NamedTuple):
    """All that decides how a layer is computed."""

    shape: tuple[int, ...]
    """Features: N, C_in, T, V."""
    maps: tuple[int, ...]
    """P, C_out, C_in."""
    width: int
    """Bytes of a feature."""
    precision: str
    device: torch.device

    @classmethod
    def of(cls, x: Tensor, weight: Tensor) -> "_Case":
        """Return the case of features and channel maps."""
        return cls(x.shape, weight.shape, x.element_size(), precision_of(x), x.device)

    @property
    def roomy(self) -> bool:
        """Whether a multiprocessor has more shared memory than most."""
        return self.device.type != "cuda" or capability(self.device) in ROOMY

    @property
    def adds(self) -> bool:
        """Whether tiles of the gradients leave shared memory for one more map: in 32 bits on few devices."""
        return self.width <= 2 or self.device.type != "cuda" or capability(self.device) >= (9, 0)


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
    def forward(cls, case: _Case) -> "_Tile":
        """Choose the tile of a layer. Narrow numbers leave it more room than its gradients have."""
        tile = cls.backward(case)
        if case.width > 2:
            return tile
        if case.roomy and case.maps[2] >= 64 and tile.VP * tile.PP <= 128:
            return tile._replace(CB=64, BB=2)
        return tile._replace(BB=64 // tile.CB)

    @classmethod
    def backward(cls, case: _Case) -> "_Tile":
        """Choose the tile of a layer's gradients: 32 to 128 rows of features, so many channels as registers hold."""
        partitions, out_channels, in_channels = case.maps
        joints, partitions = padded(case.shape[3]), power_of_two(partitions)
        most, inner, outer = 8192 // (joints * partitions), padded(in_channels), padded(out_channels)
        if case.width <= 2:
            inner, outer = max(16, min(inner, 32, most)), min(outer, 64)
            stages = 3 if in_channels <= inner or case.roomy else 2
            return cls(joints, partitions, inner, outer, (128 if outer == 16 else 64) // inner, 4, stages)
        if case.precision == "tf32" and min(inner, outer, most) >= 64:
            return cls(joints, partitions, 64, 64, 1, num_stages=2)
        inner, outer = max(16, min(inner, 32, most)), min(outer, 32)
        return cls(joints, partitions, inner, outer, 32 // inner, num_stages=3 if case.precision == "tf32" else 2)


class _Plan(NamedTuple):
    """How the kernels of a layer are launched."""

    inner: int
    """Blocks of channels in."""
    outer: int
    """Blocks of channels out."""
    programs: tuple[int, int]
    """Programs that share the frames: for each block of channels out or, of gradients, in; for each pair of blocks."""
    sizes: tuple[int, ...]
    """What the kernels are told of the layer."""
    options: dict[str, int | str]


def _programs(case: _Case, tile: _Tile, blocks: int) -> int:
    """Return how many programs share the frames, for each of some blocks: two in all for every multiprocessor."""
    tiles = max(1, ceil_div(case.shape[0] * case.shape[2], tile.BB))
    return min(tiles, ceil_div(2 * multiprocessors(case.device), blocks))


def parts_of(x: Tensor, weight: Tensor) -> int:
    """Return how many parts of statistics the outputs have, none where cuBLAS writes them; N and T may be symbols."""
    if is_wide(x, weight, x):
        return 0
    case = _Case.of(x, weight)
    return (_parts if are_known(case.shape) else _parts.__wrapped__)(case)


@lru_cache(maxsize=1024)
def _parts(case: _Case) -> int:
    tile = _Tile.forward(case)
    return _programs(case, tile, ceil_div(case.maps[1], tile.OB))


@lru_cache(maxsize=1024)
def _plan(case: _Case, *, gradients: bool) -> _Plan:
    """Lay out a layer or its gradients."""
    tile = _Tile.backward(case) if gradients else _Tile.forward(case)
    samples, in_channels, frames, joints = case.shape
    partitions, out_channels, _ = case.maps
    inner, outer = ceil_div(in_channels, tile.CB), ceil_div(out_channels, tile.OB)
    alone, pairs = (_programs(case, tile, blocks) for blocks in (inner if gradients else outer, inner * outer))
    sizes = samples * frames, frames, joints, in_channels, out_channels, partitions
    return _Plan(inner, outer, (alone, pairs), sizes, {**tile._asdict(), "DOT": case.precision})


def triton_graph_conv(
    x: Tensor, weight: Tensor, bias: Tensor, adjacency: Tensor, out: Tensor, sums: Tensor | None = None
) -> None:
    """Write into `out` what `graph_conv` returns, into `sums` (`parts_of`, 3, C_out) the parts of its statistics."""
    if is_wide(x, weight, out):
        wide_graph_conv(x, weight, bias, adjacency, out)
        return
    weight, bias, adjacency = weight.contiguous(), bias.contiguous(), adjacency.contiguous()
    inner, outer, programs, sizes, options = _plan(_Case.of(x, weight), gradients=False)
    with on_device_of(x):
        forward[programs[0], outer](
            x,
            *x.stride(),
            weight,
            bias,
            adjacency,
            out,
            *out.stride(),
            out if sums is None else sums,
            *sizes,
            STEPS=inner,
            SUMS=sums is not None,
            **options,
        )


def triton_gradients(
    upstream: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    adjacency: Tensor,
    grad_x: Tensor,
    added: Tensor | None = None,
    every: int = 1,
) -> tuple[Tensor, Tensor, Tensor]:
    """Write the gradient in x into `grad_x` and return those in weight, bias and adjacency.

    To the former another may be added (N, C_in, T / `every`, V), in each `every`-th frame.
    """
    if is_wide(x, weight, grad_x):
        return wide_gradients(upstream, x, weight, bias, adjacency, grad_x, added, every)
    weight, bias, adjacency = weight.contiguous(), bias.contiguous(), adjacency.contiguous()
    case = _Case.of(x, weight)
    inner, outer, programs, sizes, options = _plan(case, gradients=True)
    above, features = (upstream, *upstream.stride()), (x, *x.stride())
    others = added if added is not None and case.adds else None
    beside = grad_x if others is None else others
    gradients = torch.empty_like(adjacency), torch.empty_like(weight), torch.empty_like(bias)
    # Sums as `add_up` reads them: a row per program.
    graphs = unset(x, programs[0] * inner, adjacency.numel())
    widths = [weight.numel(), bias.numel(), outer * adjacency[..., 0].numel()]
    maps = unset(x, programs[1], sum(widths))
    rows = min(512, power_of_two(len(maps)))  # of which there are the most columns
    columns = max(8, 4096 // rows)
    grid = (ceil_div(sum(gradient.numel() for gradient in gradients), columns),)
    with on_device_of(x):
        backward_features[programs[0], inner](
            *above,
            *features,
            weight,
            adjacency,
            grad_x,
            *grad_x.stride(),
            beside,
            *beside.stride(),
            graphs,
            *sizes,
            STEPS=outer,
            EVERY=0 if others is None else every,
            **options,
        )
        backward_maps[programs[1], inner, outer](
            *above, *features, bias, adjacency, *maps.split(widths, dim=1), sum(widths), *sizes, **options
        )
        rows_of = len(graphs), len(maps)
        add_up[grid](graphs, maps, *gradients, *rows_of, sum(widths), outer, *sizes[2:], RB=rows, WB=columns)
    if added is not None and others is None:
        grad_x[:, :, ::every].add_(added)
    of_adjacency, of_weight, of_bias = gradients
    return of_weight, of_bias, of_adjacency
