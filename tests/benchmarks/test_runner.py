"""The gate of tests, absent packages, arguments of a benchmark, and what `libraries` holds losses against."""

import importlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.__main__ import main
from benchmarks.machine import ROOT, stem
from benchmarks.registry import BENCHMARKS, Benchmark

from benchmarks import libraries


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Keep what the runner would have started; everything fails."""
    commands: list[list[str]] = []

    class Failed:
        returncode, stdout = 1, ""

    def run(command: list[str], **_: object) -> Failed:
        commands.append(command)
        return Failed()

    monkeypatch.setattr("benchmarks.__main__.subprocess.run", run)
    monkeypatch.setattr("benchmarks.machine.commit", lambda: "made up")
    return commands


def test_an_absent_package_skips_and_does_not_fail(
    ran: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(
        BENCHMARKS, "made_up", Benchmark("Made up", "benchmarks.made_up", ("tests",), needs=("json", "no_such_package"))
    )
    assert main(["made_up"]) == 0
    assert ran == []
    shown = capsys.readouterr().out
    assert "made_up: skipped, because no_such_package cannot be found" in shown
    assert 'pip install -c constraints.txt -e ".[bench]"' in shown
    assert "no result" not in shown


def test_present_packages_do_not_skip(
    ran: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(BENCHMARKS, "made_up", Benchmark("Made up", "benchmarks.made_up", ("tests",), needs=("json",)))
    assert main(["made_up"]) == 1
    assert len(ran) == 1
    assert "no result for: made_up" in capsys.readouterr().out


class Machine:
    """Stands in for what the runner starts: tests pass or not by their name, a benchmark writes one number."""

    def __init__(self, *failing: str) -> None:
        self.failing, self.tests, self.measured = failing, list[str](), list[list[str]]()

    def run(self, command: list[str], **options: Any) -> Any:
        class Ended:
            returncode, stdout = 0, "3.0 x\n"

        if "pytest" in command:
            self.tests.append(command[-1])
            Ended.returncode = int(command[-1] in self.failing)
        else:
            assert options["env"]["OMP_NUM_THREADS"] == "3" or torch.cuda.is_available()
            self.measured.append(command[2:])
            Path(command[command.index("--json") + 1]).write_text('{"seconds": 1}', encoding="utf-8")
        return Ended


def start(monkeypatch: pytest.MonkeyPatch, *failing: str) -> Machine:
    machine = Machine(*failing)
    monkeypatch.setattr("benchmarks.__main__.subprocess.run", machine.run)
    monkeypatch.setattr("benchmarks.machine.commit", lambda: "made up")
    for name, tests in (("one", ("a", "b")), ("two", ("b", "c"))):
        made_up = Benchmark(name, f"benchmarks.{name}", tests, ("--always",), ("--few",))
        monkeypatch.setitem(BENCHMARKS, name, made_up)
    return machine


def test_nothing_is_measured_or_kept_behind_failing_tests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = start(monkeypatch, "c")
    assert main(["one", "two", "--threads", "3", "--out", str(tmp_path)]) == 1
    assert machine.tests == ["a", "b", "c"], "a set of tests is run once per call"
    assert [command[0] for command in machine.measured] == ["benchmarks.one"]
    shown = capsys.readouterr().out
    assert "two: not measured, because its tests did not pass" in shown
    assert "no result for: two" in shown
    assert shown.count("3.0 x") == 1
    (kept,) = tmp_path.glob("*.json")
    assert kept.name.startswith("one-")
    result = json.loads(kept.read_text(encoding="utf-8"))
    assert result["command"] == "python -m benchmarks.one --always"
    assert result["result"] == {"seconds": 1}


def test_arguments_reach_the_benchmark(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    machine = start(monkeypatch)
    assert main(["one", "--quick", "--threads", "3", "--", "--keys", "7"]) == 0
    assert machine.measured[0][-4:] == ["--always", "--few", "--keys", "7"]
    with pytest.raises(SystemExit):
        main(["one", "two", "--", "--keys", "7"])
    assert "arguments after -- belong to one benchmark" in capsys.readouterr().err


def test_every_operation_has_its_module_its_tests_and_a_quick_form(capsys: pytest.CaptureFixture[str]) -> None:
    for benchmark in BENCHMARKS.values():
        assert all((ROOT / path).exists() for path in benchmark.tests)
        module = importlib.import_module(benchmark.module)
        with pytest.raises(SystemExit) as stopped:
            module.main(["--help"])
        assert stopped.value.code == 0
        options = set(re.findall(r"--[\w-]+", capsys.readouterr().out))
        assert {"--json", *(one for one in benchmark.quick + benchmark.arguments if one.startswith("--"))} <= options


def test_files_are_named_after_operation_machine_and_threads() -> None:
    assert stem("step_bf16", {"device": "NVIDIA H200 (1)"}) == "step_bf16-nvidia-h200-1"
    assert stem("step", {"device": "X", "threads": "2"}) == "step-x-2-threads"
    assert stem("step", {"device": "X", "threads": "1"}) == "step-x"


@pytest.fixture
def no_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the package; afterwards it is put back, whatever took its place."""
    for name in ("torchvision", "torchvision.ops", "torchvision.transforms"):
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.usefixtures("no_torchvision")
def test_without_torchvision_something_empty_stands_in(capsys: pytest.CaptureFixture[str]) -> None:
    libraries.stand_in_for_torchvision()
    assert "something empty stands in" in capsys.readouterr().out
    assert isinstance(importlib.import_module("torchvision.ops").StochasticDepth, type)


@pytest.mark.usefixtures("no_torchvision")
def test_run_alone_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightly", None)
    with pytest.raises(SystemExit, match=r'lightly.*pip install -c constraints\.txt -e "\.\[bench\]"') as stopped:
        libraries.main([])
    assert stopped.value.code != 0


def test_the_plain_form_knows_both_orders() -> None:
    problem = libraries.draw(4, 8, 16, torch.device("cpu"))
    ours = libraries.steps(None, None)[libraries.OURS](problem)
    found = [ours()[0].item() for _ in range(2)]
    assert found == pytest.approx(libraries.plain_losses(problem, keys_first=False), rel=1e-5)
    assert found != pytest.approx(libraries.plain_losses(problem, keys_first=True), rel=1e-2)
