"""A 25-joint body that can be posed: bone lengths, joint angles, forward kinematics, feet on the ground.

Body axes: x to the person's right, y up, and the person looks along -z. Anatomical angles of a segment, counted from
hanging arms and legs and an upright trunk, are (flex, abduct, swing) in degrees: flex bends it the natural way (arms,
thighs, trunk and toes forward, shins back), abduct moves it out to its side, swing turns it outwards about the
vertical. For the trunk, abduct leans to the right and swing turns to the left.
"""

import numpy as np
import numpy.typing as npt

from skelcontrast.skeleton import NTU_RGBD_25

Floats = npt.NDArray[np.float64]

PELVIS = 0
LUMBAR, CHEST, NECK, HEAD = 1, 20, 2, 3
LEFT_UPPER_ARM, LEFT_FOREARM, LEFT_HAND = 5, 6, 7
RIGHT_UPPER_ARM, RIGHT_FOREARM, RIGHT_HAND = 9, 10, 11
LEFT_THIGH, LEFT_SHIN, LEFT_FOOT = 13, 14, 15
RIGHT_THIGH, RIGHT_SHIN, RIGHT_FOOT = 17, 18, 19
TRUNK = (LUMBAR, CHEST, NECK, HEAD)
ARMS = (LEFT_UPPER_ARM, LEFT_FOREARM, LEFT_HAND, RIGHT_UPPER_ARM, RIGHT_FOREARM, RIGHT_HAND)
LEGS = (LEFT_THIGH, LEFT_SHIN, LEFT_FOOT, RIGHT_THIGH, RIGHT_SHIN, RIGHT_FOOT)
SEGMENTS = (*TRUNK, *ARMS, *LEGS)
"""Segments that bend, each named by the joint at its far end."""

# Offset of each joint from the one that it hangs on, metres; the right side mirrors the left.
_MIDDLE = {1: (0, 0.30, 0), 20: (0, 0.22, 0), 2: (0, 0.07, 0), 3: (0, 0.15, -0.02)}
_LEFT = {
    4: (-0.17, -0.03, 0), 5: (0, -0.28, 0), 6: (0, -0.25, 0), 7: (0, -0.07, 0),
    22: (0.01, -0.03, -0.04), 21: (-0.01, -0.05, 0.04),
    12: (-0.08, -0.05, 0), 13: (-0.01, -0.40, 0), 14: (0, -0.39, 0), 15: (0, -0.07, -0.12),
}  # fmt: skip


def _rest_offsets() -> Floats:
    offsets = np.zeros((NTU_RGBD_25.num_joints, 3))
    for joint, offset in {**_MIDDLE, **_LEFT}.items():
        offsets[joint] = offset
    for joint in _LEFT:
        offsets[NTU_RGBD_25.flip_index[joint]] = offsets[joint] * (-1, 1, 1)
    return offsets


def _tree_from_pelvis() -> tuple[tuple[int, int], ...]:
    """Return (joint, parent) for every joint but the pelvis, parents first."""
    hops = NTU_RGBD_25.hop_distance()[PELVIS].tolist()
    pairs = ((one, other) if hops[one] > hops[other] else (other, one) for one, other in NTU_RGBD_25.edges)
    return tuple(sorted(pairs, key=lambda pair: hops[pair[0]]))


def _signs() -> Floats:
    """Return what turns anatomical angles into rotations about x, z and y, (V, 3)."""
    signs = np.ones((NTU_RGBD_25.num_joints, 3))
    for joint in TRUNK:
        signs[joint] = (-1, -1, 1)
    for left, right in NTU_RGBD_25.mirror:
        signs[left], signs[right] = (1, -1, 1), (1, 1, -1)
    signs[[LEFT_SHIN, RIGHT_SHIN], 0] = -1
    return signs


REST = _rest_offsets()
TREE = _tree_from_pelvis()
SIGNS = _signs()


def mirrored(angles: Floats) -> Floats:
    """Return the angles (..., V, 3) of the mirrored body: left and right change places, so does the trunk."""
    swapped = angles[..., list(NTU_RGBD_25.flip_index), :]
    swapped[..., list(TRUNK), 1:] *= -1
    return swapped


def rotation(angles: Floats) -> Floats:
    """Return rotations (..., 3, 3): about z by abduct, then about x by flex, then about y by swing (radians)."""
    cx, cz, cy = np.moveaxis(np.cos(angles), -1, 0)
    sx, sz, sy = np.moveaxis(np.sin(angles), -1, 0)
    rows = (
        (cy * cz + sy * sx * sz, sy * sx * cz - cy * sz, sy * cx),
        (cx * sz, cx * cz, -sx),
        (cy * sx * sz - sy * cz, sy * sz + cy * sx * cz, cy * cx),
    )
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def pose_bodies(angles: Floats, root: Floats, offsets: Floats) -> Floats:
    """Return joint positions (B, T, V, 3), the feet on the ground y = 0.

    Args:
        angles: Anatomical angles (B, T, V, 3) in degrees, used for `SEGMENTS`.
        root: (B, T, 3): how far the body has moved forward (metres), how high it is lifted (metres), how far it is
            turned to the left (degrees).
        offsets: Bones of each person (B, V, 3).
    """
    turns = rotation(np.deg2rad(angles * SIGNS))
    heading = np.zeros((*angles.shape[:2], 3))
    heading[..., 2] = np.deg2rad(root[..., 2])
    frames = {PELVIS: rotation(heading)}
    positions = np.zeros(angles.shape)
    for joint, parent in TREE:
        frames[joint] = frames[parent] @ turns[:, :, joint] if joint in SEGMENTS else frames[parent]
        positions[:, :, joint] = positions[:, :, parent] + np.einsum("btij,bj->bti", frames[joint], offsets[:, joint])
    return positions + _stand(positions, root, frames[PELVIS])[:, :, None]


def _stand(positions: Floats, root: Floats, heading: Floats) -> Floats:
    """Return the shift (B, T, 3) that puts the lowest foot on the ground and keeps the standing foot in place."""
    feet = positions[:, :, [LEFT_SHIN, LEFT_FOOT, RIGHT_SHIN, RIGHT_FOOT]]
    lowest = feet[..., 1].min(axis=2)
    ankles = positions[:, :, [LEFT_SHIN, RIGHT_SHIN]]
    height = ankles[..., 1] - ankles[..., 1].min(axis=2, keepdims=True)
    weight = np.exp(-height / 0.05)  # who carries the body: the lower ankle, both when they are level
    standing = (ankles * weight[..., None]).sum(axis=2) / weight.sum(axis=2)[..., None]
    forward = -heading[..., 2]  # the body looks along -z
    shift: Floats = root[..., :1] * forward - standing
    shift[..., 1] = root[..., 1] - lowest
    return shift
