"""Slow, plain references for the data room: loops over frames and joints, in float64, written from the definitions."""

from math import cos, radians, sin
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

# NTU RGB+D's joints as a tree that hangs on the pelvis (0): child -> parent, written out by hand.
PELVIS_TREE = {
    1: 0, 20: 1, 2: 20, 3: 2,
    4: 20, 5: 4, 6: 5, 7: 6, 22: 7, 21: 22,
    8: 20, 9: 8, 10: 9, 11: 10, 24: 11, 23: 24,
    12: 0, 13: 12, 14: 13, 15: 14,
    16: 0, 17: 16, 18: 17, 19: 18,
}  # fmt: skip
BENDING = {1, 20, 2, 3, 5, 6, 7, 9, 10, 11, 13, 14, 15, 17, 18, 19}
LEFT = {4, 5, 6, 7, 12, 13, 14, 15, 21, 22}


def centre(x: Array, joint: int) -> Array:
    """Subtract one joint of every frame and body, (N, C, T, V, M)."""
    out = np.empty_like(x)
    N, _, T, V, M = x.shape
    for n in range(N):
        for t in range(T):
            for v in range(V):
                for m in range(M):
                    out[n, :, t, v, m] = x[n, :, t, v, m] - x[n, :, t, joint, m]
    return out


def resample(x: Array, frames: int) -> Array:
    """Interpolate every signal between the middles of its frames, (N, C, T, V, M)."""
    N, C, T, V, M = x.shape
    middles = [(t + 0.5) / T for t in range(T)]
    wanted = [(t + 0.5) / frames for t in range(frames)]
    out = np.empty((N, C, frames, V, M))
    for n, c, v, m in np.ndindex(N, C, V, M):
        out[n, c, :, v, m] = np.interp(wanted, middles, x[n, c, :, v, m])
    return out


def about_x(angle: float) -> Array:
    """Rotate y towards z."""
    return np.array([[1, 0, 0], [0, cos(angle), -sin(angle)], [0, sin(angle), cos(angle)]])


def about_y(angle: float) -> Array:
    """Rotate z towards x."""
    return np.array([[cos(angle), 0, sin(angle)], [0, 1, 0], [-sin(angle), 0, cos(angle)]])


def about_z(angle: float) -> Array:
    """Rotate x towards y."""
    return np.array([[cos(angle), -sin(angle), 0], [sin(angle), cos(angle), 0], [0, 0, 1]])


def pose(angles: Array, offsets: Array) -> Array:
    """Return the joints of one body in one frame, (V, 3), the pelvis at the origin.

    Args:
        angles: Flex, abduct, swing of each segment in degrees, (V, 3).
        offsets: Where each joint hangs on its parent at rest, (V, 3).
    """

    def turn(joint: int) -> Array:
        if joint not in BENDING:
            return np.eye(3)
        flex, abduct, swing = (radians(angle) for angle in angles[joint])
        if joint in {1, 20, 2, 3}:  # the trunk bends forward, leans to the right, turns to the left
            return about_y(swing) @ about_x(-flex) @ about_z(-abduct)
        outwards = -1 if joint in LEFT else 1
        bends_back = -1 if joint in {14, 18} else 1
        return about_y(-outwards * swing) @ about_x(bends_back * flex) @ about_z(outwards * abduct)

    def frame(joint: int) -> Array:
        return np.eye(3) if joint == 0 else frame(PELVIS_TREE[joint]) @ turn(joint)

    def place(joint: int) -> Array:
        return np.zeros(3) if joint == 0 else place(PELVIS_TREE[joint]) + frame(joint) @ offsets[joint]

    return np.array([place(joint) for joint in range(25)])


def array(x: Any) -> Array:
    """Return a tensor as a float64 array."""
    return np.asarray(x.detach().cpu().numpy(), dtype=np.float64)
