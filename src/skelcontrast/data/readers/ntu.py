"""NTU RGB+D 60 and 120: the reader of `.skeleton` files, and what their names say."""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from einops import rearrange
from typing_extensions import Self

from skelcontrast import _check
from skelcontrast.data.clip import NOBODY, SkeletonClip, SkeletonFormatError
from skelcontrast.data.readers._ntu_lines import MAX_PLACES, OWNER, parse_lines
from skelcontrast.data.readers._ntu_table import parse_table
from skelcontrast.skeleton import NTU_RGBD_25

NAME = re.compile(r"S([0-9]{3})C([0-9]{3})P([0-9]{3})R([0-9]{3})A([0-9]{3})(?:\.skeleton)?")


class NTUName(NamedTuple):
    """What the name of an NTU RGB+D sample says; all numbers count from 1.

    Example:
        >>> name = NTUName.parse("S001C002P003R002A013.skeleton")
        >>> name
        NTUName(setup=1, camera=2, performer=3, replication=2, action=13)
        >>> print(name)
        S001C002P003R002A013
    """

    setup: int
    """Where the cameras stand: 1 to 17 in NTU-60, to 32 in NTU-120."""
    camera: int
    """Which camera sees it: 1 to 3."""
    performer: int
    """Who is seen: 1 to 40 in NTU-60, to 106 in NTU-120."""
    replication: int
    """The first or second time that it is performed: 1 or 2."""
    action: int
    """What is performed: 1 to 60 in NTU-60, to 120 in NTU-120. A label from 0 is one less."""

    @classmethod
    def parse(cls, name: str) -> Self:
        """Read a name such as ``"S001C002P003R002A013"``, with or without ``.skeleton`` behind it.

        Args:
            name: The name, without folders.

        Raises:
            TypeError: If `name` is not a string.
            ValueError: If it is not in this form, or one of its numbers is 0.
        """
        if not isinstance(name, str):
            _check.fail("NTUName.parse", "name", "be a string", type(name).__name__, kind=TypeError)
        found = NAME.fullmatch(name)
        if found is None:
            _check.fail("NTUName.parse", "name", "look like S001C002P003R002A013", repr(name))
        numbers = [int(digits) for digits in found.groups()]
        if 0 in numbers:
            _check.fail("NTUName.parse", "name", "have numbers from 001", repr(name))
        return cls(*numbers)

    def __str__(self) -> str:
        return "".join(f"{letter}{number:03}" for letter, number in zip("SCPRA", self, strict=True))


def read_ntu(path: Path | str) -> SkeletonClip:
    r"""Read a `.skeleton` file of NTU RGB+D 60 or 120.

    Positions are metres in the camera's space: x to the right of a person who faces the camera, y up, z away from the
    camera; 30 frames a second. Nothing is corrected: bodies stand in the order of the file, frame by frame, and a file
    without frames or bodies is legal. So is a frame with one number for two bodies, although no sensor should write
    that. M is the largest number of bodies in a frame, at least 1.

    Of a body's line only its number is read, of a joint's line x, y, z and the tracking state; the other values may be
    anything that is printable ASCII. Whole numbers may be written as ``25.0``; lines end in CRLF or LF; blank lines may
    follow the last frame.

    Args:
        path: The file.

    Returns:
        The clip: positions (3, T, 25, M), `body_ids` (T, M) exactly as in the file, `tracking` (T, 25, M), and
        `NTU_RGBD_25` as its layout.

    Raises:
        OSError: If the file cannot be opened.
        SkeletonFormatError: If it ends too early or goes on too long, has a wrong number of joints or of values in a
            line, a position that is not a finite float32, a tracking state other than 0, 1 and 2, a body number that
            is not a whole number from 0 to 2^63 - 1, characters other than ASCII, or more than a million
            places (frames times M). Says which line.

    References:
        Shahroudy et al., "NTU RGB+D: A large scale dataset for 3D human activity analysis", CVPR 2016.
        Liu et al., "NTU RGB+D 120: A large-scale benchmark for 3D human activity understanding", TPAMI 2020.

    Example:
        One frame with one body, whose 25 joints are all at the same place.

        >>> import tempfile
        >>> joint = "0.5 -0.25 3.0 " + "0 " * 8 + "2\n"
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "S001C001P001R001A001.skeleton")
        ...     written = path.write_text("1\n1\n72057594037944738 0 0 0 0 0 0 0 0 2\n25\n" + joint * 25)
        ...     clip = read_ntu(path)
        >>> clip.positions.shape, clip.body_ids.tolist()
        ((3, 1, 25, 1), [[72057594037944738]])
        >>> clip.positions[:, 0, 24, 0].tolist()
        [0.5, -0.25, 3.0]
    """
    path = Path(path)
    content = path.read_bytes()
    counts, ids, xyz, states = parse_table(content) or parse_lines(path, content)
    T, M = len(counts), int(counts.max(initial=1))
    if T * M > MAX_PLACES:
        got = f"{T} frames of up to {M} bodies"
        raise SkeletonFormatError(OWNER, path, f"have at most {MAX_PLACES} frames times bodies", got)
    frame_of = np.repeat(np.arange(T), counts)
    slot = np.arange(len(ids)) - np.repeat(counts.cumsum() - counts, counts)
    positions = np.zeros((3, T, NTU_RGBD_25.num_joints, M), dtype=np.float32)
    positions[:, frame_of, :, slot] = rearrange(xyz, "c b v -> b c v")
    tracking = np.zeros((T, NTU_RGBD_25.num_joints, M), dtype=np.int8)
    tracking[frame_of, :, slot] = states
    body_ids = np.full((T, M), NOBODY, dtype=np.int64)
    body_ids[frame_of, slot] = ids
    return SkeletonClip(positions, body_ids, NTU_RGBD_25, tracking)
