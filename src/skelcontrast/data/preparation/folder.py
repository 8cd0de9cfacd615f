"""A prepared folder as it lies on the disk: table, report and mapped positions, which must belong together."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from skelcontrast import _check
from skelcontrast.data._array import Array
from skelcontrast.data.clip import SkeletonFormatError
from skelcontrast.data.preparation._npy import open_npy
from skelcontrast.data.preparation._table import SampleRow, read_table
from skelcontrast.data.preparation.raw import FILES, UNFINISHED
from skelcontrast.data.preparation.report import PreparationReport


@dataclass(frozen=True)
class Prepared:
    """A prepared folder whose files belong together."""

    folder: Path
    report: PreparationReport
    rows: tuple[SampleRow, ...]
    positions: Array
    """All frames (F, C, V, M), memory-mapped."""

    @classmethod
    def read(cls, folder: Path, *, owner: str) -> "Prepared":
        """Read report and table, and map the positions.

        Raises:
            OSError: If a file cannot be opened.
            SkeletonFormatError: If a file is broken or does not belong to the others.
            ValueError: If `prepare` has not made this folder.
        """
        _check_made(owner, folder)
        report = PreparationReport.read(folder / "report.json", owner=owner)
        positions = open_npy(owner, folder / "positions.npy", report.shape, report.dtype)
        table = folder / "samples.csv"
        rows = tuple(read_table(owner, table, tuple(report.counts)))
        frames = sum(row.frames for row in rows)
        if (len(rows), frames) != (report.samples, report.shape[0]):
            must = f"hold {report.samples} samples with {report.shape[0]} frames, as report.json says"
            raise SkeletonFormatError(owner, table, must, f"{len(rows)} with {frames}")
        return cls(folder, report, rows, positions)

    def sequences(self) -> Iterator[Array]:
        """Yield each sample's frames (T, C, V, M), in the order of the rows."""
        ends = accumulate(row.frames for row in self.rows)
        return (self.positions[end - row.frames : end] for row, end in zip(self.rows, ends, strict=True))

    def sequence(self, index: int) -> Array:
        """Return one sample's frames (T, C, V, M)."""
        start = sum(row.frames for row in self.rows[:index])
        return self.positions[start : start + self.rows[index].frames]


def _check_made(owner: str, folder: Path) -> None:
    absent = [name for name in FILES if not (folder / name).is_file()]
    if not absent:
        return
    state = f"holds no {absent[0]}" if folder.is_dir() else "is a file" if folder.exists() else "does not exist"
    hint = "`python -m skelcontrast.data prepare DATASET RAW OUT` makes one."
    if Path(f"{folder.absolute()}{UNFINISHED}").exists():
        hint = "Its preparation was interrupted: the same command again goes on where it was."
    got = f"'{folder}', which {state}"
    _check.fail(owner, "folder", f"be a prepared folder, with {', '.join(FILES)}", got, hint=hint)
