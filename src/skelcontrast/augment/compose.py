"""Several transforms in a row, merged wherever they are maps on single axes."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from skelcontrast import _check
from skelcontrast._autocast import autocast_off
from skelcontrast.augment.axes import AxisMaps
from skelcontrast.augment.base import AxisTransform, Transform, check_generator, check_transform, may_look

AnyTransform = Transform[Any]


@dataclass(frozen=True, init=False, repr=False)
class Compose(Transform[tuple[Any, ...]]):
    """Apply transforms one after another.

    Neighbours that are maps on single axes (all of this package but `GaussianNoise`) are merged first: their small
    matrices are multiplied and their indices composed, so that a run of them goes over the batch once per kind of map
    (`AxisMaps.apply`). On a CPU, where looking at what was drawn costs nothing, blur is a step of its own, for the
    samples that are blurred. The result is that of applying them one by one, up to rounding.

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
            check_transform("Compose", transform)
            flat += transform.transforms if isinstance(transform, Compose) else [transform]
        object.__setattr__(self, "transforms", tuple(flat))

    def __repr__(self) -> str:
        return f"Compose({', '.join(repr(transform) for transform in self.transforms)})"

    def sample(self, x: Tensor, generator: torch.Generator | None = None) -> tuple[Any, ...]:
        """Draw the parameters of every transform, in their order."""
        self.check(x)
        check_generator("Compose", generator)
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
        for transform, drawn in zip(self.transforms, params, strict=True):
            transform.check(x)
            transform.check_params(x, drawn)
        y, ours, maps = x, False, AxisMaps()  # ours: made here, so that it may be written over
        for transform, drawn in zip(self.transforms, params, strict=True):
            touched = transform.touched(drawn) if may_look(x) else None
            if touched is None and isinstance(transform, AxisTransform):
                maps = maps.then(transform.maps(x, drawn))
                continue
            mapped = maps.apply(y)
            ours, maps = ours or mapped is not y, AxisMaps()
            if touched is None:
                y = transform.apply_(mapped, drawn) if ours else transform.apply(mapped, drawn)
                ours = ours and y is mapped
            else:
                y, ours = transform.apply_to(mapped if ours else mapped.clone(), drawn, touched), True
        return maps.apply(y)
