"""Graph convolution for CUDA where many channels leave one large product most of the work: gathered, then multiplied.

What is gathered takes P times the memory of the input while the layer is computed, and again in backward: nothing of it
is kept in between. Products are cuBLAS's, with float32 sums; the gradients of weight and bias leave them in float32,
for which torch 2.8 and newer has a word.
"""

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from skelcontrast._autocast import autocast_off
from skelcontrast._cuda import ROOMY, capability
from skelcontrast.kernels._device import (
    ceil_div,
    multiprocessors,
    on_device_of,
    padded,
    power_of_two,
    precision_of,
    unset,
)
from skelcontrast.kernels._graph_conv_wide import gather_rows, lay_maps, spread_rows

WIDENS = 4
"""C_out / C_in from which a layer is computed here: an estimate by the memory that is moved, not timed yet."""

_SUMS_IN_FLOAT32 = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 8)


class _Tile(NamedTuple):
    """Channels and frames of a tile, how it is run, and programs for every multiprocessor, as many as fit into one."""

    CB: int
    BB: int
    num_warps: int
    num_stages: int
    programs: int

    @classmethod
    def of(cls, channels: int, *, gradients: bool) -> "_Tile":
        """Choose the tile of what is gathered from so many channels, or of the gradients: 64 columns."""
        block = min(64, padded(channels))
        return cls(block, 64 // block, 4, 2 if gradients else 3, 3)


class _Plan(NamedTuple):
    """How a kernel is launched."""

    grid: tuple[int, int]
    sizes: tuple[int, ...]
    options: dict[str, int | str]


@lru_cache(maxsize=1024)
def _plan(shape: torch.Size, partitions: int, precision: str, device: torch.device, *, gradients: bool) -> _Plan:
    """Lay out what is gathered from features (N, C, T, V), or the gradients."""
    samples, channels, frames, joints = shape
    tile = _Tile.of(channels, gradients=gradients)
    blocks = ceil_div(channels, tile.CB)
    tiles, most = max(1, ceil_div(samples * frames, tile.BB)), tile.programs * multiprocessors(device)
    options: dict[str, int | str] = {"VP": padded(joints), "PP": power_of_two(partitions), "DOT": precision}
    options |= {"CB": tile.CB, "BB": tile.BB, "num_warps": tile.num_warps, "num_stages": tile.num_stages}
    sizes = samples * frames, joints, channels, partitions, width_of(partitions, channels)
    return _Plan((min(tiles, ceil_div(most, blocks)), blocks), sizes, options)


def width_of(partitions: int, channels: int) -> int:
    """Return the columns of what is gathered: so many that rows begin where memory is read from."""
    return 16 * ceil_div(partitions * (channels + 1), 16)


def is_wide(x: Tensor, weight: Tensor, out: Tensor) -> bool:
    """Return whether a layer is computed here: a wide one in 16 bits, from 32 channels in, on data-centre devices."""
    _, out_channels, in_channels = weight.shape
    if x.element_size() != 2 or in_channels < 32 or out_channels < WIDENS * in_channels or not _SUMS_IN_FLOAT32:
        return False
    dense = all(value.permute(0, 2, 3, 1).is_contiguous() for value in (x, out))
    return dense and (not x.is_cuda or capability(x.device) in ROOMY)


def wide_graph_conv(x: Tensor, weight: Tensor, bias: Tensor, adjacency: Tensor, out: Tensor) -> None:
    """Write into `out` what `graph_conv` returns."""
    with on_device_of(x), autocast_off(x.device):
        gathered, maps = _gather(x, weight, adjacency), _lay(x, weight, bias)
        torch.mm(gathered, maps.t(), out=_rows(out))


def wide_gradients(
    upstream: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    adjacency: Tensor,
    grad_x: Tensor,
    added: Tensor | None,
    every: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Write the gradient in x and what is added to it into `grad_x` and return those in weight, bias and adjacency."""
    partitions, out_channels, in_channels = weight.shape
    above = _rows(upstream).contiguous()  # a sum's gradient is one number everywhere
    with on_device_of(x), autocast_off(x.device):
        of_gathered = torch.mm(above, _lay(x, weight, bias))
        grid, sizes, options = _plan(x.shape, partitions, precision_of(x), x.device, gradients=True)
        graphs = unset(x, grid[0] * grid[1], *adjacency.shape)
        others, is_added = grad_x if added is None else _laid_like(grad_x, added, every), added is not None
        spread_rows[grid](
            of_gathered, x, adjacency.contiguous(), grad_x, others, graphs, *sizes, ADDED=is_added, **options
        )
        del of_gathered
        of_maps = _sums_over_rows(above, _gather(x, weight, adjacency))
    mapped = partitions * in_channels
    of_weight = of_maps[:, :mapped].view(out_channels, partitions, in_channels).transpose(0, 1).contiguous()
    of_bias = of_maps[:, mapped : mapped + partitions].t().contiguous()
    return of_weight.to(weight.dtype), of_bias.to(bias.dtype), graphs.sum(0).to(adjacency.dtype)


def _rows(x: Tensor) -> Tensor:
    """See features (N, C, T, V) as (N T V, C), where they are channels-last; else copy them."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _laid_like(x: Tensor, added: Tensor, every: int) -> Tensor:
    """Lay out what is added to each `every`-th frame as `x` lies, with zeros in between, where it does not."""
    if added.shape == x.shape and added.stride() == x.stride():
        return added
    laid = torch.zeros_like(x)
    laid[:, :, ::every] = added
    return laid


def _gather(x: Tensor, weight: Tensor, adjacency: Tensor) -> Tensor:
    """Return what is gathered from features, and how far biases reach, as (N T V, width)."""
    grid, sizes, options = _plan(x.shape, len(weight), precision_of(x), x.device, gradients=False)
    gathered = x.new_empty(x.numel() // x.shape[1], sizes[-1])
    columns = padded(sizes[-1] - len(weight) * x.shape[1])
    gather_rows[grid](x, adjacency.contiguous(), gathered, *sizes, EB=columns, **options)
    return gathered


def _lay(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return channel maps and biases as (C_out, width), as numbers like those of `x`."""
    partitions, out_channels, in_channels = weight.shape
    width = width_of(partitions, in_channels)
    maps = x.new_empty(out_channels, width)
    sizes = in_channels, out_channels, partitions, width
    lay_maps[(out_channels,)](weight.contiguous(), bias.contiguous(), maps, *sizes, WB=power_of_two(width))
    return maps


def _sums_over_rows(a: Tensor, b: Tensor) -> Tensor:
    """Return the product of (rows, M) and (rows, K), summed over the rows, as (M, K) in float32."""
    if a.is_cuda:
        return torch.mm(a.t(), b, out_dtype=torch.float32)
    return torch.mm(a.t().float(), b.float())  # what a CPU has no other way for
