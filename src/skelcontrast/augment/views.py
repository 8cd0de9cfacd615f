"""Several views of a batch in one call."""

from typing import Any

import torch
from torch import Tensor

from skelcontrast import _check
from skelcontrast.augment.base import Transform, check_generator, check_transform


class Views:
    """Draw several views of each sample, each view of each sample with a draw of its own.

    Views by equal transforms, such as query and key, are drawn and applied as one larger batch: the same numbers in
    fewer operations, and at usual batch sizes it is the number of operations that takes a GPU its time.

    Args:
        *transforms: The transform of each view, one or more.

    Raises:
        TypeError: If one of them is not a `Transform`.
        ValueError: If there is none.

    References:
        AimCLR, section 3.2: two normal views and an extreme one.

    Example:
        >>> from skelcontrast.augment import Views, extreme, normal
        >>> from skelcontrast.skeleton import NTU_RGBD_25
        >>> views = Views(normal(), normal(), extreme(NTU_RGBD_25))
        >>> x = torch.randn(8, 3, 50, 25, 2)
        >>> query, key, hard = views(x, torch.Generator().manual_seed(0))
        >>> query.shape, torch.equal(query, key)
        (torch.Size([8, 3, 50, 25, 2]), False)
        >>> params = views.sample(x)
        >>> all(torch.equal(a, b) for a, b in zip(views.apply(x, params), views.apply(x, params)))  # a replay
        True
    """

    def __init__(self, *transforms: Transform[Any]) -> None:
        if not transforms:
            _check.fail("Views", "transforms", "hold at least 1 transform", 0)
        for transform in transforms:
            check_transform("Views", transform)
        self.transforms = transforms
        distinct: list[Transform[Any]] = []
        for transform in transforms:
            if transform not in distinct:
                distinct.append(transform)
        self._groups = [
            (one, [place for place, transform in enumerate(transforms) if transform == one]) for one in distinct
        ]

    def __repr__(self) -> str:
        return f"Views({', '.join(map(repr, self.transforms))})"

    def sample(self, x: Tensor, generator: torch.Generator | None = None) -> tuple[Any, ...]:
        """Draw the parameters of all views of a batch (N, C, T, V, M): those of each distinct transform together."""
        check_generator("Views", generator)
        return tuple(transform.sample(_stacked(x, places), generator) for transform, places in self._groups)

    def apply(self, x: Tensor, params: tuple[Any, ...]) -> tuple[Tensor, ...]:
        """Transform a batch.

        Args:
            x: Skeletons (N, C, T, V, M), floating point.
            params: What `sample` drew.

        Returns:
            The views in the order of the transforms, each of the shape, dtype and device of `x`.

        Raises:
            TypeError: If `x` is not a floating-point tensor.
            ValueError: If `x` has not the shape that a transform needs, or `params` are not those of these transforms
                and N samples.
        """
        if len(params) != len(self._groups):
            must = f"have {len(self._groups)} entries, one per distinct transform"
            _check.fail("Views", "params", must, len(params))
        made: dict[int, Tensor] = {}
        for (transform, places), drawn in zip(self._groups, params, strict=True):
            views = transform.apply(_stacked(x, places), drawn).chunk(len(places))
            made.update(zip(places, views, strict=True))
        return tuple(made[place] for place in range(len(self.transforms)))

    def __call__(self, x: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, ...]:
        """Draw parameters and apply them."""
        return self.apply(x, self.sample(x, generator))


def _stacked(x: Tensor, places: list[int]) -> Tensor:
    """Return a batch repeated once for each place, along the first axis."""
    _check.skeletons("Views", "x", x)
    return x if len(places) == 1 else x.repeat(len(places), 1, 1, 1, 1)
