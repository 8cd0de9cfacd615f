"""A preparation under way, on the disk: what is done of it survives the process at every moment."""

import json
import os
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from typing_extensions import Self

from skelcontrast import _check
from skelcontrast._atomic import write_atomically
from skelcontrast.data.preparation._npy import HEADER
from skelcontrast.data.preparation._table import SampleRow
from skelcontrast.data.preparation.raw import SkippedSample

OWNER = "prepare"
SETTINGS = "settings.json"


class Batch(NamedTuple):
    """What was made of some samples, one behind the other."""

    samples: int
    """How many there were."""
    rows: list[SampleRow]
    """Those that are kept."""
    skipped: list[SkippedSample]
    """Those that are not."""


class Journal:
    """Positions and a list of what they are, both only ever added to, in a folder beside the one that is prepared.

    A batch counts once its line in the list is whole and the bytes it speaks of are there, with their checksum; what
    lies behind the last such batch, left by a process that was killed or a machine that went down, is cut off.

    Args:
        folder: The folder; made unless it is there.
        settings: Everything that the result depends on. A folder with other settings is refused.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder = folder
        self.result = folder / "result"
        self.positions = self.result / "positions.npy"
        self._list = folder / "batches.jsonl"
        self.samples = 0
        self.size = 0
        with ExitStack() as opened:
            with naming(self.result):
                self.result.mkdir(parents=True, exist_ok=True)
            opened.enter_context(_lock(folder / "lock"))
            self._check_settings(settings)
            whole = self._recover()
            self._data = opened.enter_context(_cut(self.positions, HEADER + self.size))
            self._lines = opened.enter_context(_cut(self._list, whole))
            self._opened = opened.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    def append(self, batch: Batch, data: bytes) -> None:
        """Add a batch and the bytes of its positions."""
        line = json.dumps([*batch, len(data), zlib.crc32(data)]) + "\n"
        _write(self.positions, self._data, data)
        _write(self._list, self._lines, line.encode())
        self.samples += batch.samples
        self.size += len(data)

    def batches(self) -> Iterator[Batch]:
        """Yield all batches from the first."""
        with self._list.open(encoding="utf-8") as lines:
            for line in lines:
                yield _batch(json.loads(line))[0]

    def seal(self, header: bytes) -> None:
        """Put the header in front of the positions, make sure that all is on the disk, and add no more."""
        self._data.seek(0)
        _write(self.positions, self._data, header)
        with naming(self.positions):
            os.fsync(self._data.fileno())
        self._data.close()
        self._lines.close()

    def _check_settings(self, settings: dict[str, Any]) -> None:
        path = self.folder / SETTINGS
        if not path.exists():
            content = json.dumps(settings, indent=1).encode()
            write_atomically(path, lambda file: file.write(content))
            return
        theirs = json.loads(path.read_text(encoding="utf-8"))
        for name, value in settings.items():
            if name in theirs and theirs[name] == value:
                continue
            got = f"`{name}` = {value!r}, and {theirs.get(name)!r} in {self.folder}"
            if name == "samples":
                got = f"another raw folder than {self.folder}"
            hint = "Go on with the settings that it was begun with, or delete that folder."
            _check.fail(OWNER, "out", "be finished with the same settings after an interruption", got, hint=hint)

    def _recover(self) -> int:
        """Find out how much is whole; return the length of the list up to there."""
        whole = 0
        if not (self._list.exists() and self.positions.exists()):
            return whole
        with self._list.open("rb") as lines, self.positions.open("rb") as data:
            data.seek(HEADER)
            for line in lines:
                try:
                    batch, size, checksum = _batch(json.loads(line))
                except ValueError:  # torn, or never written
                    break
                found = data.read(size)
                if not line.endswith(b"\n") or len(found) != size or zlib.crc32(found) != checksum:
                    break
                whole += len(line)
                self.samples += batch.samples
                self.size += size
        return whole


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let an error of the system name the file, which it does not when a disk is full."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def _cut(path: Path, size: int) -> Iterator[FileIO]:
    """Open a file to go on writing behind its first `size` bytes."""
    with naming(path):
        path.touch()
        with FileIO(path, "r+") as file:  # unbuffered: after a full disk, closing has nothing left to write
            file.truncate(size)
            file.seek(size)
            yield file


def _write(path: Path, file: FileIO, data: bytes) -> None:
    left = memoryview(data)
    with naming(path):
        while left:
            left = left[file.write(left) :]


def _batch(line: Any) -> tuple[Batch, int, int]:  # whatever JSON holds  # noqa: ANN401
    samples, rows, skipped, size, checksum = line
    made = [SampleRow(*row)._replace(parts=tuple(row[-1])) for row in rows]
    return Batch(samples, made, [SkippedSample(*one) for one in skipped]), size, checksum


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold a lock on a file; the system takes it back when this process ends."""
    with path.open("ab") as file:
        try:
            import fcntl
        except ImportError:  # on Windows two preparations of one folder at a time go unnoticed
            yield
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _check.fail(OWNER, "out", "not be prepared by another process", f"a lock on {path}", kind=RuntimeError)
        yield
