"""What benchmarks share: timing candidates beside each other, peak memory, and the limits of the machine.

Candidates take turns within every repeat, so that whatever else the machine does meets all of them, and a ratio is
taken within a repeat before its median over the repeats. On CUDA they are captured as graphs where they can be, so that
the device's time is measured and not that of launching one operation after the other.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.captured import REPLAYS, Captured
from skelcontrast.nn._precision import EMULATED_BY_CPU

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler says at every start and stop that it does so
Clock: TypeAlias = Literal["wall", "cpu"]
"""Time that passed, or time that the calling thread computed, which with one thread is steady on a busy machine."""
Precision: TypeAlias = Literal["default", "highest", "tf32"]
"""Where float32 is rounded to TF32 on CUDA: in convolutions, as torch does unasked; nowhere; in all products."""
_TF32: dict[Precision, tuple[str, bool]] = {
    "default": ("highest", True),
    "highest": ("highest", False),
    "tf32": ("high", True),
}
"""torch's two settings, of matrix products and of convolutions."""


class Timing(NamedTuple):
    """How to time."""

    repeats: int
    device: torch.device
    clock: Clock
    precision: Precision = "default"

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser, *, repeats: int) -> None:
        """Let a command take what every benchmark is told."""
        parser.add_argument("--repeats", type=_several, default=repeats, help="two or more, how often each is timed")
        parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads for torch")
        parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
        clock = "time passed, or computed (default on a CPU with one thread)"
        parser.add_argument("--clock", choices=("wall", "cpu"), help=clock)
        precision = "on CUDA, TF32 in place of float32: in convolutions (torch's default), nowhere, or in all products"
        parser.add_argument("--precision", choices=tuple(_TF32), default="default", help=precision)
        parser.add_argument("--json", type=Path, help="file for the numbers")

    @classmethod
    def of(cls, args: argparse.Namespace) -> "Timing":
        """Read the arguments, and give torch its threads and, on CUDA, its precision."""
        torch.set_num_threads(args.threads)
        device = torch.device(args.device)
        if device.type == "cuda":
            _set_tf32(*_TF32[args.precision])
        alone = args.threads == 1 and device.type == "cpu"
        return cls(args.repeats, device, args.clock or ("cpu" if alone else "wall"), args.precision)

    def settings(self) -> dict[str, Any]:
        """Say how it was timed, for the result."""
        said: dict[str, Any] = {"repeats": self.repeats, "threads": torch.get_num_threads()}
        said |= {"device": self.device.type, "clock": self.clock}
        return said | ({"precision": self.precision} if self.device.type == "cuda" else {})


def _several(text: str) -> int:
    """Read how many repeats a spread is taken of."""
    if not text.isdecimal() or int(text) < 2:
        raise argparse.ArgumentTypeError(f"must be 2 or more, got {text}")
    return int(text)


class Work(NamedTuple):
    """What cannot be avoided: floating-point operations, and bytes read and written."""

    flops: float
    moved: float


class Limits(NamedTuple):
    """What the machine gives: bytes per second of a copy, read and written, and operations per second of a product."""

    copy_bytes_per_second: float
    matrix_flops_per_second: float

    @classmethod
    def measure(cls, timing: Timing, dtype: torch.dtype = torch.float32) -> "Limits":
        """Copy what no cache holds, and multiply large square matrices with torch, in the precision that is set.

        A CPU that would only emulate a dtype is measured in float32, which is what the library computes with there.
        """
        if timing.device.type == "cpu" and dtype in EMULATED_BY_CPU:
            dtype = torch.float32
        source = torch.randn(2**26, device=timing.device)
        target = torch.empty_like(source)
        nine, captured = timing._replace(repeats=9), timing.device.type == "cuda"
        times = interleaved({"copy": lambda: target.copy_(source)}, nine, captured=captured)["copy"]
        rate = 2 * source.nbytes / Spread.of(times).median
        return cls(rate, matrix_rate(8192 if captured else 1024, nine, dtype))

    def share(self, work: Work, seconds: float) -> float:
        """Return what share of a time its work would take at these rates, whichever of both binds."""
        return max(work.flops / self.matrix_flops_per_second, work.moved / self.copy_bytes_per_second) / seconds

    def show(self) -> str:
        """Write both rates."""
        copy, matrix = (show_number(rate / 1e9) for rate in self)
        return f"limits: a copy moves {copy} GB/s, read and written; a large product runs at {matrix} GFLOP/s"


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
        median, low, high = (show_number(scale * value) for value in self[:3])
        return f"{median:>8} ({low}-{high})"


def interleaved(
    candidates: Mapping[str, Callable[[], object]],
    timing: Timing,
    *,
    warmup: int = 2,
    captured: bool = False,
    in_a_row: int = 1,
) -> dict[str, list[float]]:
    """Time every candidate once per repeat, after some rounds to warm up; seconds.

    Of some calls `in_a_row`, with nothing that waits in between, a time is the mean. Captured, on CUDA alone, each is a
    graph of itself, and its time in a repeat is the mean of a few replays.
    """
    runs = in_a_row * (REPLAYS if captured else 1)
    if captured:
        candidates = {name: Captured(name, candidate) for name, candidate in candidates.items()}
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for repeat in range(warmup + timing.repeats):
        for name, candidate in candidates.items():
            seconds = _time_calls(candidate, timing.device, timing.clock, in_a_row)
            if repeat >= warmup:
                times[name].append(seconds / runs)
    return times


def speedup(base: Sequence[float], ours: Sequence[float]) -> Spread:
    """Return how many times faster ours is than the base, each ratio taken within one repeat."""
    return Spread.of([slow / fast for slow, fast in zip(base, ours, strict=True)])


def peak_memory(function: Callable[[], object], device: torch.device | None = None, *, warm: bool = False) -> int:
    """Return the most bytes that torch held at one time during a call, beyond those it held before.

    The second of two calls is measured, so that what a first call sets up does not count; of something that is warm,
    the first. On a CPU the allocations are those that torch's allocator reports; libraries below it are not seen.
    """
    if not warm:
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


def matrix_rate(size: int, timing: Timing, dtype: torch.dtype = torch.float32) -> float:
    """Return the floating-point operations per second of torch's own product of square matrices, its best repeat."""
    a, b = (torch.randn(size, size, device=timing.device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    times = interleaved({"product": lambda: torch.mm(a, b, out=out)}, timing, captured=timing.device.type == "cuda")
    return 2 * size**3 / min(times["product"])


@contextmanager
def full_precision() -> Iterator[None]:
    """Compute with float32 as it is, on CUDA too."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    _set_tf32(*_TF32["highest"])
    try:
        yield
    finally:
        _set_tf32(*before)


def save(path: Path | None, result: object) -> None:
    """Write numbers to the file that ``--json`` names, where it names one."""
    if path is not None:
        path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def show_number(value: float) -> str:
    """Write a number to four digits, whole from 10,000 on."""
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def show_bytes(count: float) -> str:
    """Write a number of bytes in MiB."""
    return f"{count / 2**20:.1f} MiB"


def _set_tf32(products: str, convolutions: bool) -> None:
    # The older of torch's settings: every version has them, and the newer ones refuse to be mixed with them.
    torch.set_float32_matmul_precision(products)
    torch.backends.cudnn.allow_tf32 = convolutions


def _time_calls(candidate: Callable[[], object], device: torch.device, clock: Clock, calls: int) -> float:
    if device.type == "cuda":
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize(device)
        start.record()
        for _ in range(calls):
            candidate()
        end.record()
        torch.cuda.synchronize(device)
        return float(start.elapsed_time(end)) / 1e3
    now = time.perf_counter if clock == "wall" else time.thread_time
    began = now()
    for _ in range(calls):
        candidate()
    return now() - began
