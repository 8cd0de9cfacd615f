"""Time the views of a batch against a plain NumPy loop of the same augmentations.

python -m benchmarks.augment                       batch 128, (3, 50, 25, 2); on CUDA a batch of 4096 as well
python -m benchmarks.augment --threads 1           on a busy CPU: counts time computed, not time passed
python -m benchmarks.augment --json result.json    also as numbers in a file

Both make their views of one float32 batch, one after the other in each repeat. Every sequence holds two bodies, the
dearest case. The loop is the tests' oracle, and uses one thread of the CPU.

On a CPU it also says in which of torch's operations the extreme view spends its time, as torch's profiler saw it, which
makes small operations look longer than they are.

On CUDA ours is timed as it is called, "captured" as a CUDA graph, and "compiled and captured" with all but the draws
under torch.compile. Beside the larger batch stands the loop's time of the smaller one, as many times as that fits.
"""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from tests.reference.augment import extreme_view_loop, normal_view, view_loop
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from benchmarks.captured import REPLAYS, Captured
from benchmarks.forms import Row, table, whole_row
from benchmarks.measure import Spread, Timing, interleaved, peak_memory, save, show_number
from skelcontrast import augment
from skelcontrast.skeleton import NTU_RGBD_25

LOOP, OURS = "NumPy loop", "skelcontrast"
CAPTURED, COMPILED = "skelcontrast, captured", "skelcontrast, compiled and captured"
EXTREME, LONGEST = "extreme view", 7
LARGER = 32
"""How much larger the second batch is on CUDA."""


class View(NamedTuple):
    """Both ways to make a view of a batch: a loop over its samples, and ours with the batch on the device."""

    loop: Callable[[], object]
    ours: augment.Compose | augment.Views
    x: Tensor


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.augment", description="Speed of the views.")
    parser.add_argument("--batch", type=int, default=128, help="sequences in the batch")
    parser.add_argument("--frames", type=int, default=50, help="frames of each")
    Timing.add_arguments(parser, repeats=10 if torch.cuda.is_available() else 30)
    args = parser.parse_args(argv)
    timing = Timing.of(args)
    settings = {"batch": args.batch, "frames": args.frames, **timing.settings()}
    print(", ".join(f"{name} {value}" for name, value in settings.items()) + ", float32")

    # As any training step does, make and drop something large: the C allocator then keeps freed memory for the next.
    large = torch.empty(7_000_000)
    del large
    loops: dict[str, list[float]] = {}
    tables = [measure(args.batch, args.frames, timing, loops)]
    if timing.device.type == "cuda":
        tables.append(measure(LARGER * args.batch, args.frames, timing, loops, times=LARGER))
    save(args.json, {**settings, "tables": tables})


def measure(N: int, T: int, timing: Timing, loops: dict[str, list[float]], *, times: int = 1) -> dict[str, Any]:
    """Measure every view; where a batch is some `times` one that the loop has been timed on, that is not done again."""
    title, rows = f"Views of ({N}, 3, {T}, 25, 2)", list[Row]()
    loop = LOOP if times == 1 else f"{LOOP}, {times} times {N // times}"
    heads = f"{'us a sample (quartiles)':>28}{'least':>10}{'times faster (quartiles)':>30}{'samples a second':>20}"
    print(f"\n{title}\n{'':50}{heads}")
    for name, view in views(N, T, timing.device).items():
        forms = forms_of(view, timing.device)
        calls = {LOOP: view.loop, **forms} if times == 1 else forms
        found = interleaved(calls, timing)
        loops[name] = found.get(LOOP, loops.get(name, []))
        seconds = {loop: [times * each for each in loops[name]], **{form: found[form] for form in forms}}
        for form in forms.keys() & {CAPTURED, COMPILED}:
            seconds[form] = [each / REPLAYS for each in seconds[form]]
        for form, of in seconds.items():
            held = peak_memory(forms[OURS], timing.device) if form == OURS else None
            rows.append(whole_row(name, form, of, seconds[loop], held))
            micros, ratio = Spread.of(of), Spread(**rows[-1]["times_faster"]["both"])
            shown = f"{micros.show(1e6 / N):>28}{micros.least * 1e6 / N:>10.3g}{ratio.show():>30}"
            print(f"{name + ', ' + form:50}{shown}{show_number(N / micros.median):>20}")
    if timing.device.type == "cuda":
        return table(title, "view", rows)
    spent = operations(forms_of(views(N, T, timing.device)[EXTREME], timing.device)[OURS], timing.repeats)
    print(f"\n{'operations of the extreme view, us a sample':50}")
    for operation, each in spent.items():
        print(f"{operation:50}{each * 1e6 / N:>10.3g}")
    return table(title, "view", rows, parts={EXTREME: spent})


def operations(call: Callable[[], object], repeats: int) -> dict[str, float]:
    """Return the seconds that a call spends in torch's operations, the longest by name and the others together."""
    call()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(repeats):
            call()
    found = {event.key: event.self_cpu_time_total / 1e6 / repeats for event in profiler.key_averages()}
    names = sorted(found, key=lambda name: -found[name])
    spent = {name: found[name] for name in names[:LONGEST]}
    return spent | {f"{len(names[LONGEST:])} others": sum(found[name] for name in names[LONGEST:])}


def forms_of(view: View, device: torch.device) -> dict[str, Callable[[], object]]:
    """Return ours as it is called, and on CUDA as graphs, each with a generator of its own."""
    _, ours, x = view

    def drawing() -> torch.Generator:
        return torch.Generator(device).manual_seed(0)

    forms: dict[str, Callable[[], object]] = {OURS: partial(ours, x, drawing())}
    if device.type == "cuda":
        torch.compiler.reset()  # torch limits how often a function is compiled
        compiled = torch.compile(ours.apply, fullgraph=True, dynamic=False)
        for form, apply in ((CAPTURED, ours.apply), (COMPILED, compiled)):
            generator = drawing()
            forms[form] = Captured(form, partial(draw_and_apply, ours, apply, x, generator), generator)
    return forms


def draw_and_apply(
    view: augment.Compose | augment.Views, apply: Callable[..., object], x: Tensor, generator: torch.Generator
) -> object:
    """Make a view by an `apply` that stands for its own."""
    return apply(x, view.sample(x, generator))


def views(N: int, T: int, device: torch.device) -> dict[str, View]:
    """Return both ways to make each view, and all of a training step."""
    x = torch.randn(N, 3, T, 25, 2, generator=torch.Generator().manual_seed(0))
    array, rng, moved = x.numpy(), np.random.default_rng(0), x.to(device)
    extreme, normal = augment.extreme(NTU_RGBD_25), augment.normal()
    three = augment.Views(normal, normal, extreme)
    return {
        EXTREME: View(
            lambda: extreme_view_loop(array, NTU_RGBD_25.mirror, rng),
            extreme,
            moved,
        ),
        "normal view": View(
            lambda: view_loop(array, lambda sequence: normal_view(sequence, rng)),
            normal,
            moved,
        ),
        "two normal views and the extreme one": View(
            lambda: [
                *(view_loop(array, lambda sequence: normal_view(sequence, rng)) for _ in range(2)),
                extreme_view_loop(array, NTU_RGBD_25.mirror, rng),
            ],
            three,
            moved,
        ),
    }


if __name__ == "__main__":
    main()
