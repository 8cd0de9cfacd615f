"""Reader for the skeletons of NW-UCLA (Northwestern-UCLA Multiview Action 3D) in JSON."""

import json
import re
from itertools import chain
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np
from typing_extensions import Self

from skelcontrast import _check
from skelcontrast.data._array import Array
from skelcontrast.data.clip import SkeletonClip, SkeletonFormatError
from skelcontrast.data.readers._reading import brief, clip_of, finite_float32
from skelcontrast.skeleton import KINECT_V1_20

OWNER = "read_nw_ucla"
CODES = (1, 2, 3, 4, 5, 6, 8, 9, 11, 12)
NAME = re.compile(r"a(\d{1,3})_s(\d{1,3})_e(\d{1,3})_v(\d{1,3})(?:\.json)?", re.ASCII)


class NWUCLAName(NamedTuple):
    """What the name of an NW-UCLA file says.

    Example:
        >>> name = NWUCLAName.parse("a08_s01_e00_v03")
        >>> name
        NWUCLAName(action=8, subject=1, episode=0, view=3)
        >>> name.label
        6
    """

    action: int
    """Code of the action: 1, 2, 3, 4, 5, 6, 8, 9, 11 or 12."""
    subject: int
    """Who is seen, from 1."""
    episode: int
    """Which repetition, from 0."""
    view: int
    """Which camera, from 1."""

    @property
    def label(self) -> int:
        """The class, 0 to 9: the actions in the order of their codes."""
        return CODES.index(self.action)

    @classmethod
    def parse(cls, name: str) -> Self:
        """Read a name such as ``a01_s01_e00_v01``, with or without ``.json``.

        Raises:
            SkeletonFormatError: If it is of another form, or the action has no such code.
        """
        match = NAME.fullmatch(name)
        if match is None:
            must = "be named a<action>_s<subject>_e<episode>_v<view>"
            raise SkeletonFormatError("NWUCLAName.parse", name, must, brief(name))
        action, *others = (int(number) for number in match.groups())
        if action not in CODES:
            must = f"name an action with one of the codes {', '.join(map(str, CODES))}"
            raise SkeletonFormatError("NWUCLAName.parse", name, must, action)
        return cls(action, *others)


def read_nw_ucla(path: Path | str) -> SkeletonClip:
    """Read one sequence of NW-UCLA: one person, Kinect v1.

    The file is a JSON object in which ``skeletons`` holds x, y, z of 20 joints for each frame. What else is in there
    is passed over: action, subject and view are in the file's name (see `NWUCLAName`).

    Args:
        path: The file, such as ``a01_s01_e00_v01.json``.

    Returns:
        A clip (3, T, 20, 1) with layout `KINECT_V1_20` and T at least 1; T is 1 in a few of the files.

    Raises:
        OSError: If the file cannot be opened.
        SkeletonFormatError: If it is not such a JSON file, or a number is not finite; the message names file and line.

    References:
        Wang, Nie, Xia, Wu, Zhu: Cross-view Action Modeling, Learning and Recognition, CVPR 2014.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a01_s01_e00_v01.json"
        >>> _ = path.write_text(json.dumps({"skeletons": [[[0.5, 1.0, 3.0]] * 20] * 7}))
        >>> clip = read_nw_ucla(path)
        >>> clip.positions.shape, clip.positions[:, 0, 0, 0].tolist()
        ((3, 7, 20, 1), [0.5, 1.0, 3.0])
    """
    content = _parse(Path(path))
    if not isinstance(content, dict) or "skeletons" not in content:
        raise SkeletonFormatError(OWNER, path, "be an object with the key 'skeletons'", brief(content))
    frames = _frames(Path(path), content["skeletons"])
    return clip_of(finite_float32(OWNER, Path(path), frames.transpose(2, 0, 1)[..., None]), KINECT_V1_20)


def _parse(path: Path) -> object:
    def refuse(constant: str) -> NoReturn:
        raise SkeletonFormatError(OWNER, path, "hold finite numbers only", constant)

    try:
        return json.loads(path.read_bytes(), parse_constant=refuse)
    except json.JSONDecodeError as error:
        raise SkeletonFormatError(OWNER, path, "be JSON", error.msg, line=error.lineno) from None
    except SkeletonFormatError:
        raise
    except ValueError as error:  # no text, or a number with thousands of digits
        raise SkeletonFormatError(OWNER, path, "be JSON in UTF-8", f"an error on reading it: {error}") from None
    except RecursionError:
        raise SkeletonFormatError(OWNER, path, "be JSON", "lists nested too deeply") from None


def _frames(path: Path, skeletons: object) -> Array:
    """Return the skeletons as an array (T, 20, 3)."""
    joints = KINECT_V1_20.num_joints
    must = f"hold skeletons of shape (frames, {joints}, 3), at least one frame"
    if not isinstance(skeletons, list):
        raise SkeletonFormatError(OWNER, path, must, brief(skeletons))
    try:
        array = np.array(skeletons)
    except (ValueError, OverflowError):  # OverflowError: an integer too large for floating point
        raise SkeletonFormatError(OWNER, path, must, "lists of different lengths or no numbers") from None
    if array.shape[1:] != (joints, 3) or len(array) == 0:
        raise SkeletonFormatError(OWNER, path, must, _check.show(array.shape))
    # NumPy takes true for 1 where it stands among numbers.
    kinds = set(map(type, chain.from_iterable(chain.from_iterable(skeletons))))
    if not kinds <= {int, float}:
        got = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise SkeletonFormatError(OWNER, path, "hold numbers only in its skeletons", f"values of type {got}")
    if array.dtype.kind not in "fi":
        raise SkeletonFormatError(OWNER, path, "hold numbers within float32", "an integer with more than 64 bits")
    return array
