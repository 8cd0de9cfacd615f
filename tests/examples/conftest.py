"""Examples are scripts, not modules of a package: they are loaded from their files."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Protocol

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


class LoadExample(Protocol):
    """Load one of the examples by its name."""

    def __call__(self, name: str) -> ModuleType:
        """Return the module."""
        ...


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoadExample]:
    """Load an example as running it would: with its own folder first on the path."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(EXAMPLES))

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
        if spec is None or spec.loader is None:
            pytest.fail(f"no example {name}")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    yield load
    for name in set(sys.modules) - before:
        if name in {path.stem for path in EXAMPLES.glob("*.py")}:
            del sys.modules[name]
