"""Time the extreme view against a plain NumPy loop of the same eight augmentations.

python -m benchmarks.augment                       one thread, batch 128, (3, 50, 25, 2)
python -m benchmarks.augment --threads 2 --batch 32
python -m benchmarks.augment --json result.json    also as numbers in a file

Both make extreme views of one float32 batch, one after the other in each repeat, so that whatever else the machine is
doing meets both. Every sequence holds two bodies, the dearest case. The loop is the tests' oracle.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from tests.reference.augment import extreme_view_loop

from skelcontrast import augment
from skelcontrast.skeleton import NTU_RGBD_25


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.augment", description="Speed of the extreme view.")
    parser.add_argument("--batch", type=int, default=128, help="sequences in the batch")
    parser.add_argument("--frames", type=int, default=50, help="frames of each")
    parser.add_argument("--repeats", type=int, default=30, help="how often each is timed")
    parser.add_argument("--threads", type=int, default=1, help="threads for torch; the loop uses one")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    args = parser.parse_args(argv)

    torch.set_num_threads(args.threads)
    # As any training step does, make and drop something large: the C allocator then keeps freed memory for the next.
    large = torch.empty(7_000_000)
    del large
    x = torch.randn(args.batch, 3, args.frames, 25, 2, generator=torch.Generator().manual_seed(0))
    extreme, normal = augment.extreme(NTU_RGBD_25), augment.normal()
    generator = torch.Generator().manual_seed(0)
    rng = np.random.default_rng(0)
    subjects: dict[str, Callable[[], object]] = {
        "NumPy loop, extreme view": lambda: extreme_view_loop(x.numpy(), NTU_RGBD_25.mirror, rng),
        "skelcontrast, extreme view": lambda: extreme(x, generator),
        "skelcontrast, normal view": lambda: normal(x, generator),
    }
    micros = {
        name: [time * 1e6 / args.batch for time in times] for name, times in measure(subjects, args.repeats).items()
    }

    loop, ours, _ = micros.values()
    ratio = statistics.median(loop) / statistics.median(ours)
    print(f"extreme view, ({args.batch}, 3, {args.frames}, 25, 2) float32, CPU, torch threads {args.threads}")
    print(f"{'microseconds a sample':28} {'median':>8} {'quartiles':>17} {'least':>8}")
    for name, values in micros.items():
        low, middle, high = statistics.quantiles(values, n=4)
        print(f"{name:28} {middle:8.1f} {low:8.1f}-{high:<8.1f} {min(values):8.1f}")
    print(f"extreme view: {ratio:.1f} times faster than the loop (medians), {min(loop) / min(ours):.1f} (least times)")
    if args.json is not None:
        settings = {"batch": args.batch, "frames": args.frames, "threads": args.threads, "repeats": args.repeats}
        versions = {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}
        result = {**settings, **versions, "microseconds_per_sample": micros, "ratio_of_medians": ratio}
        args.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def measure(subjects: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Time each subject once per repeat, after two rounds to warm up; seconds."""
    times: dict[str, list[float]] = {name: [] for name in subjects}
    for repeat in range(repeats + 2):
        for name, subject in subjects.items():
            start = time.perf_counter()
            subject()
            if repeat >= 2:
                times[name].append(time.perf_counter() - start)
    return times


if __name__ == "__main__":
    main()
