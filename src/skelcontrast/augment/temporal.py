"""Augmentations of time: crop, flip and blur."""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from skelcontrast import _check
from skelcontrast._shared import count, shared
from skelcontrast.augment.axes import AxisMaps
from skelcontrast.augment.base import AxisTransform, chosen, integers, map_dtype, uniform

NARROW = 1e-3  # a width in frames at which a blur changes nothing: the weight of the next frame is zero in float64


class TemporalCropParams(NamedTuple):
    """Drawn by `TemporalCrop`: first frame of the crop within the padded sequence (N,), int64."""

    start: Tensor


@dataclass(frozen=True)
class TemporalCrop(AxisTransform[TemporalCropParams]):
    """Lengthen the sequence at both ends by reflection and cut out as many frames as there were.

    Both ends get T // `padding_ratio` frames, reflected with the edge repeated (..., x1, x0, x0, x1, ...), and the
    start of the cut is uniform over all that fit. Acts on every sample. A sequence shorter than `padding_ratio`
    frames stays as it is.

    Args:
        padding_ratio: Each end is lengthened by one part in `padding_ratio` of the length; at least 1.

    Raises:
        TypeError: If `padding_ratio` is not an integer.
        ValueError: If `padding_ratio` is below 1.

    References:
        AimCLR, section 3.2 (Crop, with the padding ratio 6 of SkeletonCLR).

    Example:
        >>> x = torch.arange(4.0).reshape(1, 1, 4, 1, 1)
        >>> crop = TemporalCrop(padding_ratio=2)  # padded: 1 0 0 1 2 3 3 2
        >>> crop.apply(x, TemporalCropParams(start=torch.tensor([0]))).flatten()
        tensor([1., 0., 0., 1.])
    """

    params_type = TemporalCropParams
    padding_ratio: int = 6

    def __post_init__(self) -> None:
        _check.integer("TemporalCrop", "padding_ratio", self.padding_ratio, 1)

    def sample(self, x: Tensor, generator: torch.Generator | None = None) -> TemporalCropParams:
        """Draw where each sample's crop starts."""
        T = self.check(x).shape[2]
        return TemporalCropParams(integers(x, 2 * (T // self.padding_ratio) + 1, generator))

    def maps(self, x: Tensor, params: TemporalCropParams) -> AxisMaps:
        """Return the frame shown at each time."""
        return AxisMaps(frame=_crops(x.shape[2], self.padding_ratio, x.device).index_select(0, params.start))


@partial(shared, most=8)
def _crops(T: int, padding_ratio: int, device: torch.device) -> Tensor:
    """Return the frames of every crop, by its start."""
    padding = T // padding_ratio
    frame = torch.arange(-padding, T + padding, device=device)
    # Reflection at both ends: frame -1 is frame 0 again, frame T is frame T - 1.
    return torch.minimum(torch.maximum(frame, -1 - frame), 2 * T - 1 - frame).unfold(0, T, 1).contiguous()


class TemporalFlipParams(NamedTuple):
    """Drawn by `TemporalFlip`: which samples run backwards (N,), bool."""

    flipped: Tensor


@dataclass(frozen=True)
class TemporalFlip(AxisTransform[TemporalFlipParams]):
    """Run the sequence backwards.

    Args:
        p: Probability that a sample is reversed.

    Raises:
        ValueError: If `p` is outside [0, 1].

    References:
        AimCLR, section 3.2. One of the paper's eight extreme augmentations; the released code leaves it out.

    Example:
        >>> x = torch.arange(3.0).reshape(1, 1, 3, 1, 1)
        >>> TemporalFlip().apply(x, TemporalFlipParams(torch.tensor([True]))).flatten()
        tensor([2., 1., 0.])
    """

    params_type = TemporalFlipParams
    p: float = 0.5

    def __post_init__(self) -> None:
        _check.interval("TemporalFlip", "p", self.p, 0, 1)

    def sample(self, x: Tensor, generator: torch.Generator | None = None) -> TemporalFlipParams:
        """Draw which samples are reversed."""
        return TemporalFlipParams(chosen(self.check(x), self.p, generator))

    def maps(self, x: Tensor, params: TemporalFlipParams) -> AxisMaps:
        """Return the frame shown at each time."""
        T = x.shape[2]
        return AxisMaps(frame=torch.where(params.flipped.unsqueeze(1), _backward(T, x.device), count(T, x.device)))


@shared
def _backward(T: int, device: torch.device) -> Tensor:
    return torch.arange(T - 1, -1, -1, device=device)


class GaussianBlurParams(NamedTuple):
    """Drawn by `GaussianBlur`: width of the kernel in frames (N,), and which samples are blurred (N,), bool."""

    sigma: Tensor
    blurred: Tensor


@dataclass(frozen=True)
class GaussianBlur(AxisTransform[GaussianBlurParams]):
    """Blur along time with a Gaussian of random width.

    Frame t becomes the average of the frames s around it, weighted by exp(-(t - s)^2 / (2 sigma^2)). Frames beyond the
    ends do not take part: with `normalize=True` the weights that remain sum to 1, at the edges too, so a body at
    rest stays where it is.

    Deviates from the paper's released code, which does not divide by the sum of the weights and so also scales the
    body, up to five times, and by less at the edges. `normalize=False` does the same.

    Args:
        sigma: Interval (low, high) that the kernel width is drawn from, in frames, 0 < low <= high.
        kernel_size: Number of frames the kernel reaches over, odd.
        normalize: Divide by the sum of the weights.
        p: Probability that a sample is blurred.

    Raises:
        TypeError: If `kernel_size` is not an integer or `sigma` not a pair.
        ValueError: If `sigma` is not an interval of positive numbers, `kernel_size` is even, or `p` is outside
            [0, 1].

    References:
        AimCLR, section 3.2; kernel size and interval as released.

    Example:
        >>> x = torch.tensor([0.0, 4.0, 0.0]).reshape(1, 1, 3, 1, 1)
        >>> wide = GaussianBlurParams(sigma=torch.tensor([1e4]), blurred=torch.tensor([True]))  # weights all 1
        >>> GaussianBlur(kernel_size=3).apply(x, wide).flatten()
        tensor([2.0000, 1.3333, 2.0000])
    """

    params_type = GaussianBlurParams
    sigma: tuple[float, float] = (0.1, 2.0)
    kernel_size: int = 15
    normalize: bool = True
    p: float = 0.5

    def __post_init__(self) -> None:
        if not isinstance(self.sigma, tuple) or len(self.sigma) != 2:
            _check.fail("GaussianBlur", "sigma", "be a pair (low, high)", repr(self.sigma), kind=TypeError)
        low, high = self.sigma
        _check.interval("GaussianBlur", "sigma[0]", low, 0, open_low=True)
        _check.interval("GaussianBlur", "sigma[1]", high, low)
        _check.integer("GaussianBlur", "kernel_size", self.kernel_size, 1)
        if self.kernel_size % 2 == 0:
            _check.fail("GaussianBlur", "kernel_size", "be odd, with a middle", self.kernel_size)
        _check.interval("GaussianBlur", "p", self.p, 0, 1)

    def sample(self, x: Tensor, generator: torch.Generator | None = None) -> GaussianBlurParams:
        """Draw each sample's kernel width and which samples are blurred."""
        N = len(self.check(x))
        blurred = chosen(x, self.p, generator)
        return GaussianBlurParams(uniform(x, (N,), *self.sigma, generator), blurred)

    def touched(self, params: GaussianBlurParams) -> Tensor:
        """Return which samples are blurred."""
        return params.blurred

    def maps(self, x: Tensor, params: GaussianBlurParams) -> AxisMaps:
        """Return which frames are averaged, and the weight of each; away from a CPU, of every frame."""
        dtype = map_dtype(x)
        source, exponent = _windows(x.shape[2], self.kernel_size, dtype, x.device)
        width = torch.where(params.blurred, params.sigma.to(dtype), NARROW).clamp(min=NARROW).view(-1, 1, 1)
        exponent = exponent / (width * width)
        mix = _softmax(exponent) if self.normalize else exponent.exp()
        return AxisMaps(mix=mix, source=None if source is None else source.expand(mix.shape))


def _softmax(exponent: Tensor) -> Tensor:
    """Return a softmax over the last axis of numbers whose greatest is 0."""
    if exponent.device.type != "cpu":
        return exponent.softmax(dim=2)
    weights = exponent.exp()  # over as few numbers torch's own takes many times as long on some CPUs
    return weights / weights.sum(dim=2, keepdim=True)


@partial(shared, most=8)
def _windows(T: int, kernel_size: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor | None, Tensor]:
    """Return the frames around each frame, on a CPU none further away, and the logarithm of their weights at width 1.

    Frames (T, K), int64, and logarithms (T, K), of frames outside the window or the sequence minus infinity; without
    frames, all of the sequence.
    """
    half, frame = kernel_size // 2, torch.arange(T, device=device)
    if device.type != "cpu" or kernel_size >= T:
        source, distance = None, frame - frame[:, None]
        inside = distance.abs() <= half
    else:
        distance = torch.arange(-half, half + 1, device=device)[None]
        source = frame[:, None] + distance
        inside = (source >= 0) & (source < T)
        source = source.clamp(0, T - 1)
    exponent = -0.5 * distance.to(dtype) ** 2
    return source, torch.where(inside, exponent, -torch.inf)
