"""The supervised yardstick runs with the arguments of the pre-training loop, and goes on where it was broken off."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.examples.conftest import LoadExample

QUICK = ["--frames", "8", "--width", "2", "--batch-size", "64", "--lr", "0.05", "--eval-every", "2", "--device", "cpu"]


def log_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_one_epoch(example: LoadExample, tmp_path: Path) -> None:
    result = example("supervised").main([*QUICK, "--epochs", "1", "--out", str(tmp_path / "run")])
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == result
    assert 0 <= result["accuracy"] <= result["top5"] <= 1
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert settings["method"] == "supervised"
    assert "momentum" not in settings
    (record,) = log_of(tmp_path / "run")
    assert record.keys() == {"epoch", "lr", "loss", "top1", "top5"}


def test_it_says_what_it_is_and_what_does_nothing(
    example: LoadExample, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = example("supervised")
    assert script.parse([]).out == Path("runs/supervised")
    with pytest.raises(SystemExit):
        script.parse(["--help"])
    assert "Train the same encoder with labels" in capsys.readouterr().out
    for option in (["--method", "aimclr"], ["--no-drop"], ["--keep", "1", "2"]):
        with pytest.raises(SystemExit):
            script.parse([*option, "--epochs", "1"])
        assert f"{option[0]} does nothing in training with labels" in capsys.readouterr().err
    given = [*QUICK, "--out", str(tmp_path)]
    (tmp_path / "settings.json").write_text(json.dumps(vars(script.parse(given)), default=str))
    (tmp_path / "last.pt").touch()
    with pytest.raises(SystemExit, match="2"):
        script.main([*given, "--resume", "--width", "4"])
    assert "width 4 where 2 is stored" in capsys.readouterr().err
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match="2"):
        script.main([*QUICK, "--out", str(tmp_path / "file")])
    assert capsys.readouterr().err.startswith("error: [Errno 17] File exists: ")
    with pytest.raises(SystemExit, match=r"was trained with labels; its result\.json has its accuracy\."):
        example("evaluate").main([str(tmp_path)])


def test_broken_off_and_resumed_ends_with_the_same_numbers(
    example: LoadExample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = example("supervised")
    whole = script.main([*QUICK, "--epochs", "2", "--out", str(tmp_path / "whole")])
    save, broken = script.checkpoint.save, str(tmp_path / "broken")

    def save_and_die(*arguments: Any) -> None:
        save(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(script.checkpoint, "save", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        script.main([*QUICK, "--epochs", "2", "--out", broken])
    monkeypatch.setattr(script.checkpoint, "save", save)
    assert len(log_of(tmp_path / "broken")) == 1
    assert script.main([*QUICK, "--epochs", "2", "--out", broken, "--resume"]) == whole
    assert log_of(tmp_path / "broken") == log_of(tmp_path / "whole")
