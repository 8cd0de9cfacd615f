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

from benchmarks import libraries, machine


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
        self.gpu_marked = list[list[str]]()

    def run(self, command: list[str], **options: Any) -> Any:
        class Ended:
            returncode, stdout = 0, "3.0 x\n"

        if "gpu" in command:
            self.gpu_marked.append(command[command.index("gpu") + 1 :])
            Ended.returncode = int(any(path in self.failing for path in self.gpu_marked[-1]))
        elif "pytest" in command:
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


@pytest.fixture
def with_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the runner believe in a device."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Made-up GPU")


@pytest.mark.usefixtures("with_cuda")
def test_the_gate_may_be_gpu_marked_tests_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = start(monkeypatch)
    monkeypatch.setitem(BENCHMARKS, "files", Benchmark("Files", "benchmarks.files", ("tests/test_atomic.py",)))
    assert main(["losses", "augment", "scaling", "files", "--gate", "gpu", "--out", str(tmp_path)]) == 0
    of_losses, of_augment, of_scaling = machine.gpu_marked
    kernels = ["tests/kernels/test_bank_read.py", "tests/kernels/test_aimclr.py"]
    assert of_losses == ["tests/losses", *kernels], "they are run together"
    assert of_augment == ["tests/augment"]
    others = "graph_conv", "branch", "temporal_conv", "batch_norm", "two_norms", "statistics", "eadm"
    kernels = [f"tests/kernels/test_{name}.py" for name in others]
    assert of_scaling == ["tests/nn", *kernels], "a set of tests is run once per call"
    assert machine.tests == ["tests/test_atomic.py"], "where none is marked, all are run"
    gates = {
        path.name.split("-")[0]: json.loads(path.read_text())["machine"]["gate"] for path in tmp_path.glob("*.json")
    }
    assert gates == dict.fromkeys(("losses", "augment", "scaling"), "GPU-marked tests") | {"files": "all tests"}
    assert "gate     GPU-marked tests" in (tmp_path / "losses-made-up-gpu.txt").read_text(encoding="utf-8")
    assert "losses: measuring, behind GPU-marked tests" in capsys.readouterr().out


@pytest.mark.usefixtures("with_cuda")
def test_nothing_is_measured_behind_a_failing_gpu_marked_test(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = start(monkeypatch, "tests/augment")
    assert main(["augment", "--gate", "gpu"]) == 1
    assert not machine.measured
    assert not machine.tests


def test_a_gate_of_skipped_tests_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        main(["losses", "--gate", "gpu"])
    assert "--gate gpu needs a CUDA device" in capsys.readouterr().err


def test_what_is_about_another_device_is_measured_only_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = start(monkeypatch)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["--threads", "3"]) == 0
    called = {" ".join(command[:1] + command[3:]) for command in machine.measured}
    assert "benchmarks.parsing" in called
    assert not any(command.startswith("benchmarks.graph_conv --bf16") for command in called)
    assert main(["graph_conv_bf16", "--threads", "3"]) == 0
    assert "--bf16" in machine.measured[-1]


@pytest.mark.usefixtures("with_cuda")
def test_with_cuda_what_is_about_a_cpu_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = start(monkeypatch)
    assert main([]) == 0
    called = {command[0] for command in machine.measured}
    assert "benchmarks.losses" in called
    assert called.isdisjoint(
        f"benchmarks.{name}" for name in ("parsing", "preparation", "evaluation", "graph_conv_rules")
    )
    assert any("--bf16" in command and command[0] == "benchmarks.graph_conv" for command in machine.measured)


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


def test_a_processor_has_no_marks_of_trade(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text("processor\t: 0\nmodel name\t: Intel(R) Xeon(R) Processor\n", encoding="utf-8")
    monkeypatch.setattr(machine, "Path", lambda _: info)
    assert machine.processor() == "Intel Xeon Processor"


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
