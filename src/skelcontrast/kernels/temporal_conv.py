"""Convolution over frames for CUDA: a block of frames at a time, in and out, and the same backwards."""

from typing import NamedTuple

import torch
from torch import Tensor

from skelcontrast.kernels._device import ceil_div, multiprocessors, on_device_of, padded, power_of_two, precision_of
from skelcontrast.kernels._temporal_conv import add_taps, backward_weight, convolve


class _Tile(NamedTuple):
    """Sizes of a tile: frames out, and padded; frames in at a time; channels in and out; rows. Then how it is run.

    Those that were fastest on an H200, among those of which the compiler reports few or no spilled registers.
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
    def of(cls, x: Tensor, fan_in: int, fan_out: int, multiple: int) -> "_Tile":
        """Choose the tile of a convolution: 64 features out, or near it, and a `multiple` of frames out."""
        narrow = x.element_size() <= 2
        frames, padded, inner, outer = _widths(64 if narrow else 32, fan_in, fan_out, multiple)
        if narrow and outer == 16:
            return cls(frames, padded, 64 // inner, inner, outer, 128, num_stages=1)
        if narrow:
            return cls(frames, padded, 1, inner, outer, 64 if outer == 32 else 128)
        if outer == 32:
            return cls(frames, padded, 1, inner, outer, 128, num_warps=8)
        return cls(frames, padded, 1, inner, outer, 64)

    @classmethod
    def of_sums(cls, x: Tensor, fan_in: int, fan_out: int) -> "_Tile":
        """Choose the tile of the gradient in the weight: 64 x 64 sums."""
        rows, stages = (64, 3) if x.element_size() <= 2 else (32, 1)
        frames, padded, inner, outer = _widths(64, fan_in, fan_out, 1)
        return cls(frames, padded, 64 // inner, inner, outer, rows, num_stages=stages)

    def programs(self, x: Tensor) -> int:
        """Return how many programs sum over frames."""
        narrow = {16: 2, 32: 4, 64: 6}  # of how many each multiprocessor gets, by channels
        return (narrow[self.OB] if x.element_size() <= 2 else 4) * multiprocessors(x)


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


def triton_temporal_conv(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, out: Tensor) -> None:
    """Write into `out` what `temporal_conv` returns; features are channels-last."""
    fan_out, fan_in, length, _ = weight.shape
    tile = _Tile.of(x, fan_in, fan_out, 1)
    taps = _laid_out(weight, x, (2, 0, 1))
    _convolve(x, taps, None if bias is None else bias.contiguous(), out, tile, _Band.forward(length, stride, tile.J))


def triton_gradients(upstream: Tensor, x: Tensor, weight: Tensor, stride: int, grad_x: Tensor) -> tuple[Tensor, Tensor]:
    """Write the gradient in x into `grad_x` and return those in weight and bias; features are channels-last."""
    fan_out, fan_in, length, _ = weight.shape
    tile = _Tile.of(x, fan_out, fan_in, stride)
    taps = _laid_out(weight, x, (2, 1, 0))
    _convolve(upstream, taps, None, grad_x, tile, _Band.backward(length, stride, tile.J))
    tile = _Tile.of_sums(x, fan_in, fan_out)
    band = _Band.forward(length, stride, tile.J)
    sizes = _sizes(x, upstream, tile)
    inner, outer = ceil_div(band.F, tile.FB) * ceil_div(fan_in, tile.CB), ceil_div(fan_out, tile.OB)
    programs = ceil_div(tile.programs(x), inner * outer)
    programs = max(1, min(programs, ceil_div(sizes[0], tile.BM)))
    # A row of sums per program and frame out of a block: of the weight, of the bias.
    sums = x.new_empty(programs * tile.J, weight.numel() + fan_out, dtype=torch.float32)
    with on_device_of(x):
        backward_weight[programs, inner, outer](
            upstream, x, sums, *sizes, C=fan_in, O=fan_out, L=length, **_options(x, tile, band)
        )
        of_weight = torch.empty_like(weight, memory_format=torch.contiguous_format)
        of_bias = weight.new_empty(fan_out)
        rows = min(512, power_of_two(len(sums)))
        columns = max(8, 4096 // rows)
        grid = (ceil_div(sums.shape[1], columns),)
        add_taps[grid](sums, of_weight, of_bias, len(sums), C=fan_in, O=fan_out, L=length, PB=rows, WB=columns)
    return of_weight, of_bias


def _convolve(x: Tensor, taps: Tensor, bias: Tensor | None, out: Tensor, tile: _Tile, band: _Band) -> None:
    """Write into `out` the features that taps (L, out, in) and a band make of x."""
    length, fan_out, fan_in = taps.shape
    sizes = _sizes(x, out, tile)
    grid = (ceil_div(sizes[0], tile.BM), ceil_div(fan_out, tile.OB))
    options = {"C": fan_in, "O": fan_out, "L": length, "BIAS": bias is not None, **_options(x, tile, band)}
    with on_device_of(x):
        convolve[grid](x, taps, taps if bias is None else bias, out, *sizes, **options)


def _widths(width: int, fan_in: int, fan_out: int, multiple: int) -> tuple[int, int, int, int]:
    """Return frames out, also padded, and channels in and out, so that a tile is 64 features wide outwards or near."""
    inner = min(padded(fan_in), width)
    outer = min(padded(fan_out), 64, 128 // power_of_two(multiple))
    frames = multiple * max(1, 64 // (outer * multiple))
    return frames, power_of_two(frames), inner, outer


def _laid_out(weight: Tensor, x: Tensor, order: tuple[int, int, int]) -> Tensor:
    """Return the taps of a weight, its axes in that order, as numbers like those of `x`."""
    taps = weight[..., 0].permute(order)
    return torch.empty(taps.shape, dtype=x.dtype, device=x.device).copy_(taps)


def _sizes(x: Tensor, out: Tensor, tile: _Tile) -> tuple[int, int, int, int]:
    """Return the numbers of rows, of blocks of frames in a sample, and of frames in and out."""
    samples, _, frames, joints = out.shape
    blocks = ceil_div(frames, tile.J)
    return samples * blocks * joints, blocks, x.shape[2], frames


def _options(x: Tensor, tile: _Tile, band: _Band) -> dict[str, int | str]:
    return {"V": x.shape[3], **tile._asdict(), **band._asdict(), "DOT": precision_of(x)}
