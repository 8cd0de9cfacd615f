"""Save and resume anything, atomically; this file knows no method.

A checkpoint is one file made from a mapping of names to things: whatever has a state (modules, optimisers, schedulers),
`torch.Generator` objects and plain data. `save` writes it so that a crash never leaves half a file under its name,
`resume` puts every state back and checks that all of them fit before it changes any, `load` only reads. Files are read
with ``weights_only=True``: a checkpoint from a stranger cannot run code. `write_json_lines` keeps the log beside
it, and `check_settings` asks whether a run goes on as it was begun.
"""

import copy
import os
import pickle
import re
import zipfile
import zlib
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from skelcontrast import _check
from skelcontrast._atomic import write_atomically
from skelcontrast._json_lines import write_json_lines
from skelcontrast._random_state import capture_random_state, restore_random_state
from skelcontrast._settings import check_settings
from skelcontrast._state_check import module_misfits, optimizer_misfits

__all__ = ["Stateful", "check_settings", "load", "resume", "save", "write_json_lines"]

FORMAT = "skelcontrast.checkpoint"
VERSION = 1
FOLDER = 0x10  # mark of a folder in a zip archive, as MS-DOS has it
Location: TypeAlias = str | os.PathLike[str]


@runtime_checkable
class Stateful(Protocol):
    """Anything with a state to save: modules, optimisers, schedulers, gradient scalers, a user's own classes."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state as tensors and plain data."""

    def load_state_dict(self, state_dict: dict[str, Any], /) -> object:
        """Take the state back."""


def save(path: Location, state: Mapping[str, object], *, rng: bool = True) -> None:
    """Write a checkpoint; at every moment `path` holds the old checkpoint or the new one, whole.

    The file is written under another name in the same folder, flushed to the disk and then renamed. What a killed
    process left behind under such names is removed by the next `save` to the same path.

    Args:
        path: File to write. Its folder must exist; an older file is replaced.
        state: What to save, by name: objects with `state_dict` and `load_state_dict`, `torch.Generator` objects, and
            plain data (None, bool, int, float, str, tensors, and lists, tuples and dicts of these).
        rng: Whether to save the global random generators too: those of Python, NumPy, PyTorch on the CPU and, where
            CUDA is in use, on each of its devices.

    Raises:
        TypeError: If `path` is no path, or `state` holds anything else; the file at `path` stays as it was.
        ValueError: If the folder of `path` does not exist.
        OSError: If the file cannot be written, such as on a full disk; the one at `path` stays as it was.

    Example:
        >>> import tempfile
        >>> model = nn.Linear(2, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(f"{folder}/last.pt", {"model": model, "optimizer": optimizer, "epoch": 3})
        ...     expected = torch.rand(1)
        ...     values = resume(f"{folder}/last.pt", {"model": model, "optimizer": optimizer})
        ...     values, bool(torch.rand(1) == expected)
        ({'epoch': 3}, True)
    """
    target = _path("save", path)
    if not target.parent.is_dir():
        _check.fail("save", "path", "lie in an existing folder", str(target))
    _check_names("save", "state", state)
    states: dict[str, object] = {}
    kinds: dict[str, str] = {}
    for name, value in state.items():
        if isinstance(value, torch.Generator):
            states[name], kinds[name] = value.get_state(), _kind(value)
        elif isinstance(value, Stateful):
            states[name], kinds[name] = _plain(value.state_dict(), f'state["{name}"].state_dict()'), _kind(value)
        else:
            states[name] = _plain(value, f'state["{name}"]')
    content = {
        "format": FORMAT,
        "version": VERSION,
        "states": states,
        "kinds": kinds,
        "rng": capture_random_state() if rng else None,
    }
    write_atomically(target, lambda file: torch.save(content, file))


def load(path: Location, *, map_location: torch.device | str = "cpu") -> dict[str, Any]:
    """Read what a checkpoint holds, and change nothing.

    Use it to look into a checkpoint or to take one part, as in ``model.load_state_dict(load(path)["model"])``.

    Args:
        path: File written by `save`.
        map_location: Device to put the tensors on.

    Returns:
        By name: the state dict of each object, the state of each generator, the plain data.

    Raises:
        TypeError: If `path` is no path.
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not a checkpoint or comes from a later version of the library.
        RuntimeError: If it is truncated or damaged, or would run code when read.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(f"{folder}/last.pt", {"norm": nn.BatchNorm1d(1), "history": [0.5, 0.75]})
        ...     content = load(f"{folder}/last.pt")
        >>> content["history"], content["norm"]["running_var"]
        ([0.5, 0.75], tensor([1.]))
    """
    states: dict[str, Any] = _read("load", _path("load", path), map_location)["states"]
    return states


def resume(path: Location, targets: Mapping[str, object], *, rng: bool = True) -> dict[str, Any]:
    """Put back the state of every object in a checkpoint, and of the random generators.

    All entries are checked first: names, keys, shapes and dtypes of modules, the kind and the parameters of optimisers,
    the kind of everything else. If anything does not fit, nothing is changed; if an object refuses its state only while
    it is loaded, all are put back as they were.

    Args:
        path: File written by `save`.
        targets: The objects to restore, under the names they were saved with: every one that has a state, no other.
        rng: Whether to restore the global random generators as well.

    Returns:
        The plain data of the checkpoint, by name.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not a checkpoint, or does not fit the targets; each misfit is named.
        TypeError: If `path` is no path, or a target has no state to restore.
        RuntimeError: If the file is truncated or damaged, or `rng` is asked for and was not saved.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(f"{folder}/last.pt", {"model": nn.Linear(2, 1), "epoch": 3})
        ...     resume(f"{folder}/last.pt", {"model": nn.Linear(5, 1)})
        Traceback (most recent call last):
        ...
        ValueError: resume: `path` must fit `targets`, got ..., where model["weight"] must have shape ...
    """
    owner, source = "resume", _path("resume", path)
    _check_names(owner, "targets", targets)
    for name, target in targets.items():
        if not isinstance(target, torch.Generator | Stateful):
            must = "have `state_dict` and `load_state_dict`, or be a torch.Generator"
            _check.fail(owner, f'targets["{name}"]', must, type(target).__name__, kind=TypeError)
    content = _read(owner, source, "cpu")
    states, kinds = content["states"], content["kinds"]
    if rng and content["rng"] is None:
        hint = "Pass rng=False to resume without them."
        _check.fail(
            owner, "path", "hold the random generators", f"{source}, saved without", hint=hint, kind=RuntimeError
        )

    problems = [f'it holds "{name}", which is not among the targets' for name in kinds if name not in targets]
    for name, target in targets.items():
        if name not in kinds:
            problems.append(f'it holds no state "{name}"')
        else:
            problems += _misfits(name, target, states[name], kinds[name])
    if problems:
        more = f"; and {len(problems) - 8} more" if len(problems) > 8 else ""
        _check.fail(owner, "path", "fit `targets`", f"{source}, where {'; '.join(problems[:8])}{more}")

    _restore(targets, states)
    if rng:
        restore_random_state(content["rng"])
    return {name: value for name, value in states.items() if name not in kinds}


def _path(owner: str, value: object) -> Path:
    """Check that a value names a file; `torch.save` takes it second, so that it is easily swapped."""
    if not isinstance(value, str | os.PathLike):
        hint = "The path comes first."
        _check.fail(owner, "path", "be a str or a path", type(value).__name__, hint=hint, kind=TypeError)
    return Path(value)


def _check_names(owner: str, argument: str, value: object) -> None:
    """Check that a value is a mapping with string keys."""
    for name in _check.mapping(owner, argument, value):
        if not isinstance(name, str):
            _check.fail(owner, argument, "have strings as names", repr(name), kind=TypeError)


def _kind(target: object) -> str:
    """Say what a state belongs to: modules and optimisers are held to more than their class name."""
    if isinstance(target, nn.Module):
        return "module"
    return f"{target.device.type} generator" if isinstance(target, torch.Generator) else type(target).__name__


def _plain(value: object, where: str) -> object:
    """Return the value as types that `torch.load(weights_only=True)` admits, or say which part is of another type."""
    if isinstance(value, np.generic):
        value = value.item()  # np.float64 is a float to Python, but not to the reader of the file
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, Mapping):
        items = {_plain(key, f"a key of {where}"): _plain(item, f"{where}[{key!r}]") for key, item in value.items()}
        if isinstance(value, Counter):  # the milestones of a scheduler
            return Counter(items)
        if hasattr(value, "_metadata"):  # the state dict of a module, with the versions of its layers
            ordered = OrderedDict(items)
            ordered.__dict__["_metadata"] = value._metadata
            return ordered
        return items
    if isinstance(value, list | tuple):
        parts = [_plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
        return parts if isinstance(value, list) else tuple(parts)
    hint = "Use torch.from_numpy." if isinstance(value, np.ndarray) else "Convert it to a number, a string or a tensor."
    must = "be a state or plain data (None, numbers, strings, tensors, and lists, tuples, dicts of these)"
    return _check.fail("save", where, must, type(value).__name__, hint=hint, kind=TypeError)


def _read(owner: str, source: Path, map_location: torch.device | str) -> dict[str, Any]:
    """Read a checkpoint file and check that it is one, and whole."""
    if not source.is_file():
        _check.fail(owner, "path", "name an existing checkpoint", source, kind=FileNotFoundError)
    with source.open("rb") as file:
        beginning = file.read(4)
    must = "be a file written by checkpoint.save"
    if not b"PK\x03\x04".startswith(beginning):
        _check.fail(owner, "path", must, f"{source}, which is none")
    damage = _damage(source)
    if damage:
        _check.fail(owner, "path", "be a whole checkpoint", f"{source}, which {damage}", kind=RuntimeError)
    try:
        content = torch.load(source, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        wanted = re.search(r"GLOBAL (\S+)", str(error))
        got = f"{source}, which asks for {wanted[1] if wanted else 'something else'}"
        hint = "checkpoint.save did not write it; do not trust it."
        _check.fail(owner, "path", "hold tensors and plain data only", got, hint=hint, kind=RuntimeError)
    except RuntimeError as error:  # a zip archive of something else
        _check.fail(owner, "path", must, f"{source}, which torch cannot read ({str(error).splitlines()[0]})")
    if not isinstance(content, dict) or content.get("format") != FORMAT or "version" not in content:
        hint = "Read the state dict of another program with torch.load(path, weights_only=True)."
        _check.fail(owner, "path", must, f"{source}, which does not say so", hint=hint)
    if content["version"] != VERSION:
        hint = "A later version of the library wrote it."
        _check.fail(owner, "path", f"have format version {VERSION}", f"{source} of {content['version']}", hint=hint)
    return content


def _damage(source: Path) -> str:
    """Say what is wrong with the archive, at which torch.load does not look; nothing if it is whole."""
    try:
        with zipfile.ZipFile(source) as archive:
            # Of an entry that is marked as a folder torch reads nothing, and gives memory as it happens to be.
            folders = (entry.filename for entry in archive.infolist() if entry.external_attr & FOLDER)
            damaged = archive.testzip() or next(folders, None)
    except (zipfile.BadZipFile, EOFError):
        return f"breaks off after {source.stat().st_size} bytes"
    except (UnicodeDecodeError, RuntimeError, zlib.error, OSError) as error:
        return f"is damaged ({error})"
    return "" if damaged is None else f"is damaged in its part {damaged}"


def _misfits(name: str, target: object, saved: dict[str, Any], kind: str) -> list[str]:
    """Say in which ways a saved state does not fit an object; an empty list if it does."""
    if kind != _kind(target):
        return [f'"{name}" must be a {_kind(target)}, got a {kind}']
    if isinstance(target, nn.Module):
        return module_misfits(name, target, saved)
    if isinstance(target, torch.optim.Optimizer):
        return optimizer_misfits(name, target, saved)
    return []


def _restore(targets: Mapping[str, Any], states: Mapping[str, Any]) -> None:
    """Load states that were found to fit.

    An object can still refuse its state, such as a module its extra state. Those already changed are then put back as
    they were, that one included.
    """
    changed: list[tuple[Callable[[Any], object], object]] = []
    try:
        for name, target in targets.items():
            is_generator = isinstance(target, torch.Generator)
            put = target.set_state if is_generator else target.load_state_dict
            changed.append((put, target.get_state() if is_generator else copy.deepcopy(target.state_dict())))
            put(states[name])
    except Exception:
        for put, before in changed:
            put(before)
        raise
