"""A preparation from beginning to end: all samples, whatever interrupts it, and then the folder as a whole."""

import hashlib
import json
import math
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from skelcontrast import __version__, _check
from skelcontrast._atomic import flush
from skelcontrast._progress import progress
from skelcontrast.data.preparation._clips import ClipMaker
from skelcontrast.data.preparation._journal import OWNER, Batch, Journal, naming
from skelcontrast.data.preparation._npy import HEADER, npy_header
from skelcontrast.data.preparation._table import SampleRow, sha256, write_table
from skelcontrast.data.preparation._workers import ordered
from skelcontrast.data.preparation.protocols import SplitCount
from skelcontrast.data.preparation.raw import UNFINISHED, RawDataset, RawSample, SkippedSample
from skelcontrast.data.preparation.report import PreparationReport

AT_ONCE = 16  # samples that travel to a worker together; more where one file holds more
NAMED = 20  # broken files that an error or the command names


class BrokenFilesError(ValueError):
    """Files of a raw folder are not as their format says, and `prepare` was not told to leave them out.

    Args:
        broken: All of them.
        total: Number of samples that were tried.

    Example:
        >>> from skelcontrast.data import SkippedSample
        >>> reason = "read_ntu: `S001.skeleton`, line 1, must be the number of frames, got 'x'."
        >>> raise BrokenFilesError((SkippedSample("S001", "S001.skeleton", "broken", reason),), total=2)
        Traceback (most recent call last):
        ...
        skelcontrast.data.preparation._task.BrokenFilesError: prepare: `raw` must ...
          S001: read_ntu: `S001.skeleton`, line 1, must be the number of frames, got 'x'.
    """

    def __init__(self, broken: tuple[SkippedSample, ...], total: int) -> None:
        self.broken = broken
        self.total = total
        named = [f"  {one.name}: {one.reason}" for one in broken[:NAMED]]
        if len(broken) > NAMED:
            named.append(f"  and {len(broken) - NAMED} more")
        hint = "Leave them out with skip_bad=True (--skip-bad)."
        must = f"{OWNER}: `raw` must hold whole files only, got {len(broken)} broken of {total} samples. {hint}"
        super().__init__("\n".join([must, *named]))

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.broken, self.total)


@dataclass(frozen=True)
class Task:
    """What is to be prepared, and how."""

    source: RawDataset
    maker: ClipMaker
    settings: dict[str, Any]
    skip_bad: bool

    def run(self, out: Path, *, workers: int, shown: bool) -> PreparationReport:
        """Do what is left to do, and give the folder its name."""
        unfinished = out.with_name(f"{out.name}{UNFINISHED}")
        settings = self._all_settings()
        if out.exists() or out.is_symlink():  # also a link to nothing, which no folder could take the place of
            return self._found(out, unfinished, settings)
        with Journal(unfinished, settings) as journal:
            self._work(journal, workers=workers, shown=shown)
            skipped = self._skipped(journal)
            broken = () if self.skip_bad else tuple(one for one in skipped if one.kind == "broken")
            report = None if broken else self._finish(journal, settings)
            if report is not None:
                with naming(out):
                    journal.result.rename(out)
                with naming(out.parent):
                    flush(out.parent)
        shutil.rmtree(unfinished)
        if broken:
            raise BrokenFilesError(broken, len(self.source.samples) + len(self.source.left_out))
        if report is None:
            kinds = Counter(one.kind for one in skipped)
            got = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
            _check.fail(OWNER, "raw", "hold samples with somebody in them", f"none ({got})")
        return report

    def _found(self, out: Path, unfinished: Path, settings: dict[str, Any]) -> PreparationReport:
        """Return the report of a folder that this very task has made before, and tidy up what that left undone."""
        report = PreparationReport.read(out / "report.json", owner=OWNER) if (out / "report.json").exists() else None
        if report is None or report.settings != settings:
            hint = "It was prepared with other settings, or from other files." if report is not None else ""
            _check.fail(OWNER, "out", "not exist", out, hint=hint)
        _check_whole(out, report)
        if unfinished.exists() and not (unfinished / "result").exists():
            shutil.rmtree(unfinished)
        broken = tuple(one for one in report.skipped if one.kind == "broken")
        if broken and not self.skip_bad:
            raise BrokenFilesError(broken, len(self.source.samples) + len(self.source.left_out))
        return report

    def _all_settings(self) -> dict[str, Any]:
        """Return all that the result depends on: options, version, and the files by names and sizes.

        A pickle goes by its content, as its arrays take the same room whatever they hold.
        """
        digest = hashlib.sha256()
        for file, samples in groupby(self.source.samples, key=lambda sample: sample.file):
            path = self._path(file)
            version = sha256(path) if self.source.name == "pickle" else _size(path)
            digest.update(
                json.dumps([file, version, [(one.name, one.label, one.parts, one.span) for one in samples]]).encode()
            )
        return {**self.settings, "version": __version__, "samples": digest.hexdigest()}

    def _path(self, file: str) -> Path:
        return self.source.root if self.source.name == "pickle" else self.source.root / file

    def _work(self, journal: Journal, *, workers: int, shown: bool) -> None:
        left = self.source.samples[journal.samples :]
        title = f"prepare {self.source.name}"
        results = ordered(self.maker, tasks(left), workers=min(workers, max(1, len(left) // AT_ONCE)))
        with progress(title, len(self.source.samples), done=journal.samples, shown=shown) as advance, closing(results):
            for batch, data in results:
                journal.append(batch, data)
                advance(batch.samples)

    def _skipped(self, journal: Journal) -> list[SkippedSample]:
        """Return what is left out."""
        return sorted([*self.source.left_out, *(one for batch in journal.batches() for one in batch.skipped)])

    def _finish(self, journal: Journal, settings: dict[str, Any]) -> PreparationReport | None:
        """Write the table and the report beside the positions, all three safely on the disk, if there are samples."""
        tally = _Tally(self.source.protocols, list(self.source.left_out))
        table, path = journal.result / "samples.csv", journal.result / "report.json"
        with naming(table), table.open("w", encoding="utf-8", newline="") as file:
            write_table(file, self.source.protocols, tally.rows(journal.batches()))
        if tally.samples == 0:
            return None
        shape = (tally.frames, self.maker.coordinates, self.source.layout.num_joints, self.maker.body_count)
        journal.seal(npy_header(shape, np.dtype(self.maker.dtype)))
        report = PreparationReport(
            dataset=self.source.name,
            layout=self.source.layout,
            samples=tally.samples,
            shape=shape,
            dtype=self.maker.dtype,
            counts=tally.counts(),
            published=dict(zip(self.source.protocols, self.source.published, strict=True)),
            skipped=tuple(sorted(tally.skipped)),
            passed_over=self.source.passed_over,
            absent=self.source.absent,
            num_classes=self.source.num_classes,
            class_names=self.source.class_names,
            settings=settings,
            checksums={file.name: sha256(file) for file in (journal.positions, table)},
            version=__version__,
        )
        with naming(path):
            report.write(path)
        for written in (table, path, journal.result):
            with naming(written):
                flush(written)
        return report


@dataclass
class _Tally:
    """Counts what goes by."""

    protocols: Sequence[str]
    skipped: list[SkippedSample]
    samples: int = 0
    frames: int = 0
    found: dict[tuple[str, str], int] = field(default_factory=dict)

    def rows(self, batches: Iterator[Batch]) -> Iterator[SampleRow]:
        """Yield the rows of batches, counted."""
        for batch in batches:
            self.skipped += batch.skipped
            for row in batch.rows:
                self.samples += 1
                self.frames += row.frames
                for key in zip(self.protocols, row.parts, strict=True):
                    self.found[key] = self.found.get(key, 0) + 1
                yield row

    def counts(self) -> dict[str, SplitCount]:
        """Return what each protocol has."""
        found = self.found
        return {one: SplitCount(found.get((one, "train"), 0), found.get((one, "test"), 0)) for one in self.protocols}


def tasks(samples: Sequence[RawSample]) -> Iterator[tuple[RawSample, ...]]:
    """Yield samples some at a time, in order; those of a file stay together, so that it is read once."""
    task: list[RawSample] = []
    for sample in samples:
        if len(task) >= AT_ONCE and (sample.place is not None or sample.file != task[-1].file):
            yield tuple(task)
            task = []
        task.append(sample)
    if task:
        yield tuple(task)


def _check_whole(out: Path, report: PreparationReport) -> None:
    """Check that table and positions are there, as far as can be told without reading the positions."""
    positions, table = out / "positions.npy", out / "samples.csv"
    whole = {
        positions: _size(positions) == HEADER + math.prod(report.shape) * np.dtype(report.dtype).itemsize,
        table: table.is_file() and sha256(table) == report.checksums.get(table.name),
    }
    for path, is_whole in whole.items():
        if not is_whole:
            got = f"{out}, whose {path.name} is {'not as it was written' if path.exists() else 'missing'}"
            _check.fail(OWNER, "out", "be whole or not exist", got, hint="Delete that folder, and prepare it again.")


def _size(path: Path) -> int | None:
    """Return the size of a file; `None` where it cannot be had, which the reader will name as broken."""
    try:
        return path.stat().st_size
    except OSError:
        return None
