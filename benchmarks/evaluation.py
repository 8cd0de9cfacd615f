"""Time and memory of the frozen-feature protocols at the size of NTU-60 cross-subject, on generated features.

python -m benchmarks.evaluation                    40,091 + 16,487 features of 256, 60 classes, one thread
python -m benchmarks.evaluation --seeds 1          quicker: one seed of the probe and of its autograd form
python -m benchmarks.evaluation --json result.json also as numbers in a file

The probe is held against the same schedule in the form one would write it: `nn.Linear`, `cross_entropy`, autograd,
`torch.optim.SGD`. Two questions: how much faster, and by how many points of test accuracy do they differ, first with
the same weights and batches, then with the last partial batch dropped, as the released code does. Processor seconds
stand beside the clock, because they hardly see what else the machine is doing. Peak memory is what the process held
more than before the call, where the system tells it (Linux); memory left over from an earlier call is not counted.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.measure import save
from skelcontrast.evaluation import Features, knn_accuracy, linear_probe, logistic_probe, retrieval

CLASSES = 60
WIDTH = 256
FACTORS = 48
RATES = (0.1, 0.3, 1.0, 3.0, 10.0)


class Measured(NamedTuple):
    """What a call took and gave."""

    seconds: float
    processor_seconds: float
    megabytes: float
    accuracy: float


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evaluation", description="Frozen-feature protocols.")
    parser.add_argument("--train", type=int, default=40091, help="training features")
    parser.add_argument("--test", type=int, default=16487, help="test features")
    parser.add_argument("--epochs", type=int, default=100, help="epochs of the probe")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of the probe and of its autograd form")
    parser.add_argument("--threads", type=int, default=1, help="threads for torch")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    args = parser.parse_args(argv)

    torch.set_num_threads(args.threads)
    train, test = generated(args.train, seed=0), generated(args.test, seed=1)
    queries = Features(test.features[:2000], test.labels[:2000])
    size = f"{args.train:,} + {args.test:,} features of {WIDTH}, {CLASSES} classes, float32, CPU"
    print(f"{size}, torch threads {args.threads}, {args.epochs} epochs")
    print(f"{'':44} {'clock s':>8} {'proc. s':>8} {'peak MB':>8} {'accuracy':>9}")
    epochs, seeds = args.epochs, range(args.seeds)
    several: dict[str, Callable[[int], float]] = {
        "linear_probe, released schedule": lambda seed: linear_probe(train, test, epochs=epochs, seed=seed).accuracy,
        "autograd, same weights and batches": lambda seed: autograd_probe(train, test, epochs, seed, drop_last=False),
        "autograd, last partial batch dropped": lambda seed: autograd_probe(train, test, epochs, seed, drop_last=True),
    }
    once: dict[str, Callable[[], float]] = {
        f"linear_probe, {len(RATES)} rates, chosen on validation": lambda: (
            linear_probe(train, test, epochs=epochs, lr=RATES, select="validation").accuracy
        ),
        "logistic_probe, l2 0.001, to convergence": lambda: logistic_probe(train, test).accuracy,
        "knn_accuracy, k = 1, 5 and 20 at once": lambda: knn_accuracy(train, test, k=(1, 5, 20))[1],
        "retrieval, mAP, up to 2,000 queries": lambda: retrieval(train, queries).mean_average_precision,
    }
    measured: dict[str, list[Measured]] = {}
    for name, probe in several.items():
        measured[name] = [measure(lambda seed=seed, probe=probe: probe(seed)) for seed in seeds]  # type: ignore[misc]  # bound now, not later
        show(name, measured[name])
    for name, call in once.items():
        measured[name] = [measure(call)]
        show(name, measured[name])

    ours, same, dropped = ([one.accuracy for one in measured[name]] for name in several)
    apart = [100 * abs(a - b) for a, b in zip(ours, same, strict=True)]
    between = 100 * (statistics.fmean(ours) - statistics.fmean(dropped))
    print(f"points between the probe and autograd on the same batches, by seed: {', '.join(f'{x:.3f}' for x in apart)}")
    print(f"points between the probe and the released form, means of {args.seeds} seeds: {between:+.3f}")
    print("accuracy of each seed, probe:    " + ", ".join(f"{100 * x:.2f}" for x in ours))
    print("accuracy of each seed, released: " + ", ".join(f"{100 * x:.2f}" for x in dropped))
    times = [statistics.median(one.processor_seconds for one in measured[name]) for name in several]
    print(f"processor time: autograd takes {times[1] / times[0]:.1f} times as long (medians)")
    settings = {key: getattr(args, key) for key in ("train", "test", "epochs", "seeds", "threads")}
    save(args.json, {**settings, "measured": {name: [one._asdict() for one in of] for name, of in measured.items()}})


def generated(rows: int, *, seed: int) -> Features:
    """Features like those of a trained encoder: rectified, correlated, of falling strength, classes that overlap.

    The share of them that a linear classifier gets right is near that of the paper's NTU-60 tables.
    """
    shared = torch.Generator().manual_seed(1234)
    centres = torch.randn(CLASSES, FACTORS, generator=shared)
    strength = torch.arange(1, FACTORS + 1).rsqrt()[:, None]
    mixing = torch.randn(FACTORS, WIDTH, generator=shared) * strength
    own = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (rows,), generator=own)
    factors = centres[labels] + 1.9 * torch.randn(rows, FACTORS, generator=own)
    noise = 0.1 * torch.randn(rows, WIDTH, generator=own)
    return Features(0.1 * torch.relu(factors @ mixing / 3 + noise - 0.3), labels)


def autograd_probe(train: Features, test: Features, epochs: int, seed: int, *, drop_last: bool) -> float:
    """Train a layer by the released schedule as one would write it; return its accuracy after the last epoch."""
    generator = torch.Generator().manual_seed(seed)
    layer = nn.Linear(WIDTH, CLASSES)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(CLASSES, WIDTH, generator=generator) * 0.02)
        layer.bias.zero_()
    optimizer = torch.optim.SGD(layer.parameters(), lr=3.0, momentum=0.9)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [80], gamma=0.1)
    for _ in range(epochs):
        order: Tensor = torch.randperm(len(train.labels), generator=generator)
        for rows in order.split(128):
            if drop_last and len(rows) < 128:
                continue
            loss = nn.functional.cross_entropy(layer(train.features[rows]), train.labels[rows])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
        schedule.step()
    with torch.no_grad():
        return float((layer(test.features).argmax(dim=1) == test.labels).double().mean())


def measure(call: Callable[[], float]) -> Measured:
    """Time a call once and watch how much more memory it takes at its peak."""
    before = memory("VmRSS", reset_peak=True)
    start, start_processor = time.perf_counter(), time.process_time()
    accuracy = call()
    seconds, processor_seconds = time.perf_counter() - start, time.process_time() - start_processor
    return Measured(seconds, processor_seconds, memory("VmHWM") - before, accuracy)


def memory(field: str, *, reset_peak: bool = False) -> float:
    """Return what Linux says of this process's memory in megabytes; NaN elsewhere."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    try:
        if reset_peak:
            reset.write_text("5", encoding="utf-8")
        lines = status.read_text(encoding="utf-8").splitlines()
    except OSError:
        return float("nan")
    return next((float(line.split()[1]) / 1000 for line in lines if line.startswith(field)), float("nan"))


def show(name: str, measured: Sequence[Measured]) -> None:
    """Print the medians of one line of the table, the peak of its greatest."""
    seconds, processor = (statistics.median(one[field] for one in measured) for field in (0, 1))
    peak, accuracy = max(one.megabytes for one in measured), statistics.fmean(one.accuracy for one in measured)
    print(f"{name:44} {seconds:8.1f} {processor:8.1f} {peak:8.0f} {accuracy:9.4f}", flush=True)


if __name__ == "__main__":
    main()
