"""Convolution over frames."""

from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skelcontrast import _check
from skelcontrast._cuda import HAS_TRITON, capability, check_triton, triton_cannot
from skelcontrast.nn._conv_operators import spectral_twin, summed_temporal_conv_twin, temporal_conv_twin
from skelcontrast.nn._memory_format import is_channels_last, memory_format_of
from skelcontrast.nn._precision import autocast_dtype, is_full_precision
from skelcontrast.nn._spectral import spectral_products

TemporalConvImplementation: TypeAlias = Literal["auto", "direct", "spectral", "triton"]
_IMPLEMENTATIONS = ("auto", "direct", "spectral", "triton")
_TRITON_STRIDE = 8  # a block of frames is a multiple of the stride, and a larger one finds no room on the chip

TRITON_CHANNELS = 64
"""Channels on either side up to which "auto" takes the Triton kernels on CUDA."""


def temporal_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int = 1,
    implementation: TemporalConvImplementation = "auto",
) -> Tensor:
    """Convolve joint features over frames, each joint by itself, padded so that a stride of 1 keeps T.

    All implementations compute the same function, up to rounding. In the frequency domain ("spectral") T frames take
    about ``1.5 (T + L / 2)`` products over the channels instead of ``T L``, plus a transform of every frame there and
    back. ``"auto"`` takes it where it was faster (see the page on performance): on a CPU in float32 or float64, at
    stride 1, with 64 channels or more on both sides, where it halves the products; never under autocast. On CUDA it
    takes the Triton kernels with up to 64 channels on both sides, where products are small and what counts is how often
    a frame is read; they round float32 to tf32 where torch's convolutions may.

    Args:
        x: Features (N, C_in, T, V); any memory format, ``torch.channels_last`` is the fastest.
        weight: Channel maps (C_out, C_in, L, 1) for an odd number L of frames, as `torch.nn.Conv2d` has them.
        bias: Biases (C_out,), or `None`.
        stride: Stride over frames.
        implementation: ``"direct"``, torch's own; ``"spectral"``, stride 1 only; ``"triton"``, CUDA kernels that take
            several frames at once, up to a stride of 8; or ``"auto"``. The spectral and the Triton form keep only their
            inputs for the backward pass and are differentiable once.

    Returns:
        Features (N, C_out, ceil(T / stride), V).

    Raises:
        ImportError: If Triton was asked for and is not installed.
        TypeError: If `x` or `weight` is not a floating-point tensor.
        ValueError: If a shape does not fit, L is even, the stride is not positive, or the implementation is unknown
            or cannot take that stride or these tensors.

    References:
        Yan et al., AAAI 2018, Section 3.6 (temporal convolution); S. Winograd, Arithmetic Complexity of Computations,
        SIAM 1980 (convolution with fewer products).

    Example:
        The sum of each frame and its neighbours, for one joint:

        >>> x = torch.tensor([1.0, 2.0, 3.0, 4.0]).reshape(1, 1, 4, 1)
        >>> temporal_conv(x, torch.ones(1, 1, 3, 1)).flatten()
        tensor([3., 6., 9., 7.])
        >>> temporal_conv(x, torch.ones(1, 1, 3, 1), implementation="spectral").round(decimals=3).flatten()
        tensor([3., 6., 9., 7.])
    """
    _check.choice("temporal_conv", "implementation", implementation, _IMPLEMENTATIONS)
    _check_stride("temporal_conv", stride, implementation)
    _check.shape("temporal_conv", "x", _check.tensor("temporal_conv", "x", x), "N C_in T V")
    _check.tensor("temporal_conv", "weight", weight)
    out_channels, _, length, width = _check.shape(
        "temporal_conv", "weight", weight, "C_out C_in L W", C_in=x.shape[1]
    ).shape
    if length % 2 == 0 or width != 1:
        _check.fail("temporal_conv", "weight", "span an odd number of frames and one joint", (length, width))
    if bias is not None:
        _check.shape("temporal_conv", "bias", bias, "C_out", C_out=out_channels)
    return convolve_frames(x, weight, bias, stride, implementation)


def convolve_frames(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, implementation: TemporalConvImplementation
) -> Tensor:
    """Do what `temporal_conv` does, with what has been checked."""
    if implementation == "triton":
        check_triton("temporal_conv", triton_cannot(x, x.dtype))
    if implementation == "auto":
        implementation = _fastest(x, weight, stride)
    if implementation == "spectral":
        taps = weight[..., 0].to(x.dtype)
        shift = taps.new_zeros(taps.shape[0]) if bias is None else bias.to(x.dtype)
        out = spectral_twin(x.contiguous(memory_format=torch.channels_last), taps, shift)
        return out.to(autocast_dtype(x), memory_format=memory_format_of(x))
    if implementation == "triton":
        out = temporal_conv_twin(x.to(autocast_dtype(x)), weight, bias, stride)
        return out.contiguous(memory_format=memory_format_of(x))
    return F.conv2d(x, weight, bias, (stride, 1), (weight.shape[2] // 2, 0))


def convolve_frames_and_sum(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, implementation: TemporalConvImplementation
) -> tuple[Tensor, Tensor | None]:
    """Do as `convolve_frames`; also return parts of the output's batch statistics, where a kernel writes them."""
    chosen = _fastest(x, weight, stride) if implementation == "auto" else implementation
    if chosen != "triton" or not is_channels_last(x):
        return convolve_frames(x, weight, bias, stride, implementation), None
    check_triton("temporal_conv", triton_cannot(x, x.dtype))
    return summed_temporal_conv_twin(x.to(autocast_dtype(x)), weight, bias, stride)


def _fastest(x: Tensor, weight: Tensor, stride: int) -> TemporalConvImplementation:
    """Choose by what was measured; the page on performance says where and what."""
    out_channels, in_channels, length, _ = weight.shape
    frames = x.shape[2]
    wide = min(in_channels, out_channels) >= 64
    fewer = 2 * spectral_products(frames, length) <= frames * length
    if x.device.type == "cpu" and is_full_precision(x) and stride == 1 and wide and fewer:
        return "spectral"
    narrow = max(in_channels, out_channels) <= TRITON_CHANNELS and stride <= _TRITON_STRIDE
    if x.is_cuda and narrow and HAS_TRITON and triton_cannot(x, x.dtype) is None and capability(x.device) >= (8, 0):
        return "triton"
    return "direct"


def _check_stride(owner: str, stride: int, implementation: str) -> None:
    _check.integer(owner, "stride", stride, 1)
    if implementation == "spectral" and stride != 1:
        _check.fail(owner, "stride", "be 1 with implementation='spectral'", stride)
    if implementation == "triton" and stride > _TRITON_STRIDE:
        _check.fail(owner, "stride", f"be at most {_TRITON_STRIDE} with implementation='triton'", stride)


class TemporalConv(nn.Conv2d):
    """Convolution over frames, (L, 1), padded so that a stride of 1 keeps T; a `torch.nn.Conv2d` in all else.

    Args:
        in_channels: Channels of the input, C_in.
        out_channels: Channels of the output, C_out.
        kernel_size: Frames that it sees, L; odd.
        stride: Stride over frames; T becomes ``ceil(T / stride)``.
        implementation: What computes it, see `temporal_conv`.

    Raises:
        ValueError: If a setting is out of range, or the implementation is unknown or cannot have that stride.

    Example:
        >>> layer = TemporalConv(16, 16, kernel_size=9, stride=2)
        >>> layer(torch.zeros(2, 16, 25, 20)).shape
        torch.Size([2, 16, 13, 20])
        >>> layer.weight.shape
        torch.Size([16, 16, 9, 1])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int = 9,
        stride: int = 1,
        implementation: TemporalConvImplementation = "auto",
    ) -> None:
        _check.integer("TemporalConv", "kernel_size", kernel_size, 1)
        if kernel_size % 2 == 0:
            _check.fail("TemporalConv", "kernel_size", "be odd", kernel_size)
        _check.choice("TemporalConv", "implementation", implementation, _IMPLEMENTATIONS)
        _check_stride("TemporalConv", stride, implementation)
        super().__init__(in_channels, out_channels, (kernel_size, 1), (stride, 1), (kernel_size // 2, 0))
        self.implementation: TemporalConvImplementation = implementation

    def forward(self, x: Tensor) -> Tensor:
        """Map features (N, C_in, T, V) to (N, C_out, ceil(T / stride), V)."""
        _check.tensor("TemporalConv", "x", x)
        _check.shape("TemporalConv", "x", x, "N C T V", C=self.in_channels, why="to match the layer")
        return convolve_frames(x, self.weight, self.bias, self.stride[0], self.implementation)
