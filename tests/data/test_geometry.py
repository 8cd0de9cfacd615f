"""Centring, resampling and aligned shoulders against loops and the numbers of the released preparation."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.reference import data as reference

from skelcontrast.data import align_shoulders, centre, fill_missing, resample
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


@settings(max_examples=60, deadline=None)
@given(T=st.integers(1, 9), share=st.floats(0, 1), seed=st.integers(0, 1000))
def test_missing_joints_lie_between_sightings_or_at_the_nearest_joint(T: int, share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2, 3, T, 17, 2))
    seen = rng.uniform(size=(2, T, 17, 2)) >= share
    seen[:, :, rng.uniform(size=17) < share / 2] = False
    marked = np.where(seen[:, None], x, np.nan)
    marked[:, 1:][~seen[:, None].repeat(2, axis=1)] = 7  # one coordinate of three says that a joint was not seen
    hops = COCO_17.hop_distance().numpy()
    expected = np.zeros_like(x)
    for n, m in np.ndindex(2, 2):
        places = {}
        for v in range(17):
            frames = np.flatnonzero(seen[n, :, v, m])
            if len(frames):
                places[v] = [np.interp(np.arange(T), frames, x[n, c, frames, v, m]) for c in range(3)]
        for v in range(17):
            if places:
                nearest = min(places, key=lambda joint: (hops[v, joint], joint))
                expected[n, :, :, v, m] = places[nearest]
    found = fill_missing(torch.from_numpy(marked), COCO_17)
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-12)


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


def test_what_was_seen_stays_as_it_is() -> None:
    x = torch.randn(2, 3, 7, 17, 2)
    found = fill_missing(x, COCO_17)
    assert torch.equal(found, x)
    assert found.data_ptr() != x.data_ptr()
    x[0, :, 2:5, 3] = torch.nan
    found = fill_missing(x, COCO_17)
    assert torch.equal(found[~x.isnan()], x[~x.isnan()])
    with pytest.raises(
        ValueError, match=re.escape("fill_missing: `x` must have at least one frame, got (2, 3, 0, 17, 2)")
    ):
        fill_missing(x[:, :, :0], COCO_17)


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


@pytest.mark.parametrize("clip", [0, 1, 2])
def test_shoulders_agree_with_the_released_preparation(golden: Golden, clip: int) -> None:
    numbers = golden("preprocess.npz")
    x = torch.from_numpy(numbers[f"centred_resized{clip}"])[None]
    expected = torch.from_numpy(numbers[f"shoulder_parallel{clip}"])[None]
    found = align_shoulders(x, NTU_RGBD_25, softening=1e-4, turned_by="sequence")
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(align_shoulders(x, NTU_RGBD_25, softening=1e-4), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("softening", [0.0, 1e-4])
def test_a_sequence_may_say_to_which_side_all_its_frames_are_turned(softening: float) -> None:
    x = torch.randn(6, 3, 7, 25, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x[0, ..., 1] = 0
    found = align_shoulders(x, NTU_RGBD_25, softening=softening, turned_by="sequence")
    between = (x[:, :, :, 8] - x[:, :, :, 4]).numpy()  # from the left shoulder to the right one, (N, 3, T, M)
    assert ((between[:, 2] > 0).any(axis=1) & (between[:, 2] < 0).any(axis=1)).any(), "some pass the x axis"
    for n, t, m in np.ndindex(6, 7, 2):
        body, (across, _, along) = x[n, :, t, :, m].numpy(), between[n, :, t, m]
        if body.any():
            angle = math.acos(across / (math.hypot(across, along) + softening))
            turn = reference.about_y(angle if between[n, 2, :, m].sum() >= 0 else -angle)
            np.testing.assert_allclose(found[n, :, t, :, m].numpy(), turn @ body, rtol=0, atol=1e-9)
    assert not found[0, ..., 1].any()


@pytest.mark.parametrize("layout", [NTU_RGBD_25, UTD_MHAD_20, COCO_17], ids=lambda layout: layout.name)
@pytest.mark.parametrize("softening", [0.0, 0.3])
def test_shoulders_are_turned_as_one_body_is_turned(layout: SkeletonLayout, softening: float) -> None:
    x = torch.randn(2, 3, 4, layout.num_joints, 2, dtype=torch.float64)
    left, right = (layout.joints.index(f"{side} shoulder") for side in ("left", "right"))
    found = align_shoulders(x, layout, softening=softening)
    for n, t, m in np.ndindex(2, 4, 2):
        body = x[n, :, t, :, m].numpy()
        across, along = (body[axis, right] - body[axis, left] for axis in (0, 2))
        width = math.hypot(across, along)
        angle = math.copysign(math.acos(across / (width + softening)), along)
        expected = reference.about_y(angle) @ body
        np.testing.assert_allclose(found[n, :, t, :, m].numpy(), expected, rtol=0, atol=1e-9)
        if softening == 0:
            assert abs(expected[2, right] - expected[2, left]) < 1e-12
            assert expected[0, right] > expected[0, left]


def test_aligned_shoulders_stay_and_the_absent_stay_absent() -> None:
    x = torch.randn(2, 3, 4, 25, 2)
    x[1, ..., 1] = 0
    before = x.clone()
    once = align_shoulders(x, NTU_RGBD_25)
    torch.testing.assert_close(align_shoulders(once, NTU_RGBD_25), once, rtol=0, atol=1e-5)
    assert not once[1, ..., 1].any()
    assert torch.equal(x, before)
    upright = torch.zeros(1, 3, 1, 25, 1)
    upright[:, 1, :, 8] = 0.4  # one shoulder above the other
    upright[:, 0, :, 3] = 0.2
    assert torch.equal(align_shoulders(upright, NTU_RGBD_25, softening=1e-4), upright)
    assert torch.equal(align_shoulders(upright, NTU_RGBD_25, softening=1e-4, turned_by="sequence"), upright)


def test_errors_of_align_shoulders() -> None:
    bodies = torch.zeros(1, 3, 4, 25, 1)
    with pytest.raises(ValueError, match=re.escape("align_shoulders: `x` must have shape (N, 3, T, V, M), got (1, 2,")):
        align_shoulders(bodies[:, :2], NTU_RGBD_25)
    with pytest.raises(ValueError, match=r"align_shoulders: `x` must have shape .*, 25, .* got \(1, 3, 4, 20, 1\)"):
        align_shoulders(bodies[:, :, :, :20], NTU_RGBD_25)
    with pytest.raises(TypeError, match="align_shoulders: `layout` must be a SkeletonLayout, got 'ntu'"):
        align_shoulders(bodies, "ntu")  # type: ignore[arg-type]  # on purpose
    with pytest.raises(ValueError, match=re.escape("align_shoulders: `softening` must lie in [0, inf), got -1")):
        align_shoulders(bodies, NTU_RGBD_25, softening=-1)
    with pytest.raises(ValueError, match="align_shoulders: `turned_by` must be one of 'frame', 'sequence', got 'body'"):
        align_shoulders(bodies, NTU_RGBD_25, turned_by="body")  # type: ignore[arg-type]  # on purpose
    rod = SkeletonLayout("rod", ("top", "bottom"), ((1, 0),), centre=0, mirror=())
    with pytest.raises(ValueError, match="`layout` must have a joint named 'left shoulder', got none in 'rod'"):
        align_shoulders(torch.zeros(1, 3, 4, 2, 1), rod)
