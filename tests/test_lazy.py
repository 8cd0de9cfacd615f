"""Names that are loaded when they are asked for: all of them are there, and a checker of types sees the same ones."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import skelcontrast
from skelcontrast._lazy import on_demand
from tests.test_imports import MAY_IMPORT


@pytest.mark.parametrize("package", ["data", "skeleton"])
def test_names_are_those_that_a_type_checker_sees(package: str) -> None:
    tree = ast.parse((Path(skelcontrast.__path__[0]) / package / "__init__.py").read_text(encoding="utf-8"))
    (choice,) = (node for node in tree.body if isinstance(node, ast.If))
    assert ast.unparse(choice.test) == "TYPE_CHECKING"
    seen = {
        (str(node.module).removeprefix(f"skelcontrast.{package}."), alias.name)
        for node in choice.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    (table,) = (node for node in ast.walk(choice.orelse[0]) if isinstance(node, ast.Dict))
    loaded = {(module, name) for module, names in ast.literal_eval(table).items() for name in names}
    assert loaded == seen
    room = importlib.import_module(f"skelcontrast.{package}")
    for module, name in loaded:
        assert name in room.__all__
        assert name in dir(room)
        assert getattr(room, name) is getattr(importlib.import_module(f"skelcontrast.{package}.{module}"), name)


def test_every_subpackage_is_there_after_the_import_of_the_whole() -> None:
    """In an interpreter of its own, as this one has imported them."""
    public = [name for name in MAY_IMPORT if name not in {"", "kernels"}]
    look = "import skelcontrast, sys; print(*(getattr(skelcontrast, name).__name__ for name in sys.argv[1:]))"
    run = subprocess.run([sys.executable, "-c", look, *public], check=True, capture_output=True, text=True)
    assert run.stdout.split() == [f"skelcontrast.{name}" for name in public]
    assert set(public) <= set(dir(skelcontrast))
    with pytest.raises(AttributeError, match="module 'skelcontrast' has no attribute 'nothing'"):
        _ = skelcontrast.nothing  # type: ignore[attr-defined]


def test_a_name_is_looked_up_once_and_another_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    room = importlib.import_module("skelcontrast.data")
    monkeypatch.setattr(room, "SHOULDERS", None, raising=False)  # gone again after the test
    load = on_demand("skelcontrast.data", {"_joints": ("SHOULDERS",)})
    assert load("SHOULDERS") == ("left shoulder", "right shoulder")
    assert room.SHOULDERS is load("SHOULDERS")
    with pytest.raises(AttributeError, match=r"module 'skelcontrast\.data' has no attribute 'nothing'"):
        load("nothing")
    with pytest.raises(AttributeError, match=r"module 'skelcontrast\.skeleton' has no attribute 'nothing'"):
        _ = importlib.import_module("skelcontrast.skeleton").nothing
