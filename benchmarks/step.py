"""Time one whole training step of AimCLR in its second stage, and its parts, against that of the released code.

python -m benchmarks.step                          the paper's encoder, 128 clips of two bodies, 32768 keys
python -m benchmarks.step --threads 1              on a busy CPU: counts time computed, not time passed
python -m benchmarks.step --bf16                   all forms under bfloat16 autocast
python -m benchmarks.step --json result.json       also as numbers in a file

Both forms start from one batch of float32 clips in memory and one set of weights, and compute one function: that of the
``"official"`` preset, joint stream, dropout 0.5. They take turns, step by step.

- Released form (`tests.reference.released_step`): two normal views and an extreme one drawn clip by clip in NumPy, on
  this process's thread (the released code gives that to worker processes); keys, then both query passes through the
  ST-GCN of 1x1 convolution and einsum, contiguous, with torch's dropout and EADM's masks written element by element;
  the loss with three dense blocks of similarities, a logarithm after the softmax and one-hot masks; backward; SGD and
  momentum update parameter by parameter; the keys into a (D, K) bank; `.item()` on the loss.
- skelcontrast, as `examples/aimclr_ntu.py` runs it: `augment.normal` twice and `augment.extreme` on the batch, then
  `momentum_update`, `embed`, `loss`, backward, `torch.optim.SGD` with its defaults, `enqueue`. Nothing waits for the
  loss.

- captured, on CUDA only: the same step recorded as a CUDA graph.
- compiled and captured, on CUDA only: with views, each pass of the encoder and loss under `torch.compile` besides, as
  `examples/aimclr_ntu.py --fast` runs it. Compiling and recording are not in the time.
- views given, on CUDA only: the released form without its augmentation, as where worker processes make the views in
  time.

On CUDA a time is the mean of five steps in a row, as training takes them: one that is waited for pays for its launch,
which otherwise goes on while the step before it is computed. Parts are those of single steps.

Reading the clips from disk is in none. All but the captured forms are launched operation by operation. The work counted
is what torch counts in the released form's loss and backward: convolutions and products. Our form does less of it.
Before anything is timed, loss and gradients of both are compared at dropout 0 in float64; on CUDA also in float32, for
what only runs there, to one in ten, because rounding alone moves a value over EADM's threshold.
"""

import argparse
import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import numpy as np
import torch
from tests.reference.released_step import ReleasedStep, Views, no_lap
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.captured import REPLAYS
from benchmarks.forms import Form, Row, check_that_numbers_agree, print_head, print_row, table, whole_row
from benchmarks.measure import Limits, Spread, Timing, Work, interleaved, peak_memory, save
from benchmarks.step_forms import (
    CAPTURED,
    COMPILED,
    EPOCHS,
    GIVEN,
    NTU_60_CLIPS,
    OURS,
    PARTS,
    RELEASED,
    Laps,
    OurStep,
    build,
    captured_step,
    draw,
    train_forms,
    views_of_ours,
    views_of_released,
)
from skelcontrast.methods import AimCLR


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.step", description="Speed of a whole training step.")
    parser.add_argument("--batch", type=int, default=128, help="clips; each has two bodies")
    parser.add_argument("--keys", type=int, default=32768, help="keys in the bank, a multiple of the batch")
    parser.add_argument("--frames", type=int, default=50, help="frames of a clip")
    parser.add_argument("--bf16", action="store_true", help="all forms under bfloat16 autocast")
    Timing.add_arguments(parser, repeats=10 if torch.cuda.is_available() else 3)
    args = parser.parse_args(argv)
    if args.keys % args.batch:
        parser.error("--keys must be a multiple of --batch, as the released bank needs it")
    timing = Timing.of(args)
    device = timing.device
    limits = Limits.measure(timing, torch.bfloat16 if args.bf16 else torch.float32)

    settings: dict[str, Any] = {name: getattr(args, name) for name in ("batch", "keys", "frames", "bf16")}
    settings |= timing.settings()
    print(", ".join(f"{name} {value}" for name, value in settings.items()) + f"\n{limits.show()}")
    check_forms(min(args.batch, 16), args.frames, args.keys, device, torch.float64, tolerance=1e-4)
    if device.type == "cuda":
        check_forms(min(args.batch, 16), args.frames, args.keys, device, torch.float32, tolerance=0.1)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=args.bf16)
    model = build(args.keys, device)
    work = Work(args.batch / 2 * count_flops(model, args.frames), moved=0)
    result = measure(model, draw(args.batch, args.frames), timing, autocast, limits, work)
    save(args.json, {**settings, "limits": limits._asdict(), **result})


def check_forms(
    batch: int, frames: int, keys: int, device: torch.device, dtype: torch.dtype, *, tolerance: float
) -> None:
    """Stop where the two forms differ in the loss of the same views, or in its gradients."""
    model = build(keys, device, dropout=0.0).to(dtype)
    views = views_of_ours(draw(batch, frames), device, torch.Generator(device).manual_seed(0))
    views = Views(*(view.to(dtype) for view in views))
    released, ours = ReleasedStep(model), OurStep(model)
    forms = {}
    for name, step in ((RELEASED, released), (OURS, ours)):
        # Biases before a batch norm have a gradient of zero, of which rounding alone would be compared.
        weights: list[Tensor] = [parameter for parameter in step.model.query_parameters() if parameter.ndim > 1]
        forms[name] = Form(lambda *_, step=step: step.loss(views)[0], weights, torch.ones((), dtype=dtype).to(device))
    check_that_numbers_agree(forms, tolerance)


def count_flops(model: AimCLR, frames: int) -> int:
    """Return the operations of the released form's loss and backward for two clips."""
    views = views_of_ours(draw(2, frames), model.bank.keys.device, torch.Generator(model.bank.keys.device))
    with FlopCounterMode(display=False) as counter:
        ReleasedStep(model).loss(views)[0].backward()
    return int(counter.get_total_flops())


def measure(
    model: AimCLR,
    clips: Tensor,
    timing: Timing,
    autocast: AbstractContextManager[Any],
    limits: Limits,
    work: Work,
) -> dict[str, Any]:
    """Time every form's step, the parts of both that have parts, and their memory, and print them."""
    device = timing.device
    rng, generator = np.random.default_rng(0), torch.Generator(device).manual_seed(0)
    draws = {
        RELEASED: partial(views_of_released, clips, device, rng),
        OURS: partial(views_of_ours, clips, device, generator),
    }
    trains = train_forms(model)
    laps = {name: Laps(device, timing.clock) for name in draws}

    def whole(name: str) -> None:
        lap = laps[name]
        lap.start()
        views = draws[name]()
        lap("augmentation")
        trains[name](views, lap, autocast)

    steps: dict[str, Callable[[], object]] = {name: partial(whole, name) for name in draws}
    if device.type == "cuda":
        views = draws[RELEASED]()
        steps[GIVEN] = lambda: trains[RELEASED](views, no_lap, autocast)
        for name in (CAPTURED, COMPILED):
            take = captured_step(copy.deepcopy(model), clips, autocast, generator, compiled=name == COMPILED)
            steps[name] = partial(take, clips.to(device), generator)
    # Takes two steps of each, which is the warm-up. What a graph holds, it took when it was recorded.
    memory: dict[str, int | None] = {name: peak_memory(step, device) for name, step in steps.items()}
    memory |= {name: None for name in (CAPTURED, COMPILED) if name in steps}
    times = interleaved(steps, timing, warmup=0, in_a_row=REPLAYS if device.type == "cuda" else 1)
    if device.type == "cuda":
        for lap in laps.values():
            lap.on = True
        interleaved({name: steps[name] for name in draws}, timing, warmup=0)
    parts = {name: median_parts(lap.steps[-timing.repeats :]) for name, lap in laps.items()}

    title, rows = f"One step, {len(clips)} clips of two bodies", list[Row]()
    print_head(title)
    for name in steps:
        row = whole_row("step", name, times[name], times[RELEASED], memory[name])
        row |= {**work._asdict(), "share": limits.share(work, row["seconds"]["both"]["median"])}
        rows.append(row)
        print_row(row, is_first=name == RELEASED)
    show_parts(parts)
    hours = show_projection({name: Spread.of(times[name]).median for name in times}, len(clips))
    return {"tables": [table(title, "", rows, parts=parts, hours_of_ntu_60=hours)]}


def median_parts(steps: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the median of every part over the steps; seconds."""
    return {part: Spread.of([step[part] for step in steps]).median for part in PARTS}


def show_parts(parts: dict[str, dict[str, float]]) -> None:
    """Print the parts of both forms' steps and their shares."""
    print(f"\n{'milliseconds, median':26}" + "".join(f"{name:>16}{'share':>8}" for name in parts) + f"{'ratio':>8}")
    whole = {name: sum(of.values()) for name, of in parts.items()}
    for part in PARTS:
        columns = "".join(f"{of[part] * 1e3:16.4g}{of[part] / whole[name]:8.1%}" for name, of in parts.items())
        print(f"{part:26}{columns}{parts[RELEASED][part] / parts[OURS][part]:8.2f}")


def show_projection(seconds: dict[str, float], batch: int) -> dict[str, float]:
    """Print and return the hours that the paper's training would take at these rates, the slower first."""
    steps = NTU_60_CLIPS // batch
    print()
    for name, each in sorted(seconds.items(), key=lambda item: -item[1]):
        setting = f"{EPOCHS} epochs of NTU-60 ({NTU_60_CLIPS:,} clips, {steps} steps of {batch})"
        print(f"{setting} would take {EPOCHS * steps * each / 3600:.4g} hours at this rate: {name}")
    return {name: EPOCHS * steps * each / 3600 for name, each in seconds.items()}


if __name__ == "__main__":
    main()
