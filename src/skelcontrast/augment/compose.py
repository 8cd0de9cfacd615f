"""Several transforms in a row, merged wherever they are maps on single axes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from skelcontrast import _check
from skelcontrast._autocast import autocast_off
from skelcontrast.augment.axes import AxisMaps
from skelcontrast.augment.base import AxisTransform, Transform

AnyTransform = Transform[Any]
Step = AxisMaps | tuple[AnyTransform, Any]

PART_BYTES = 2**21  # of the batch in one part on a CPU; measured, and flat around it


@dataclass(frozen=True, init=False, repr=False)
class Compose(Transform[tuple[Any, ...]]):
    """Apply transforms one after another.

    Neighbours that are maps on single axes (all of this package but `GaussianNoise`) are merged first: their small
    matrices are multiplied, their indices looked up in each other, and the batch is touched once per run, by one
    gather, one T x T and one C x C product. The result is that of applying them one by one, to rounding.

    Args:
        *transforms: Any number of transforms, the first one first. A `Compose` among them is taken apart, so that
            its transforms merge with their new neighbours. Without any, the batch is returned as it is.

    Raises:
        TypeError: If one of them is not a `Transform`.

    Example:
        >>> from skelcontrast.augment import AxisMask, Compose, TemporalFlip
        >>> both = Compose(TemporalFlip(p=1.0), AxisMask(p=1.0))
        >>> x = torch.arange(3.0).reshape(1, 1, 3, 1, 1)
        >>> both(x).flatten()  # of one coordinate, the mask leaves nothing
        tensor([0., 0., 0.])
        >>> both
        Compose(TemporalFlip(p=1.0), AxisMask(p=1.0))
        >>> params = both.sample(x)
        >>> torch.equal(both.apply(x, params), both.apply(x, params))  # a replay
        True
    """

    transforms: tuple[AnyTransform, ...]

    def __init__(self, *transforms: AnyTransform) -> None:
        flat: list[AnyTransform] = []
        for transform in transforms:
            _check_transform(transform)
            flat += transform.transforms if isinstance(transform, Compose) else [transform]
        object.__setattr__(self, "transforms", tuple(flat))

    def __repr__(self) -> str:
        return f"Compose({', '.join(repr(transform) for transform in self.transforms)})"

    def sample(self, x: Tensor, generator: torch.Generator | None = None) -> tuple[Any, ...]:
        """Draw the parameters of every transform, in their order."""
        self.check(x)
        return tuple(transform.sample(x, generator) for transform in self.transforms)

    def apply(self, x: Tensor, params: tuple[Any, ...]) -> Tensor:
        """Transform a batch.

        Args:
            x: Skeletons (N, C, T, V, M), floating point.
            params: One entry per transform, from `sample`.

        Returns:
            A tensor of the shape, dtype and device of `x`.

        Raises:
            TypeError: If `x` is not a floating-point tensor.
            ValueError: If `x` has not the shape that a transform needs, or `params` are not those of these transforms
                and N samples.
        """
        self.check(x)
        if len(params) != len(self.transforms):
            _check.fail("Compose", "params", f"have {len(self.transforms)} entries, one per transform", len(params))
        with autocast_off(x.device):
            return self._apply(x, params)

    def _apply(self, x: Tensor, params: tuple[Any, ...]) -> Tensor:
        # Maps of neighbours that act on all samples are merged here, once; the others within each part.
        steps: list[Step] = []
        touched: list[Tensor | None] = []
        for transform, drawn in zip(self.transforms, params, strict=True):
            transform.check(x)
            transform.check_params(x, drawn)
            mask = transform.touched(drawn) if x.device.type == "cpu" else None
            step: Step = (transform, drawn)
            if mask is None and isinstance(transform, AxisTransform):
                step = transform.maps(x, drawn)
                if steps and isinstance(steps[-1], AxisMaps):
                    steps[-1] = steps[-1].then(step)
                    continue
            steps.append(step)
            touched.append(mask)
        if all(mask is None for mask in touched):
            return _run(x, steps)
        y = torch.empty_like(x, memory_format=torch.contiguous_format)
        for rows, needed in _parts(touched, x):
            part = [_take(step, rows) for step, need in zip(steps, needed, strict=True) if need]
            y.index_copy_(0, rows, _run(x.index_select(0, rows), part))
        return y


def _check_transform(value: object) -> None:
    if not isinstance(value, Transform):
        hint = "Was the class meant to be called?" if isinstance(value, type) else ""
        _check.fail("Compose", "transforms", "be transforms", repr(value), hint=hint, kind=TypeError)


def _parts(touched: list[Tensor | None], x: Tensor) -> Iterator[tuple[Tensor, list[bool]]]:
    """Part the samples by the steps that they need, so that none is led through a step that leaves it alone.

    For a CPU, where looking at what was drawn is free; elsewhere the host would have to wait for the device. The
    parts are small enough for what lies between the steps to stay in the cache.
    """
    most = max(1, PART_BYTES * len(x) // max(1, x.numel() * x.element_size()))
    pattern = torch.zeros(len(x), dtype=torch.int64)  # of each sample, the steps that it needs, as bits
    for step, mask in enumerate(touched):
        pattern += 2**step if mask is None else mask * 2**step
    for bits in sorted(set(pattern.tolist())):
        for rows in (pattern == bits).nonzero().squeeze(1).split(most):
            yield rows, [bool(bits & 2**step) for step in range(len(touched))]


def _take(step: Step, rows: Tensor) -> Step:
    if isinstance(step, AxisMaps):
        return step.take(rows)
    transform, drawn = step
    return transform, type(drawn)(*(tensor.index_select(0, rows) for tensor in drawn))


def _run(x: Tensor, steps: list[Step]) -> Tensor:
    """Send a batch through steps, merging maps that follow one another."""
    maps = AxisMaps()
    for step in steps:
        if isinstance(step, AxisMaps):
            maps = maps.then(step)
        elif isinstance(step[0], AxisTransform):
            maps = maps.then(step[0].maps(x, step[1]))
        else:
            x = step[0].apply(maps.apply(x), step[1])
            maps = AxisMaps()
    return maps.apply(x)
