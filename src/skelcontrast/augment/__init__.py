"""Batched augmentations of skeleton sequences, each sample with its own draw."""

from skelcontrast.augment.axes import AxisMaps
from skelcontrast.augment.base import AxisTransform, Transform
from skelcontrast.augment.compose import Compose
from skelcontrast.augment.noise import Bodies, GaussianNoise, GaussianNoiseParams
from skelcontrast.augment.presets import Preset, extreme, normal
from skelcontrast.augment.spatial import (
    AxisMask,
    AxisMaskParams,
    Rotate,
    RotateParams,
    Shear,
    ShearParams,
    SpatialFlip,
    SpatialFlipParams,
)
from skelcontrast.augment.temporal import (
    GaussianBlur,
    GaussianBlurParams,
    TemporalCrop,
    TemporalCropParams,
    TemporalFlip,
    TemporalFlipParams,
)
from skelcontrast.augment.views import Views

__all__ = [
    "AxisMaps",
    "AxisMask",
    "AxisMaskParams",
    "AxisTransform",
    "Bodies",
    "Compose",
    "GaussianBlur",
    "GaussianBlurParams",
    "GaussianNoise",
    "GaussianNoiseParams",
    "Preset",
    "Rotate",
    "RotateParams",
    "Shear",
    "ShearParams",
    "SpatialFlip",
    "SpatialFlipParams",
    "TemporalCrop",
    "TemporalCropParams",
    "TemporalFlip",
    "TemporalFlipParams",
    "Transform",
    "Views",
    "extreme",
    "normal",
]
