"""NTU `.skeleton` text as one table of bytes: the faster of two parsers, for files that are written as usual.

A file has 25 lines of 12 numbers per body and frame. Making an object of each word costs more than all else, so here
words are pairs of positions in the text, the structure is checked on how many of them each line has, and the
digits of all coordinates are added up at once.
"""

import numpy as np
import numpy.typing as npt
from einops import rearrange

from skelcontrast.data.readers._ntu_lines import BODY_FIELDS, JOINT_FIELDS, JOINTS, LARGEST_ID, STATES, Parsed

WIDTH = 16  # bytes that are looked at of a coordinate: a digit, the point and up to 14 digits
ZERO, POINT, MINUS, BLANK, RETURN, NEWLINE = b"0.- \r\n"

Indices = npt.NDArray[np.int64]


def parse_table(content: bytes) -> Parsed | None:
    """Parse the content of a file; `None` where anything is wrong, or only unusual."""
    try:
        words = _Words(content)
        frame_lines, body_lines, counts = _structure(words.per_line)
        ids = words.integers(body_lines)
        said = [words.integers(lines) for lines in (np.zeros(1, np.int64), frame_lines, body_lines + 1)]
        if said != [[len(frame_lines)], counts.tolist(), [JOINTS] * len(ids)]:
            raise _UnusualError
        joints = words.first[_joint_lines(body_lines)]
        xyz = words.decimals(joints + np.arange(3)[:, None, None])
        states = words.digits(joints + JOINT_FIELDS - 1)
    except ValueError:
        return None
    if not np.isfinite(xyz).all() or (states > max(STATES)).any() or any(not 0 <= who <= LARGEST_ID for who in ids):
        return None
    return Parsed(counts, np.array(ids, dtype=np.int64), xyz, states)


class _UnusualError(ValueError):
    """The file is not written as files usually are, which need not be wrong."""


def _joint_lines(body_lines: Indices) -> Indices:
    """Return the line of each joint (B, V)."""
    return body_lines[:, None] + 2 + np.arange(JOINTS)


def _structure(per_line: Indices) -> tuple[Indices, Indices, Indices]:
    """Return the lines that begin a frame, those that begin a body, and the bodies per frame.

    Goes by the number of words in each line: a body is its line of 10, one of 1 and 25 of 12; all other lines have 1.
    """
    body_lines = np.flatnonzero(per_line == BODY_FIELDS)
    joint_lines = _joint_lines(body_lines)
    if joint_lines.size and joint_lines[-1, -1] >= len(per_line):
        raise _UnusualError
    begins_frame = np.ones(len(per_line), dtype=np.bool_)
    begins_frame[0] = False  # the number of frames
    for lines in (body_lines, body_lines + 1, joint_lines):
        begins_frame[lines] = False
    frame_lines = np.flatnonzero(begins_frame)
    alone = (per_line[lines] == 1 for lines in (slice(1), frame_lines, body_lines + 1))
    bodies_before = np.append(np.searchsorted(body_lines, frame_lines), len(body_lines))
    if bodies_before[0] != 0 or not all(one.all() for one in alone) or (per_line[joint_lines] != JOINT_FIELDS).any():
        raise _UnusualError
    return frame_lines, body_lines, np.diff(bodies_before)


class _Words:
    """The words of a text: where each begins and ends, which is the first of each line, and how many a line has."""

    def __init__(self, content: bytes) -> None:
        self.text = b"\n" + content.rstrip() + b"\n" + b" " * WIDTH
        self.table = np.frombuffer(self.text, dtype=np.uint8)
        newlines = np.flatnonzero(self.table == NEWLINE)
        self._refuse_foreign(len(newlines))
        blank = self.table <= BLANK
        edges = np.flatnonzero(blank[1:] != blank[:-1])
        edges += 1
        self.starts, self.ends = edges[0::2], edges[1::2]
        self.first = np.searchsorted(self.starts, newlines)
        self.per_line = np.diff(self.first)

    def integers(self, lines: Indices) -> list[int]:
        """Return the whole numbers with which some lines begin; a ValueError if one begins otherwise."""
        words = self.first[lines]
        spans = zip(self.starts[words].tolist(), self.ends[words].tolist(), strict=True)
        return [int(self.text[start:end]) for start, end in spans]

    def digits(self, words: Indices) -> npt.NDArray[np.int8]:
        """Return words of a single digit as numbers; a ValueError if one has more characters."""
        starts = self.starts[words]
        if (self.ends[words] - starts != 1).any():
            raise _UnusualError
        return (self.table[starts] - np.uint8(ZERO)).clip(max=10).astype(np.int8)

    def decimals(self, words: Indices) -> npt.NDArray[np.float32]:
        """Return numbers exactly as `float` would read them, rounded to float32; a ValueError if one is none.

        Words such as -0.1234567, with one digit before the point, are all read at once: their digits make a whole
        number below 10^15, which float64 holds exactly, as it does 10^14, so that the quotient is rounded once.
        `float` reads all others.
        """
        starts, ends = self.starts[words], self.ends[words]
        negative = self.table[starts] == MINUS
        begins = starts + negative
        length = ends - begins
        windows = np.ndarray((len(self.text) - WIDTH + 1,), dtype=f"V{WIDTH}", buffer=self.text, strides=(1,))
        seen = windows[begins].view(np.uint8).reshape(*begins.shape, WIDTH)
        characters = rearrange(seen, "... place -> place ...").copy()  # NumPy is quick along a long last axis
        within = np.arange(WIDTH, dtype=np.uint8)[:, None, None, None] < np.minimum(length, WIDTH).astype(np.uint8)
        digits = (characters - np.uint8(ZERO)) * within
        digits[1], digits[0] = digits[0], 0  # in place of the point
        usual = (characters[1] == POINT) & (length >= 2) & (length <= WIDTH) & (digits <= 9).all(axis=0)
        for kind, shift in ((np.uint8, 10), (np.uint16, 100), (np.uint32, 10_000)):  # of two digits, of four, of eight
            digits = digits[0::2].astype(kind) * kind(shift) + digits[1::2]
        values: npt.NDArray[np.float64] = digits[0] * 1e8 + digits[1]
        values /= 10.0 ** (WIDTH - 2)
        np.negative(values, out=values, where=negative)
        for index in zip(*np.nonzero(~usual), strict=True):
            values[index] = float(self.text[starts[index] : ends[index]])
        with np.errstate(over="ignore"):  # becomes infinite, which the caller looks for
            return values.astype(np.float32)

    def _refuse_foreign(self, newlines: int) -> None:
        """Leave all that is not printable ASCII to the other parser, and 1_0, which `int` would take for ten."""
        if not self.text.isascii() or b"_" in self.text or b"\x7f" in self.text:
            raise _UnusualError
        known = newlines + np.count_nonzero(self.table == RETURN) + self.text.count(b"\t")
        if np.count_nonzero(self.table < BLANK) != known:
            raise _UnusualError
