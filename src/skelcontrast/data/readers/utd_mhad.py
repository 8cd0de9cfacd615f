"""Reader for UTD-MHAD's skeleton files."""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from typing_extensions import Self

from skelcontrast import _check
from skelcontrast.data._fields import Array
from skelcontrast.data.clip import SkeletonClip, SkeletonFormatError
from skelcontrast.data.dataset import SkeletonDataset
from skelcontrast.data.geometry import centre, resample
from skelcontrast.data.readers._mat5 import read_array
from skelcontrast.data.readers._reading import brief, clip_of, float32
from skelcontrast.skeleton import UTD_MHAD_20

OWNER = "read_utd_mhad"
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
        return cls(*_numbers("UTDMHADName.parse", name, name))


def _numbers(owner: str, path: Path | str, name: str) -> tuple[int, int, int]:
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
    return clip_of(_read("read_utd_mhad_clip", Path(path)).astype(np.float32), UTD_MHAD_20)


def read_utd_mhad(folder: Path | str, *, frames: int = 50, origin: str = "hip centre") -> SkeletonDataset:
    """Read the skeletons of UTD-MHAD: 27 actions, 8 subjects, 861 sequences of one person, Kinect v1.

    Sequences come in the order of action, subject, trial, in metres, float32. In every frame the joint `origin` is
    subtracted, and sequences are resampled to `frames` frames (41 to 125 in the files).

    Args:
        folder: Folder with the files ``a1_s1_t1_skeleton.mat`` and so on, any number of them. Other files than
            ``.mat`` are passed over.
        frames: Number of frames T of every sequence.
        origin: Joint that is put at the origin, by its name in `UTD_MHAD_20`. The released AimCLR code centres NTU on
            "shoulder centre"; on this data set AimCLR learns more from "hip centre" (see the page on UTD-MHAD).

    Returns:
        A dataset (N, 3, `frames`, 20, 1) with layout `UTD_MHAD_20`, labels from 0, subjects from 1, names such as
        ``a1_s1_t1``, class names, and the protocol ``"cross-subject"``, also called ``"xsub"``: subjects 1, 3, 5, 7 for
        training.

    Raises:
        SkeletonFormatError: If a file's name or content is not as the data set's authors made them; the message names
            the file.
        ValueError: If there is no joint `origin`, or the folder has no ``.mat`` file.

    References:
        Chen, Jafari, Kehtarnavaz: UTD-MHAD: A Multimodal Dataset for Human Action Recognition Utilizing a Depth
        Camera and a Wearable Inertial Sensor, ICIP 2015.

    Example:
        >>> clips = read_utd_mhad("UTD-MHAD/Skeleton")  # doctest: +SKIP
        >>> train, test = clips.split("cross-subject")  # doctest: +SKIP
        >>> len(train), len(test)  # doctest: +SKIP
        (431, 430)
    """
    _check.integer(OWNER, "frames", frames, 1)
    _check.choice(OWNER, "origin", origin, UTD_MHAD_20.joints)
    files = sorted((_numbers(OWNER, path, path.name), path) for path in Path(folder).glob("*.mat"))
    if not files:
        _check.fail(OWNER, "folder", "hold files such as a1_s1_t1_skeleton.mat", f"none in {folder}")
    data = torch.cat([_prepare(_read(OWNER, path), frames, origin) for _, path in files])
    subjects = np.array([subject for (_, subject, _), _ in files])
    return SkeletonDataset(
        data,
        [action - 1 for (action, _, _), _ in files],
        names=[f"a{action}_s{subject}_t{trial}" for (action, subject, trial), _ in files],
        subjects=subjects,
        layout=UTD_MHAD_20,
        class_names=ACTIONS,
        protocols=dict.fromkeys(("cross-subject", "xsub"), np.isin(subjects, TRAIN_SUBJECTS)),
    )


def _read(owner: str, path: Path) -> Array:
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
    float32(owner, path, positions)
    return positions


def _prepare(positions: Array, frames: int, origin: str) -> Tensor:
    x = torch.from_numpy(positions)[None]
    return resample(centre(x, UTD_MHAD_20, joint=origin), frames).float()
