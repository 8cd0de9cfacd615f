"""How benchmarks count: turns, ratios within a repeat, memory held at one time, and what the runner writes."""

import argparse
import json
from pathlib import Path

import pytest
import torch
from benchmarks.__main__ import write
from benchmarks.forms import Binding, Form, measure_forms
from benchmarks.machine import describe_machine
from benchmarks.measure import Limits, Spread, Timing, Work, interleaved, matrix_rate, peak_memory, speedup


def test_candidates_take_turns() -> None:
    calls: list[str] = []
    timing = Timing(3, torch.device("cpu"), "wall")
    times = interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, timing, warmup=1)
    assert calls == ["a", "b"] * 4
    assert {name: len(found) for name, found in times.items()} == {"a": 3, "b": 3}
    assert all(seconds >= 0 for found in times.values() for seconds in found)


def test_of_calls_in_a_row_a_time_is_the_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    clock = iter(range(0, 1000, 6))
    monkeypatch.setattr("time.perf_counter", lambda: float(next(clock)))
    timing = Timing(2, torch.device("cpu"), "wall")
    times = interleaved({"a": lambda: calls.append("a")}, timing, warmup=1, in_a_row=3)
    assert calls == ["a"] * 9
    assert times == {"a": [2.0, 2.0]}


def test_a_ratio_is_taken_within_a_repeat() -> None:
    # A machine that slows down by ten in the second repeat does so for both.
    assert speedup([2.0, 20.0, 2.0], [1.0, 10.0, 1.0]) == Spread(2, 2, 2, 2)
    assert speedup([3.0, 4.0, 5.0], [1.0, 1.0, 1.0]).median == 4
    assert Spread.of([1.0, 2.0, 3.0]).show(10) == "      20 (10-30)"


@pytest.mark.parametrize("repeats", ["1", "-3", "x"])
def test_a_spread_is_of_two_repeats_at_least(repeats: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    Timing.add_arguments(parser, repeats=5)
    with pytest.raises(SystemExit):
        parser.parse_args(["--repeats", repeats])
    assert f"argument --repeats: must be 2 or more, got {repeats}" in capsys.readouterr().err


def test_peak_memory_counts_what_is_held_together() -> None:
    one_mebibyte = 2**18

    def one_after_the_other() -> None:
        for _ in range(3):
            torch.empty(one_mebibyte)

    def together() -> list[torch.Tensor]:
        return [torch.empty(one_mebibyte) for _ in range(3)]

    assert 2**20 <= peak_memory(one_after_the_other) < 2**20 + 4096
    assert 3 * 2**20 <= peak_memory(together) < 3 * 2**20 + 4096


def test_matrix_rate_is_a_rate() -> None:
    assert matrix_rate(8, Timing(2, torch.device("cpu"), "wall")) > 0


@pytest.mark.parametrize(("emulated", "expected"), [(True, torch.float32), (False, torch.bfloat16)])
def test_a_cpu_is_measured_in_the_numbers_that_it_computes_with(
    emulated: bool, expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[torch.dtype] = []

    def rate(_size: int, _timing: Timing, dtype: torch.dtype) -> float:
        asked.append(dtype)
        return 1.0

    monkeypatch.setattr("benchmarks.measure.EMULATED_BY_CPU", {torch.bfloat16} if emulated else set())
    monkeypatch.setattr("benchmarks.measure.interleaved", lambda *_, **__: {"copy": [1.0, 1.0]})
    monkeypatch.setattr("benchmarks.measure.matrix_rate", rate)
    Limits.measure(Timing(2, torch.device("cpu"), "wall"), torch.bfloat16)
    assert asked == [expected]


def test_the_share_is_that_of_the_limit_that_binds() -> None:
    limits = Limits(copy_bytes_per_second=10, matrix_flops_per_second=100)
    assert limits.share(Work(flops=100, moved=5), seconds=2) == pytest.approx(0.5)
    assert limits.share(Work(flops=100, moved=15), seconds=2) == pytest.approx(0.75)


def test_forms_are_measured_in_parts_and_must_agree(capsys: pytest.CaptureFixture[str]) -> None:
    timing = Timing(2, torch.device("cpu"), "wall")
    inputs = [torch.randn(64, 8, requires_grad=True)]
    forms = {
        "plain": Form.of_loss(lambda x: (x * x).sum(), inputs),
        "ours": Form.of_loss(lambda x: x.square().sum(), inputs),
    }
    bound = Binding(Work(1.0, 1.0), Limits(1.0, 1.0))
    plain, ours = measure_forms("square", forms, timing, count=2, bound=bound)
    assert plain["times_faster"]["both"]["median"] == 1
    assert ours["seconds"].keys() == {"forward", "backward", "both"}
    assert ours["count"] == 2
    assert ours["share"] > 0
    assert "square" in capsys.readouterr().out
    forms["wrong"] = Form.of_loss(lambda x: 2 * x.square().sum(), inputs)
    with pytest.raises(ArithmeticError, match="wrong differs from plain"):
        measure_forms("square", forms, timing)


def test_results_are_kept_as_text_and_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    machine = {**describe_machine(), "device": "Made-up GPU (80 GB)"}
    write(tmp_path, "losses", machine, "fast\n", {"machine": machine, "result": {"seconds": 1.0}})
    assert "losses: written to" in capsys.readouterr().out
    assert (tmp_path / "losses-made-up-gpu-80-gb.txt").read_text(encoding="utf-8").endswith("\n\nfast\n")
    kept = json.loads((tmp_path / "losses-made-up-gpu-80-gb.json").read_text(encoding="utf-8"))
    assert kept["result"] == {"seconds": 1.0}
    assert {"date", "commit", "machine", "versions", "device"} == kept["machine"].keys()
