"""Reader for PKU-MMD: recordings, the labels that cut them into clips, and the lists of a protocol."""

import re
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np
from einops import rearrange

from skelcontrast.data._array import Array
from skelcontrast.data.clip import SkeletonClip, SkeletonFormatError
from skelcontrast.data.readers._reading import brief, clip_of, finite_float32, read_ascii
from skelcontrast.skeleton import NTU_RGBD_25

BODIES = 2
ROW = BODIES * NTU_RGBD_25.num_joints * 3
ACTIONS = 51
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
LABEL = re.compile(r"\s*(\d{1,9})\s*,\s*(\d{1,9})\s*,\s*(\d{1,9})\s*,\s*(\d{1,9}(?:\.\d{0,9})?)\s*", re.ASCII)
NAME = re.compile(r"[A-Za-z0-9]+(?:[-_][A-Za-z0-9]+)*")


class ActionInterval(NamedTuple):
    """One label of a PKU-MMD recording: what happens from when to when."""

    action: int
    """The action, from 1 to 51 as the data set counts."""
    start: int
    """First frame, counted from 0."""
    end: int
    """The frame behind the last one. May lie beyond the end of the recording."""
    confidence: float
    """How well the action was performed, as the data set's authors judged it."""


class PKUSplit(NamedTuple):
    """The two lists of a protocol of PKU-MMD."""

    training: tuple[str, ...]
    """Names of the recordings for training, such as ``0002-L``."""
    others: tuple[str, ...]
    """Names of the others."""


def read_pku_mmd(path: Path | str) -> SkeletonClip:
    r"""Read a recording of PKU-MMD, part I or II, whole: some minutes with many actions.

    The file is text with a row for each frame: x, y, z of 25 joints of one body, then of another, in metres. A body
    that is not there is zero.

    Args:
        path: The file, such as ``0002-L.txt``.

    Returns:
        A clip (3, T, 25, 2) with layout `NTU_RGBD_25`, T at least 1, and body ids 0 and 1. `cut` takes the clips of
        single actions out of it.

    Raises:
        OSError: If the file cannot be opened.
        SkeletonFormatError: If a row has not 150 finite numbers; the message names file and line.

    References:
        Liu, Hu, Li, Song, Liu: PKU-MMD: A Large Scale Benchmark for Continuous Multi-Modal Human Action
        Understanding, ACM Multimedia workshop 2017.

    Example:
        A recording of two frames; in the second nobody is there.

        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "0002-L.txt"
        >>> _ = path.write_text("0.5 " * 75 + "0 " * 75 + "\n " + "0 " * 150)
        >>> clip = read_pku_mmd(path)
        >>> clip.positions.shape, clip.body_ids.tolist()
        ((3, 2, 25, 2), [[0, -1], [-1, -1]])
    """
    rows = _rows(Path(path))
    bodies = rearrange(rows, "t (m v c) -> c t v m", m=BODIES, c=3)
    return clip_of(finite_float32("read_pku_mmd", Path(path), bodies, lines=True), NTU_RGBD_25)


def _rows(path: Path) -> Array:
    lines = read_ascii("read_pku_mmd", path).rstrip().split("\n")
    if not all(line.strip() for line in lines):  # NumPy would pass over blank lines, and frames would change places
        _refuse_rows(path, lines, "a blank line")
    try:
        rows = np.loadtxt(lines, comments=None, ndmin=2)
    except ValueError as error:
        _refuse_rows(path, lines, error)
    if rows.shape[1] != ROW:
        _refuse_rows(path, lines, f"rows of {rows.shape[1]}")
    return rows


def _refuse_rows(path: Path, lines: list[str], error: object) -> NoReturn:
    """Find the line that is wrong, slowly."""
    for number, line in enumerate(lines, 1):
        words = line.split()
        if len(words) != ROW:
            must = f"hold the {ROW} numbers of a frame ({BODIES} bodies of {NTU_RGBD_25.num_joints} joints, x y z)"
            raise SkeletonFormatError("read_pku_mmd", path, must, len(words), line=number)
        wrong = next((word for word in words if not NUMBER.fullmatch(word)), None)
        if wrong is not None:
            raise SkeletonFormatError("read_pku_mmd", path, "hold finite numbers only", brief(wrong), line=number)
    raise SkeletonFormatError("read_pku_mmd", path, f"hold rows of {ROW} numbers", error)


def read_pku_mmd_labels(path: Path | str) -> tuple[ActionInterval, ...]:
    r"""Read the labels of a recording of PKU-MMD: rows ``action,start,end,confidence``.

    Args:
        path: The file; it has the name of its recording, such as ``0002-L.txt``.

    Returns:
        The labels in the order of the file, at least one.

    Raises:
        OSError: If the file cannot be opened.
        SkeletonFormatError: If a row is not four numbers from 0, the action is not one of 1 to 51, or an action ends
            before it begins; the message names file and line.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "0002-L.txt"
        >>> _ = path.write_text("26,110,250,2\n7,410,520,1\n")
        >>> read_pku_mmd_labels(path)[0]
        ActionInterval(action=26, start=110, end=250, confidence=2.0)
    """
    owner = "read_pku_mmd_labels"
    intervals = []
    for number, row in _filled_lines(owner, Path(path)):
        match = LABEL.fullmatch(row)
        if match is None:
            must = "be four numbers action,start,end,confidence, none below 0"
            raise SkeletonFormatError(owner, path, must, brief(row), line=number)
        interval = ActionInterval(int(match[1]), int(match[2]), int(match[3]), float(match[4]))
        if not 1 <= interval.action <= ACTIONS:
            raise SkeletonFormatError(owner, path, f"name an action from 1 to {ACTIONS}", interval.action, line=number)
        if interval.start >= interval.end:
            got = f"start {interval.start} and end {interval.end}"
            raise SkeletonFormatError(owner, path, "end after its start", got, line=number)
        intervals.append(interval)
    if not intervals:
        raise SkeletonFormatError(owner, path, "hold at least one row action,start,end,confidence", "none")
    return tuple(intervals)


def read_pku_mmd_split(path: Path | str) -> PKUSplit:
    r"""Read the lists of a protocol of PKU-MMD: a header, the names for training, a header, the other names.

    Args:
        path: The file, such as ``cross-subject.txt``. Names stand in one line, with commas between them.

    Raises:
        OSError: If the file cannot be opened.
        SkeletonFormatError: If there are not four lines that are not blank, a list has no name or something else than
            names, or a name comes twice; the message names file and line.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "cross-view.txt"
        >>> _ = path.write_text("Training videos:\n0002-M, 0002-R\nValidation videos:\n0002-L\n")
        >>> read_pku_mmd_split(path)
        PKUSplit(training=('0002-M', '0002-R'), others=('0002-L',))
    """
    owner = "read_pku_mmd_split"
    lines = list(_filled_lines(owner, Path(path)))
    if len(lines) != 4:
        must = "hold a header, the names for training, a header, and the other names"
        raise SkeletonFormatError(owner, path, must, f"{len(lines)} lines that are not blank")
    lists: list[tuple[str, ...]] = []
    seen: set[str] = set()
    for (header_number, header), (number, row) in (lines[:2], lines[2:]):
        if _names(header):
            raise SkeletonFormatError(owner, path, "be a header, not names", brief(header), line=header_number)
        names = _names(row)
        if not names:
            must = "be names with commas between them"
            raise SkeletonFormatError(owner, path, must, brief(row), line=number)
        for name in names:
            if name in seen:
                raise SkeletonFormatError(owner, path, "name each recording once", f"{name!r} twice", line=number)
            seen.add(name)
        lists.append(names)
    return PKUSplit(*lists)


def _filled_lines(owner: str, path: Path) -> list[tuple[int, str]]:
    lines = read_ascii(owner, path).split("\n")
    return [(number, line) for number, line in enumerate(lines, 1) if line.strip()]


def _names(row: str) -> tuple[str, ...]:
    """Return the names in a row, or none if anything else is in there; a comma may stand behind the last."""
    names = [word.strip() for word in row.strip().removesuffix(",").split(",")]
    return tuple(names) if all(NAME.fullmatch(name) for name in names) else ()


def cut(clip: SkeletonClip, interval: ActionInterval, *, source: Path | str = "recording") -> SkeletonClip:
    """Take the frames of one action out of a recording.

    Args:
        clip: The recording.
        interval: When the action happens. Where it ends beyond the recording, as a label of PKU-MMD now and then
            does, the clip ends with the recording.
        source: The file that an error names.

    Returns:
        A clip that shares its numbers with the recording, with at least one frame.

    Raises:
        SkeletonFormatError: If the interval is empty or lies beyond the recording altogether.

    Example:
        >>> recording = SkeletonClip(np.zeros((3, 300, 25, 2), np.float32), np.zeros((300, 2), int), NTU_RGBD_25)
        >>> cut(recording, ActionInterval(26, 110, 250, 2.0)).positions.shape
        (3, 140, 25, 2)
        >>> cut(recording, ActionInterval(26, 290, 310, 2.0)).positions.shape
        (3, 10, 25, 2)
    """
    length = len(clip.body_ids)
    if not 0 <= interval.start < min(interval.end, length):
        must = f"have the frames of its labels; it has {length}"
        raise SkeletonFormatError("cut", source, must, f"a label from {interval.start} to {interval.end}")
    frames = slice(interval.start, interval.end)
    tracking = None if clip.tracking is None else clip.tracking[frames]
    return SkeletonClip(clip.positions[:, frames], clip.body_ids[frames], clip.layout, tracking)
