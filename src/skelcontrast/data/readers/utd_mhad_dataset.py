"""UTD-MHAD as a whole, in memory."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from skelcontrast import _check
from skelcontrast.data._array import Array
from skelcontrast.data.dataset import SkeletonDataset
from skelcontrast.data.geometry import centre, resample
from skelcontrast.data.readers.utd_mhad import ACTIONS, TRAIN_SUBJECTS, parse_numbers, read_positions
from skelcontrast.skeleton import UTD_MHAD_20

OWNER = "read_utd_mhad"


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
    frames = _check.integer(OWNER, "frames", frames, 1)
    _check.choice(OWNER, "origin", origin, UTD_MHAD_20.joints)
    found = [path for path in Path(folder).glob("*.mat") if not path.name.startswith(".")]
    files = sorted((parse_numbers(OWNER, path, path.name), path) for path in found)
    if not files:
        _check.fail(OWNER, "folder", "hold files such as a1_s1_t1_skeleton.mat", f"none in {folder}")
    data = torch.cat([_prepare(read_positions(OWNER, path), frames, origin) for _, path in files])
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


def _prepare(sequence: Array, frames: int, origin: str) -> Tensor:
    x = torch.from_numpy(sequence)[None]
    return resample(centre(x, UTD_MHAD_20, joint=origin), frames).float()
