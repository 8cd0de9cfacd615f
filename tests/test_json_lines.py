"""JSON lines: what is read back, all or nothing, and the messages of bad calls."""

import json
import re
from collections import OrderedDict
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch

from skelcontrast.checkpoint import write_json_lines


def read(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_plain_data_comes_back(tmp_path: Path) -> None:
    records: list[dict[str, Any]] = [
        {"epoch": 1, "total": 0.1 + 0.2, "done": False, "none": None, "text": "\u00e9\n"},
        {"list": [1, [2.5, "x"]], "nested": {"a": {"b": -1e-300}}, "inf": float("inf")},
        {},
    ]
    write_json_lines(tmp_path / "log.jsonl", records)
    assert read(tmp_path / "log.jsonl") == records
    write_json_lines(str(tmp_path / "log.jsonl"), records[:1])
    assert read(tmp_path / "log.jsonl") == records[:1]
    write_json_lines(tmp_path / "log.jsonl", [])
    assert (tmp_path / "log.jsonl").read_text() == ""
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]


def test_arguments_of_a_run_are_plain_data(tmp_path: Path) -> None:
    given = MappingProxyType(
        {"out": Path("runs/a"), "runs": (Path("b"), 3), "how": OrderedDict(x=MappingProxyType({}))}
    )
    write_json_lines(tmp_path / "settings.json", [given])
    assert read(tmp_path / "settings.json") == [{"out": "runs/a", "runs": ["b", 3], "how": {"x": {}}}]


@pytest.mark.parametrize(
    ("records", "message"),
    [
        (
            [{"epoch": 1}, {"total": torch.tensor(1.0)}],
            "`records[1]` must hold plain data with strings as names, got a Tensor. Convert it to a number, a string",
        ),
        ([{"a": [b"x"]}], "`records[0]` must hold plain data with strings as names, got a bytes. Convert it"),
        ([{(1, 2): 3}], "`records[0]` must hold plain data with strings as names, got keys"),
        ([[1, 2]], "`records[0]` must be a mapping from names, got list."),
        ({"epoch": 1}, "`records` must be a sequence of mappings, got dict. Put it in a list."),
    ],
)
def test_what_is_not_plain_data_leaves_the_file_as_it_was(tmp_path: Path, records: Any, message: str) -> None:
    (tmp_path / "log.jsonl").write_text("old")
    with pytest.raises(TypeError, match=re.escape(f"write_json_lines: {message}")):
        write_json_lines(tmp_path / "log.jsonl", records)
    assert (tmp_path / "log.jsonl").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]


def test_the_folder_must_exist(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"write_json_lines: `path` must lie in an existing folder, got .*log\.jsonl\."
    ):
        write_json_lines(tmp_path / "none" / "log.jsonl", [])
