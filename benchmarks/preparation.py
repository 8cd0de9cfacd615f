"""Time the preparation of generated NTU RGB+D files, with one and more processes, and measure its memory.

python -m benchmarks.preparation                          500 and 2,000 files of 100 frames; 1 and 2 processes
python -m benchmarks.preparation --files 200 --frames 20  smaller
python -m benchmarks.preparation --json result.json       also as numbers in a file

The files are those of the tests, about 0.4 MB each, written anew each time and then in the system's cache, as after
unpacking. Every measurement is an interpreter of its own. Time is that of `prepare` alone, with the start of its worker
processes; CPU time is that of the process that was started, and of its workers together: what the first spends on a
file bounds how many workers help, and both mean something on a machine that does other work. Memory is that of the
first process, and of its largest worker (Linux only).
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tests.reference.ntu_files import make_ntu_folder

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
    before, start, own, times = peak("self"), time.perf_counter(), time.process_time(), os.times()
    report = prepare("ntu60", raw, out, workers=workers, progress=False)
    seconds, own, after = time.perf_counter() - start, time.process_time() - own, os.times()
    children = after.children_user + after.children_system - times.children_user - times.children_system
    done.set()
    watching.join()
    print(json.dumps({
        "seconds": seconds, "own_cpu": own, "worker_cpu": children, "before_mb": before, "peak_mb": peak("self"),
        "worker_mb": largest[0], "samples": report.samples, "prepared_mb": report.shape[0] * 600 / 1e6,
    }))
"""


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.preparation", description="Speed of the preparation.")
    parser.add_argument("--files", type=int, default=2000, help="files of the larger folder; the smaller has a quarter")
    parser.add_argument("--frames", type=int, default=100, help="frames of each")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="numbers of processes")
    parser.add_argument("--repeats", type=int, default=2, help="how often each is timed; the least time counts")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    args = parser.parse_args(argv)

    measured: list[dict[str, Any]] = []
    print(f"preparing generated .skeleton files of {args.frames} frames, {len(os.sched_getaffinity(0))} usable cores")
    print("  files processes  seconds  files/s  CPU s own  of workers  peak MB  above imports  worker MB")
    with tempfile.TemporaryDirectory() as folder:
        for files in (args.files // 4, args.files):
            raw = Path(folder) / str(files)
            paths = make_ntu_folder(raw, count=files, frames=args.frames)
            for workers in args.workers:
                result = min(
                    (measure(raw, workers) for _ in range(args.repeats)), key=lambda result: float(result["seconds"])
                )
                result |= {"files": files, "workers": workers, "raw_mb": sum(p.stat().st_size for p in paths) / 1e6}
                measured.append(result)
                worker = "        -" if workers == 1 else f"{result['worker_mb']:9.0f}"
                grown = result["peak_mb"] - result["before_mb"]
                speed = files / result["seconds"]
                print(
                    f"{files:7} {workers:9} {result['seconds']:8.1f} {speed:8.1f} "
                    f"{result['own_cpu']:10.1f} {result['worker_cpu']:11.1f} {result['peak_mb']:8.0f} "
                    f"{grown:14.0f}  {worker}",
                    flush=True,
                )
    report(measured)
    if args.json is not None:
        versions = {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}
        settings = {"frames": args.frames, "repeats": args.repeats}
        args.json.write_text(json.dumps({**settings, **versions, "runs": measured}, indent=2) + "\n", encoding="utf-8")


def measure(raw: Path, workers: int) -> dict[str, Any]:
    """Prepare a folder in an interpreter of its own, and return what it says of itself."""
    with tempfile.TemporaryDirectory(dir=raw.parent) as folder:
        script = Path(folder) / "measure.py"
        script.write_text(MEASURE, encoding="utf-8")
        command = [sys.executable, str(script), str(raw), str(Path(folder) / "out"), str(workers)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603  our own arguments
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def report(measured: list[dict[str, Any]]) -> None:
    """Say what the numbers mean."""
    largest = max(result["files"] for result in measured)
    for result in (one for one in measured if one["files"] == largest):
        minutes = NTU60_FILES * result["seconds"] / result["files"] / 60
        print(f"{NTU60_FILES} such files, {result['workers']} processes: about {minutes:.0f} minutes")
    one, *more = (result for result in measured if result["files"] == largest)
    for result in more:
        print(
            f"{result['workers']} processes: {one['seconds'] / result['seconds']:.2f} times as fast as {one['workers']}"
        )
    megabytes = one["raw_mb"] / one["files"], one["prepared_mb"] / one["samples"]
    print(f"a file: {megabytes[0] * 1e3:.0f} kB raw, {megabytes[1] * 1e3:.0f} kB prepared (float32)")


if __name__ == "__main__":
    main()
