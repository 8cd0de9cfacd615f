import pytest

from skelcontrast import skeleton
from skelcontrast.skeleton import KINECT_V1_20, NTU_RGBD_25, UTD_MHAD_20, SkeletonLayout, layouts

ALL: list[SkeletonLayout] = [getattr(layouts, name) for name in layouts.__all__]


@pytest.mark.parametrize("name", layouts.__all__)
def test_constants_carry_their_own_name_and_joint_count(name: str) -> None:
    layout = getattr(skeleton, name)
    assert layout.name == name
    assert layout.num_joints == int(name.rsplit("_", 1)[1])
    assert len(layout.bones) == layout.num_joints - 1


@pytest.mark.parametrize("layout", ALL, ids=lambda layout: layout.name)
def test_bones_lead_to_the_centre(layout: SkeletonLayout) -> None:
    assert layout.root == layout.centre


@pytest.mark.parametrize("layout", ALL, ids=lambda layout: layout.name)
def test_mirror_pairs_are_left_and_right_of_one_name(layout: SkeletonLayout) -> None:
    for left, right in layout.mirror:
        assert "left" in layout.joints[left]
        assert layout.joints[left].replace("left", "right") == layout.joints[right]
    unpaired = set(range(layout.num_joints)) - {joint for pair in layout.mirror for joint in pair}
    assert not any("left" in layout.joints[joint] or "right" in layout.joints[joint] for joint in unpaired)


@pytest.mark.parametrize("layout", ALL, ids=lambda layout: layout.name)
def test_trees_are_symmetric(layout: SkeletonLayout) -> None:
    flip = layout.flip_index
    assert tuple(flip[flip[joint]] for joint in range(layout.num_joints)) == tuple(range(layout.num_joints))
    assert {(flip[child], flip[parent]) for child, parent in layout.bones} == set(layout.bones)


def test_ntu_flip_is_the_released_permutation() -> None:
    released = (0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 16, 17, 18, 19, 12, 13, 14, 15, 20, 23, 24, 21, 22)
    assert NTU_RGBD_25.flip_index == released


def test_the_two_orders_of_kinect_v1_are_one_tree() -> None:
    def named(layout: SkeletonLayout) -> set[tuple[str, str]]:
        return {(layout.joints[child], layout.joints[parent]) for child, parent in layout.bones}

    assert named(KINECT_V1_20) == named(UTD_MHAD_20)
    assert KINECT_V1_20.joints[KINECT_V1_20.centre] == UTD_MHAD_20.joints[UTD_MHAD_20.centre]
