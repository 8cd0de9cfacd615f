"""The paper's two recipes: normal and extreme views."""

from typing import Literal, get_args

from skelcontrast import _check
from skelcontrast.augment.compose import Compose
from skelcontrast.augment.noise import GaussianNoise
from skelcontrast.augment.spatial import AxisMask, Rotate, Shear, SpatialFlip
from skelcontrast.augment.temporal import GaussianBlur, TemporalCrop, TemporalFlip
from skelcontrast.skeleton.layout import SkeletonLayout

Preset = Literal["paper", "official"]


def normal(*, preset: Preset = "paper", amplitude: float = 0.5, padding_ratio: int = 6) -> Compose:
    """Return the normal augmentation: crop, then shear. Works for any skeleton and number of coordinates.

    Args:
        preset: The paper and the released code agree here; the argument is there for symmetry with `extreme`.
        amplitude: Amplitude of the shear.
        padding_ratio: Padding ratio of the crop.

    Raises:
        ValueError: If `preset` is unknown or a setting out of range.

    References:
        AimCLR, section 3.2, normal augmentations.

    Example:
        >>> normal()
        Compose(TemporalCrop(padding_ratio=6), Shear(amplitude=0.5, p=1.0))
    """
    _check.choice("normal", "preset", preset, get_args(Preset))
    return Compose(TemporalCrop(padding_ratio), Shear(amplitude))


def extreme(
    layout: SkeletonLayout, *, preset: Preset = "paper", amplitude: float = 0.5, padding_ratio: int = 6
) -> Compose:
    """Return the extreme augmentation: crop, shear, flip, rotation, noise, blur, axis mask and temporal flip.

    Works for 2-D and 3-D coordinates (`Rotate` turns 2-D input in its plane). For other settings, build the
    `Compose` yourself: it is this function's one statement.

    Args:
        layout: The skeleton.
        preset: `"paper"`: all eight augmentations, each as its name says. `"official"`: as the released code runs: no
            temporal flip, the spatial flip swaps joints without mirroring, noise also on absent bodies, blur weights
            not normalised.
        amplitude: Amplitude of the shear.
        padding_ratio: Padding ratio of the crop.

    Raises:
        TypeError: If `layout` is not a `SkeletonLayout`.
        ValueError: If `preset` is unknown or a setting out of range.

    References:
        AimCLR, section 3.2, extreme augmentations.

    Example:
        >>> from skelcontrast.skeleton import NTU_RGBD_25
        >>> [type(step).__name__ for step in extreme(NTU_RGBD_25).transforms]
        ['TemporalCrop', 'Shear', 'SpatialFlip', 'Rotate', 'GaussianNoise', 'GaussianBlur', 'AxisMask', 'TemporalFlip']
    """
    _check.choice("extreme", "preset", preset, get_args(Preset))
    official = preset == "official"
    return Compose(
        TemporalCrop(padding_ratio),
        Shear(amplitude),
        SpatialFlip(layout, mirror_axis=None if official else 0),
        Rotate(),
        GaussianNoise(bodies="all" if official else "present"),
        GaussianBlur(normalize=not official),
        AxisMask(),
        *(() if official else (TemporalFlip(),)),
    )
