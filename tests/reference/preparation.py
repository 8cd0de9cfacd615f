"""Short ways to prepare generated NTU files, to stop a preparation, and to compare what came of two."""

from pathlib import Path
from typing import Any

import pytest

from skelcontrast.data import PreparationReport, prepare
from skelcontrast.data.preparation._journal import Journal

FILES = ("positions.npy", "samples.csv", "report.json")


def contents(out: Path) -> list[bytes]:
    """Return the bytes of a prepared folder, which must hold its three files and no other."""
    assert sorted(path.name for path in out.iterdir()) == sorted(FILES)
    return [(out / name).read_bytes() for name in FILES]


def run(raw: Path, out: Path, **options: Any) -> PreparationReport:
    """Prepare NTU-60 without a bar."""
    return prepare("ntu60", raw, out, progress=False, **options)


def interrupt(monkeypatch: pytest.MonkeyPatch, raw: Path, out: Path, *, after: int) -> None:
    """Stop a preparation as by Ctrl-C when so many batches are written."""
    append, written = Journal.append, 0

    def stop(self: Journal, *arguments: Any) -> None:
        nonlocal written
        if written == after:
            raise KeyboardInterrupt
        written += 1
        append(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Journal, "append", stop)
        with pytest.raises(KeyboardInterrupt):
            run(raw, out)
