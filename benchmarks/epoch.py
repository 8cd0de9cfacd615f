"""Time one epoch of AimCLR's second stage, from clips on disk to trained weights, against that of the released code.

python -m benchmarks.epoch                       256 clips on a CPU; on CUDA the 40,091 of NTU RGB+D 60
python -m benchmarks.epoch --threads 1           on a busy CPU: counts time computed, not time passed
python -m benchmarks.epoch --bf16                all forms under bfloat16 autocast
python -m benchmarks.epoch --json result.json    also as numbers in a file

Both forms train the paper's encoder on generated clips of two bodies with 50 frames, in a file that is mapped into
memory, with the steps of `benchmarks.step`.

- Released form: `torch.utils.data.DataLoader` reads clip by clip in this process, every clip is augmented in NumPy, and
  the loss is read at every step.
- skelcontrast: `SkeletonLoader` takes whole batches; on CUDA the clips lie on the device.
- captured, on CUDA only: the same from batches that lie on the device, with the step as a CUDA graph.
- compiled and captured, on CUDA only: with views, embeddings and loss under `torch.compile` besides.
- views given, on CUDA only: the released form's steps alone, on one batch of views, as where worker processes read and
  augment in time.

Time is that of the whole epoch. On a CPU what the released code gives to worker processes is counted as well.
"""

import argparse
import copy
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tests.reference.released_step import no_lap
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks.forms import Row, print_head, print_row, table, whole_row
from benchmarks.measure import Timing, interleaved, peak_memory, save
from benchmarks.step_forms import (
    CAPTURED,
    COMPILED,
    GIVEN,
    NTU_60_CLIPS,
    OURS,
    RELEASED,
    build,
    captured_step,
    train_forms,
    views_of_ours,
    views_of_released,
)
from skelcontrast.data import SkeletonDataset, SkeletonLoader
from skelcontrast.methods import AimCLR


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.epoch", description="Speed of an epoch.")
    on_cuda = torch.cuda.is_available()
    parser.add_argument("--clips", type=int, default=NTU_60_CLIPS if on_cuda else 256, help="clips of an epoch")
    parser.add_argument("--batch", type=int, default=128, help="clips of a step")
    parser.add_argument("--keys", type=int, default=32768, help="keys in the bank, a multiple of the batch")
    parser.add_argument("--frames", type=int, default=50, help="frames of a clip")
    parser.add_argument("--bf16", action="store_true", help="all forms under bfloat16 autocast")
    Timing.add_arguments(parser, repeats=2)
    args = parser.parse_args(argv)
    if args.keys % args.batch or args.clips < args.batch:
        parser.error("--keys must be a multiple of --batch, and --clips at least a batch")
    timing = Timing.of(args)

    settings: dict[str, Any] = {name: getattr(args, name) for name in ("clips", "batch", "keys", "frames", "bf16")}
    settings |= timing.settings()
    print(", ".join(f"{name} {value}" for name, value in settings.items()))
    autocast = torch.autocast(timing.device.type, torch.bfloat16, enabled=args.bf16)
    with tempfile.TemporaryDirectory() as folder:
        clips = write_clips(Path(folder) / "clips.npy", args.clips, args.frames)
        epochs = make_epochs(build(args.keys, timing.device), clips, args.batch, timing.device, autocast)
        title = f"One epoch, {args.clips} clips of two bodies in steps of {args.batch}"
        rows = measure(epochs, title, timing)
    save(args.json, {**settings, "tables": [table(title, "", rows)]})


def write_clips(path: Path, count: int, frames: int) -> np.memmap[Any, np.dtype[np.float32]]:
    """Write random clips piece by piece, and return them mapped into memory."""
    shape = (count, 3, frames, 25, 2)
    written = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    rng = np.random.default_rng(0)
    for start in range(0, count, 1024):
        piece = written[start : start + 1024]
        piece[:] = rng.standard_normal(piece.shape, dtype=np.float32)
    written.flush()
    return np.lib.format.open_memmap(path, mode="r")


def make_epochs(
    model: AimCLR,
    clips: np.memmap[Any, np.dtype[np.float32]],
    batch: int,
    device: torch.device,
    autocast: AbstractContextManager[Any],
) -> dict[str, Callable[[], object]]:
    """Return an epoch in every form, each with a copy of the model."""
    trains = train_forms(model)
    rng, generator = np.random.default_rng(0), torch.Generator(device).manual_seed(0)
    one_by_one = DataLoader(_Clips(clips), batch, shuffle=True, drop_last=True)
    dataset = SkeletonDataset(clips, np.zeros(len(clips), np.int64), names=[str(row) for row in range(len(clips))])
    loader = SkeletonLoader(dataset.to(device) if device.type == "cuda" else dataset, batch)

    def released() -> None:
        for x in one_by_one:
            trains[RELEASED](views_of_released(x, device, rng), no_lap, autocast)

    def ours() -> None:
        for x in loader:
            trains[OURS](views_of_ours(x.x, device, x.generator), no_lap, autocast)

    epochs: dict[str, Callable[[], object]] = {RELEASED: released, OURS: ours}
    if device.type == "cuda":
        first = torch.from_numpy(clips[:batch].copy())
        views = views_of_released(first, device, rng)

        def given() -> None:
            for _ in range(len(one_by_one)):
                trains[RELEASED](views, no_lap, autocast)

        def captured(take: Callable[[Tensor, torch.Generator], object]) -> None:
            for x in loader:
                take(x.x, x.generator)

        epochs[GIVEN] = given
        for name in (CAPTURED, COMPILED):
            take = captured_step(copy.deepcopy(model), first, autocast, generator, compiled=name == COMPILED)
            epochs[name] = partial(captured, take)
    return epochs


def measure(epochs: dict[str, Callable[[], object]], title: str, timing: Timing) -> list[Row]:
    """Time epochs in turn and print them; memory, on CUDA, is that of one more."""
    times = interleaved(epochs, timing, warmup=0)
    print_head(title)
    rows = []
    for name, epoch in epochs.items():
        in_a_graph = name in (CAPTURED, COMPILED)  # which took its memory when it was recorded
        seen = timing.device.type == "cuda" and not in_a_graph
        held = peak_memory(epoch, timing.device, warm=True) if seen else None
        rows.append(whole_row("epoch", name, times[name], times[RELEASED], held))
        print_row(rows[-1], is_first=name == RELEASED)
    return rows


class _Clips(torch.utils.data.Dataset[Tensor]):
    """Clip by clip."""

    def __init__(self, clips: np.memmap[Any, np.dtype[np.float32]]) -> None:
        self.clips = clips

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, row: int) -> Tensor:
        return torch.from_numpy(np.array(self.clips[row]))


if __name__ == "__main__":
    main()
