from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from tests.reference import augment as oracle

from skelcontrast.augment import (
    AxisMask,
    AxisMaskParams,
    Rotate,
    RotateParams,
    Shear,
    ShearParams,
    SpatialFlip,
    SpatialFlipParams,
    Transform,
)
from skelcontrast.skeleton import COCO_17, NTU_RGBD_25

Golden = Callable[[str], Mapping[str, Any]]


def batch(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64)


def stacked(views: list[np.ndarray[Any, Any]]) -> torch.Tensor:
    return torch.from_numpy(np.stack(views))


@pytest.mark.parametrize("C", [1, 2, 3, 4])
def test_shear_equals_oracle(C: int) -> None:
    x = batch(5, C, 4, 17, 2)
    params = Shear(0.7).sample(x)
    expected = [oracle.shear(x[n].numpy(), params.matrix[n].double().numpy()) for n in range(5)]
    torch.testing.assert_close(Shear(0.7).apply(x, params), stacked(expected))


def test_shear_draws_independent_entries_within_its_bounds() -> None:
    matrix = Shear(0.5).sample(torch.zeros(4000, 3, 1, 1, 1)).matrix
    off = ~torch.eye(3, dtype=torch.bool)
    entries = matrix[:, off]
    assert matrix[:, ~off].eq(1).all()
    assert entries.abs().max() <= 0.5
    torch.testing.assert_close(entries.var(dim=0), torch.full((6,), 1 / 12), rtol=0.08, atol=0)
    correlation = torch.corrcoef(entries.T) - torch.eye(6)
    assert correlation.abs().max() < 0.08


def test_shear_p_is_a_share_of_the_samples() -> None:
    matrix = Shear(0.5, p=0.25).sample(torch.zeros(4000, 3, 1, 1, 1)).matrix
    untouched = (matrix == torch.eye(3)).all(dim=2).all(dim=1)
    assert abs(untouched.double().mean().item() - 0.75) < 0.03


def test_shear_equals_released_code(golden: Golden) -> None:
    numbers = golden("augment.npz")
    s1_0, s1_1, s1_2, s2_0, s2_1, s2_2 = numbers["shear_s"]
    matrix = torch.tensor([[[1, s1_0, s2_0], [s1_1, 1, s2_1], [s1_2, s2_2, 1]]], dtype=torch.float64)
    y = Shear().apply(torch.from_numpy(numbers["x"])[None], ShearParams(matrix))
    torch.testing.assert_close(y[0], torch.from_numpy(numbers["shear"]), rtol=0, atol=1e-9)


@pytest.mark.parametrize("mirror_axis", [0, 1, None])
@pytest.mark.parametrize(("C", "M"), [(3, 2), (2, 1), (2, 3)])
def test_spatial_flip_equals_oracle(mirror_axis: int | None, C: int, M: int) -> None:
    x = batch(4, C, 3, 17, M)
    flip = SpatialFlip(COCO_17, mirror_axis=mirror_axis)
    params = SpatialFlipParams(torch.tensor([True, False, True, False]))
    expected = [
        oracle.spatial_flip(x[n].numpy(), COCO_17.mirror, mirror_axis) if params.flipped[n] else x[n].numpy()
        for n in range(4)
    ]
    torch.testing.assert_close(flip.apply(x, params), stacked(expected), rtol=0, atol=0)


def test_spatial_flip_twice_is_the_identity() -> None:
    x = batch(3, 3, 5, 25, 2)
    flip = SpatialFlip(NTU_RGBD_25, p=1.0)
    torch.testing.assert_close(flip(flip(x)), x, rtol=0, atol=0)


def test_spatial_flip_equals_released_code(golden: Golden) -> None:
    numbers = golden("augment.npz")
    flip = SpatialFlip(NTU_RGBD_25, mirror_axis=None)
    y = flip.apply(torch.from_numpy(numbers["x"])[None], SpatialFlipParams(torch.tensor([True])))
    np.testing.assert_array_equal(y[0].numpy(), numbers["spatial_flip"])


@pytest.mark.parametrize("C", [2, 3])
@pytest.mark.parametrize("signed", [False, True])
def test_rotate_equals_oracle_and_keeps_lengths(C: int, signed: bool) -> None:
    x = batch(6, C, 4, 17, 2)
    rotate = Rotate(max_degrees=150, max_minor_degrees=90, signed=signed)
    params = rotate.sample(x)
    y = rotate.apply(x, params)
    expected = [oracle.rotate(x[n].numpy(), params.angle_degrees[n].tolist()) for n in range(6)]
    torch.testing.assert_close(y, stacked(expected))
    torch.testing.assert_close(y.norm(dim=1), x.norm(dim=1))


@pytest.mark.parametrize(("signed", "low"), [(False, 0.0), (True, -1.0)])
def test_rotate_draws_one_main_axis(signed: bool, low: float) -> None:
    angles = (
        Rotate(max_degrees=30, max_minor_degrees=1, signed=signed).sample(torch.zeros(6000, 3, 1, 1, 1)).angle_degrees
    )
    assert angles.shape == (6000, 3)
    assert angles.min() >= 30 * low
    assert 29.5 < angles.max() < 30
    assert (angles.abs() > 1).sum(dim=1).max() == 1
    share = (angles.abs() > 1).double().mean(dim=0)  # main, and above 1 of 30 degrees: 29 / 90
    torch.testing.assert_close(share, torch.full((3,), 29 / 90, dtype=torch.float64), rtol=0, atol=0.03)
    assert (angles.min() < 0) == signed


@pytest.mark.parametrize("minor", [0, 0.0, 1])
def test_rotate_has_fractions_of_a_degree(minor: float) -> None:
    for main in (0.5, 22.5):
        angles = Rotate(max_degrees=main, max_minor_degrees=minor).sample(torch.zeros(3000, 3, 1, 1, 1)).angle_degrees
        assert 0.98 * max(main, minor) < angles.max() < max(main, minor)


def test_rotate_p_is_a_share_of_the_samples() -> None:
    angles = Rotate(p=0.3).sample(torch.zeros(4000, 3, 1, 1, 1)).angle_degrees
    assert abs(angles.ne(0).any(dim=1).double().mean().item() - 0.3) < 0.04


def test_rotate_in_the_plane_has_one_angle() -> None:
    params = Rotate(max_degrees=30, max_minor_degrees=1).sample(torch.zeros(1000, 2, 1, 1, 1))
    assert params.angle_degrees.shape == (1000, 1)
    assert params.angle_degrees.max() > 25


def test_rotate_equals_released_code(golden: Golden) -> None:
    numbers = golden("augment.npz")
    x = torch.from_numpy(numbers["x"])[None].expand(3, -1, -1, -1, -1)
    degrees = torch.from_numpy(np.stack([numbers[f"rotate_axis{axis}_degrees"] for axis in range(3)]))
    expected = stacked([numbers[f"rotate_axis{axis}"] for axis in range(3)])
    torch.testing.assert_close(Rotate().apply(x, RotateParams(degrees)), expected, rtol=0, atol=1e-9)


def test_axis_mask_equals_oracle_and_released_code(golden: Golden) -> None:
    numbers = golden("augment.npz")
    x = torch.from_numpy(numbers["x"])[None].expand(3, -1, -1, -1, -1)
    y = AxisMask().apply(x, AxisMaskParams(~torch.eye(3, dtype=torch.bool)))
    for axis in range(3):
        np.testing.assert_array_equal(y[axis].numpy(), numbers[f"axis_mask{axis}"])
        np.testing.assert_array_equal(y[axis].numpy(), oracle.axis_mask(numbers["x"], axis))


@pytest.mark.parametrize("C", [1, 2, 3])
def test_axis_mask_draws_each_axis_equally_often(C: int) -> None:
    keep = AxisMask(p=0.6).sample(torch.zeros(6000, C, 1, 1, 1)).keep
    assert (~keep).sum(dim=1).max() == 1
    share = (~keep).double().mean(dim=0)
    torch.testing.assert_close(share, torch.full((C,), 0.6 / C, dtype=torch.float64), rtol=0, atol=0.03)


@pytest.mark.parametrize(
    ("build", "kind", "text"),
    [
        (lambda: Shear(-0.1), ValueError, r"Shear: `amplitude` must lie in \[0, inf\), got -0\.1\."),
        (lambda: Shear(float("inf")), ValueError, r"Shear: `amplitude` must lie in \[0, inf\), got inf\."),
        (lambda: Shear(p=1.5), ValueError, r"Shear: `p` must lie in \[0, 1\], got 1\.5\."),
        (lambda: SpatialFlip(NTU_RGBD_25, p=-1), ValueError, r"SpatialFlip: `p` must lie in \[0, 1\], got -1\."),
        (lambda: SpatialFlip(NTU_RGBD_25, mirror_axis=-1), ValueError, r"`mirror_axis` must be at least 0, got -1\."),
        (lambda: SpatialFlip("ntu"), TypeError, r"SpatialFlip: `layout` must be a SkeletonLayout, got 'ntu'\."),  # type: ignore[arg-type]  # on purpose
        (lambda: Rotate(max_degrees=200), ValueError, r"Rotate: `max_degrees` must lie in \[0, 180\], got 200\."),
        (lambda: Rotate(max_minor_degrees=-1), ValueError, r"Rotate: `max_minor_degrees` must lie in \[0, 180\]"),
        (lambda: Rotate(p=2), ValueError, r"Rotate: `p` must lie in \[0, 1\], got 2\."),
        (lambda: AxisMask(p=float("nan")), ValueError, r"AxisMask: `p` must lie in \[0, 1\], got nan\."),
    ],
)
def test_wrong_settings(build: Callable[[], object], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        build()


@pytest.mark.parametrize(
    ("transform", "params", "text"),
    [
        (Shear(), ShearParams(torch.ones(2, 1, 1)), r"`params.matrix` must have shape \(N, 3, 3\) to match `x`, got"),
        (
            Rotate(),
            RotateParams(torch.ones(2, 1)),
            r"`params.angle_degrees` must have shape \(N, 3\) to match `x`, got",
        ),
        (AxisMask(), AxisMaskParams(torch.ones(2, 1) > 0), r"`params.keep` must have shape \(N, 3\) to match `x`, got"),
    ],
)
def test_parameters_for_other_coordinates(transform: Transform[Any], params: Any, text: str) -> None:
    with pytest.raises(ValueError, match=f"{type(transform).__name__}: {text}"):
        transform.apply(torch.zeros(2, 3, 4, 3, 1), params)


def test_parameters_of_another_transform() -> None:
    with pytest.raises(TypeError, match=r"Shear: `params` must be ShearParams, got RotateParams\."):
        Shear().apply(torch.zeros(2, 3, 4, 3, 1), RotateParams(torch.zeros(2, 3)))  # type: ignore[arg-type]  # on purpose


def test_wrong_input() -> None:
    with pytest.raises(
        ValueError, match=r"SpatialFlip: `x` must have shape .*Layout 'NTU_RGBD_25' has 25 joints, `x` has 17"
    ):
        SpatialFlip(NTU_RGBD_25)(torch.zeros(2, 3, 5, 17, 1))
    with pytest.raises(
        ValueError, match=r"`x` must have more than 2 coordinates for `mirror_axis=2`, got \(2, 2, 5, 17, 1\)"
    ):
        SpatialFlip(COCO_17, mirror_axis=2)(torch.zeros(2, 2, 5, 17, 1))
    with pytest.raises(ValueError, match=r"Rotate: `x` must have 2 or 3 coordinates, got \(2, 4, 5, 17, 1\)\."):
        Rotate()(torch.zeros(2, 4, 5, 17, 1))
