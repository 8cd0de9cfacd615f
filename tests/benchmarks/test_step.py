"""The benchmark of a whole step, on a step small enough for a test."""

import copy
import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

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


def test_a_captured_step_is_compiled_where_it_is_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[dict[str, object]] = []
    orders = list[bool]()

    def as_it_is(function: Callable[..., object], **how: object) -> Callable[..., object]:
        compiled.append(how)
        return function

    def not_captured(step: Any, x: torch.Tensor, module: torch.nn.Module, *, in_order: bool) -> Any:
        orders.append(in_order)
        return step

    monkeypatch.setattr(torch, "compile", as_it_is)
    monkeypatch.setattr(step_forms, "CapturedStep", not_captured)
    model, clips, generator = (
        step_forms.build(8, torch.device("cpu"), dropout=0.0),
        step_forms.draw(2, 8),
        torch.Generator(),
    )
    states = []
    for which in (False, True):
        trained = copy.deepcopy(model)
        how: Any = {"compiled": which, "in_order": which}
        take = step_forms.captured_step(trained, clips, nullcontext(), generator.manual_seed(0), **how)
        assert orders[-1] is which
        assert compiled == ([{"fullgraph": True, "dynamic": False}] * 5 if which else []), "views, three passes, loss"
        take(clips, generator)
        states.append(trained.state_dict())
    torch.testing.assert_close(states[1], states[0])
    assert not torch.equal(states[0]["bank.keys"], model.state_dict()["bank.keys"])
    options = {"combo_kernels": True}
    step_forms.captured_step(model, clips, nullcontext(), generator, compiled=True, options=options)
    assert compiled[-1] == {"fullgraph": True, "dynamic": False, "options": options}


def test_values_at_a_threshold_need_room_in_float32() -> None:
    step.check_forms(4, 8, 64, torch.device("cpu"), torch.float32, tolerance=5e-2)
    with pytest.raises(ArithmeticError, match="skelcontrast differs from released form"):
        step.check_forms(4, 8, 64, torch.device("cpu"), torch.float32, tolerance=1e-12)


def test_a_bank_that_the_released_code_cannot_hold_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        step.main(["--batch", "3", "--keys", "8"])
    assert "--keys must be a multiple of --batch" in capsys.readouterr().err
