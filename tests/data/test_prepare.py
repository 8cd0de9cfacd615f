"""Centring and resampling against loops and the numbers of the released preparation."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.reference import data as reference

from skelcontrast.data import centre, resample
from skelcontrast.skeleton import COCO_17, NTU_RGBD_25, UTD_MHAD_20, SkeletonLayout

Golden = Callable[[str], Mapping[str, Any]]


@pytest.mark.parametrize("layout", [NTU_RGBD_25, UTD_MHAD_20, COCO_17], ids=lambda layout: layout.name)
def test_centre_subtracts_the_centre_joint_of_each_frame_and_body(layout: SkeletonLayout) -> None:
    x = torch.randn(2, 3, 4, layout.num_joints, 2, dtype=torch.float64)
    x[1, :, :, :, 1] = 0
    expected = reference.centre(reference.array(x), layout.centre)
    found = centre(x, layout)
    torch.testing.assert_close(found, torch.from_numpy(expected), rtol=0, atol=0)
    assert not found[:, :, :, layout.centre].any()
    assert not found[1, ..., 1].any(), "an absent body stays absent"


def test_centre_twice_is_centre_once_and_leaves_its_input() -> None:
    x = torch.randn(2, 3, 4, 25, 2, dtype=torch.float64)
    before = x.clone()
    once = centre(x, NTU_RGBD_25)
    assert torch.equal(centre(once, NTU_RGBD_25), once)
    assert torch.equal(x, before)


@settings(max_examples=40, deadline=None)
@given(T=st.integers(1, 40), frames=st.integers(1, 60), seed=st.integers(0, 1000))
def test_resample_agrees_with_interpolation_between_the_middles_of_frames(T: int, frames: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 2, T, 3, 2, generator=generator, dtype=torch.float64)
    found = resample(x, frames)
    torch.testing.assert_close(
        found, torch.from_numpy(reference.resample(reference.array(x), frames)), rtol=0, atol=1e-12
    )
    flipped = resample(x.flip(2), frames).flip(2)
    torch.testing.assert_close(found, flipped, rtol=0, atol=1e-12)


def test_resample_to_the_same_number_changes_nothing() -> None:
    x = torch.randn(2, 3, 7, 5, 2)
    assert torch.equal(resample(x, 7), x)
    assert resample(x, 7).data_ptr() != x.data_ptr()


def test_both_are_differentiable() -> None:
    x = torch.randn(1, 2, 5, 17, 1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: resample(centre(x, COCO_17), 3), x)


@pytest.mark.parametrize("clip", [0, 1, 2])
def test_both_agree_with_the_released_preparation(golden: Golden, clip: int) -> None:
    numbers = golden("preprocess.npz")
    raw = torch.from_numpy(numbers[f"raw{clip}"])[None]
    expected = torch.from_numpy(numbers[f"centred_resized{clip}"])
    torch.testing.assert_close(resample(centre(raw, NTU_RGBD_25), 50)[0], expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(centre(resample(raw, 50), NTU_RGBD_25)[0], expected, rtol=0, atol=1e-5)


def test_errors_of_centre() -> None:
    with pytest.raises(
        ValueError, match=re.escape("centre: `x` must have shape (N, C, T, 25, M), got (2, 3, 4, 20, 1)")
    ):
        centre(torch.zeros(2, 3, 4, 20, 1), NTU_RGBD_25)
    with pytest.raises(ValueError, match=re.escape("centre: `x` must have shape (N, C, T, 25, M), got (3, 4, 25, 1)")):
        centre(torch.zeros(3, 4, 25, 1), NTU_RGBD_25)
    with pytest.raises(TypeError, match=r"centre: `x` must be floating point, got torch\.int64"):
        centre(torch.zeros(2, 3, 4, 25, 1, dtype=torch.int64), NTU_RGBD_25)
    with pytest.raises(TypeError, match="centre: `layout` must be a SkeletonLayout, got 'ntu'"):
        centre(torch.zeros(2, 3, 4, 25, 1), "ntu")  # type: ignore[arg-type]  # on purpose


def test_errors_of_resample() -> None:
    x = torch.zeros(1, 3, 4, 25, 1)
    with pytest.raises(ValueError, match=re.escape("resample: `x` must have shape (N, C, T, V, M), got (3, 4, 25, 1)")):
        resample(x[0], 8)
    with pytest.raises(ValueError, match="resample: `frames` must be at least 1, got 0"):
        resample(x, 0)
    with pytest.raises(TypeError, match=re.escape("resample: `frames` must be an integer, got 8.0")):
        resample(x, 8.0)  # type: ignore[arg-type]  # on purpose
    with pytest.raises(ValueError, match=re.escape("resample: `x` must have at least one frame, got (1, 3, 0, 25, 1)")):
        resample(x[:, :, :0], 8)


def test_centre_on_a_joint_by_name() -> None:
    x = torch.randn(2, 3, 4, 25, 2)
    found = centre(x, NTU_RGBD_25, joint="spine base")
    assert torch.equal(found, x - x[:, :, :, :1])
    with pytest.raises(ValueError, match=r"centre: `joint` must be one of 'spine base', .* got 'nose'"):
        centre(x, NTU_RGBD_25, joint="nose")
