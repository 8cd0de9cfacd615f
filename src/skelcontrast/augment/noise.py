"""Gaussian noise: the one augmentation that is added."""

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from skelcontrast import _check
from skelcontrast.augment.base import Transform, chosen, may_look

Bodies = Literal["present", "all"]


class GaussianNoiseParams(NamedTuple):
    """Drawn by `GaussianNoise`: the noise (N, C, T, V, M), and which samples get it (N,), bool."""

    noise: Tensor
    noisy: Tensor


@dataclass(frozen=True)
class GaussianNoise(Transform[GaussianNoiseParams]):
    """Add independent Gaussian noise to every coordinate. Works for any number of coordinates.

    Deviates from the paper's released code, which adds noise to absent bodies (all zero) too, so that a network can
    tell that the sequence was augmented. `bodies="all"` does the same.

    Args:
        std: Standard deviation, in the unit of the input, at least 0.
        p: Probability that a sample gets noise.
        bodies: `"present"` leaves bodies that are zero throughout at zero; `"all"` adds noise to all.

    Raises:
        ValueError: If `std` is negative, `p` outside [0, 1] or `bodies` unknown; in use, if `x` has not the shape
            of the noise.

    References:
        AimCLR, section 3.2; N(0, 0.01^2) as released.

    Example:
        >>> x = torch.tensor([1.0, 0.0]).reshape(1, 1, 1, 1, 2)  # the second body is absent
        >>> params = GaussianNoiseParams(noise=torch.full((1, 1, 1, 1, 2), 0.5), noisy=torch.tensor([True]))
        >>> GaussianNoise().apply(x, params).flatten(), GaussianNoise(bodies="all").apply(x, params).flatten()
        (tensor([1.5000, 0.0000]), tensor([1.5000, 0.5000]))
    """

    params_type = GaussianNoiseParams
    std: float = 0.01
    p: float = 0.5
    bodies: Bodies = "present"

    def __post_init__(self) -> None:
        _check.interval("GaussianNoise", "std", self.std, 0)
        _check.interval("GaussianNoise", "p", self.p, 0, 1)
        _check.choice("GaussianNoise", "bodies", self.bodies, get_args(Bodies))

    def sample(self, x: Tensor, generator: torch.Generator | None = None) -> GaussianNoiseParams:
        """Draw the noise of each sample."""
        noisy = chosen(self.check(x), self.p, generator)
        noise = torch.empty(x.shape, dtype=torch.float32, device=x.device)
        if not may_look(x):
            noise.normal_(std=self.std, generator=generator)
            return GaussianNoiseParams(noise.to(x.dtype), noisy)
        # Random numbers are the dearest part of a view on a CPU, where finding the samples that need them is free.
        runs, lengths = noisy.unique_consecutive(return_counts=True)
        for run, gets in zip(noise.split(lengths.tolist()), runs.tolist(), strict=True):
            if gets:
                run.normal_(std=self.std, generator=generator)
            else:
                run.zero_()
        return GaussianNoiseParams(noise.to(x.dtype), noisy)

    def apply(self, x: Tensor, params: GaussianNoiseParams) -> Tensor:
        """Add the noise.

        Args:
            x: Skeletons (N, C, T, V, M), floating point.
            params: Noise of the shape of `x`.

        Returns:
            A new tensor of the shape, dtype and device of `x`.

        Raises:
            TypeError: If `x` is not a floating-point tensor.
            ValueError: If `x` has not the shape of the noise.
        """
        noise, share = self._noise(x, params)
        return torch.addcmul(_flat(x), noise, share).view(x.shape)

    def apply_(self, x: Tensor, params: GaussianNoiseParams) -> Tensor:
        """Add the noise, in place where `x` is contiguous."""
        if not x.is_contiguous():  # flattened, it would be a copy
            return self.apply(x, params)
        noise, share = self._noise(x, params)
        _flat(x).addcmul_(noise, share)
        return x

    def _noise(self, x: Tensor, params: GaussianNoiseParams) -> tuple[Tensor, Tensor]:
        self.check(x)
        self.check_params(x, params)
        if params.noise.shape != x.shape:
            got = _check.show(x.shape)
            _check.fail("GaussianNoise", "x", f"have the shape of the noise {_check.show(params.noise.shape)}", got)
        share = params.noisy[:, None]
        there = None if self.bodies == "all" else _present(x, params.noisy)
        if there is not None:
            share = share & there
        share, noise = share.to(x.dtype), params.noise.to(x.dtype)
        if x.device.type != "cpu":
            return noise, share[:, None, None, None]
        return _flat(noise), (share if there is None else share.repeat(1, x.shape[3]))[:, None]


def _flat(x: Tensor) -> Tensor:
    # On a CPU joints and bodies are one axis: an axis of two would keep the arithmetic from running in wide steps.
    return x.flatten(3).flatten(1, 2) if x.device.type == "cpu" else x


def _present(x: Tensor, noisy: Tensor) -> Tensor | None:
    """Return which bodies of noisy samples are not zero throughout (N, M), bool; on a CPU perhaps `None`, for all."""
    if not may_look(x):
        return _not_zero(x)
    # Who is there is mostly so in the first frame. Only where that leaves a doubt, whole sequences are read.
    there = x[:, :, 0].abs().sum(dim=(1, 2)) != 0
    doubtful = (noisy & ~there.all(dim=1)).nonzero().squeeze(1)
    if doubtful.shape[0] == 0:
        return None
    return there.index_put_((doubtful,), _not_zero(x.index_select(0, doubtful)))


def _not_zero(x: Tensor) -> Tensor:
    if x.device.type != "cpu":
        return (x != 0).any(dim=(1, 2, 3))
    N, _, _, V, M = x.shape
    return _flat(x).abs().sum(dim=1).view(N, V, M).sum(dim=1) != 0  # in an eighth of the time
