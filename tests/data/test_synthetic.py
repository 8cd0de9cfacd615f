"""The animated people: bodies that hold together, movements that differ, and everything from the seed."""

import re
from typing import Any

import numpy as np
import pytest
import torch
from tests.reference import data as reference
from torch import Tensor

from skelcontrast.data import SkeletonDataset, SyntheticActions
from skelcontrast.data._repertoire import ALONE, TOGETHER, Clock, Performance
from skelcontrast.data._rig import REST, SIGNS, TREE, mirrored, pose_bodies
from skelcontrast.skeleton import NTU_RGBD_25


@pytest.fixture(scope="module")
def clips() -> SyntheticActions:
    return SyntheticActions(subjects=4, repetitions=1)


@pytest.fixture(scope="module")
def in_the_room() -> SyntheticActions:
    return SyntheticActions(subjects=4, repetitions=1, camera_yaw_degrees=(0.0,), centred=False)


def bones(x: Tensor) -> Tensor:
    """Return bone lengths (N, T, bones) of the first body."""
    child, parent = torch.tensor(NTU_RGBD_25.bones).T
    lengths: Tensor = torch.linalg.vector_norm(x[:, :, :, child, 0] - x[:, :, :, parent, 0], dim=1)
    return lengths


def test_poses_agree_with_a_loop_over_the_tree() -> None:
    rng = np.random.default_rng(0)
    angles = rng.normal(scale=40, size=(2, 3, 25, 3))
    offsets = REST[None] * rng.uniform(0.8, 1.2, size=(2, 25, 1))
    found = pose_bodies(angles, np.zeros((2, 3, 3)), offsets)
    for body in range(2):
        for frame in range(3):
            expected = reference.pose(angles[body, frame], offsets[body])
            np.testing.assert_allclose(found[body, frame] - found[body, frame, 0], expected, rtol=0, atol=1e-12)


def test_the_tree_is_the_layouts() -> None:
    assert dict(TREE) == reference.PELVIS_TREE
    assert {(min(bone), max(bone)) for bone in TREE} == set(NTU_RGBD_25.edges)


@pytest.mark.parametrize(
    ("segment", "angles", "direction"),
    [
        (9, (90, 0, 0), (0, 0, -1)),  # an arm forward
        (9, (0, 90, 0), (1, 0, 0)),  # the right arm out to the right
        (5, (0, 90, 0), (-1, 0, 0)),  # the left arm out to the left
        (9, (90, 0, 90), (1, 0, 0)),  # forward, then swung out
        (5, (90, 0, 90), (-1, 0, 0)),
        (18, (90, 0, 0), (0, 0, 1)),  # a shin back
        (1, (90, 0, 0), (0, 0, -1)),  # the trunk forward
        (1, (0, 90, 0), (1, 0, 0)),  # the trunk to the right
    ],
)
def test_anatomical_angles(segment: int, angles: tuple[int, ...], direction: tuple[int, ...]) -> None:
    pose = np.zeros((1, 1, 25, 3))
    pose[0, 0, segment] = angles
    joints = pose_bodies(pose, np.zeros((1, 1, 3)), REST[None])[0, 0]
    bone = joints[segment] - joints[reference.PELVIS_TREE[segment]]
    straight = np.array(direction) * np.linalg.norm(bone)
    np.testing.assert_allclose(bone, straight, atol=0.02)  # the thighs and shins at rest stand a little apart


def test_the_mirrored_pose_is_the_pose_in_a_mirror() -> None:
    angles = np.random.default_rng(0).normal(scale=40, size=(2, 3, 25, 3))
    offsets = np.repeat(REST[None], 2, axis=0)
    pose = pose_bodies(angles, np.zeros((2, 3, 3)), offsets)
    other = pose_bodies(mirrored(angles), np.zeros((2, 3, 3)), offsets)
    np.testing.assert_allclose(other, pose[:, :, list(NTU_RGBD_25.flip_index)] * (-1, 1, 1), atol=1e-12)
    np.testing.assert_array_equal(mirrored(mirrored(angles)), angles)
    assert SIGNS.shape == (25, 3)


def test_feet_stand_on_the_ground_and_root_moves_the_body() -> None:
    angles = np.random.default_rng(0).normal(scale=20, size=(1, 4, 25, 3))
    still = pose_bodies(angles, np.zeros((1, 4, 3)), REST[None])
    np.testing.assert_allclose(still[:, :, [14, 15, 18, 19], 1].min(axis=2), 0, atol=1e-12)
    root = np.broadcast_to(np.array([0.5, 0.3, 0.0]), (1, 4, 3))
    np.testing.assert_allclose(
        pose_bodies(angles, root, REST[None]) - still, np.broadcast_to([0, 0.3, -0.5], still.shape)
    )
    turned = pose_bodies(np.zeros((1, 1, 25, 3)), np.array([[[0.5, 0.0, 90.0]]]), REST[None])[0, 0]
    assert turned[8, 2] < turned[4, 2], "turned to the left, the right shoulder is in front"
    assert turned[0, 0] < -0.4, "and forward is to the left"


def test_clock() -> None:
    progress = np.linspace(0, 1, 101)[None]
    clock = Clock(progress, pace=np.ones((1, 1)), phase=np.zeros((1, 1)))
    assert clock.ease(0.2, 0.6)[0, [0, 20, 40, 60, 100]] == pytest.approx([0, 0, 0.5, 1, 1])
    assert clock.bump(0.2, 0.6)[0, [0, 20, 40, 60, 100]] == pytest.approx([0, 0, 1, 0, 0], abs=1e-12)
    assert clock.hold()[0, [0, 25, 50, 75, 100]] == pytest.approx([0, 1, 1, 1, 0])
    assert clock.sway(2)[0, [0, 12, 25, 50, 100]] == pytest.approx([0, np.sin(0.48 * np.pi), 0, 0, 0], abs=1e-12)


@pytest.mark.parametrize("name", [*ALONE, *TOGETHER])
def test_every_action_moves_smoothly_within_reach(name: str) -> None:
    progress = np.linspace(0, 1, 200)[None]
    clock = Clock(progress, pace=np.ones((1, 1)), phase=np.full((1, 1), 0.3))
    one, other = Performance(clock), Performance(clock)
    if name in ALONE:
        ALONE[name](one)
    else:
        TOGETHER[name][0](one, other)
        assert np.abs(other.angles).max() > 20
    assert np.abs(one.angles).max() > 20
    for person in (one, other):
        assert np.abs(person.angles).max() < 170
        assert np.abs(np.diff(person.angles, axis=1)).max() < 12, "no angle leaps"
        assert np.abs(np.diff(person.root[..., :2], axis=1)).max() < 0.02


def test_the_result_is_a_dataset_of_performances(clips: SyntheticActions) -> None:
    assert isinstance(clips, SkeletonDataset)
    assert clips.shape == (16 * 4 * 3, 3, 50, 25, 2)
    x = clips.tensor()
    assert x.dtype == torch.float32
    assert torch.isfinite(x).all()
    assert clips.layout is NTU_RGBD_25
    assert clips.num_classes == 16
    assert clips.class_names is not None
    assert clips.labels.bincount().tolist() == [12] * 16
    assert clips.subjects is not None
    assert clips.cameras is not None
    for sample in clips:
        numbers = re.fullmatch(r"S001C(\d{3})P(\d{3})R001A(\d{3})", sample.name)
        assert numbers is not None
        expected = (clips.cameras[sample.row], clips.subjects[sample.row], sample.label + 1)
        assert [int(number) for number in numbers.groups()] == [int(number) for number in expected]
    assert not x[:, :, :, NTU_RGBD_25.centre].any(), "centred"


def test_two_bodies_in_the_actions_of_two_and_one_elsewhere(clips: SyntheticActions) -> None:
    assert clips.class_names is not None
    second = clips.tensor()[..., 1].flatten(1).any(dim=1)
    together = torch.tensor([clips.class_names[label] in TOGETHER for label in clips.labels.tolist()])
    assert torch.equal(second, together)
    assert clips.tensor()[..., 0].flatten(1).any(dim=1).all()


def test_splits(clips: SyntheticActions) -> None:
    train, test = clips.split("cross-subject")
    assert train.subjects is not None
    assert test.subjects is not None
    assert set(train.subjects.tolist()) == {1, 3}
    assert set(test.subjects.tolist()) == {2, 4}
    train, test = clips.split("cross-view")
    assert train.cameras is not None
    assert test.cameras is not None
    assert set(train.cameras.tolist()) == {2, 3}
    assert set(test.cameras.tolist()) == {1}


def test_the_seed_decides_everything() -> None:
    options: dict[str, Any] = {"subjects": 2, "repetitions": 1, "frames": 8}
    state = torch.get_rng_state()
    one = SyntheticActions(**options).tensor()
    torch.rand(1)
    np.random.default_rng()
    assert torch.equal(SyntheticActions(**options).tensor(), one)
    assert not torch.equal(SyntheticActions(**options, seed=1).tensor(), one)
    torch.set_rng_state(state)


def test_bones_keep_their_length_and_differ_between_subjects(in_the_room: SyntheticActions) -> None:
    lengths = bones(in_the_room.tensor())
    assert lengths.std(dim=1).max() < 0.02, "no more than the sensor noise of 8 mm in two ends"
    assert in_the_room.subjects is not None
    tall = torch.stack([lengths[in_the_room.subjects == subject].mean(dim=(0, 1)).sum() for subject in (1, 2, 3, 4)])
    assert tall.max() / tall.min() > 1.05


def test_people_look_like_people(in_the_room: SyntheticActions) -> None:
    assert in_the_room.class_names is not None
    x = in_the_room.tensor()[..., 0]
    first = x[in_the_room.labels != in_the_room.class_names.index("stand up"), :, 0]
    head, pelvis, ankle, left, right = (first[:, :, joint] for joint in (3, 0, 14, 4, 8))
    height = head[:, 1] - ankle[:, 1]
    assert ((height > 1.1) & (height < 2.1)).all(), "metres, y up"
    assert (pelvis[:, 1] > ankle[:, 1] + 0.5).all()
    alone = torch.tensor([name in ALONE for name in in_the_room.class_names])[
        in_the_room.labels[in_the_room.labels != in_the_room.class_names.index("stand up")]
    ]
    assert (right[alone, 0] > left[alone, 0]).all(), "facing the camera, x grows towards the person's right"
    assert ((first[:, 2] > 1.5) & (first[:, 2] < 4.5)).all(), "in front of the camera"


def clip(clips: SyntheticActions, action: str) -> Tensor:
    assert clips.class_names is not None
    return clips.tensor()[clips.labels == clips.class_names.index(action)]


def test_movements_are_what_their_names_say(in_the_room: SyntheticActions) -> None:
    def rise(action: str, joint: int) -> Tensor:
        """Return how far a joint gets above where it starts, relative to the first frame, by clip."""
        y = clip(in_the_room, action)[:, 1, :, joint, 0]
        return y.amax(dim=1) - y[:, 0]

    def sink(action: str, joint: int) -> Tensor:
        y = clip(in_the_room, action)[:, 1, :, joint, 0]
        return y[:, 0] - y.amin(dim=1)

    assert (torch.maximum(rise("wave", 7), rise("wave", 11)) > 0.5).all()
    assert (rise("raise both arms", 7) > 0.6).all()
    assert (rise("raise both arms", 11) > 0.6).all()
    assert (rise("jump", 14) > 0.15).all(), "the feet leave the ground"
    assert (sink("squat", 0) > 0.15).all()
    assert (sink("bow", 3) > 0.15).all()
    assert (torch.maximum(rise("kick", 15), rise("kick", 19)) > 0.25).all()
    sitting, standing = (clip(in_the_room, action)[:, 1, :, 0, 0] for action in ("sit down", "stand up"))
    assert (sitting[:, -1] < sitting[:, 0] - 0.2).all()
    assert (standing[:, -1] > standing[:, 0] + 0.2).all()
    hands = clip(in_the_room, "clap")[..., 0]
    apart = (hands[:, :, :, 7] - hands[:, :, :, 11]).norm(dim=1)
    assert (apart.amin(dim=1) < 0.4).all()
    people = clip(in_the_room, "shake hands")
    assert ((people[:, :, :, 11, 0] - people[:, :, :, 11, 1]).norm(dim=1).amin(dim=1) < 0.4).all()
    shoved = clip(in_the_room, "push")
    gap = (shoved[:, :, :, 0, 0] - shoved[:, :, :, 0, 1]).norm(dim=1)
    assert (gap[:, -1] > gap[:, 0] + 0.1).all()


def test_cameras_see_the_same_performance_from_elsewhere() -> None:
    options: dict[str, Any] = {"subjects": 2, "repetitions": 1, "frames": 10}
    clips = SyntheticActions(**options, camera_yaw_degrees=(0.0, 90.0))
    assert clips.cameras is not None
    front, side = (clips.tensor()[clips.cameras == camera] for camera in (1, 2))
    turn = torch.from_numpy(reference.about_y(np.pi / 2)).float()
    seen = torch.einsum("ij,njtvm->nitvm", turn, front)
    assert (seen - side).abs().max() < 0.1, "only the noise differs"
    assert (front - side).abs().max() > 0.5
    assert (seen[..., 0] - side[..., 0]).std() == pytest.approx(0.008 * 2, rel=0.1)  # two cameras, two joints


def test_frames() -> None:
    assert SyntheticActions(subjects=2, repetitions=1, frames=1).shape == (96, 3, 1, 25, 2)
    assert SyntheticActions(subjects=1, repetitions=1, frames=3, camera_yaw_degrees=[10]).shape == (16, 3, 3, 25, 2)


def test_the_set_is_not_solved_by_the_raw_coordinates_across_cameras(clips: SyntheticActions) -> None:
    train, test = clips.split("cross-view")
    nearest = torch.cdist(test.tensor()[..., 0].flatten(1), train.tensor()[..., 0].flatten(1)).argmin(dim=1)
    accuracy = (train.labels[nearest] == test.labels).float().mean()
    assert 0.3 < accuracy < 0.9


def test_repr(clips: SyntheticActions) -> None:
    assert repr(clips) == ("SyntheticActions(192 sequences, C=3, T=50, V=25, M=2, 16 classes, 4 subjects, 3 cameras)")


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"subjects": 0}, ValueError, "`subjects` must be at least 1, got 0"),
        ({"repetitions": 0}, ValueError, "`repetitions` must be at least 1, got 0"),
        ({"frames": 0}, ValueError, "`frames` must be at least 1, got 0"),
        ({"frames": 2.5}, TypeError, "`frames` must be an integer, got 2.5"),
        ({"seed": -1}, ValueError, "`seed` must be at least 0, got -1"),
        ({"camera_yaw_degrees": ()}, ValueError, "`camera_yaw_degrees` must name at least one camera, got none"),
        ({"camera_yaw_degrees": (200,)}, ValueError, "`camera_yaw_degrees` must lie in [-180, 180], got 200"),
    ],
)
def test_wrong_options(options: dict[str, Any], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=re.escape(f"SyntheticActions: {text}")):
        SyntheticActions(**options)
