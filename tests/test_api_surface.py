"""The public API is what the rooms' `__all__` say; a change of it is made on purpose, and documented.

After a change that is meant, write the checked-in list anew and commit it with a line in the changelog:

    python -m tests.test_api_surface
"""

import importlib
import inspect
import json
import pkgutil
import re
from pathlib import Path

import pytest

import skelcontrast

ROOT = Path(__file__).resolve().parents[1]
RECORD = Path(__file__).with_name("api_surface.json")
RUN_TIME_ONLY = {"kernels"}
ROOMS = sorted(
    room.name
    for room in pkgutil.iter_modules(skelcontrast.__path__)
    if not room.name.startswith("_") and room.name not in RUN_TIME_ONLY
)


def public_names(room: str) -> list[str]:
    return sorted(importlib.import_module(f"skelcontrast.{room}").__all__)


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


def test_no_recorded_room_is_gone() -> None:
    assert sorted(json.loads(RECORD.read_text(encoding="utf-8"))) == ROOMS


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
    RECORD.write_text(json.dumps({room: public_names(room) for room in ROOMS}, indent=2) + "\n", encoding="utf-8")
