"""Reader for UTD-MHAD's skeleton files."""

import re
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from skelcontrast import _check
from skelcontrast.data._fields import Array
from skelcontrast.data.dataset import SkeletonDataset
from skelcontrast.data.prepare import centre, resample
from skelcontrast.skeleton import UTD_MHAD_20

OWNER = "read_utd_mhad"
FILE_NAME = re.compile(r"a(\d+)_s(\d+)_t(\d+)_skeleton\.mat")
SUBJECTS = 8
TRAIN_SUBJECTS = (1, 3, 5, 7)
ACTIONS = (
    "swipe left", "swipe right", "wave", "clap", "throw", "cross arms", "basketball shoot", "draw x",
    "draw circle clockwise", "draw circle counter-clockwise", "draw triangle", "bowling", "boxing", "baseball swing",
    "tennis swing", "arm curl", "tennis serve", "push", "knock", "catch", "pick up and throw", "jog", "walk",
    "sit to stand", "stand to sit", "lunge", "squat",
)  # fmt: skip


def read_utd_mhad(folder: Path | str, *, frames: int = 50, origin: str = "hip centre") -> SkeletonDataset:
    """Read the skeletons of UTD-MHAD: 27 actions, 8 subjects, 861 sequences of one person, Kinect v1.

    Sequences come in the order of action, subject, trial, in metres, float32. In every frame the joint `origin` is
    subtracted, and sequences are resampled to `frames` frames (41 to 125 in the files). Needs SciPy:
    ``pip install "skelcontrast[data]"``.

    Args:
        folder: Folder with the files ``a1_s1_t1_skeleton.mat`` and so on, any number of them. Other files than
            ``.mat`` are passed over.
        frames: Number of frames T of every sequence.
        origin: Joint that is put at the origin, by its name in `UTD_MHAD_20`. The released AimCLR code centres NTU on
            "shoulder centre"; on this data set AimCLR learns more from "hip centre" (see the page on UTD-MHAD).

    Returns:
        A dataset (N, 3, `frames`, 20, 1) with layout `UTD_MHAD_20`, labels from 0, subjects from 1, names such as
        ``a1_s1_t1``, class names, and the protocol ``"cross-subject"``: subjects 1, 3, 5, 7 for training.

    Raises:
        ImportError: If SciPy is not installed.
        ValueError: If there is no joint `origin`, the folder has no ``.mat`` file, or a file's name or content is not
            as the data set's authors made them; the message names the file.

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
    files = sorted((_numbers(path), path) for path in Path(folder).glob("*.mat"))
    if not files:
        _check.fail(OWNER, "folder", "hold files such as a1_s1_t1_skeleton.mat", f"none in {folder}")
    data = torch.cat([_prepare(_read(path), frames, origin) for _, path in files])
    subjects = np.array([subject for (_, subject, _), _ in files])
    return SkeletonDataset(
        data,
        [action - 1 for (action, _, _), _ in files],
        names=[f"a{action}_s{subject}_t{trial}" for (action, subject, trial), _ in files],
        subjects=subjects,
        layout=UTD_MHAD_20,
        class_names=ACTIONS,
        protocols={"cross-subject": np.isin(subjects, TRAIN_SUBJECTS)},
    )


def _numbers(path: Path) -> tuple[int, int, int]:
    match = FILE_NAME.fullmatch(path.name)
    if match is None:
        _check.fail(OWNER, str(path), "be named a<action>_s<subject>_t<trial>_skeleton.mat", repr(path.name))
    action, subject, trial = (int(number) for number in match.groups())
    if not (1 <= action <= len(ACTIONS) and 1 <= subject <= SUBJECTS and trial >= 1):
        must = f"name an action from 1 to {len(ACTIONS)}, a subject from 1 to {SUBJECTS} and a trial from 1"
        _check.fail(OWNER, str(path), must, repr(path.name))
    return action, subject, trial


def _read(path: Path) -> Array:
    """Return the checked contents of a file, (20, 3, L)."""
    try:
        from scipy.io import loadmat
        from scipy.io.matlab import MatReadError
    except ImportError as error:
        message = f'{OWNER}: reading MATLAB files needs SciPy. Install it with `pip install "skelcontrast[data]"`.'
        raise ImportError(message) from error
    try:
        skeleton = loadmat(path, variable_names=["d_skel"]).get("d_skel")
    except (MatReadError, ValueError, TypeError, OSError, EOFError, NotImplementedError, zlib.error) as error:
        message = f"{OWNER}: `{path}` must be a MATLAB v5 file, got an error on reading it: {error}"
        raise ValueError(message) from error
    if skeleton is None:
        _check.fail(OWNER, str(path), "hold the variable 'd_skel'", "none of that name")
    joints = UTD_MHAD_20.num_joints
    if skeleton.ndim != 3 or skeleton.shape[:2] != (joints, 3) or skeleton.shape[2] == 0:
        _check.fail(OWNER, str(path), f"hold d_skel of shape ({joints}, 3, frames)", _check.show(skeleton.shape))
    if skeleton.dtype.kind != "f":
        _check.fail(OWNER, str(path), "hold d_skel in floating point", skeleton.dtype)
    if not np.isfinite(skeleton).all():
        frame = int(np.argwhere(~np.isfinite(skeleton))[:, 2].min())
        _check.fail(OWNER, str(path), "hold finite numbers only", f"NaN or infinity in frame {frame}")
    return np.asarray(skeleton, dtype=np.float64)


def _prepare(skeleton: Array, frames: int, origin: str) -> Tensor:
    x = torch.from_numpy(skeleton.transpose(1, 2, 0)[None, ..., None].copy())
    return resample(centre(x, UTD_MHAD_20, joint=origin), frames).float()
