"""What every transform is: settings, a draw, and a pure application."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor

from skelcontrast import _check
from skelcontrast._autocast import autocast_off
from skelcontrast.augment.axes import AxisMaps

Params = TypeVar("Params", bound=tuple[Any, ...])


class Transform(ABC, Generic[Params]):
    """A random map of a batch of skeletons (N, C, T, V, M) to one of the same shape, dtype and device.

    `sample` draws the parameters of each sample; `apply` is deterministic, leaves its input as it is and keeps no
    state; calling the transform does both. For an augmentation of your own sub-class `AxisTransform` if it is a linear
    map on single axes, else this class, as a frozen dataclass whose fields are the settings. `apply` must treat each
    sample by itself: `Compose` may pass a batch to it in parts.
    """

    params_type: ClassVar[type[Any] | None] = None
    """What `sample` returns, if `apply` is to refuse anything else."""

    @abstractmethod
    def sample(self, x: Tensor, generator: torch.Generator | None = None) -> Params:
        """Draw parameters for a batch.

        Args:
            x: Skeletons (N, C, T, V, M); only shape, dtype and device are used.
            generator: Source of randomness, on the device of `x`; PyTorch's default generator if not given.

        Returns:
            A NamedTuple of tensors on the device of `x`, each with N as its first axis; an empty tuple if nothing is
            drawn.
        """

    @abstractmethod
    def apply(self, x: Tensor, params: Params) -> Tensor:
        """Transform a batch with parameters from `sample`.

        Args:
            x: Skeletons (N, C, T, V, M), floating point.
            params: Parameters of N samples, drawn for this batch or for another of the same shape.

        Returns:
            A tensor of the shape, dtype and device of `x`.

        Raises:
            TypeError: If `x` is not a floating-point tensor.
            ValueError: If `x` has not the shape that the transform needs, or `params` are not for N samples.
        """

    def apply_(self, x: Tensor, params: Params) -> Tensor:
        """Return what `apply` returns, perhaps written over `x`, which nobody else may use."""
        return self.apply(x, params)

    def __call__(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw parameters and apply them."""
        check_generator(type(self).__name__, generator)
        return self.apply(x, self.sample(x, generator))

    def touched(self, params: Params) -> Tensor | None:  # noqa: ARG002  (for sub-classes)
        """Return which samples `params` change, (N,) bool, if skipping the others saves time; else `None`."""
        return None

    def check(self, x: object) -> Tensor:
        """Return `x` if it is a batch that this transform can work on."""
        batch = _check.skeletons(type(self).__name__, "x", x)
        if batch.shape[2] == 0:
            _check.fail(type(self).__name__, "x", "have at least one frame", _check.show(batch.shape))
        return batch

    def check_params(self, x: Tensor, params: Params) -> None:
        """Check that parameters are of the right kind, and as many as the samples of a batch."""
        owner = type(self).__name__
        if self.params_type is not None and not isinstance(params, self.params_type):
            _check.fail(owner, "params", f"be {self.params_type.__name__}", type(params).__name__, kind=TypeError)
        given = {tensor.shape[0] for tensor in params}  # none, where nothing is drawn
        if given - {x.shape[0]}:
            hint = "They were drawn for a batch of another size."
            got = " and ".join(str(size) for size in sorted(given))
            _check.fail(owner, "params", f"be for N = {len(x)} samples", got, hint=hint)

    def apply_to(self, x: Tensor, params: Params, touched: Tensor) -> Tensor:
        """Transform in place the samples that `touched` (N,) marks, in a batch that nobody else uses."""
        rows = touched.nonzero().squeeze(1)
        some = type(params)(*(tensor.index_select(0, rows) for tensor in params))
        return x.index_copy_(0, rows, self._apply_to_all(x.index_select(0, rows), some))

    def _apply_to_all(self, x: Tensor, params: Params) -> Tensor:
        return self.apply(x, params)


class AxisTransform(Transform[Params]):
    """A transform that is a linear map on single axes; `Compose` merges neighbours of this kind.

    Sub-classes define `sample` and `maps`.

    Example:
        >>> from dataclasses import dataclass
        >>> from typing import NamedTuple
        >>> class ScaleParams(NamedTuple):
        ...     factor: Tensor
        >>> @dataclass(frozen=True)
        ... class Scale(AxisTransform[ScaleParams]):
        ...     most: float = 2.0
        ...
        ...     def sample(self, x, generator=None):
        ...         share = torch.rand(len(x), generator=generator, device=x.device)
        ...         return ScaleParams(1 + (self.most - 1) * share)
        ...
        ...     def maps(self, x, params):
        ...         return AxisMaps(channel=params.factor[:, None, None] * torch.eye(x.shape[1], device=x.device))
        >>> Scale().apply(torch.ones(1, 2, 1, 1, 1), ScaleParams(torch.tensor([1.5]))).flatten()
        tensor([1.5000, 1.5000])
    """

    @abstractmethod
    def maps(self, x: Tensor, params: Params) -> AxisMaps:
        """Return the maps that `params` stand for; only shape, dtype and device of `x` are used."""

    def apply(self, x: Tensor, params: Params) -> Tensor:
        """Transform a batch with parameters from `sample`.

        Args:
            x: Skeletons (N, C, T, V, M), floating point.
            params: Parameters of N samples, drawn for this batch or for another of the same shape.

        Returns:
            A new tensor of the shape, dtype and device of `x`.

        Raises:
            TypeError: If `x` is not a floating-point tensor.
            ValueError: If `x` has not the shape that the transform needs, or `params` are not for N samples.
        """
        self.check(x)
        self.check_params(x, params)
        touched = self.touched(params) if may_look(x) else None
        with autocast_off(x.device):
            return self._apply_to_all(x, params) if touched is None else self.apply_to(x.clone(), params, touched)

    def _apply_to_all(self, x: Tensor, params: Params) -> Tensor:
        return self.maps(x, params).apply(x)


def check_transform(owner: str, value: object) -> None:
    """Check that a value is a transform."""
    if not isinstance(value, Transform):
        hint = "Was the class meant to be called?" if isinstance(value, type) else ""
        if isinstance(value, list | tuple):
            hint = f"Pass each by itself: `{owner}(*transforms)`."
        _check.fail(owner, "transforms", "be transforms", repr(value), hint=hint, kind=TypeError)


def check_generator(owner: str, value: object) -> None:
    """Check that a value is a source of randomness."""
    if value is not None and not isinstance(value, torch.Generator):
        hint = "Write `torch.Generator(x.device).manual_seed(0)`."
        _check.fail(owner, "generator", "be a torch.Generator or None", repr(value), hint=hint, kind=TypeError)


def uniform(x: Tensor, shape: tuple[int, ...], low: float, high: float, generator: torch.Generator | None) -> Tensor:
    """Draw uniformly from [low, high), in float32 whatever `x` is, so that every dtype gets the same draws."""
    return torch.empty(shape, dtype=torch.float32, device=x.device).uniform_(low, high, generator=generator)


def integers(x: Tensor, high: int, generator: torch.Generator | None) -> Tensor:
    """Draw whole numbers from 0 to `high` - 1, (N,) int64."""
    if generator is None:  # named though absent, it keeps torch's compiler from taking batches of another size
        return torch.randint(high, (len(x),), device=x.device)
    return torch.randint(high, (len(x),), generator=generator, device=x.device)


def chosen(x: Tensor, p: float, generator: torch.Generator | None) -> Tensor:
    """Draw which samples a transform acts on, (N,) bool, each with probability `p`."""
    return torch.empty(len(x), dtype=torch.bool, device=x.device).bernoulli_(p, generator=generator)


def may_look(x: Tensor) -> bool:
    """Tell whether what is done with a batch may depend on values: on a CPU, where looking costs nothing.

    Elsewhere the host would have to wait for the device, and a graph of `torch.compile` would end.
    """
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


def map_dtype(x: Tensor) -> torch.dtype:
    """Dtype in which small maps are built: at least float32, so that half-precision batches get rounded once."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32
