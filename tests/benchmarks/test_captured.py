"""What benchmarks do on CUDA: capture, replay, compare in full precision; without a device as far as that goes."""

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.captured import REPLAYS, Captured
from benchmarks.forms import LEAST, Form, check_that_numbers_agree, measure_forms, time_calls
from benchmarks.measure import Precision, Timing, full_precision, interleaved
from torch import Tensor

from benchmarks import augment, epoch, graph_conv, libraries, losses, step, step_forms

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
CUDA = torch.device("cuda")
TIMING = Timing(2, CUDA, "wall")
SMALL = ["--batch", "2", "--keys", "8", "--frames", "8"]


def settings() -> tuple[str, bool]:
    return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32


def squares() -> dict[str, Form]:
    inputs = [torch.randn(64, 8, requires_grad=True)]
    return {
        "plain": Form.of_loss(lambda x: (x * x).sum(), inputs),
        "ours": Form.of_loss(lambda x: x.square().sum(), inputs),
    }


class Uncaptured:
    """Stands in for `Captured`: a replay is a call."""

    def __init__(self, _name: str, call: Callable[[], object], *_generators: torch.Generator) -> None:
        self.call = call
        for _ in range(4):  # three to warm up, and one to be recorded
            self.result = call()

    def __call__(self) -> None:
        for _ in range(REPLAYS):
            self.replay()

    def replay(self) -> None:
        self.result = self.call()


@pytest.fixture
def as_if_on_cuda(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let benchmarks go the way of CUDA on a CPU; return what is timed, 1 s for a replay and 3 s for a call."""
    timed: list[str] = []

    def time_one(candidate: Callable[[], object], *_: object) -> float:
        candidate()
        timed.append(type(candidate).__name__)
        return float(REPLAYS) if isinstance(candidate, Uncaptured) else 3.0

    monkeypatch.setattr("benchmarks.measure._time_calls", time_one)
    monkeypatch.setattr("benchmarks.forms.peak_memory", lambda call, device: 2**20)
    for module in ("measure", "augment", "libraries"):
        monkeypatch.setattr(f"benchmarks.{module}.Captured", Uncaptured)
    return timed


def test_forms_are_replayed_and_launched(as_if_on_cuda: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    _, ours = measure_forms("square", squares(), TIMING)
    assert {part: of["median"] for part, of in ours["seconds"].items()} == {
        "forward": 1.0,
        "backward": LEAST,  # as long as both: nothing is left
        "both": 1.0,
        "launched": 3.0,
    }
    assert as_if_on_cuda.count("Uncaptured") == 4 * (2 + 2), (
        "forward and both, of two forms, with two rounds to warm up"
    )
    assert as_if_on_cuda.count("method") == 2 * (2 + 2)
    assert "launched one by one 3000 ms, 1.00 x" in capsys.readouterr().out


def test_backward_is_the_difference(monkeypatch: pytest.MonkeyPatch, as_if_on_cuda: list[str]) -> None:
    def time_one(candidate: Any, *_: object) -> float:
        candidate()
        goes_back = isinstance(candidate, Uncaptured) and candidate.call.__name__ == "both"
        return REPLAYS * (5.0 if goes_back else 2.0)

    monkeypatch.setattr("benchmarks.measure._time_calls", time_one)
    _, ours = measure_forms("square", squares(), TIMING)
    assert [ours["seconds"][part]["median"] for part in ("forward", "backward", "both")] == [2.0, 3.0, 5.0]


def test_calls_without_parts(as_if_on_cuda: list[str]) -> None:
    assert time_calls({"one": lambda: None}, TIMING) == {"one": {"both": [1.0, 1.0], "launched": [3.0, 3.0]}}
    on_cpu = time_calls({"one": lambda: None}, Timing(2, torch.device("cpu"), "wall"))
    assert on_cpu == {"one": {"both": [3.0, 3.0]}}


def test_views_of_a_larger_batch_stand_beside_the_loop_of_the_smaller(as_if_on_cuda: list[str]) -> None:
    cpu, loops = Timing(2, torch.device("cpu"), "wall"), dict[str, list[float]]()
    first = augment.measure(2, 8, cpu, loops)
    assert {row["form"] for row in first["rows"]} == {"NumPy loop", "skelcontrast"}
    found = augment.measure(8, 8, cpu, loops, times=4)
    loop, ours, *_ = found["rows"]
    assert loop["form"] == "NumPy loop, 4 times 2"
    assert loop["seconds"]["both"]["median"] == 4 * 3.0
    assert ours["times_faster"]["both"]["median"] == 4.0
    assert len(as_if_on_cuda) == 3 * (2 + 1) * (2 + 2)


def test_our_captured_step_begins_with_the_bank_that_was_there(as_if_on_cuda: list[str]) -> None:
    problem = libraries.draw(4, 8, 16, torch.device("cpu"))
    captured = libraries.steps(None, None, on_cuda=True)[libraries.CAPTURED](problem)
    found = [captured()[0].item() for _ in range(2)]
    assert found == pytest.approx(libraries.plain_losses(problem, keys_first=False), rel=1e-5)
    assert libraries.CAPTURED not in libraries.steps(None, None)


@pytest.mark.parametrize(
    ("precision", "expected"),
    [("default", ("highest", True)), ("highest", ("highest", False)), ("tf32", ("high", True))],
)
def test_precision_is_set_and_said(precision: Precision, expected: tuple[str, bool]) -> None:
    parser = argparse.ArgumentParser()
    Timing.add_arguments(parser, repeats=2)
    before = settings()
    with full_precision():  # puts back what was there before
        threads = str(torch.get_num_threads())
        timing = Timing.of(parser.parse_args(["--device", "cuda", "--precision", precision, "--threads", threads]))
        assert settings() == expected
        assert timing.settings()["precision"] == precision
        with full_precision():
            assert settings() == ("highest", False)
        assert settings() == expected
    assert settings() == before
    on_cpu = Timing.of(parser.parse_args(["--device", "cpu", "--precision", precision, "--threads", threads]))
    assert settings() == before
    assert "precision" not in on_cpu.settings()


def test_numbers_are_compared_in_full_precision() -> None:
    seen: list[tuple[str, bool]] = []

    def call(x: Tensor) -> Tensor:
        seen.append(settings())
        return x.sum()

    before = settings()
    check_that_numbers_agree({"plain": Form.of_loss(call, [torch.ones(2, requires_grad=True)])})
    assert set(seen) == {("highest", False)}
    assert settings() == before


class Graph:
    """Stands in for torch's CUDA graphs."""

    def __init__(self) -> None:
        self.replays, self.generators = 0, list[object]()

    def register_generator_state(self, generator: object) -> None:
        self.generators.append(generator)

    def replay(self) -> None:
        self.replays += 1


class Stream:
    def wait_stream(self, other: object) -> None:
        pass


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[Graph]:
    """Let torch record nothing, and end a capture that failed as it does: with another error."""
    made: list[Graph] = []

    def make() -> Graph:
        made.append(Graph())
        return made[-1]

    @contextmanager
    def record(graph: Graph) -> Iterator[None]:
        try:
            yield
        except RuntimeError:
            raise RuntimeError("an error of the end") from None

    monkeypatch.setattr(torch.cuda, "CUDAGraph", make)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "graph", record)
    return made


def test_a_call_is_warmed_up_recorded_and_replayed(graphs: list[Graph]) -> None:
    calls, generator = list[str](), torch.Generator()

    def call() -> int:
        calls.append("call")
        return len(calls)

    captured = Captured("one", call, generator)
    assert len(calls) == captured.result == 4
    (graph,) = graphs
    assert graph.generators == [generator]
    captured()
    captured.replay()
    assert graph.replays == REPLAYS + 1
    assert len(calls) == 4


def test_what_cannot_be_captured_says_so(graphs: list[Graph]) -> None:
    calls: list[int] = []

    def call() -> None:
        calls.append(1)
        if len(calls) > 3:
            raise RuntimeError("a value was asked for")

    with pytest.raises(RuntimeError, match=r"^ours, both cannot be captured as a CUDA graph: a value was asked for"):
        Captured("ours, both", call)


@pytest.mark.gpu
@needs_cuda
def test_a_graph_computes_what_the_call_does() -> None:
    x = torch.randn(64, 8, device="cuda", requires_grad=True)
    form = Form.of_loss(lambda x: x.square().sum(), [x])
    captured = Captured("square", form.both)
    with torch.no_grad():
        x.normal_()
    captured()
    for found, expected in zip(captured.result, form.both(), strict=True):
        torch.testing.assert_close(found, expected)
    times = interleaved({"square": form.both}, TIMING._replace(repeats=3), captured=True)["square"]
    assert len(times) == 3
    assert all(0 < seconds < 1 for seconds in times)


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize(
    ("module", "arguments", "forms"),
    [
        (losses, ["--batch", "4", "--keys", "64", "--dim", "16"], {"released form", "triton"}),
        (graph_conv, ["--batch", "1", "--frames", "8", "--encoder-batch", "1"], {"released form", "auto", "STGCN"}),
        (graph_conv, ["--batch", "1", "--frames", "8", "--encoder-batch", "1", "--bf16"], {"auto", "STGCN"}),
        (augment, ["--batch", "4", "--frames", "8"], {"NumPy loop, 32 times 4", "skelcontrast, captured"}),
        (step, SMALL, {step_forms.GIVEN, step_forms.CAPTURED, step_forms.COMPILED}),
        (epoch, ["--clips", "5", *SMALL], {step_forms.GIVEN, step_forms.CAPTURED, step_forms.COMPILED}),
    ],
)
def test_small_runs_on_a_gpu(module: Any, arguments: list[str], forms: set[str], tmp_path: Path) -> None:
    where, threads = tmp_path / "result.json", str(torch.get_num_threads())
    module.main([*arguments, "--repeats", "2", "--threads", threads, "--json", str(where)])
    found = json.loads(where.read_text(encoding="utf-8"))
    assert found["precision"] == "default"
    assert forms <= {row["form"] for table in found["tables"] for row in table["rows"]}
