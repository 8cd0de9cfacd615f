"""Time the views of a batch against a plain NumPy loop of the same augmentations.

python -m benchmarks.augment                       batch 128, (3, 50, 25, 2)
python -m benchmarks.augment --threads 1           on a busy CPU: counts time computed, not time passed
python -m benchmarks.augment --json result.json    also as numbers in a file

Both make their views of one float32 batch, one after the other in each repeat. Every sequence holds two bodies, the
dearest case. The loop is the tests' oracle, and uses one thread of the CPU.
"""

import argparse
from collections.abc import Callable, Sequence

import numpy as np
import torch
from tests.reference.augment import extreme_view_loop, normal_view, view_loop

from benchmarks.forms import table, whole_row
from benchmarks.measure import Spread, Timing, interleaved, peak_memory, save
from skelcontrast import augment
from skelcontrast.skeleton import NTU_RGBD_25

LOOP, OURS = "NumPy loop", "skelcontrast"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.augment", description="Speed of the views.")
    parser.add_argument("--batch", type=int, default=128, help="sequences in the batch")
    parser.add_argument("--frames", type=int, default=50, help="frames of each")
    Timing.add_arguments(parser, repeats=30)
    args = parser.parse_args(argv)
    timing = Timing.of(args)
    settings = {"batch": args.batch, "frames": args.frames, **timing.settings()}
    print(", ".join(f"{name} {value}" for name, value in settings.items()) + ", float32")

    # As any training step does, make and drop something large: the C allocator then keeps freed memory for the next.
    large = torch.empty(7_000_000)
    del large
    title = f"Views of ({args.batch}, 3, {args.frames}, 25, 2)"
    print(f"\n{title}\n{'':50}{'us a sample (quartiles)':>28}{'least':>10}{'times faster (quartiles)':>30}")
    rows = []
    for view, forms in views(args.batch, args.frames, timing.device).items():
        times = interleaved(forms, repeats=timing.repeats, device=timing.device, clock=timing.clock)
        for form, seconds in times.items():
            held = None if form == LOOP else peak_memory(forms[form], timing.device)
            row = whole_row(view, form, seconds, times[LOOP], held)
            rows.append(row)
            micros, ratio = Spread.of(seconds), Spread(**row["times_faster"]["both"])
            shown = f"{micros.show(1e6 / args.batch):>28}{micros.least * 1e6 / args.batch:>10.1f}{ratio.show():>30}"
            print(f"{view + ', ' + form:50}{shown}")
    save(args.json, {**settings, "tables": [table(title, "view", rows)]})


def views(N: int, T: int, device: torch.device) -> dict[str, dict[str, Callable[[], object]]]:
    """Return both ways to make each view, and all of a training step."""
    x = torch.randn(N, 3, T, 25, 2, generator=torch.Generator().manual_seed(0))
    array, rng = x.numpy(), np.random.default_rng(0)
    moved, generator = x.to(device), torch.Generator(device).manual_seed(0)
    extreme, normal = augment.extreme(NTU_RGBD_25), augment.normal()
    three = augment.Views(normal, normal, extreme)
    return {
        "extreme view": {
            LOOP: lambda: extreme_view_loop(array, NTU_RGBD_25.mirror, rng),
            OURS: lambda: extreme(moved, generator),
        },
        "normal view": {
            LOOP: lambda: view_loop(array, lambda sequence: normal_view(sequence, rng)),
            OURS: lambda: normal(moved, generator),
        },
        "two normal views and the extreme one": {
            LOOP: lambda: [
                *(view_loop(array, lambda sequence: normal_view(sequence, rng)) for _ in range(2)),
                extreme_view_loop(array, NTU_RGBD_25.mirror, rng),
            ],
            OURS: lambda: three(moved, generator),
        },
    }


if __name__ == "__main__":
    main()
