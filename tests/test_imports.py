"""Which room may import which, what may be imported at all, and what an import must not load."""

import ast
import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "skelcontrast"
FILES = sorted(SOURCE.rglob("*.py"))
CORE = {"torch", "numpy", "einops", "typing_extensions"}
OPTIONAL = {"scipy", "sklearn", "matplotlib", "tqdm", "triton"}

MAY_IMPORT: dict[str, set[str]] = {
    "": {"skeleton", "augment", "nn", "data", "memory", "moco", "losses", "methods", "evaluation", "checkpoint"}
    | {"cuda_graph", "viz"},  # for types and on demand: test_an_import_is_light
    "skeleton": set(),
    "augment": {"skeleton"},
    "nn": {"skeleton", "kernels"},
    "data": {"skeleton"},
    "memory": set(),
    "moco": set(),
    "losses": {"kernels"},
    "methods": {"skeleton", "augment", "nn", "data", "memory", "moco", "losses"},
    "evaluation": {"skeleton", "data"},
    "checkpoint": set(),
    "cuda_graph": set(),
    "kernels": set(),
    "viz": {"skeleton", "augment"},
}
"""Beside itself and the private files at the top (`_check` and its like), which import only each other."""


class Import(NamedTuple):
    module: str
    line: int
    at_import_time: bool


def imports(tree: ast.Module, package: str) -> Iterator[Import]:
    """Yield every absolute module name that a file imports; names taken from a package count as its modules.

    What stands under ``if TYPE_CHECKING:`` or in a function is not imported at import time.
    """

    def visit(node: ast.AST, at_import_time: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno, at_import_time) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*package.split(".")[: len(package.split(".")) - node.level + 1], *base.split(".")])
            yield from (Import(f"{base}.{alias.name}".strip("."), node.lineno, at_import_time) for alias in node.names)
        else:
            later = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            for_types = isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}
            inner = at_import_time and not later and not for_types
            for child in ast.iter_child_nodes(node):
                yield from visit(child, inner)

    yield from visit(tree, True)


def room_of(module: str) -> str:
    """Return the room of a module of this library: ``nn`` for ``skelcontrast.nn.eadm``."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def wrong_arrows(source: str, module: str, package: str) -> list[str]:
    """Say every import of a file that the house does not allow."""
    room, wrong = room_of(module), []
    for found in imports(ast.parse(source), package):
        top = found.module.split(".")[0]
        if top != "skelcontrast":
            allowed = CORE | set(sys.stdlib_module_names) | ({"triton"} if room == "kernels" else set())
            if found.at_import_time and top not in allowed:
                wrong.append(f"{module}:{found.line} imports {top} at import time")
            continue
        other = room_of(found.module)
        if other == "kernels" and found.at_import_time and room != "kernels":
            wrong.append(f"{module}:{found.line} imports kernels at import time")
        if other == room or other.startswith("_"):
            continue
        if module.endswith(".__main__") and not found.at_import_time:
            continue  # a command may use any room while it runs; nothing imports it
        if room.startswith("_") or other not in MAY_IMPORT.get(room, set()):
            wrong.append(f"{module}:{found.line} imports {found.module}")
    return wrong


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_imports_point_one_way(path: Path) -> None:
    parts = ("skelcontrast", *path.relative_to(SOURCE).with_suffix("").parts)
    is_package = parts[-1] == "__init__"
    module = ".".join(parts[:-1] if is_package else parts)
    package = module if is_package else module.rpartition(".")[0]
    assert wrong_arrows(path.read_text(encoding="utf-8"), module, package) == []


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("from skelcontrast.nn import EADM", "imports skelcontrast.nn.EADM"),
        ("from skelcontrast import nn", "imports skelcontrast.nn"),
        ("def f():\n    import skelcontrast.memory", ":2 imports skelcontrast.memory"),
        ("from ..memory import MemoryQueue", "imports skelcontrast.memory.MemoryQueue"),
        ("import scipy.io", "imports scipy at import time"),
        ("try:\n    import triton\nexcept ImportError:\n    pass", "imports triton at import time"),
        ("from skelcontrast.kernels import read", "imports kernels at import time"),
    ],
)
def test_a_wrong_arrow_is_seen(source: str, said: str) -> None:
    (wrong,) = wrong_arrows(source, "skelcontrast.losses.d3m", "skelcontrast.losses")
    assert said in wrong


@pytest.mark.parametrize(
    "source",
    [
        "from skelcontrast import _check",
        "from .info_nce import info_nce",
        "def f():\n    from skelcontrast.kernels import read",
        "def f():\n    import scipy",
        "if TYPE_CHECKING:\n    import matplotlib.figure",
        "import math, torch",
    ],
)
def test_a_right_arrow_passes(source: str) -> None:
    assert wrong_arrows(source, "skelcontrast.losses.d3m", "skelcontrast.losses") == []


def test_a_command_may_use_any_room_while_it_runs() -> None:
    later, first = "def f():\n    from skelcontrast import viz", "from skelcontrast import viz"
    assert wrong_arrows(later, "skelcontrast.data.__main__", "skelcontrast.data") == []
    assert len(wrong_arrows(first, "skelcontrast.data.__main__", "skelcontrast.data")) == 1
    assert len(wrong_arrows(later, "skelcontrast.data.loader", "skelcontrast.data")) == 1


def test_every_room_has_its_rule() -> None:
    rooms = {path.relative_to(SOURCE).parts[0].removesuffix(".py") for path in FILES}
    assert {room for room in rooms if not room.startswith("_")} <= MAY_IMPORT.keys()


PROBE = f"""
import importlib, json, sys
import skelcontrast
alone = sorted(name for name in sys.modules if name.startswith("skelcontrast") or name == "torch")
import torch, numpy, einops, typing_extensions
before, loaded = set(sys.modules), {{}}
for room in sys.argv[1:]:
    importlib.import_module("skelcontrast." + room)
    new = {{name.split(".")[0] for name in set(sys.modules) - before}}
    loaded[room] = sorted((new & {OPTIONAL!r}) | {{name for name in sys.modules if "skelcontrast.kernels" in name}})
print(json.dumps([alone, loaded, torch.cuda.is_initialized()]))
"""


def test_an_import_is_light() -> None:
    """In an interpreter of its own, because this one has loaded everything long ago."""
    rooms = [
        room for room in MAY_IMPORT if room not in {"", "kernels"} and importlib.util.find_spec(f"skelcontrast.{room}")
    ]
    probe = [sys.executable, "-c", PROBE, *rooms]
    run = subprocess.run(probe, check=False, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    alone, loaded, cuda_started = json.loads(run.stdout)
    assert alone == ["skelcontrast"]
    assert loaded == {room: [] for room in rooms}
    assert not cuda_started


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_no_file_is_long(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 320
