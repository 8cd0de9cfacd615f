"""Calls that do not need each other's results, on streams of their own while a CUDA graph is recorded."""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from skelcontrast import _check
from skelcontrast._own_weights import own_weights

_T = TypeVar("_T")


class _Recording:
    """A run of a step in which streams may part: those in use so far, and what was changed last by whom."""

    def __init__(self) -> None:
        self.streams: list[torch.cuda.Stream] = []
        self.changed: dict[Hashable, torch.cuda.Event] = {}

    def part(self) -> torch.cuda.Stream:
        """Return a stream that this run does not use yet."""
        self.streams.append(_side_stream(torch.cuda.current_device(), len(self.streams)))
        return self.streams[-1]


_RECORDING: ContextVar[_Recording | None] = ContextVar("recording", default=None)


@contextmanager
def streams_may_part() -> Iterator[None]:
    """Let `side_by_side` use further streams in here; at the end the current one waits for all of them."""
    recording = _Recording()
    token = _RECORDING.set(recording)
    try:
        yield
    finally:
        _RECORDING.reset(token)
    for stream in recording.streams:
        torch.cuda.current_stream().wait_stream(stream)


def side_by_side(
    calls: Sequence[Callable[[Any], Any]],
    inputs: Sequence[Any],
    *,
    changes: Callable[[], Sequence[Hashable | None]] | None = None,
    learns: Sequence[nn.Module | None] | None = None,
) -> list[Any]:
    """Call functions, each with its input; none needs what another returns or changes.

    They are called in this order, and draw random numbers in it. While `CapturedStep` records a step, each but the
    first runs on a stream of its own, its backward pass too, so that the device may run them at the same time.

    Args:
        calls: The functions, of one argument each.
        inputs: The argument of each, a tensor or a tuple, list or mapping of tensors. Whatever the function reads that
            was made in this step must be in it, unless it is kept until the step's end.
        changes: Returns what each function changes. Those that change the same run one after the other, though their
            backward passes do not. Called only while a step is recorded.
        learns: For each function the module whose weights it has gradients in, if any. While a step is recorded, the
            gradients of a module that several name are added up in one operation, not weight by weight.

    Returns:
        What each returned.

    Raises:
        ValueError: If `inputs`, `learns` or, while a step is recorded, what `changes` returns are not one for each
            function.

    Example:
        >>> side_by_side([torch.sum, torch.mean], [torch.ones(3), torch.ones(3)])
        [tensor(3.), tensor(1.)]
    """
    _check_number("inputs", inputs, calls)
    learns = _check_number("learns", [None] * len(calls) if learns is None else learns, calls)
    recording = None if torch.compiler.is_compiling() else _RECORDING.get()
    if recording is None:
        return [call(x) for call, x in zip(calls, inputs, strict=True)]
    changed = _check_number("changes", [None] * len(calls) if changes is None else changes(), calls)
    current = torch.cuda.current_stream()
    streams = [recording.part() if number else current for number in range(len(calls))]
    weights = own_weights(learns)
    results = []
    with _no_shared_casts():
        for stream in streams[1:]:
            stream.wait_stream(current)
        for call, x, what, own, stream in zip(calls, inputs, changed, weights, streams, strict=True):
            _keep(x, stream)
            with torch.cuda.stream(stream), own, nullcontext() if what is None else in_turn(what):
                results.append(call(x))
            _keep(results[-1], current)
    for stream in streams[1:]:
        current.wait_stream(stream)
    return results


def _check_number(name: str, values: Sequence[_T], calls: Sequence[object]) -> Sequence[_T]:
    """Return one value for every function."""
    if len(values) != len(calls):
        _check.fail("side_by_side", name, f"be {len(calls)}, one for each function", len(values))
    return values


def in_turn(shared: Hashable) -> AbstractContextManager[None]:
    """Return a context in which calls side by side change what they share: each waits for the one before, by order."""
    recording = _RECORDING.get()
    return nullcontext() if recording is None else _after_the_one_before(recording, shared)


@contextmanager
def _after_the_one_before(recording: _Recording, shared: Hashable) -> Iterator[None]:
    stream = torch.cuda.current_stream()
    if shared in recording.changed:
        stream.wait_event(recording.changed[shared])
    yield
    recording.changed[shared] = stream.record_event()


@contextmanager
def _no_shared_casts() -> Iterator[None]:
    """Let every stream cast weights itself: autocast would hand one what another has not cast yet."""
    before = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(before)


def _keep(values: object, stream: torch.cuda.Stream) -> None:
    """Tell the allocator that a stream reads tensors of another, so that it hands out their memory no earlier."""
    if isinstance(values, Tensor):
        if values.is_cuda:
            values.record_stream(stream)
    elif isinstance(values, tuple | list | Mapping):
        for value in values.values() if isinstance(values, Mapping) else values:
            _keep(value, stream)


@lru_cache(maxsize=256)
def _side_stream(device: int, _number: int) -> torch.cuda.Stream:  # the same in every run, so that libraries are ready
    return torch.cuda.Stream(device)
