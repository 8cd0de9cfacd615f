"""Convolution over frames for CUDA: a block of frames at a time, in and out, and the same backwards."""

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

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
from skelcontrast.kernels._temporal_conv import add_taps, backward_weight, convolve, lay_band

_LAID = 16
"""Rows of a band that a program lays."""


class _Tile(NamedTuple):
    """Sizes of a tile: frames out, and padded; frames in at a time; channels in and out; rows. Then how it is run.

    Those that were fastest on an H200, among those of which the compiler reports no spilled registers.
    """

    J: int
    JP: int
    FB: int
    CB: int
    OB: int
    BM: int
    num_warps: int = 4
    num_stages: int = 3

    @classmethod
    def of(cls, width: int, fan_in: int, fan_out: int, multiple: int) -> "_Tile":
        """Choose the tile of a convolution: 64 features out, 128 of 16 bits, or near it; a `multiple` of frames out.

        Features have a width in bytes.
        """
        if width <= 2:
            frames, padded, inner, outer = _widths(64, fan_in, fan_out, multiple, columns=128)
            return cls(frames, padded, 64 // inner, inner, outer, 128, num_warps=8)
        frames, padded, inner, outer = _widths(32, fan_in, fan_out, multiple)
        if outer == 32:
            return cls(frames, padded, 1, inner, outer, 128, num_warps=8)
        return cls(frames, padded, 1, inner, outer, 64)

    @classmethod
    def of_sums(cls, width: int, fan_in: int, fan_out: int) -> "_Tile":
        """Choose the tile of the gradient in the weight: 64 x 64 sums, or 128 x 128."""
        if width > 2:
            frames, padded, inner, outer = _widths(64, fan_in, fan_out, 1)
            return cls(frames, padded, 64 // inner, inner, outer, 32, num_stages=1)
        frames, padded, inner, outer = _widths(64, fan_in, fan_out, 1, columns=128)
        return cls(frames, padded, 128 // inner, inner, outer, 64, num_warps=8)

    def programs(self, device: torch.device) -> int:
        """Return how many programs sum over frames: as many as a device runs at a time."""
        return 16 // self.num_warps * multiprocessors(device)


class _Band(NamedTuple):
    """How the F frames in and the J frames out of a block meet, see the kernels."""

    F: int
    STEP: int
    FIRST: int
    TAP: int
    PER_F: int
    PER_J: int

    @classmethod
    def forward(cls, length: int, stride: int, frames: int) -> "_Band":
        """Return the band of a convolution."""
        return cls(stride * (frames - 1) + length, stride * frames, -(length // 2), 0, 1, -stride)

    @classmethod
    def backward(cls, length: int, stride: int, frames: int) -> "_Band":
        """Return the band of its gradient in x, of which `frames` leave a block: a multiple of the stride."""
        pad = length // 2
        first, last = -(pad // stride), (frames - 1 + pad) // stride
        return cls(last - first + 1, frames // stride, first, pad - stride * first, -stride, 1)


class _Case(NamedTuple):
    """All that decides how features are convolved, from one shape (N, channels, frames, V) to another."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    length: int
    stride: int
    width: int
    """Bytes of a feature."""
    precision: str
    device: torch.device

    @classmethod
    def of(cls, x: Tensor, out: Tensor, length: int, stride: int) -> "_Case":
        """Return the case of features before and after."""
        return cls(x.shape, out.shape, length, stride, x.element_size(), precision_of(x), x.device)

    def options(self, tile: _Tile) -> dict[str, int | str]:
        """Return what the kernels of products are told, but for the band."""
        channels = {"C": self.before[1], "O": self.after[1]}
        return {**channels, "V": self.before[3], "DOT": self.precision, **tile._asdict()}

    def sizes(self, tile: _Tile) -> tuple[int, int, int, int]:
        """Return the numbers of rows, of blocks of frames in a sample, and of frames in and out."""
        samples, _, frames, joints = self.after
        blocks = ceil_div(frames, tile.J)
        return samples * blocks * joints, blocks, self.before[2], frames


class _Plan(NamedTuple):
    """How a kernel is launched."""

    grid: tuple[int, ...]
    sizes: tuple[int, ...]
    options: Mapping[str, int | str]


@lru_cache(maxsize=1024)
def _plan(case: _Case, *, gradient: bool) -> tuple[_Plan, _Plan]:
    """Lay out a convolution, or the gradient in its input, whose case leads from the upstream gradient to that.

    Return how its band is laid, of these sizes, and how it is convolved.
    """
    fan_in, fan_out = case.before[1], case.after[1]
    tile = _Tile.of(case.width, fan_in, fan_out, case.stride if gradient else 1)
    band = (_Band.backward if gradient else _Band.forward)(case.length, case.stride, tile.J)
    inner = ceil_div(fan_in, tile.CB) * ceil_div(band.F, tile.FB) * tile.FB * tile.CB
    outer = ceil_div(fan_out, tile.OB)
    shape = {"F": band.F, "J": tile.J, "JP": tile.JP, "CB": tile.CB, "OB": tile.OB, "K": inner}
    taps = {"L": case.length, "TAP": band.TAP, "PER_F": band.PER_F, "PER_J": band.PER_J}
    laid = {"C": fan_in, "O": fan_out, **shape, **taps, "KB": _LAID}
    options = {**case.options(tile), **shape, "STEP": band.STEP, "FIRST": band.FIRST}
    sizes = case.sizes(tile)
    return (
        _Plan((inner // _LAID, outer), (outer, tile.JP * tile.OB, inner), laid),
        _Plan((ceil_div(sizes[0], tile.BM), outer), sizes, options),
    )


@lru_cache(maxsize=1024)
def _plan_sums(case: _Case) -> tuple[_Plan, int, dict[str, int]]:
    """Lay out the gradient in the weight: also return the rows of sums, and the tile that adds them up."""
    fan_in, fan_out = case.before[1], case.after[1]
    tile = _Tile.of_sums(case.width, fan_in, fan_out)
    band = _Band.forward(case.length, case.stride, tile.J)
    sizes = case.sizes(tile)
    inner, outer = ceil_div(band.F, tile.FB) * ceil_div(fan_in, tile.CB), ceil_div(fan_out, tile.OB)
    programs = ceil_div(tile.programs(case.device), (inner + 1) * outer)
    programs = max(1, min(programs, ceil_div(sizes[0], tile.BM)))
    rows = programs * tile.J  # one for each program and frame out of a block
    rows_up = min(512, power_of_two(rows))
    adding = {"C": fan_in, "O": fan_out, "L": case.length, "PB": rows_up, "WB": max(8, 4096 // rows_up)}
    options = {**case.options(tile), **band._asdict(), "L": case.length, "BR": 512 // case.width}
    return _Plan((programs, inner + 1, outer), sizes, options), rows, adding


def parts_of(x: Tensor, out: Tensor) -> int:
    """Return how many parts of statistics the outputs have; N and T may be symbols."""
    case = _Case.of(x, out, 1, 1)  # neither decides it
    return (_parts if are_known(case.before + case.after) else _parts.__wrapped__)(case)


@lru_cache(maxsize=1024)
def _parts(case: _Case) -> int:
    tile = _Tile.of(case.width, case.before[1], case.after[1], 1)
    return ceil_div(case.sizes(tile)[0], tile.BM)


def triton_temporal_conv(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, out: Tensor, sums: Tensor | None = None
) -> None:
    """Write into `out` what `temporal_conv` returns; features are channels-last.

    Into `sums` (`parts_of`, 3, C_out) write the parts of its statistics.
    """
    case = _Case.of(x, out, weight.shape[2], stride)
    with on_device_of(x):
        _convolve(x, weight, bias, out, case, gradient=False, sums=sums)


def triton_gradients(upstream: Tensor, x: Tensor, weight: Tensor, stride: int, grad_x: Tensor) -> tuple[Tensor, Tensor]:
    """Write the gradient in x into `grad_x` and return those in weight and bias; features are channels-last."""
    fan_out, length = weight.shape[0], weight.shape[2]
    with on_device_of(x):
        case = _Case.of(upstream, grad_x, length, stride)
        _convolve(upstream, weight.transpose(0, 1), None, grad_x, case, gradient=True)
        (grid, sizes, options), rows, adding = _plan_sums(_Case.of(x, upstream, length, stride))
        # A row of sums: of the weight, of the bias.
        width = weight.numel() + fan_out
        sums = unset(x, rows, width)
        backward_weight[grid](upstream, x, sums, *sizes, **options)
        of_weight = torch.empty_like(weight, memory_format=torch.contiguous_format)
        of_bias = weight.new_empty(fan_out)
        add_taps[(ceil_div(width, adding["WB"]),)](sums, of_weight, of_bias, rows, **adding)
    return of_weight, of_bias


def _convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    out: Tensor,
    case: _Case,
    *,
    gradient: bool,
    sums: Tensor | None = None,
) -> None:
    """Convolve with the band of a weight (channels out, channels in, L), which may lie in any way."""
    laying, plan = _plan(case, gradient=gradient)
    band = torch.empty(laying.sizes, dtype=x.dtype, device=x.device)
    lay_band[laying.grid](weight, band, *weight.stride()[:3], **laying.options)
    # What is not there is never read or written.
    shift, parts = band if bias is None else bias.contiguous(), out if sums is None else sums
    there = {"BIAS": bias is not None, "SUMS": sums is not None}
    convolve[plan.grid](x, band, shift, out, parts, *plan.sizes, **there, **plan.options)


def _widths(width: int, fan_in: int, fan_out: int, multiple: int, columns: int = 64) -> tuple[int, int, int, int]:
    """Return frames out, also padded, and channels in and out, so that a tile is `columns` wide outwards or near."""
    inner = min(padded(fan_in), width)
    outer = min(padded(fan_out), 64, 128 // power_of_two(multiple))
    frames = multiple * max(1, columns // (outer * multiple))
    return frames, power_of_two(frames), inner, outer
