"""UTD-MHAD: the reader of its skeleton files, and what their names say."""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from typing_extensions import Self

from skelcontrast import _check
from skelcontrast.data._array import Array
from skelcontrast.data.clip import SkeletonClip, SkeletonFormatError
from skelcontrast.data.readers._mat5 import read_array
from skelcontrast.data.readers._reading import brief, clip_of, finite_float32
from skelcontrast.skeleton import UTD_MHAD_20

NAME = re.compile(r"a(\d{1,3})_s(\d{1,3})_t(\d{1,3})(?:_skeleton(?:\.mat)?)?", re.ASCII)
SUBJECTS = 8
TRAIN_SUBJECTS = (1, 3, 5, 7)
ACTIONS = (
    "swipe left", "swipe right", "wave", "clap", "throw", "cross arms", "basketball shoot", "draw x",
    "draw circle clockwise", "draw circle counter-clockwise", "draw triangle", "bowling", "boxing", "baseball swing",
    "tennis swing", "arm curl", "tennis serve", "push", "knock", "catch", "pick up and throw", "jog", "walk",
    "sit to stand", "stand to sit", "lunge", "squat",
)  # fmt: skip


class UTDMHADName(NamedTuple):
    """What the name of a UTD-MHAD file says.

    Example:
        >>> name = UTDMHADName.parse("a27_s8_t4")
        >>> name, ACTIONS[name.label]
        (UTDMHADName(action=27, subject=8, trial=4), 'squat')
    """

    action: int
    """The action, 1 to 27."""
    subject: int
    """Who is seen, 1 to 8."""
    trial: int
    """Which repetition, from 1."""

    @property
    def label(self) -> int:
        """The class, 0 to 26."""
        return self.action - 1

    @classmethod
    def parse(cls, name: str) -> Self:
        """Read a name such as ``a1_s1_t1``, with or without ``_skeleton`` and ``_skeleton.mat``.

        Raises:
            SkeletonFormatError: If it is of another form, or there is no such action, subject or trial.
        """
        return cls(*parse_numbers("UTDMHADName.parse", name, name))


def parse_numbers(owner: str, path: Path | str, name: str) -> tuple[int, int, int]:
    """Return action, subject and trial, all from 1."""
    match = NAME.fullmatch(name)
    if match is None:
        raise SkeletonFormatError(owner, path, "be named a<action>_s<subject>_t<trial>_skeleton.mat", brief(name))
    action, subject, trial = int(match[1]), int(match[2]), int(match[3])
    if not (1 <= action <= len(ACTIONS) and 1 <= subject <= SUBJECTS and trial >= 1):
        must = f"name an action from 1 to {len(ACTIONS)}, a subject from 1 to {SUBJECTS} and a trial from 1"
        raise SkeletonFormatError(owner, path, must, brief(name))
    return action, subject, trial


def read_utd_mhad_clip(path: Path | str) -> SkeletonClip:
    """Read one sequence of UTD-MHAD as it is in its file.

    Args:
        path: The file, such as ``a1_s1_t1_skeleton.mat``. What its name says is found by `UTDMHADName`.

    Returns:
        A clip (3, T, 20, 1) with layout `UTD_MHAD_20`, in metres, 30 frames a second, T at least 1.

    Raises:
        OSError: If the file cannot be opened.
        SkeletonFormatError: If it is no MATLAB v5 file, or has no variable ``d_skel`` of shape (20, 3, T) with finite
            numbers; the message names the file.

    Example:
        >>> clip = read_utd_mhad_clip("UTD-MHAD/Skeleton/a1_s1_t1_skeleton.mat")  # doctest: +SKIP
        >>> clip.positions.shape  # doctest: +SKIP
        (3, 48, 20, 1)
    """
    return clip_of(read_positions("read_utd_mhad_clip", Path(path)).astype(np.float32), UTD_MHAD_20)


def read_positions(owner: str, path: Path) -> Array:
    """Return the checked positions in a file, (3, L, 20, 1) float64."""
    try:
        skeleton = read_array(path.read_bytes(), "d_skel")
    except ValueError as error:
        raise SkeletonFormatError(owner, path, "be a MATLAB v5 file", f"an error on reading it: {error}") from None
    joints = UTD_MHAD_20.num_joints
    if skeleton is None:
        raise SkeletonFormatError(owner, path, "hold the variable 'd_skel'", "none of that name")
    if skeleton.dtype.kind != "f":
        raise SkeletonFormatError(owner, path, "hold d_skel in floating point", skeleton.dtype)
    if skeleton.ndim != 3 or skeleton.shape[:2] != (joints, 3) or skeleton.shape[2] == 0:
        must = f"hold d_skel of shape ({joints}, 3, frames)"
        raise SkeletonFormatError(owner, path, must, _check.show(skeleton.shape))
    positions = skeleton.transpose(1, 2, 0)[..., None].astype(np.float64, order="C")
    finite_float32(owner, path, positions)
    return positions
