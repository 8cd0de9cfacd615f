import pickle
from typing import Any

import numpy as np
import pytest
import torch
from tests.reference import skeleton as oracle

from skelcontrast.skeleton import SkeletonLayout

CROSS: dict[str, Any] = {
    "name": "cross",
    "joints": ("middle", "left", "right", "left tip", "right tip"),
    "bones": ((1, 0), (2, 0), (3, 1), (4, 2)),
    "centre": 0,
    "mirror": ((1, 2), (3, 4)),
}


def cross(**changes: object) -> SkeletonLayout:
    return SkeletonLayout(**{**CROSS, **changes})


def test_derived_properties() -> None:
    layout = cross()
    assert layout.num_joints == 5
    assert layout.edges == ((0, 1), (0, 2), (1, 3), (2, 4))
    assert layout.parents == (0, 0, 0, 1, 2)
    assert layout.root == 0
    assert layout.flip_index == (0, 2, 1, 4, 3)


def test_hop_distance() -> None:
    layout = cross()
    hops = layout.hop_distance()
    assert hops.dtype == torch.int64
    assert hops.tolist() == oracle.hop_distance(5, layout.bones).tolist()
    assert hops[3, 4] == 4


def test_repr() -> None:
    assert repr(cross()) == "SkeletonLayout(name='cross', num_joints=5, num_bones=4)"


def test_lists_become_tuples_and_layouts_compare_and_hash_by_value() -> None:
    layout = cross(joints=list(CROSS["joints"]), bones=[[1, 0], [2, 0], [3, 1], [4, 2]], mirror=[(1, 2), (3, 4)])
    assert layout == cross()
    assert hash(layout) == hash(cross())
    assert layout != cross(centre=1)


def test_joints_may_be_numbers_of_numpy() -> None:
    bones = [tuple(bone) for bone in np.array(CROSS["bones"])]
    layout = cross(bones=bones, centre=np.int64(0))
    assert layout == cross()
    assert all(type(joint) is int for bone in layout.bones for joint in bone)


def test_is_frozen_and_survives_pickling() -> None:
    layout = cross()
    with pytest.raises(AttributeError, match="cannot assign"):
        layout.centre = 1  # type: ignore[misc]  # the error is the point
    assert layout.parents  # fills the cache, which must not get in the way
    assert pickle.loads(pickle.dumps(layout)) == layout


def test_a_single_joint_is_a_skeleton() -> None:
    layout = SkeletonLayout("point", ("point",), (), 0, ())
    assert layout.root == 0
    assert layout.edges == ()
    assert layout.hop_distance().tolist() == [[0]]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"joints": ()}, r"SkeletonLayout: `joints` must name at least one joint, got \(\)\."),
        ({"joints": ("a", "b", "c", "a", "d")}, r"`joints` must have distinct names, got 'a' twice\."),
        ({"centre": 5}, r"SkeletonLayout: `centre` must lie in \[0, 4\], got 5\."),
        ({"centre": -1}, r"`centre` must lie in \[0, 4\], got -1\."),
        ({"bones": ((1, 0), (2, 0), (3, 1), (5, 2))}, r"`bones` must name joints 0 to 4, got \(5, 2\)\. Joints count"),
        ({"bones": ((1, 0), (2, 0), (3, 1), (4, -1))}, r"`bones` must name joints 0 to 4, got \(4, -1\)\.$"),
        ({"bones": ((1, 0), (2, 2), (3, 1), (4, 2))}, r"`bones` must tie two different joints, got \(2, 2\), joint 2"),
        ({"bones": ((1, 0), (2, 0), (1, 0), (3, 1), (4, 2))}, r"`bones` must name each bone once.*got \(0, 1\) twice"),
        ({"bones": ((1, 0), (2, 0), (0, 1), (3, 1), (4, 2))}, r"`bones` must name each bone once.*got \(0, 1\) twice"),
        (
            {"bones": ((1, 0), (2, 0), (3, 1), (3, 2), (4, 2))},
            r"give each joint one parent, got joint 3 'left tip' with parents joint 1 'left' and joint 2 'right'\.",
        ),
        (
            {"bones": ((1, 0), (2, 0), (3, 1))},
            r"tie every joint to the rest, got no way from joint 4 'right tip' to joint 0 'middle'\. Add a bone with",
        ),
        (
            {"bones": ((0, 1), (1, 3), (3, 4), (4, 2), (2, 0))},
            r"`bones` must leave one joint without a parent, the root, got a ring of bones\.",
        ),
        ({"mirror": ((1, 2), (3, 5))}, r"`mirror` must name joints 0 to 4, got \(3, 5\)\."),
        ({"mirror": ((1, 1),)}, r"`mirror` must pair two different joints, got \(1, 1\)\. Joints in no pair stay"),
        ({"mirror": ((1, 2), (2, 1))}, r"`mirror` must name each joint in at most one pair, got joint 1 'left' twice"),
        ({"mirror": ((1, 2), (3, 2))}, r"at most one pair, got joint 2 'right' twice\."),
    ],
)
def test_wrong_layouts(changes: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        cross(**changes)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"joints": 25}, r"SkeletonLayout: `joints` must be a tuple of names, got 25\."),
        ({"joints": "abcde"}, r"SkeletonLayout: `joints` must be a tuple of names, got 'abcde'\."),
        ({"joints": (1, 2, 3, 4, 5)}, r"`joints` must be a tuple of names, got \(1, 2, 3, 4, 5\)\."),
        ({"bones": 3}, r"SkeletonLayout: `bones` must be pairs of joints, got 3\."),
        ({"bones": ((1, 0, 2),)}, r"`bones` must be pairs of joints, got \(1, 0, 2\)\."),
        ({"bones": ((1.0, 0),)}, r"`bones` must be pairs of joints, got \(1\.0, 0\)\."),
        ({"mirror": (1, 2)}, r"`mirror` must be pairs of joints, got 1\."),
        ({"centre": 0.0}, r"`centre` must be an integer, got 0\.0\."),
    ],
)
def test_wrong_kinds(changes: dict[str, object], text: str) -> None:
    with pytest.raises(TypeError, match=text):
        cross(**changes)
