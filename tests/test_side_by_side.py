"""What runs side by side, and what waits for what; without a device on streams that only keep account of it."""

from collections.abc import Callable
from functools import partial

import pytest
import torch

from skelcontrast._side_by_side import in_turn, side_by_side, streams_may_part
from tests.compiling import needs_compiler
from tests.streams import Device


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    return Device(monkeypatch)


def test_elsewhere_functions_are_called_in_order_and_no_stream_is_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise AssertionError("a stream was asked for")

    monkeypatch.setattr(torch.cuda, "current_stream", refuse)
    called: list[str] = []
    with in_turn("weights"):
        assert side_by_side([called.append, called.append], ["one", "two"]) == [None, None]
    assert called == ["one", "two"]


@pytest.mark.parametrize("recorded", [False, True])
def test_there_is_an_input_for_every_function(device: Device, recorded: bool) -> None:
    def call() -> None:
        side_by_side([device.do, device.do], ["one"])

    def call_recorded() -> None:
        with streams_may_part():
            call()

    with pytest.raises(ValueError, match="`inputs` must be 2, one for each function, got 1"):
        (call_recorded if recorded else call)()


def test_there_is_a_module_and_a_thing_changed_for_every_function(device: Device) -> None:
    with pytest.raises(ValueError, match="`learns` must be 2, one for each function, got 1"):
        side_by_side([device.do, device.do], ["one", "two"], learns=[None])
    with streams_may_part(), pytest.raises(ValueError, match="`changes` must be 2, one for each function, got 3"):
        side_by_side([device.do, device.do], ["one", "two"], changes=lambda: [None] * 3)
    assert device.before == {}


def test_none_waits_for_another_and_what_follows_for_all(device: Device) -> None:
    device.do("views")
    with streams_may_part():
        found = side_by_side([device.do] * 3, ["query", "key", "extreme"])
        device.do("loss")
    assert found == ["query", "key", "extreme"]
    assert {name: set(device.before[name]) for name in found} == {name: {"views"} for name in found}
    assert device.before["loss"] == {"views", "query", "key", "extreme"}


def test_those_that_change_the_same_go_one_after_the_other(device: Device) -> None:
    with streams_may_part():
        side_by_side([device.do] * 3, ["query", "key", "extreme"], changes=lambda: ["encoder", None, "encoder"])
    assert {name: set(past) for name, past in device.before.items()} == {
        "query": set(),
        "key": set(),
        "extreme": {"query"},
    }


def test_within_them_only_the_changes_are_in_turn(device: Device) -> None:
    def work(name: str) -> None:
        for layer in ("first", "second"):
            device.do(f"{name} computes {layer}")
            with in_turn(layer):
                device.do(f"{name} changes {layer}")

    with streams_may_part():
        side_by_side([work, work], ["query", "extreme"])
    assert device.before["extreme computes first"] == set()
    assert device.before["extreme computes second"] == {
        "query computes first",
        "query changes first",
        "extreme computes first",
        "extreme changes first",
    }
    assert "query changes second" in device.before["extreme changes second"]
    assert not any("extreme" in before for name, past in device.before.items() if "query" in name for before in past)


def test_within_one_another_they_have_streams_of_their_own(device: Device) -> None:
    def pair(name: str) -> None:
        side_by_side([device.do, device.do], [f"{name} query", f"{name} key"])
        device.do(f"{name} loss")

    with streams_may_part():
        side_by_side([pair, pair], ["joint", "motion"])
        device.do("sum")
    assert device.before["motion key"] == set()
    assert device.before["motion loss"] == {"motion query", "motion key"}
    assert device.before["joint loss"] == {"joint query", "joint key"}
    assert len(device.before["sum"]) == 6


def test_the_end_waits_for_what_backward_put_on_other_streams(device: Device) -> None:
    with streams_may_part():
        streams = side_by_side([lambda _: device.current[-1]] * 2, [None, None])
        with torch.cuda.stream(streams[1]):
            device.do("backward of the second")
        device.do("backward of the first")
    device.do("optimiser")
    assert device.before["optimiser"] == {"backward of the first", "backward of the second"}


def test_runs_have_the_same_streams_and_forget_each_others_changes(device: Device) -> None:
    streams = []
    for number in range(2):
        with streams_may_part():
            streams.append(side_by_side([lambda _: device.current[-1]] * 3, [None] * 3))
            device.current[-1].past = streams[-1][1].past = frozenset()
            with in_turn("weights"):
                device.do(f"run {number}")
    assert streams[0] == streams[1]
    assert len(set(streams[0])) == 3
    assert device.before["run 1"] == set()


def test_each_casts_weights_itself_under_autocast(device: Device) -> None:
    seen = [torch.is_autocast_cache_enabled()]
    with streams_may_part():
        seen += side_by_side([lambda _: torch.is_autocast_cache_enabled()] * 2, [None, None])
    assert [*seen, torch.is_autocast_cache_enabled()] == [True, False, False, True]


@needs_compiler
@pytest.mark.parametrize("recorded", [False, True])
def test_within_what_is_compiled_it_is_part_of_one_graph(device: Device, recorded: bool) -> None:
    calls: list[Callable[[torch.Tensor], torch.Tensor]] = [torch.sin, torch.cos]

    def both(x: torch.Tensor) -> torch.Tensor:
        one, two = side_by_side(calls, [x, x])
        return torch.as_tensor(one + two)

    torch.compiler.reset()
    compiled, x = torch.compile(both, backend="eager", fullgraph=True), torch.ones(2)
    found = partial(compiled, x)
    if recorded:
        with streams_may_part():
            torch.testing.assert_close(found(), x.sin() + x.cos())
    else:
        torch.testing.assert_close(found(), x.sin() + x.cos())
