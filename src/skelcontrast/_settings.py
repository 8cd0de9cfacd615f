"""Whether a run that is resumed has the settings that it was begun with."""

import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path

from skelcontrast import _check
from skelcontrast._json_lines import as_json


def check_settings(
    path: str | os.PathLike[str], settings: Mapping[str, object], *, may_change: Collection[str] = ()
) -> None:
    """Check that a resumed run has the settings that it was started with.

    With other settings a checkpoint still trains, but its record no longer describes the results. Settings that only
    one side has are not compared, so a run may be older than a setting.

    Args:
        path: File of one JSON object, as `write_json_lines` writes ``[settings]``.
        settings: The settings of the resumed run, by name; plain data and paths.
        may_change: Names of those that may differ, such as the device.

    Raises:
        TypeError: If `may_change` is one string, or a setting is no plain data.
        FileNotFoundError: If there is no such file.
        ValueError: If it is no JSON object, or a setting differs; each is named.

    Example:
        >>> import tempfile
        >>> from skelcontrast.checkpoint import write_json_lines
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_json_lines(f"{folder}/settings.json", [{"lr": 0.1, "device": "cuda"}])
        ...     check_settings(f"{folder}/settings.json", {"lr": 0.1, "device": "cpu"}, may_change=["device"])
        ...     check_settings(f"{folder}/settings.json", {"lr": 0.2, "device": "cuda"})
        Traceback (most recent call last):
        ...
        ValueError: check_settings: `settings` must be those in ..., got lr 0.2 where 0.1 is stored. Go on ...
    """
    owner, source = "check_settings", Path(path)
    if isinstance(may_change, str):  # in which any part of it would be found
        _check.fail(owner, "may_change", "be a collection of names", "one string", kind=TypeError)
    if not source.is_file():
        _check.fail(owner, "path", "name an existing file of settings", source, kind=FileNotFoundError)
    try:
        stored = json.loads(source.read_text(encoding="utf-8"))
    except ValueError as error:
        _check.fail(owner, "path", "hold one JSON object", f"{source}, which json cannot read ({error})")
    if not isinstance(stored, dict):
        _check.fail(owner, "path", "hold one JSON object", f"{source}, which holds a {type(stored).__name__}")
    given = json.loads(as_json(owner, "settings", settings))
    changed = [
        f"{name} {given[name]} where {stored[name]} is stored"
        for name in given
        if name in stored and name not in may_change and given[name] != stored[name]
    ]
    if changed:
        hint = "Go on with the stored ones, or begin a new run in another folder."
        _check.fail(owner, "settings", f"be those in {source}", ", ".join(changed), hint=hint)
