"""Time one whole training step of AimCLR in its second stage, and its parts, against that of the released code.

python -m benchmarks.step                          the paper's encoder, 128 clips of two bodies, 32768 keys
python -m benchmarks.step --threads 1              on a busy CPU: counts time computed, not time passed
python -m benchmarks.step --bf16                   both forms under bfloat16 autocast
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

Reading the clips from disk is in neither. Before anything is timed, loss and gradients of both are compared at dropout
0 in float64 (on CUDA in float32).
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from tests.reference.augment import extreme_view, normal_view, view_loop
from tests.reference.released_step import Lap, ReleasedStep, Views, no_lap
from torch import Tensor

from benchmarks.forms import Form, check_that_numbers_agree
from benchmarks.measure import Clock, Spread, interleaved, peak_memory, show_bytes, speedup
from skelcontrast import augment
from skelcontrast.methods import AimCLR
from skelcontrast.nn import STGCN, ProjectionHead
from skelcontrast.skeleton import NTU_RGBD_25

RELEASED, OURS = "released form", "skelcontrast"
PARTS = (
    "augmentation",
    "momentum update, enqueue",
    "keys, forward",
    "queries, forward",
    "loss, forward",
    "backward",
    "optimiser",
)
NTU_60_CLIPS, EPOCHS = 40_091, 300
"""Training clips of NTU RGB+D 60 cross-subject, and the paper's epochs."""
Train: TypeAlias = Callable[[Views, Lap, AbstractContextManager[Any]], object]


class OurStep:
    """The training step of the example, which tells what part has ended."""

    def __init__(self, model: AimCLR) -> None:
        self.model = model
        self.optimizer = torch.optim.SGD(model.query_parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
        self.lap: Lap = no_lap
        # The pass of the keys lies inside `embed`, between two passes of queries.
        model.moco.key_encoder.register_forward_pre_hook(lambda *_: self.end("queries, forward"))
        model.moco.key_head.register_forward_hook(lambda *_: self.end("keys, forward"))

    def end(self, part: str) -> None:
        """Tell that a part has ended."""
        self.lap(part)

    def loss(self, views: Views) -> tuple[Tensor, Tensor]:
        """Return the loss of a batch, and its keys (N, D)."""
        embedded = self.model.embed(*views)
        self.end("queries, forward")
        loss = self.model.loss(embedded, mine=True).total
        self.end("loss, forward")
        return loss, embedded.key

    def __call__(self, views: Views, lap: Lap, autocast: AbstractContextManager[Any]) -> None:
        """Take one step."""
        self.lap = lap
        self.model.momentum_update()
        lap("momentum update, enqueue")
        with autocast:
            loss, keys = self.loss(views)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        lap("backward")
        self.optimizer.step()
        lap("optimiser")
        self.model.enqueue(keys)
        lap("momentum update, enqueue")


class Laps:
    """Seconds that each part of each step took; on CUDA only where it is `on`, because it waits for the device."""

    def __init__(self, device: torch.device, clock: Clock) -> None:
        self.device, self.on = device, device.type != "cuda"
        self.now = time.thread_time if clock == "cpu" else time.perf_counter
        self.steps: list[dict[str, float]] = []
        self.last = 0.0

    def start(self) -> None:
        """Begin a step."""
        self.steps.append(dict.fromkeys(PARTS, 0.0))
        self.last = self._time()

    def __call__(self, part: str) -> None:
        """End a part."""
        if self.on:
            now = self._time()
            self.steps[-1][part] += now - self.last
            self.last = now

    def _time(self) -> float:
        if self.on and self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return self.now()


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.step", description="Speed of a whole training step.")
    parser.add_argument("--batch", type=int, default=128, help="clips; each has two bodies")
    parser.add_argument("--keys", type=int, default=32768, help="keys in the bank, a multiple of the batch")
    parser.add_argument("--frames", type=int, default=50, help="frames of a clip")
    parser.add_argument(
        "--repeats", type=int, help="two or more, how often each is timed (default: 3 on a CPU, else 30)"
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads for torch")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--clock", choices=("wall", "cpu"), help="time passed, or computed (default with one thread)")
    parser.add_argument("--bf16", action="store_true", help="both forms under bfloat16 autocast")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    args = parser.parse_args(argv)
    if args.keys % args.batch:
        parser.error("--keys must be a multiple of --batch, as the released bank needs it")
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    on_cpu = device.type == "cpu"
    clock: Clock = args.clock or ("cpu" if args.threads == 1 and on_cpu else "wall")
    repeats = args.repeats or (3 if on_cpu else 30)

    settings: dict[str, Any] = {name: getattr(args, name) for name in ("batch", "keys", "frames", "threads")}
    settings |= {"repeats": repeats, "clock": clock, "device": device.type, "bf16": args.bf16}
    print(", ".join(f"{name} {value}" for name, value in settings.items()))
    check_forms(min(args.batch, 16), args.frames, args.keys, device)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=args.bf16)
    result = measure(build(args.keys, device), draw(args.batch, args.frames), repeats, device, clock, autocast)
    if args.json is not None:
        args.json.write_text(json.dumps({**settings, **result}, indent=2) + "\n", encoding="utf-8")


def build(keys: int, device: torch.device, *, dropout: float = 0.5) -> AimCLR:
    """Build the paper's model from one seed."""
    torch.manual_seed(0)
    encoder = STGCN(NTU_RGBD_25, dropout=dropout, bodies="all")
    return AimCLR(encoder, ProjectionHead(256, 128), queue_size=keys, preset="official", key_init="copy").to(device)


def draw(batch: int, frames: int) -> Tensor:
    """Draw clips of two bodies."""
    return torch.randn(batch, 3, frames, 25, 2, generator=torch.Generator().manual_seed(0))


def views_of_released(clips: Tensor, device: torch.device, rng: np.random.Generator) -> Views:
    """Make the three views clip by clip."""
    extreme = partial(extreme_view, pairs=NTU_RGBD_25.mirror, rng=rng, preset="official")
    made = [view_loop(clips.numpy(), view) for view in (partial(normal_view, rng=rng),) * 2 + (extreme,)]
    return Views(*(torch.from_numpy(view).to(device) for view in made))


def views_of_ours(clips: Tensor, device: torch.device, generator: torch.Generator) -> Views:
    """Make the three views, each of the whole batch at once."""
    normal, extreme = augment.normal(preset="official"), augment.extreme(NTU_RGBD_25, preset="official")
    x = clips.to(device)
    return Views(normal(x, generator), normal(x, generator), extreme(x, generator))


def check_forms(batch: int, frames: int, keys: int, device: torch.device) -> None:
    """Stop where the two forms differ in the loss of the same views, or in its gradients."""
    dtype = torch.float64 if device.type == "cpu" else torch.float32
    model = build(keys, device, dropout=0.0).to(dtype)
    views = views_of_ours(draw(batch, frames), device, torch.Generator(device).manual_seed(0))
    views = Views(*(view.to(dtype) for view in views))
    released, ours = ReleasedStep(model), OurStep(model)
    forms = {}
    for name, step in ((RELEASED, released), (OURS, ours)):
        # Biases before a batch norm have a gradient of zero, of which rounding alone would be compared.
        weights: list[Tensor] = [parameter for parameter in step.model.query_parameters() if parameter.ndim > 1]
        forms[name] = Form(lambda *_, step=step: step.loss(views)[0], weights, torch.ones((), dtype=dtype).to(device))
    check_that_numbers_agree(forms)


def measure(
    model: AimCLR,
    clips: Tensor,
    repeats: int,
    device: torch.device,
    clock: Clock,
    autocast: AbstractContextManager[Any],
) -> dict[str, Any]:
    """Time both forms' steps and parts and their memory, and print them."""
    rng, generator = np.random.default_rng(0), torch.Generator(device).manual_seed(0)
    draws = {
        RELEASED: partial(views_of_released, clips, device, rng),
        OURS: partial(views_of_ours, clips, device, generator),
    }
    trains: dict[str, Train] = {RELEASED: ReleasedStep(model), OURS: OurStep(model)}
    laps = {name: Laps(device, clock) for name in draws}

    def whole(name: str) -> None:
        lap = laps[name]
        lap.start()
        views = draws[name]()
        lap("augmentation")
        trains[name](views, lap, autocast)

    steps = {name: partial(whole, name) for name in draws}
    memory = {name: peak_memory(step, device) for name, step in steps.items()}  # takes two steps: that is the warm-up
    times = interleaved(steps, repeats=repeats, warmup=0, device=device, clock=clock)
    if device.type == "cuda":
        for lap in laps.values():
            lap.on = True
        interleaved(steps, repeats=repeats, warmup=0, device=device, clock=clock)
    parts = {name: median_parts(lap.steps[-repeats:]) for name, lap in laps.items()}

    found = show_steps(times, memory)
    show_parts(parts)
    show_projection({name: Spread.of(times[name]).median for name in times}, len(clips))
    return {**found, "parts": parts}


def median_parts(steps: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the median of every part over the steps; seconds."""
    return {part: Spread.of([step[part] for step in steps]).median for part in PARTS}


def show_steps(times: dict[str, list[float]], memory: dict[str, int]) -> dict[str, Any]:
    """Print and return seconds, ratio and memory of each form."""
    print(f"\n{'one step':16}{'seconds (quartiles)':>26}{'times faster':>26}{'memory':>14}")
    found: dict[str, Any] = {"seconds": {}, "times_faster": {}, "bytes": memory}
    for name, values in times.items():
        seconds, ratio = Spread.of(values), speedup(times[RELEASED], values)
        print(f"{name:16}{seconds.show():>26}{ratio.show():>26}{show_bytes(memory[name]):>14}")
        found["seconds"][name], found["times_faster"][name] = seconds._asdict(), ratio._asdict()
    return found


def show_parts(parts: dict[str, dict[str, float]]) -> None:
    """Print the parts of both forms' steps and their shares."""
    print(f"\n{'milliseconds, median':26}" + "".join(f"{name:>16}{'share':>8}" for name in parts) + f"{'ratio':>8}")
    whole = {name: sum(of.values()) for name, of in parts.items()}
    for part in PARTS:
        columns = "".join(f"{of[part] * 1e3:16.4g}{of[part] / whole[name]:8.1%}" for name, of in parts.items())
        print(f"{part:26}{columns}{parts[RELEASED][part] / parts[OURS][part]:8.2f}")


def show_projection(seconds: dict[str, float], batch: int) -> None:
    """Print what the paper's training would take at these rates, the slower first."""
    steps = NTU_60_CLIPS // batch
    print()
    for name, each in sorted(seconds.items(), key=lambda item: -item[1]):
        setting = f"{EPOCHS} epochs of NTU-60 ({NTU_60_CLIPS:,} clips, {steps} steps of {batch})"
        print(f"{setting} would take {EPOCHS * steps * each / 3600:.4g} hours at this rate: {name}")


if __name__ == "__main__":
    main()
