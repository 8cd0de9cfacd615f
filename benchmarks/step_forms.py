"""The forms of a training step that `benchmarks.step` and `benchmarks.epoch` time, and what they start from."""

import copy
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from tests.reference.augment import extreme_view, normal_view, view_loop
from tests.reference.released_step import Lap, ReleasedStep, Views, no_lap
from torch import Tensor

from benchmarks.measure import Clock
from skelcontrast import augment
from skelcontrast.cuda_graph import CapturedStep
from skelcontrast.methods import AimCLR
from skelcontrast.nn import STGCN, ProjectionHead
from skelcontrast.skeleton import NTU_RGBD_25

RELEASED, OURS, CAPTURED = "released form", "skelcontrast", "skelcontrast, captured"
GIVEN, COMPILED = "released form, views given", "skelcontrast, compiled and captured"
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


def our_views() -> augment.Views:
    """Return what makes the three views of the whole batch in one call."""
    normal, extreme = augment.normal(preset="official"), augment.extreme(NTU_RGBD_25, preset="official")
    return augment.Views(normal, normal, extreme)


def views_of_ours(clips: Tensor, device: torch.device, generator: torch.Generator) -> Views:
    """Make the three views of the whole batch in one call."""
    return Views(*our_views()(clips.to(device), generator))


def train_forms(model: AimCLR) -> dict[str, Train]:
    """Return both forms of a step, each with a copy of the model."""
    return {RELEASED: ReleasedStep(model), OURS: OurStep(copy.deepcopy(model))}


def captured_step(
    model: AimCLR,
    clips: Tensor,
    autocast: AbstractContextManager[Any],
    generator: torch.Generator,
    *,
    compiled: bool,
    in_order: bool = False,
    options: dict[str, Any] | None = None,
) -> Callable[[Tensor, torch.Generator], object]:
    """Return our step as a CUDA graph, with the fused optimiser behind it; it trains this very model.

    Its passes run side by side unless `in_order`. Views, passes and loss may be compiled, each by itself, with options
    of the compiler, which takes its time here and none in the steps.
    """
    x, views = clips.to(generator.device), our_views()
    optimizer = torch.optim.SGD(model.query_parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4, fused=True)

    how: dict[str, Any] = {"fullgraph": True, "dynamic": False} | ({"options": options} if options else {})
    apply = torch.compile(views.apply, **how) if compiled else views.apply
    if compiled:
        model.compile(**how)

    def step(x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        drawn = views.sample(x, generator)
        model.momentum_update()
        made = apply(x, drawn)
        with autocast:
            embedded = model.embed(*made)
            loss = model.loss(embedded, mine=True).total
        loss.backward()
        model.enqueue(embedded.key)
        return {"total": loss.detach()}

    take = CapturedStep(step, x, model, in_order=in_order)

    def whole(x: Tensor, generator: torch.Generator) -> None:
        take(x, generator)
        optimizer.step()

    return whole
