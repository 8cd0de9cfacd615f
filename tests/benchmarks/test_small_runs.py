"""Every benchmark that fits into a test, on inputs so small that only its parts are seen to work together."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import augment, epoch, graph_conv, losses, scaling

COMMON = ("--repeats", "2", "--threads", "1", "--device", "cpu")


def run(module: Any, tmp_path: Path, *arguments: str) -> dict[str, Any]:
    where = tmp_path / "result.json"
    module.main([*arguments, *COMMON, "--json", str(where)])
    found: dict[str, Any] = json.loads(where.read_text(encoding="utf-8"))
    return found


def test_losses(tmp_path: Path) -> None:
    found = run(losses, tmp_path, "--batch", "4", "--keys", "64", "--dim", "16")
    (table,) = found["tables"]
    assert {row["form"] for row in table["rows"]} == {"released form", "plain form", "dense", "chunked"}
    assert table["rows"][0]["flops"] == 2 * 2 * 3 * 4 * 64 * 16
    assert found["limits"]["copy_bytes_per_second"] > 0


def test_the_encoder(tmp_path: Path) -> None:
    found = run(graph_conv, tmp_path, "--batch", "1", "--frames", "8", "--encoder-batch", "1", "--orders", "dense")
    convolution, over_frames, encoder = found["tables"]
    assert sum(row["count"] for row in convolution["rows"] if row["form"] == "auto") == 10
    assert convolution["geometric_means"].keys() == {"auto", "dense"}
    assert "spectral" in {row["form"] for row in over_frames["rows"]}
    assert len(encoder["rows"]) == 4


def test_the_encoder_in_bfloat16(tmp_path: Path) -> None:
    sizes = ("--batch", "1", "--frames", "4", "--encoder-batch", "0", "--orders", "aggregate-first")
    found = run(graph_conv, tmp_path, *sizes, "--bf16")
    convolution, over_frames = found["tables"]
    assert found["dtype"] == "bfloat16"
    assert "spectral" not in {row["form"] for row in over_frames["rows"]}
    first = convolution["rows"][0]
    assert first["case"] == "3->16, T 4"
    assert first["moved"] == 2 * (2 * 4 * 25) * (3 * 3 + 2 * 16)


def test_views(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = run(augment, tmp_path, "--batch", "2", "--frames", "8")
    (table,) = found["tables"]
    assert [row["form"] for row in table["rows"]] == ["NumPy loop", "skelcontrast"] * 3
    (spent,) = table["parts"].values()
    assert len(spent) == augment.LONGEST + 1
    assert all(seconds > 0 for seconds in spent.values())
    *named, _others = spent.values()
    assert named == sorted(named, reverse=True)
    shown = capsys.readouterr().out
    assert "samples a second" in shown
    assert "operations of the extreme view" in shown


def test_growth(tmp_path: Path) -> None:
    sizes = ("--keys", "64", "128", "--samples", "2", "--bodies", "1", "--frames", "4", "--joints", "5")
    found = run(scaling, tmp_path, *sizes)
    assert [table["axis"] for table in found["tables"]] == ["K", "N", "N", "T", "V"]
    assert [row["value"] for row in found["tables"][0]["rows"]] == [64, 64, 128, 128]


def test_an_epoch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = run(epoch, tmp_path, "--clips", "5", "--batch", "2", "--keys", "8", "--frames", "8")
    assert [row["form"] for row in found["tables"][0]["rows"]] == ["released form", "skelcontrast"]
    with pytest.raises(SystemExit):
        epoch.main(["--clips", "1", "--batch", "2", "--keys", "8"])
    assert "--clips at least a batch" in capsys.readouterr().err
