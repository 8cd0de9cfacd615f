"""Convolution over frames as products in the frequency domain: fewer multiplications where channels are many.

A sequence of T frames, padded by zeros, is convolved with L taps as a circular convolution of period ``T + L // 2``. A
real discrete Fourier transform turns that into one product over the channels per frequency; a complex product is made
of three real ones. With the sums that this takes folded in, all of it is three small constant matrices:

``y_t = sum_r synthesis[t, r] (sum_k taps[r, k] w_k)^T (sum_s analysis[r, s] x_s)``, r over the R real products.

R is about 1.5 (T + L // 2), where direct convolution takes T L products: 25 instead of 117 for 13 frames and 9 taps.
"""

import math
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from skelcontrast._shared import shared

SCRATCH_BYTES = 16 * 1024 * 1024
"""What a chunk's transformed features may take: as much as the third-level cache holds."""


class SpectralBasis(NamedTuple):
    """The three matrices: analysis (R, T) of the input, taps (R, L) of the weights, synthesis (T, R) of the output."""

    analysis: Tensor
    taps: Tensor
    synthesis: Tensor


def spectral_products(frames: int, taps: int) -> int:
    """Return R, the real products over channels that T frames and L taps take."""
    period = frames + taps // 2
    purely_real = 1 if period % 2 else 2  # at frequency 0 and, for an even period, at the highest
    return purely_real + 3 * (period // 2 + 1 - purely_real)


@partial(shared, most=8)
def spectral_basis(frames: int, taps: int) -> SpectralBasis:
    """Return the matrices in float64."""
    period = frames + taps // 2
    frequency = torch.arange(period // 2 + 1, dtype=torch.float64, device="cpu")
    # As lists, because a mask could not be followed where tensors have no values.
    real, paired = [0] if period % 2 else [0, period // 2], [*range(1, (period + 1) // 2)]

    def waves(first: int, count: int) -> tuple[Tensor, Tensor]:
        place = torch.arange(first, first + count, dtype=torch.float64, device="cpu")
        angle = 2 * math.pi / period * frequency[:, None] * place
        return angle.cos(), angle.sin()

    # (a + ib)(c + id) by three products: m1 = c(a + b), m2 = a(d - c), m3 = b(c + d); real m1 - m3, imaginary m1 + m2.
    a, b = waves(0, frames)
    b = -b
    c, d = waves(-(taps // 2), taps)
    cosine, sine = waves(0, frames)
    share = frequency.new_tensor([1 if f in real else 2 for f in range(len(frequency))])[:, None] / period
    cosine, sine = cosine * share, sine * share  # what is not real stands for its conjugate too
    return SpectralBasis(
        torch.cat([a[real], (a + b)[paired], a[paired], b[paired]]),
        torch.cat([c[real], c[paired], (d - c)[paired], (c + d)[paired]]),
        torch.cat([cosine[real], (cosine - sine)[paired], -sine[paired], -cosine[paired]]).t(),
    )


@partial(shared, most=8)
def _basis_on(device: torch.device, dtype: torch.dtype, frames: int, taps: int) -> SpectralBasis:
    """Return them where features lie: a copy to a GPU is waited for, which no CUDA graph can record."""
    return SpectralBasis(*(matrix.to(device, dtype) for matrix in spectral_basis(frames, taps)))


class _Plan:
    """The matrices in the dtype of the features, the transformed weights, and room for one chunk of samples."""

    def __init__(self, x: Tensor, weight: Tensor) -> None:
        self.out_channels, self.in_channels, self.length = weight.shape
        self.samples, _, self.frames, self.joints = x.shape
        self.basis = _basis_on(x.device, x.dtype, self.frames, self.length)
        self.products = self.basis.analysis.shape[0]
        taps_first = weight.permute(2, 1, 0).reshape(self.length, -1)
        self.maps = (self.basis.taps @ taps_first).view(self.products, self.in_channels, self.out_channels)
        sample_bytes = self.products * self.joints * (self.in_channels + self.out_channels) * x.element_size()
        self.chunk = max(1, min(self.samples, SCRATCH_BYTES // sample_bytes))
        self._inner = x.new_empty(self.products * self.chunk * self.joints * self.in_channels)
        self._outer = x.new_empty(self.products * self.chunk * self.joints * self.out_channels)

    def inner(self, samples: int) -> Tensor:
        """Return room for transformed input (R, n, V C_in)."""
        size = self.joints * self.in_channels
        return self._inner[: self.products * samples * size].view(self.products, samples, size)

    def outer(self, samples: int) -> Tensor:
        """Return room for transformed output (R, n, V C_out)."""
        size = self.joints * self.out_channels
        return self._outer[: self.products * samples * size].view(self.products, samples, size)

    def rows(self, transformed: Tensor, channels: int) -> Tensor:
        """See (R, n, V C) as a matrix of channels per product, (R, n V, C)."""
        return transformed.view(self.products, transformed.shape[1] * self.joints, channels)


def _frame_rows(x: Tensor) -> Tensor:
    """Return (N, C, T, V) as (N, T, V C); a view where the memory format is channels-last."""
    return x.permute(0, 2, 3, 1).flatten(2)


def _transform(matrix: Tensor, rows: Tensor, into: Tensor) -> Tensor:
    """Multiply every sample of `rows` (n, T, V C) by a matrix (R, T) into (R, n, V C)."""
    for n, sample in enumerate(rows):
        torch.mm(matrix, sample, out=into[:, n])
    return into


def spectral_conv(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolve x (N, C_in, T, V) over frames with weight (C_out, C_in, L), padded by L // 2, and add bias (C_out,)."""
    plan = _Plan(x, weight)
    rows = _frame_rows(x)
    sizes = plan.samples, plan.out_channels, plan.frames, plan.joints
    # Made whole, for autograd lets nobody write over what an operation returns as a view.
    out = torch.empty(sizes, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    out_rows = _frame_rows(out)
    bias_row = bias.repeat(plan.joints)
    for start in range(0, plan.samples, plan.chunk):
        chunk = rows[start : start + plan.chunk]
        inner, outer = plan.inner(len(chunk)), plan.outer(len(chunk))
        _transform(plan.basis.analysis, chunk, inner)
        torch.bmm(plan.rows(inner, plan.in_channels), plan.maps, out=plan.rows(outer, plan.out_channels))
        for n in range(len(chunk)):
            torch.addmm(bias_row, plan.basis.synthesis, outer[:, n], out=out_rows[start + n])
    return out


def spectral_gradients(upstream: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients in x, weight and bias; the input is transformed again rather than kept."""
    plan = _Plan(x, weight)
    rows, upper_rows = _frame_rows(x), _frame_rows(upstream)
    grad_x = torch.empty_like(x, memory_format=torch.channels_last)
    grad_rows, grad_maps = _frame_rows(grad_x), torch.zeros_like(plan.maps)
    grad_bias = x.new_zeros(plan.out_channels)
    for start in range(0, plan.samples, plan.chunk):
        chunk = rows[start : start + plan.chunk]
        inner, outer = plan.inner(len(chunk)), plan.outer(len(chunk))
        _transform(plan.basis.synthesis.t(), upper_rows[start : start + plan.chunk], outer)
        below, above = plan.rows(inner, plan.in_channels), plan.rows(outer, plan.out_channels)
        grad_bias += above[0].sum(0)  # the product at frequency 0 holds the mean over the period
        _transform(plan.basis.analysis, chunk, inner)
        grad_maps.baddbmm_(below.transpose(1, 2), above)
        torch.bmm(above, plan.maps.transpose(1, 2), out=below)  # the transformed input has done its work
        for n in range(len(chunk)):
            torch.mm(plan.basis.analysis.t(), inner[:, n], out=grad_rows[start + n])
    taps_first = plan.basis.taps.t() @ grad_maps.flatten(1)
    grad_weight = taps_first.view(plan.length, plan.in_channels, plan.out_channels).permute(2, 1, 0).contiguous()
    return grad_x, grad_weight, grad_bias * (plan.frames + plan.length // 2)
