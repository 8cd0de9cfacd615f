"""The public API is what the rooms' `__all__` say, and the defaults; a change is made on purpose, and documented.

After a change that is meant, write the checked-in list anew and commit it with a line in the changelog:

    python -m tests.test_api_surface
"""

import importlib
import inspect
import json
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import skelcontrast

ROOT = Path(__file__).resolve().parents[1]
RECORD = Path(__file__).with_name("api_surface.json")
DEFAULTS = Path(__file__).with_name("api_defaults.json")
RUN_TIME_ONLY = {"kernels"}
ROOMS = sorted(
    room.name
    for room in pkgutil.iter_modules(skelcontrast.__path__)
    if not room.name.startswith("_") and room.name not in RUN_TIME_ONLY
)


def public_names(room: str) -> list[str]:
    return sorted(importlib.import_module(f"skelcontrast.{room}").__all__)


def calls(room: str) -> Iterator[tuple[str, Any]]:
    """Yield the public functions, classes and methods of a room by name."""
    module = importlib.import_module(f"skelcontrast.{room}")
    for name in public_names(room):
        value = getattr(module, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            yield name, value
        for method in vars(value) if inspect.isclass(value) else ():
            if not method.startswith("_") and inspect.isroutine(getattr(value, method)):
                yield f"{name}.{method}", getattr(value, method)


def defaults(room: str) -> dict[str, dict[str, str]]:
    """Return, by call and parameter, the defaults that are numbers, strings or tuples of such."""
    found: dict[str, dict[str, str]] = {}
    for name, call in calls(room):
        given = {each.name: each.default for each in inspect.signature(call).parameters.values()}
        plain = {key: repr(value) for key, value in given.items() if isinstance(value, int | float | str | tuple)}
        found |= {name: plain} if plain else {}
    return found


def pages() -> dict[Path, str]:
    """Return the text of everything that documents the library for a reader."""
    files = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("*.py")]
    return {path: path.read_text(encoding="utf-8") for path in files if "_build" not in path.parts}


def says(text: str, name: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) is not None


@pytest.mark.parametrize("room", ROOMS)
def test_public_names_are_the_recorded_ones(room: str) -> None:
    recorded = json.loads(RECORD.read_text(encoding="utf-8"))
    assert public_names(room) == recorded.get(room), "if this is meant: python -m tests.test_api_surface"


@pytest.mark.parametrize("room", ROOMS)
def test_defaults_are_the_recorded_ones(room: str) -> None:
    """Most calls in tests name their options, and nobody would notice that results mean something else by now."""
    recorded = json.loads(DEFAULTS.read_text(encoding="utf-8"))
    assert defaults(room) == recorded.get(room), "if this is meant: python -m tests.test_api_surface"


def test_no_recorded_room_is_gone() -> None:
    for record in (RECORD, DEFAULTS):
        assert sorted(json.loads(record.read_text(encoding="utf-8"))) == ROOMS


@pytest.mark.parametrize("room", ROOMS)
def test_public_names_exist_and_have_docstrings(room: str) -> None:
    module = importlib.import_module(f"skelcontrast.{room}")
    named = {name: getattr(module, name) for name in module.__all__}
    has_code = {name: value for name, value in named.items() if inspect.isclass(value) or inspect.isfunction(value)}
    assert [name for name, value in has_code.items() if not value.__doc__] == []


@pytest.mark.parametrize("room", ROOMS)
def test_public_names_are_in_the_api_reference(room: str) -> None:
    page = ROOT / "docs" / "api" / f"{room}.md"
    text = page.read_text(encoding="utf-8")
    assert [name for name in public_names(room) if not says(text, name)] == []


@pytest.mark.parametrize("room", ROOMS)
def test_public_names_are_used_outside_the_api_reference(room: str) -> None:
    prose = "\n".join(re.sub(r"```\{eval-rst\}.*?```", "", text, flags=re.DOTALL) for text in pages().values())
    assert [name for name in public_names(room) if not says(prose, name)] == []


if __name__ == "__main__":
    for path, of in ((RECORD, public_names), (DEFAULTS, defaults)):
        path.write_text(json.dumps({room: of(room) for room in ROOMS}, indent=2) + "\n", encoding="utf-8")
