from typing import Any, Literal

import numpy as np
import pytest
import torch
from tests.reference import augment as oracle

from skelcontrast.augment import (
    AxisMask,
    Compose,
    GaussianBlur,
    GaussianNoise,
    Rotate,
    Shear,
    SpatialFlip,
    TemporalCrop,
    TemporalFlip,
    extreme,
    normal,
)
from skelcontrast.skeleton import COCO_17, NTU_RGBD_25


@pytest.mark.parametrize("preset", ["paper", "official"])
def test_normal_is_crop_then_shear(preset: Literal["paper", "official"]) -> None:
    assert normal(preset=preset) == Compose(TemporalCrop(6), Shear(0.5))
    assert normal(preset=preset, amplitude=0.2, padding_ratio=4) == Compose(TemporalCrop(4), Shear(0.2))


def test_extreme_of_the_paper_has_all_eight() -> None:
    assert extreme(NTU_RGBD_25) == Compose(
        TemporalCrop(6),
        Shear(0.5),
        SpatialFlip(NTU_RGBD_25, p=0.5, mirror_axis=0),
        Rotate(30, 1),
        GaussianNoise(0.01, p=0.5, bodies="present"),
        GaussianBlur((0.1, 2.0), 15, normalize=True, p=0.5),
        AxisMask(0.5),
        TemporalFlip(0.5),
    )


def test_extreme_of_the_released_code() -> None:
    assert extreme(NTU_RGBD_25, preset="official", amplitude=0.3, padding_ratio=5) == Compose(
        TemporalCrop(5),
        Shear(0.3),
        SpatialFlip(NTU_RGBD_25, p=0.5, mirror_axis=None),
        Rotate(30, 1),
        GaussianNoise(0.01, p=0.5, bodies="all"),
        GaussianBlur((0.1, 2.0), 15, normalize=False, p=0.5),
        AxisMask(0.5),
    )


@pytest.mark.parametrize("preset", ["paper", "official"])
@pytest.mark.parametrize("C", [2, 3])
def test_extreme_equals_its_steps_in_the_oracle(preset: Literal["paper", "official"], C: int) -> None:
    x = torch.randn(24, C, 20, 17, 2, dtype=torch.float64)
    x[::3, ..., 1] = 0
    view = extreme(COCO_17, preset=preset)
    params = view.sample(x)
    expected = []
    for n in range(24):
        drawn = [type(step)(*(tensor[n].double().numpy() for tensor in step)) for step in params]
        crop, shear, flip, rotate, noise, blur, mask = drawn[:7]
        y = oracle.temporal_crop(x[n].numpy(), int(crop.start), 6)
        y = oracle.shear(y, shear.matrix)
        if flip.flipped:
            y = oracle.spatial_flip(y, COCO_17.mirror, 0 if preset == "paper" else None)
        y = oracle.rotate(y, rotate.angle_degrees)
        if noise.noisy:
            y = oracle.gaussian_noise(y, noise.noise, "present" if preset == "paper" else "all")
        if blur.blurred:
            y = oracle.gaussian_blur(y, float(blur.sigma), 15, normalize=preset == "paper")
        if not mask.keep.all():
            y = oracle.axis_mask(y, int(mask.keep.argmin()))
        if preset == "paper" and drawn[7].flipped:
            y = oracle.temporal_flip(y)
        expected.append(y)
    torch.testing.assert_close(view.apply(x, params), torch.from_numpy(np.stack(expected)))


@pytest.mark.parametrize("preset", ["paper", "official"])
def test_work_in_two_dimensions(preset: Literal["paper", "official"]) -> None:
    x = torch.randn(3, 2, 20, 17, 1)
    for view in (normal(preset=preset), extreme(COCO_17, preset=preset)):
        assert view(x).shape == x.shape


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        ({"preset": "papers"}, ValueError, r"extreme: `preset` must be one of 'paper', 'official', got 'papers'\."),
        ({"amplitude": -1}, ValueError, r"Shear: `amplitude` must lie in \[0, inf\), got -1\."),
        ({"padding_ratio": 0}, ValueError, r"TemporalCrop: `padding_ratio` must be at least 1, got 0\."),
        ({"layout": 25}, TypeError, r"`layout` must be a SkeletonLayout, got 25\."),
    ],
)
def test_errors(arguments: dict[str, Any], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        extreme(**{"layout": NTU_RGBD_25, **arguments})


def test_normal_errors() -> None:
    with pytest.raises(ValueError, match=r"normal: `preset` must be one of 'paper', 'official', got 'none'\."):
        normal(preset="none")  # type: ignore[arg-type]  # on purpose
