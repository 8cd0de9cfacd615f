"""The supervised yardstick runs with the arguments of the pre-training loop."""

import json
from pathlib import Path

from tests.examples.conftest import LoadExample


def test_one_epoch(example: LoadExample, tmp_path: Path) -> None:
    arguments = ["--frames", "8", "--width", "2", "--batch-size", "64", "--epochs", "1", "--lr", "0.05"]
    result = example("supervised").main([*arguments, "--device", "cpu", "--out", str(tmp_path / "run")])
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == result
    assert 0 <= result["accuracy"] <= 1
    (line,) = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    assert json.loads(line).keys() == {"epoch", "loss"}
