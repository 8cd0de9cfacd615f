"""What benchmarks share: timing candidates beside each other, peak memory, and the limits of the machine.

Candidates take turns within every repeat, so that whatever else the machine does meets all of them, and a ratio is
taken within a repeat before its median over the repeats.
"""

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch.profiler import ProfilerActivity, profile

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler says at every start and stop that it does so
Clock: TypeAlias = Literal["wall", "cpu"]
"""Time that passed, or time that the calling thread computed, which with one thread is steady on a busy machine."""


class Spread(NamedTuple):
    """Median and quartiles of repeats."""

    median: float
    low: float
    high: float
    least: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Summarise two or more values."""
        low, middle, high = statistics.quantiles(values, n=4)
        return cls(middle, low, high, min(values))

    def show(self, scale: float = 1.0) -> str:
        """Write median and quartiles, e.g. of seconds as milliseconds with ``scale=1e3``."""
        median, low, high = (f"{scale * value:.4g}" for value in self[:3])
        return f"{median:>8} ({low}-{high})"


def interleaved(
    candidates: Mapping[str, Callable[[], object]],
    *,
    repeats: int,
    warmup: int = 2,
    device: torch.device | None = None,
    clock: Clock = "wall",
) -> dict[str, list[float]]:
    """Time every candidate once per repeat, after some rounds to warm up; seconds."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for repeat in range(warmup + repeats):
        for name, candidate in candidates.items():
            seconds = _time_one(candidate, device or torch.device("cpu"), clock)
            if repeat >= warmup:
                times[name].append(seconds)
    return times


def speedup(base: Sequence[float], ours: Sequence[float]) -> Spread:
    """Return how many times faster ours is than the base, each ratio taken within one repeat."""
    return Spread.of([slow / fast for slow, fast in zip(base, ours, strict=True)])


def peak_memory(function: Callable[[], object], device: torch.device | None = None) -> int:
    """Return the most bytes that torch held at one time during a call, beyond those it held before.

    The second of two calls is measured, so that what a first call sets up does not count. On a CPU the allocations are
    those that torch's allocator reports; libraries below it are not seen.
    """
    function()
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        function()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        function()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most


def matrix_rate(rows: int, inner: int, columns: int, *, device: torch.device, clock: Clock, repeats: int = 20) -> float:
    """Return the floating-point operations per second of torch's own float32 product of this shape, its best repeat."""
    a, b = torch.randn(rows, inner, device=device), torch.randn(inner, columns, device=device)
    out = torch.empty(rows, columns, device=device)
    times = interleaved({"product": lambda: torch.mm(a, b, out=out)}, repeats=repeats, device=device, clock=clock)
    return 2 * rows * inner * columns / min(times["product"])


def show_bytes(count: float) -> str:
    """Write a number of bytes in MiB."""
    return f"{count / 2**20:.1f} MiB"


def _time_one(candidate: Callable[[], object], device: torch.device, clock: Clock) -> float:
    if device.type == "cuda":
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize(device)
        start.record()
        candidate()
        end.record()
        torch.cuda.synchronize(device)
        return float(start.elapsed_time(end)) / 1e3
    now = time.perf_counter if clock == "wall" else time.thread_time
    began = now()
    candidate()
    return now() - began
