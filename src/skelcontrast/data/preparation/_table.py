"""The table of samples in a prepared folder: a line of text for each, in the order of the positions."""

import csv
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TextIO

from skelcontrast.data.clip import SkeletonFormatError
from skelcontrast.data.preparation.protocols import Part
from skelcontrast.data.readers._reading import brief

DIGITS = 18  # of a number, at most
MAY_BE_UNKNOWN = {"subject", "camera", "setup", "replication"}


class SampleRow(NamedTuple):
    """One prepared sample; ``None`` for what is unknown."""

    name: str
    label: int
    subject: int | None
    camera: int | None
    setup: int | None
    replication: int | None
    frames: int
    """Frames that are stored."""
    recorded: int
    """Frames of the recording."""
    bodies: int
    """Bodies that are ever there."""
    parts: tuple[Part, ...]


def write_table(file: TextIO, protocols: Sequence[str], rows: Iterable[SampleRow]) -> None:
    """Write the table: the fields of the rows, a column for each protocol."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*SampleRow._fields[:-1], *protocols])
    for row in rows:
        writer.writerow(["" if field is None else field for field in (*row[:-1], *row.parts)])


def read_table(owner: str, path: Path, protocols: Sequence[str]) -> Iterator[SampleRow]:
    """Yield the rows of a table with these protocols.

    Raises:
        SkeletonFormatError: If the table is broken; the message names file and line.
    """
    columns = [*SampleRow._fields[:-1], *protocols]
    with path.open(encoding="utf-8", newline="") as file:
        lines = csv.reader(file)
        try:
            if next(lines, None) != columns:
                raise SkeletonFormatError(owner, path, f"have the columns {','.join(columns)}", "others", line=1)
            for fields in lines:
                if len(fields) != len(columns):
                    must = f"have {len(columns)} fields"
                    raise SkeletonFormatError(owner, path, must, len(fields), line=lines.line_num)
                yield _row(owner, path, lines.line_num, fields)
        except (UnicodeDecodeError, csv.Error) as error:
            got = f"an error on reading it: {error}"
            raise SkeletonFormatError(owner, path, "be a table in UTF-8", got, line=lines.line_num + 1) from None


def _row(owner: str, path: Path, line: int, fields: list[str]) -> SampleRow:
    numbers: dict[str, int | None] = {}
    for column, field in zip(SampleRow._fields[1:-1], fields[1:], strict=False):
        unknown = field == "" and column in MAY_BE_UNKNOWN
        if not unknown and not (field.isascii() and field.isdecimal() and len(field) <= DIGITS):
            raise SkeletonFormatError(owner, path, f"have a number from 0 as {column}", brief(field), line=line)
        numbers[column] = None if unknown else int(field)
    parts = fields[len(SampleRow._fields) - 1 :]
    if any(part not in ("train", "test", "") for part in parts):
        raise SkeletonFormatError(owner, path, "have train, test or nothing for each protocol", parts, line=line)
    return SampleRow(fields[0], **numbers, parts=tuple(parts))  # type: ignore[arg-type]  # checked above


def sha256(path: Path) -> str:
    """Return the checksum of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
