"""What is in a prepared folder: lengths, bodies, suspicious frames, counts of the protocols."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np

from skelcontrast.data._array import Array
from skelcontrast.data.preparation._table import sha256
from skelcontrast.data.preparation.folder import Prepared
from skelcontrast.data.preparation.report import PreparationReport

OWNER = "inspect_prepared"
FRAMES_AT_ONCE = 16384
LABEL, CELL = 28, 11  # characters of the columns of the table


class Spread(NamedTuple):
    """The smallest, the median and the largest of some numbers.

    Example:
        >>> print(Spread.of([50, 41, 125, 67]))
        41 to 125, median 58.5
    """

    least: int
    median: float
    most: int

    @classmethod
    def of(cls, numbers: Iterable[int]) -> "Spread":
        """Return the spread of numbers, at least one."""
        found = sorted(numbers)
        return cls(found[0], median(found), found[-1])

    def __str__(self) -> str:
        return f"{self.least:g} to {self.most:g}, median {self.median:g}"


@dataclass(frozen=True)
class Inspection:
    """What `inspect_prepared` found."""

    report: PreparationReport
    """The report of the preparation."""
    frames: Spread
    """Frames of a sample."""
    recorded: Spread
    """Frames of a sample's recording."""
    bodies: Mapping[int, int]
    """How many samples have so many bodies."""
    per_class: Spread
    """Samples of a class, of the classes that have any."""
    classes: int
    """Number of classes that have samples."""
    zero_frames: int
    """Frames in which nobody is there."""
    non_finite_frames: int
    """Frames with NaN or infinity."""
    largest: float
    """Largest absolute coordinate."""
    changed: tuple[str, ...]
    """Files that are not as they were written: their checksums differ from the report's."""

    def lines(self) -> list[str]:
        """Return what was found as a table, line by line."""
        report = self.report
        left_out = Counter(one.kind for one in report.skipped)
        classes = f"{self.classes}" if report.num_classes is None else f"{self.classes} of {report.num_classes}"
        return [
            report.lines()[0],
            "",
            _row("protocol", "train", "test", *(("published", "") if any(report.published.values()) else ())),
            *(_row(name, *count, *_published(report, name)) for name, count in report.counts.items()),
            "",
            _row("", "least", "median", "most"),
            _row("frames of a sample", *self.frames),
            _row("frames of its recording", *self.recorded),
            _row("samples of a class", *self.per_class),
            "",
            _row("classes with samples", classes),
            *(_row(f"samples with {_bodies(count)}", samples) for count, samples in sorted(self.bodies.items())),
            *(_row(f"left out, {kind}", left_out[kind]) for kind in ("broken", "no body", "listed")),
            _row("files of something else", report.passed_over),
            _row("frames without anybody", self.zero_frames),
            _row("frames with NaN or infinity", self.non_finite_frames),
            _row("largest coordinate", self.largest),
            _row("checksums", f"{', '.join(self.changed)} CHANGED" if self.changed else "as written"),
        ]


def _row(label: str, *cells: str | float) -> str:
    shown = (cell if isinstance(cell, str) else f"{cell:g}" if isinstance(cell, float) else str(cell) for cell in cells)
    return (f"{label:<{LABEL}}" + "".join(f"{cell:>{CELL}}" for cell in shown)).rstrip()


def _bodies(count: int) -> str:
    return f"{count} body" if count == 1 else f"{count} bodies"


def _published(report: PreparationReport, protocol: str) -> tuple[str | int, ...]:
    count = report.published[protocol]
    return () if count is None else (*count, "agrees" if report.agrees(protocol) else "differs")


def inspect_prepared(folder: Path | str) -> Inspection:
    r"""Look through a prepared folder: all of its positions are read once, a part at a time.

    Args:
        folder: A folder that `prepare` made.

    Raises:
        OSError: If a file cannot be opened.
        SkeletonFormatError: If a file is broken or does not belong to the others.
        ValueError: If `prepare` has not made this folder.

    Example:
        >>> print(*inspect_prepared("prepared/ntu60").lines(), sep="\n")  # doctest: +SKIP
    """
    prepared = Prepared.read(Path(folder), owner=OWNER)
    rows = prepared.rows
    zero = non_finite = 0
    largest = 0.0
    for start in range(0, len(prepared.positions), FRAMES_AT_ONCE):
        part: Array = prepared.positions[start : start + FRAMES_AT_ONCE].reshape(-1, prepared.positions[0].size)
        finite = np.isfinite(part)
        with np.errstate(invalid="ignore"):  # some kinds of NaN say so when they are compared
            zero += int((~part.any(axis=1)).sum())
        non_finite += int((~finite.all(axis=1)).sum())
        largest = max(largest, float(np.abs(part, where=finite, out=np.zeros_like(part)).max()))
    of_class = Counter(row.label for row in rows)
    checksums = prepared.report.checksums.items()
    return Inspection(
        report=prepared.report,
        frames=Spread.of(row.frames for row in rows),
        recorded=Spread.of(row.recorded for row in rows),
        bodies=Counter(row.bodies for row in rows),
        per_class=Spread.of(of_class.values()),
        classes=len(of_class),
        zero_frames=zero,
        non_finite_frames=non_finite,
        largest=largest,
        changed=tuple(name for name, checksum in checksums if sha256(prepared.folder / name) != checksum),
    )
