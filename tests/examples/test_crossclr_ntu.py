"""The loop over several streams: both methods and stages, its arguments, and the same bits when it is resumed."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from tests.examples.conftest import LoadExample

from skelcontrast import checkpoint
from skelcontrast.data import SyntheticActions

QUICK = [
    *("--width", "1", "--embedding", "16", "--batch-size", "16", "--lr", "0.02"),
    *("--epochs", "2", "--mine-from", "1", "--eval-every", "1", "--device", "cpu"),
]


@pytest.fixture
def script(example: LoadExample, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the script, with few clips for the asking."""
    loop = example("crossclr_ntu")
    parts = SyntheticActions(subjects=2, repetitions=1, frames=4).split("cross-subject")
    monkeypatch.setattr(loop.pretraining, "load_data", lambda args: parts)
    return loop


def log_of(out: Path) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in record.items() if name != "seconds"} for record in records]


def test_three_streams_in_two_stages(script: ModuleType, tmp_path: Path) -> None:
    result = script.main([*QUICK, "--out", str(tmp_path)])
    first, second = log_of(tmp_path)
    streams = {"joint", "motion", "bone"}
    knn = {f"knn_{stream}" for stream in streams}
    assert first.keys() == {"epoch", "lr", "total", "info_nce", *streams, *knn}
    assert second.keys() == {"epoch", "lr", "total", "cross", *streams}
    for record in (first, second):
        assert record["total"] == pytest.approx(sum(record[stream] for stream in streams), rel=1e-5)
    assert result.keys() == {"linear_fused", *knn, *(f"linear_{stream}" for stream in streams)}
    assert json.loads((tmp_path / "result.json").read_text()) == result
    assert all(0 <= value <= 1 for value in result.values())


def test_aimclr_streams_broken_off_and_resumed(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [*QUICK, "--method", "aimclr", "--streams", "joint", "bone", "--eval-every", "9"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    result = script.main([*arguments, "--out", str(whole)])
    assert [{"info_nce", "cross", "d3m"} & record.keys() for record in log_of(whole)] == [
        {"info_nce", "d3m"},
        {"cross", "d3m"},
    ]
    train_epoch = script.train_epoch

    def first_only(*given: Any) -> dict[str, float]:
        if given[-1] == 1:
            raise KeyboardInterrupt
        means: dict[str, float] = train_epoch(*given)
        return means

    monkeypatch.setattr(script, "train_epoch", first_only)
    with pytest.raises(KeyboardInterrupt):
        script.main([*arguments, "--out", str(broken)])
    monkeypatch.setattr(script, "train_epoch", train_epoch)
    torch.manual_seed(9)  # as a new process would not know
    assert script.main([*arguments, "--out", str(broken), "--resume"]) == result
    assert log_of(broken) == log_of(whole)
    models = [checkpoint.load(out / "last.pt")["model"] for out in (whole, broken)]
    assert all(torch.equal(value, models[1][name]) for name, value in models[0].items())


def test_arguments(script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = script.parse(["--streams", "bone", "joint", "--no-context", "--lr", "0.5"])
    assert (args.streams, args.context, args.lr, args.method) == (("bone", "joint"), False, 0.5, "skeletonclr")
    assert args.out == Path("runs/crossclr")
    with pytest.raises(SystemExit):
        script.parse(["--streams", "depth"])
    assert "invalid choice: 'depth'" in capsys.readouterr().err
    for option in (["--stream", "bone"], ["--fast"]):
        with pytest.raises(SystemExit):
            script.parse(option)
        assert f"{option[0]} is for aimclr_ntu.py only" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        script.main([*QUICK, "--streams", "joint", "--out", str(tmp_path)])
    assert "error: CrosSCLR: `streams` must hold at least 2 streams, got 1" in capsys.readouterr().err
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match="2"):
        script.main([*QUICK, "--out", str(tmp_path / "file")])
    assert capsys.readouterr().err.startswith("error: [Errno 17] File exists: ")


def test_resuming_with_other_settings_is_refused(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [*QUICK, "--out", str(tmp_path)]
    (tmp_path / "settings.json").write_text(json.dumps(vars(script.parse(given)), default=str))
    (tmp_path / "last.pt").touch()
    with pytest.raises(SystemExit, match="2"):
        script.main([*given, "--resume", "--no-context", "--streams", "joint", "bone"])
    error = capsys.readouterr().err
    assert "context False where True is stored" in error
    assert "streams ['joint', 'bone'] where ['joint', 'motion', 'bone'] is stored" in error


def test_not_a_number_stops(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script.pretraining, "learning_rate_factor", lambda args, epoch: 1e30)
    with pytest.raises(FloatingPointError, match=r"finite terms, got \w+ nan in step \d+ of \d+ of epoch 1"):
        script.main([*QUICK, "--streams", "joint", "bone", "--out", str(tmp_path)])
    assert not (tmp_path / "last.pt").exists()
