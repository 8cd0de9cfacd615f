"""Time both views against a plain NumPy loop of the same augmentations.

python -m benchmarks.augment                       one thread, batch 128, (3, 50, 25, 2)
python -m benchmarks.augment --threads 2 --batch 32
python -m benchmarks.augment --clock wall          time passed instead of time computed, on a quiet machine
python -m benchmarks.augment --json result.json    also as numbers in a file

Both make views of one float32 batch, one after the other in each repeat, so that whatever else the machine is doing
meets both. Every sequence holds two bodies, the dearest case. The loop is the tests' oracle.
"""

import argparse
import json
import platform
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from tests.reference.augment import extreme_view_loop, normal_view, view_loop

from benchmarks.measure import Clock, Spread, interleaved, speedup
from skelcontrast import augment
from skelcontrast.skeleton import NTU_RGBD_25

LOOP, OURS = "NumPy loop", "skelcontrast"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.augment", description="Speed of the extreme view.")
    parser.add_argument("--batch", type=int, default=128, help="sequences in the batch")
    parser.add_argument("--frames", type=int, default=50, help="frames of each")
    parser.add_argument("--repeats", type=int, default=30, help="how often each is timed")
    parser.add_argument("--threads", type=int, default=1, help="threads for torch; the loop uses one")
    parser.add_argument("--clock", choices=("wall", "cpu"), help="time passed, or computed (default with one thread)")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    args = parser.parse_args(argv)

    torch.set_num_threads(args.threads)
    # As any training step does, make and drop something large: the C allocator then keeps freed memory for the next.
    large = torch.empty(7_000_000)
    del large
    x = torch.randn(args.batch, 3, args.frames, 25, 2, generator=torch.Generator().manual_seed(0))
    clock: Clock = args.clock or ("cpu" if args.threads == 1 else "wall")
    extreme, normal = augment.extreme(NTU_RGBD_25), augment.normal()
    generator = torch.Generator().manual_seed(0)
    rng = np.random.default_rng(0)
    subjects: dict[str, dict[str, Callable[[], object]]] = {
        "extreme view": {
            LOOP: lambda: extreme_view_loop(x.numpy(), NTU_RGBD_25.mirror, rng),
            OURS: lambda: extreme(x, generator),
        },
        "normal view": {
            LOOP: lambda: view_loop(x.numpy(), lambda sequence: normal_view(sequence, rng)),
            OURS: lambda: normal(x, generator),
        },
    }
    print(f"({args.batch}, 3, {args.frames}, 25, 2) float32, CPU, torch threads {args.threads}, clock {clock}")
    print(f"{'microseconds a sample, median (quartiles)':44}{'least':>8}")
    views = {}
    for view, of_view in subjects.items():
        times = interleaved(of_view, repeats=args.repeats, clock=clock)
        micros = {name: [seconds * 1e6 / args.batch for seconds in values] for name, values in times.items()}
        for name, values in micros.items():
            print(f"{view + ', ' + name:24}{Spread.of(values).show():20}{min(values):8.1f}")
        ratio = speedup(micros[LOOP], micros[OURS])
        print(f"{view}, times faster{ratio.show()}, by the least times {min(micros[LOOP]) / min(micros[OURS]):.1f}")
        views[view] = {"microseconds_per_sample": micros, "times_faster": ratio._asdict()}
    if args.json is not None:
        settings = {"batch": args.batch, "frames": args.frames, "threads": args.threads, "clock": clock}
        versions = {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}
        result = {**settings, "repeats": args.repeats, **versions, **views}
        args.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
