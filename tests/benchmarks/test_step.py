"""The benchmark of a whole step, on a step small enough for a test."""

import json
from pathlib import Path

import pytest

from benchmarks import step, step_forms


def test_a_small_step_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = tmp_path / "step.json"
    sizes = ["--batch", "2", "--keys", "8", "--frames", "8", "--repeats", "2", "--threads", "1", "--device", "cpu"]
    step.main([*sizes, "--json", str(where)])
    found = json.loads(where.read_text())
    (table,) = found["tables"]
    assert [row["form"] for row in table["rows"]] == [step_forms.RELEASED, step_forms.OURS]
    assert all(row["flops"] > 1e8 and row["share"] > 0 for row in table["rows"])
    assert set(table["parts"]) == {step_forms.RELEASED, step_forms.OURS}
    for name, parts in table["parts"].items():
        assert set(parts) == set(step_forms.PARTS)
        assert all(seconds > 0 for seconds in parts.values()), f"a part of the {name} was never timed"
    shown = capsys.readouterr().out
    assert "300 epochs of NTU-60 (40,091 clips, 20045 steps of 2) would take" in shown


def test_a_bank_that_the_released_code_cannot_hold_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        step.main(["--batch", "3", "--keys", "8"])
    assert "--keys must be a multiple of --batch" in capsys.readouterr().err
