"""Logs that anything can read: one JSON object per line, the file replaced as a whole."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from skelcontrast import _check
from skelcontrast._atomic import write_atomically


def write_json_lines(path: str | os.PathLike[str], records: Sequence[Mapping[str, object]]) -> None:
    """Write records as JSON lines, one object per line; at every moment `path` holds the old lines or the new ones.

    Write all records anew after each epoch, and keep them in the checkpoint: then the log of a resumed run never
    repeats a line, lacks one or ends in half of one.

    Args:
        path: File to write. Its folder must exist; an older file is replaced.
        records: One mapping from names per line, its values None, bool, int, float, str, and lists, tuples and mappings
            of these. Paths are written as strings, NaN and infinity as Python's `json` reads them.

    Raises:
        TypeError: If a record holds anything else, such as a tensor; the file at `path` stays as it was.
        ValueError: If the folder of `path` does not exist.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_json_lines(f"{folder}/log.jsonl", [{"epoch": 1, "total": 9.5}, {"epoch": 2, "total": 7.0}])
        ...     print(Path(f"{folder}/log.jsonl").read_text(), end="")
        {"epoch": 1, "total": 9.5}
        {"epoch": 2, "total": 7.0}
    """
    owner, target = "write_json_lines", Path(path)
    if not target.parent.is_dir():
        _check.fail(owner, "path", "lie in an existing folder", str(target))
    if isinstance(records, Mapping):
        hint = "Put it in a list."
        _check.fail(owner, "records", "be a sequence of mappings", type(records).__name__, hint=hint, kind=TypeError)
    lines = [as_json(owner, f"records[{place}]", record) + "\n" for place, record in enumerate(records)]
    write_atomically(target, lambda file: file.write("".join(lines).encode()))


def as_json(owner: str, name: str, record: object) -> str:
    """Return a mapping from names to plain data as a JSON object."""
    named = _check.mapping(owner, name, record)
    try:
        return json.dumps(dict(named), default=_plain)
    except TypeError as error:
        hint = "Convert it to a number, a string or a list."
        _check.fail(owner, name, "hold plain data with strings as names", str(error), hint=hint, kind=TypeError)


def _plain(value: object) -> object:
    """Turn what `json` does not know into what it knows."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, os.PathLike):
        return str(value)
    raise TypeError(f"a {type(value).__name__}")
