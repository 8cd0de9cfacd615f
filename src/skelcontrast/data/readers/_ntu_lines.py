"""NTU `.skeleton` text, line by line: the slower of two parsers; takes every legal file and names what is wrong."""

import math
import re
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

from skelcontrast.data.clip import SkeletonFormatError
from skelcontrast.data.readers._reading import brief

OWNER = "read_ntu"
BODY_FIELDS = 10
JOINT_FIELDS = 12
JOINTS = 25
STATES = (0, 1, 2)
LARGEST_ID = 2**63 - 1
MAX_PLACES = 1_000_000  # frames times bodies: nine hours of one person, 325 MB
FLOAT32 = float(np.finfo(np.float32).max)
FOREIGN = re.compile(rb"[^\t\r\n -~]|_")  # not printable ASCII; and `float` would take 1_0 for ten


class Parsed(NamedTuple):
    """What a file holds, its B bodies one behind the other."""

    counts: npt.NDArray[np.int64]
    """Number of bodies per frame (T,)."""
    ids: npt.NDArray[np.int64]
    """Number of each body (B,)."""
    xyz: npt.NDArray[np.float32]
    """Positions of their joints (3, B, V), finite."""
    states: npt.NDArray[np.int8]
    """Tracking states of their joints (B, V)."""


def parse_lines(path: Path, content: bytes) -> Parsed:
    """Parse the content of a file; raise `SkeletonFormatError` with the line where it is not as it should be."""
    lines = _Lines(path, content)
    counts: list[int] = []
    ids: list[int] = []
    joints: list[tuple[float, ...]] = []
    frames = lines.integer("be the number of frames")
    for frame in range(frames):
        counts.append(lines.integer(f"be the number of bodies in frame {frame + 1} of {frames}"))
        for _ in range(counts[-1]):
            ids.append(lines.body_id())
            lines.joint_count()
            joints.extend(lines.joint(joint) for joint in range(JOINTS))
    lines.end(frames)
    values = np.array(joints).reshape(len(ids), JOINTS, 4).transpose(2, 0, 1)
    return Parsed(
        np.array(counts, dtype=np.int64),
        np.array(ids, dtype=np.int64),
        values[:3].astype(np.float32),
        values[3].astype(np.int8),
    )


class _Lines:
    """The lines of a file, taken one after the other; knows where it is when something is wrong."""

    def __init__(self, path: Path, content: bytes) -> None:
        self.path = path
        self.lines = content.rstrip().split(b"\n") if content.strip() else []
        self.taken = 0

    def integer(self, must: str) -> int:
        """Take a line that holds nothing but a whole number, at least 0 and not absurd."""
        field = self._take(must, 1)[0]
        number = _integer(field)
        if number is None or not 0 <= number <= MAX_PLACES:
            self._fail(f"{must}, from 0 to {MAX_PLACES}", field)
        return number

    def body_id(self) -> int:
        """Take a body's line and return the body's number."""
        field = self._take("describe a body", BODY_FIELDS)[0]
        number = _integer(field)
        if number is None or not 0 <= number <= LARGEST_ID:
            self._fail("begin with the number of a body, from 0 to 2^63 - 1", field)
        return number

    def joint_count(self) -> None:
        """Take the line that says how many joints follow."""
        must = f"be the number of joints of a body, {JOINTS}"
        number = self.integer(must)
        if number != JOINTS:
            self._fail(must, str(number).encode())

    def joint(self, joint: int) -> tuple[float, ...]:
        """Take a joint's line; return x, y, z and the tracking state."""
        fields = self._take(f"be joint {joint + 1} of {JOINTS} of a body", JOINT_FIELDS)
        x, y, z = (self._coordinate(axis, field) for axis, field in zip("xyz", fields[:3], strict=True))
        state = _number(fields[-1])
        if state not in STATES:
            self._fail("end in a tracking state of 0, 1 or 2", fields[-1])
        return x, y, z, state

    def end(self, frames: int) -> None:
        """Make sure that nothing follows the last frame."""
        extra = next((at for at in range(self.taken, len(self.lines)) if self.lines[at].strip()), None)
        if extra is not None:
            self.taken = extra + 1
            self._fail(f"not be there in a file of {frames} frames", self.lines[extra])

    def _coordinate(self, axis: str, field: bytes) -> float:
        value = _number(field)
        if not abs(value) <= FLOAT32:  # NaN is not
            self._fail(f"hold a finite number that fits float32 as {axis}", field)
        return value

    def _take(self, must: str, size: int) -> list[bytes]:
        self.taken += 1
        if self.taken > len(self.lines):
            self._fail(must, None)
        line = self.lines[self.taken - 1]
        if FOREIGN.search(line):
            self._fail("hold numbers in plain ASCII", line)
        fields = line.split()
        if len(fields) != size:
            self._fail(f"{must}, in {size} value{'s' if size > 1 else ''}", line)
        return fields

    def _fail(self, must: str, got: bytes | None) -> NoReturn:
        """Raise the error for the line that was taken last."""
        shown = "the end of the file" if got is None else brief(got.strip().decode() if got.isascii() else got)
        raise SkeletonFormatError(OWNER, self.path, must, shown, line=self.taken)


def _number(field: bytes) -> float:
    """Return a number, NaN for what is none."""
    try:
        return float(field)
    except ValueError:
        return math.nan


def _integer(field: bytes) -> int | None:
    """Return a whole number, also one written as ``25.0``; not by way of a float where it need not be."""
    try:
        return int(field)
    except ValueError:
        number = _number(field)
        return int(number) if number.is_integer() else None
