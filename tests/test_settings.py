"""Settings of a run that goes on: what is compared, and the messages."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from skelcontrast.checkpoint import check_settings, write_json_lines

BEGUN: dict[str, Any] = {"lr": 0.1, "stream": "joint", "keep": (1, 2), "out": Path("runs/a"), "dropout": None}


def test_the_same_settings_and_those_that_may_change(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    write_json_lines(path, [BEGUN])
    check_settings(path, BEGUN)
    check_settings(str(path), {**BEGUN, "keep": [1, 2], "out": "runs/a"})  # as JSON they are the same
    check_settings(path, {**BEGUN, "lr": 0.2, "keep": []}, may_change=["lr", "keep"])
    check_settings(path, {"lr": 0.1, "newer": True})  # one side alone has the others


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({**BEGUN, "lr": 0.2}, "lr 0.2 where 0.1 is stored. Go on with the stored ones, or begin a new run"),
        ({**BEGUN, "dropout": 0.5, "stream": "bone"}, "stream bone where joint is stored, dropout 0.5 where None is"),
        ({**BEGUN, "keep": [1]}, "keep [1] where [1, 2] is stored."),
    ],
)
def test_others_are_named(settings: dict[str, Any], named: str, tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    write_json_lines(path, [BEGUN])
    with pytest.raises(ValueError, match=re.escape(f"check_settings: `settings` must be those in {path}, got {named}")):
        check_settings(path, settings)


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        (None, FileNotFoundError, "`path` must name an existing file of settings, got "),
        ("{", ValueError, "`path` must hold one JSON object, got "),
        ("[1]", ValueError, "which holds a list."),
    ],
)
def test_files_that_hold_no_settings(content: str | None, kind: type[Exception], message: str, tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(kind, match=re.escape(message)):
        check_settings(path, BEGUN)


def test_one_string_is_no_collection_of_names(tmp_path: Path) -> None:
    write_json_lines(tmp_path / "settings.json", [BEGUN])
    message = "check_settings: `may_change` must be a collection of names, got one string."
    with pytest.raises(TypeError, match=re.escape(message)):
        check_settings(tmp_path / "settings.json", BEGUN, may_change="lr_drop")


def test_what_is_no_plain_data_is_refused(tmp_path: Path) -> None:
    write_json_lines(tmp_path / "settings.json", [BEGUN])
    with pytest.raises(TypeError, match=r"check_settings: `settings` must hold plain data .*, got a Tensor\."):
        check_settings(tmp_path / "settings.json", {"lr": torch.ones(1)})
