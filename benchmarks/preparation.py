"""Time the preparation of generated NTU RGB+D files: with one and more processes, and what the machine would give.

python -m benchmarks.preparation                          500 and 2,000 files of 100 frames; 1 and 2 processes
python -m benchmarks.preparation --files 200 --frames 20  smaller
python -m benchmarks.preparation --json result.json       also as numbers in a file

The files are those of the tests, about 0.4 MB each, written anew each time and then in the system's cache, as after
unpacking. Every measurement is an interpreter of its own, and all kinds take turns within a repeat.

- `prepare`: one call with so many workers. Time is that of the call, with the start of the workers.
- `apart`: as many interpreters at once, each of which prepares its own share of the files into a folder of its own, in
  one process. They share nothing but the machine, so this is the most that workers can reach on it. They have
  imported everything when the clock starts, which stops when the last is done.

CPU time is that of the process that was started, and of its workers together; it means something on a machine that
does other work, too. Memory is that of the first process, and of its largest worker (Linux only). What is said per
further file is the difference of the two folders, in which the start of the workers and all that is done once cancels.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tests.reference.ntu_files import make_ntu_folder

from benchmarks.measure import save

NTU60_FILES = 56_880
MEASURE = """
import json, os, pathlib, sys, threading, time
from skelcontrast.data import prepare

def peak(process):  # megabytes; not getrusage, which counts the parent's memory from before exec
    try:
        status = pathlib.Path(f"/proc/{process}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1e3
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return 0.0

def watch(largest, done):
    me = os.getpid()
    while not done.wait(0.1):
        children = pathlib.Path(f"/proc/{me}/task/{me}/children").read_text().split()
        largest[:] = [max([*largest, *map(peak, children)])]

if __name__ == "__main__":
    raw, out, workers = sys.argv[1], sys.argv[2], int(sys.argv[3])
    largest, done = [0.0], threading.Event()
    watching = threading.Thread(target=watch, args=(largest, done))
    watching.start()
    print("ready", flush=True)
    sys.stdin.readline()
    before, start, own, times = peak("self"), time.monotonic(), time.process_time(), os.times()
    report = prepare("ntu60", raw, out, workers=workers, progress=False)
    end, own, after = time.monotonic(), time.process_time() - own, os.times()
    children = after.children_user + after.children_system - times.children_user - times.children_system
    done.set()
    watching.join()
    print(json.dumps({
        "start": start, "end": end, "own_cpu": own, "worker_cpu": children, "before_mb": before,
        "peak_mb": peak("self"), "worker_mb": largest[0], "samples": report.samples,
        "prepared_mb": report.shape[0] * 600 / 1e6,
    }))
"""
START = """
import os
from skelcontrast.data.preparation._workers import ordered
if __name__ == "__main__":
    list(ordered(abs, [1, 1], workers=2))
    print(sum(os.times()[2:4]) / 2)
"""


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.preparation", description="Speed of the preparation.")
    parser.add_argument("--files", type=int, default=2000, help="files of the larger folder; the smaller has a quarter")
    parser.add_argument("--frames", type=int, default=100, help="frames of each")
    parser.add_argument("--workers", type=int, nargs="+", default=[2], help="numbers of processes, beside 1")
    parser.add_argument("--repeats", type=int, default=3, help="how often each is timed; the least time counts")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    args = parser.parse_args(argv)

    print(f"preparing generated .skeleton files of {args.frames} frames, {len(os.sched_getaffinity(0))} usable cores")
    print("  files kind     processes  seconds  files/s  CPU s own  of workers  peak MB  above imports  worker MB")
    measured: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for files in (args.files // 4, args.files):
            raw = Path(folder) / str(files)
            paths = make_ntu_folder(raw, count=files, frames=args.frames)
            size = sum(path.stat().st_size for path in paths) / 1e6
            for result in compare(paths, sorted({1, *args.workers}), args.repeats):
                measured.append(result | {"files": files, "raw_mb": size})
                show(measured[-1])
    worker_start = start()
    meaning = report(measured, worker_start)
    versions = {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}
    settings = {"frames": args.frames, "repeats": args.repeats}
    save(args.json, {**settings, **versions, "worker_start": worker_start, **meaning, "runs": measured})


def compare(paths: Sequence[Path], workers: Sequence[int], repeats: int) -> list[dict[str, Any]]:
    """Measure all kinds in turn, as often as said, and return the quickest of each."""
    kinds = [("prepare", count) for count in workers] + [("apart", count) for count in workers if count > 1]
    quickest: dict[tuple[str, int], dict[str, Any]] = {}
    for _ in range(repeats):
        for kind, count in kinds:
            with shares(paths, count if kind == "apart" else 1) as raws:
                result = measure(raws, 1 if kind == "apart" else count) | {"kind": kind, "workers": count}
            if (kind, count) not in quickest or result["seconds"] < quickest[kind, count]["seconds"]:
                quickest[kind, count] = result
    return list(quickest.values())


@contextmanager
def shares(paths: Sequence[Path], count: int) -> Iterator[list[Path]]:
    """Deal files out over folders, without copying them."""
    with tempfile.TemporaryDirectory(dir=paths[0].parents[1]) as folder:
        raws = [Path(folder) / str(number) for number in range(count)]
        for number, raw in enumerate(raws):
            raw.mkdir()
            for path in paths[number::count]:
                (raw / path.name).hardlink_to(path)
        yield raws


def measure(raws: Sequence[Path], workers: int) -> dict[str, Any]:
    """Prepare folders at the same time, each in an interpreter of its own, and return what these say of themselves."""
    script = raws[0].parent / "measure.py"
    script.write_text(MEASURE, encoding="utf-8")
    started = [
        subprocess.Popen(  # noqa: S603  our own arguments
            [sys.executable, str(script), str(raw), f"{raw}.out", str(workers)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for raw in raws
    ]
    for one in started:
        if one.stdout is None or one.stdout.readline() != "ready\n":
            raise RuntimeError("an interpreter did not start")
    for one in started:
        if one.stdin is not None:
            one.stdin.write("\n")
            one.stdin.flush()
    said = [json.loads(one.communicate()[0]) for one in started]
    seconds = max(one["end"] for one in said) - min(one["start"] for one in said)
    sums = {name: sum(one[name] for one in said) for name in ("own_cpu", "worker_cpu", "samples", "prepared_mb")}
    most = {name: max(one[name] for one in said) for name in ("before_mb", "peak_mb", "worker_mb")}
    return {"seconds": seconds, **sums, **most}


def show(result: dict[str, Any]) -> None:
    """Write a line of the table."""
    worker = f"{result['worker_mb']:9.0f}" if result["worker_mb"] else "        -"
    print(
        f"{result['files']:7} {result['kind']:8} {result['workers']:9} {result['seconds']:8.2f} "
        f"{result['files'] / result['seconds']:8.1f} {result['own_cpu']:10.2f} {result['worker_cpu']:11.2f} "
        f"{result['peak_mb']:8.0f} {result['peak_mb'] - result['before_mb']:14.0f}  {worker}",
        flush=True,
    )


def start() -> float:
    """Return the processor time that a worker takes to start and end, in seconds, the least of a few."""
    command = [sys.executable, "-c", START]
    return min(float(subprocess.check_output(command)) for _ in range(3))  # noqa: S603  our own arguments


def report(measured: Sequence[dict[str, Any]], worker_start: float) -> dict[str, Any]:
    """Say what the numbers mean, and return what is said of NTU-60 and of memory."""
    few, many = sorted({one["files"] for one in measured})
    found = {(one["kind"], one["workers"], one["files"]): one for one in measured}

    def cost(kind: str, workers: int, *names: str) -> Cost:
        less, more = (sum(found[kind, workers, files][name] for name in names) for files in (few, many))
        return Cost(more, (more - less) / (many - few))

    alone, alone_cpu = cost("prepare", 1, "seconds"), cost("prepare", 1, "own_cpu")
    print(f"a worker's start: {worker_start:.2f} s of processor time")
    for workers in sorted({one["workers"] for one in measured} - {1}):
        apart, together = cost("apart", workers, "seconds"), cost("prepare", workers, "seconds")
        cpu = cost("prepare", workers, "own_cpu", "worker_cpu")
        print(f"{workers} processes beside one, {many} files (and per further file):")
        print(f"  apart, what the machine gives: {alone.over(apart, '.2f')} times the speed")
        print(f"  workers of one call:           {alone.over(together, '.2f')} times the speed")
        print(f"  workers reach of the machine's {apart.over(together, '.0%')}")
        print(f"  processor time of all of them: {cpu.over(alone_cpu, '.2f')} times that of one process")
    minutes, growth = {}, {}
    for workers in sorted({one["workers"] for one in measured}):
        less, more = found["prepare", workers, few], found["prepare", workers, many]
        computed = more["own_cpu"] + more["worker_cpu"]
        times = {"passed": more["seconds"], "computed": computed}
        minutes[workers] = {clock: NTU60_FILES * seconds / many / 60 for clock, seconds in times.items()}
        growth[workers] = more["peak_mb"] + more["worker_mb"] - less["peak_mb"] - less["worker_mb"]
        shown = ", ".join(f"{value:.1f} {clock}" for clock, value in minutes[workers].items())
        print(f"{NTU60_FILES} such files, {workers} process{'es' if workers > 1 else ''}, minutes: {shown}")
        print(f"  peak memory of {many} files beyond that of {few}: {growth[workers]:.1f} MB")
    one = found["prepare", 1, many]
    megabytes = one["raw_mb"] / one["files"], one["prepared_mb"] / one["samples"]
    print(f"a file: {megabytes[0] * 1e3:.0f} kB raw, {megabytes[1] * 1e3:.0f} kB prepared (float32)")
    return {"ntu60_minutes": minutes, "peak_growth_mb": growth}


class Cost(NamedTuple):
    """Seconds for the larger folder, and for each file that it has more than the smaller."""

    whole: float
    further: float

    def over(self, other: "Cost", form: str) -> str:
        """Write how many times another this is."""
        return f"{self.whole / other.whole:{form}} ({self.further / other.further:{form}})"


if __name__ == "__main__":
    main()
