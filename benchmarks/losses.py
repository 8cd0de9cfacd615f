"""Time and memory of AimCLR's loss in its second stage, against the same loss in the operations of the released code.

python -m benchmarks.losses                              128 samples, 32768 keys of 128 numbers; then other banks
python -m benchmarks.losses --threads 1                  on a busy CPU: counts time computed, not time passed
python -m benchmarks.losses --json result.json           also as numbers in a file

Three views of every sample, one neighbour each, float32. The released form holds three blocks of similarities, takes
the logarithm after the softmax and marks neighbours in one-hot masks; it is one of the tests' oracles.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tests.reference.losses import released_aimclr_loss, unit_rows
from torch import Tensor

from benchmarks.measure import Clock, Spread, interleaved, matrix_rate, peak_memory, show_bytes, speedup
from skelcontrast.losses import aimclr_loss
from skelcontrast.losses.bank_read import Implementation, choose

RELEASED = "released form"
RELEASED_UP_TO = 131_072
"""Keys of the largest bank for which the released form's blocks are made."""


class Problem(NamedTuple):
    """Views to train, the positives, and a bank in both layouts: (K, D), and (D, K) as the released code has it."""

    views: list[Tensor]
    positive: Tensor
    bank: Tensor
    queue: Tensor | None


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.losses", description="Speed of AimCLR's loss.")
    parser.add_argument("--batch", type=int, default=128, help="samples")
    parser.add_argument("--keys", type=int, default=32768, help="keys in the bank")
    parser.add_argument("--dim", type=int, default=128, help="size of an embedding")
    parser.add_argument("--repeats", type=int, default=15, help="how often each is timed")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads for torch")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--clock", choices=("wall", "cpu"), help="time passed, or computed (default with one thread)")
    parser.add_argument(
        "--banks", type=int, nargs="*", default=[4096, 16384, 65536, 262_144, 1_048_576], help="other banks"
    )
    parser.add_argument("--json", type=Path, help="file for the numbers")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    clock: Clock = args.clock or ("cpu" if args.threads == 1 and device.type == "cpu" else "wall")

    settings = {"batch": args.batch, "keys": args.keys, "dim": args.dim, "threads": args.threads, "clock": clock}
    print(", ".join(f"{name} {value}" for name, value in settings.items()) + f", float32, {device.type}")
    problem = draw(args.batch, args.dim, args.keys, device)
    check_that_numbers_agree(problem)
    one = measure_one(problem, args.repeats, clock)
    limits = measure_limits(problem, one, clock)
    scaling = measure_banks(args.batch, args.dim, args.banks, max(3, args.repeats // 3), device, clock)
    if args.json is not None:
        result = {**settings, "device": device.type, "repeats": args.repeats, **one, **limits, "banks": scaling}
        args.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def draw(N: int, D: int, K: int, device: torch.device) -> Problem:
    """Draw unit vectors."""
    *views, positive = (unit_rows(N, D, seed, dtype=torch.float32).to(device) for seed in range(4))
    bank = torch.nn.functional.normalize(torch.randn(K, D, generator=torch.Generator().manual_seed(4)), dim=1).to(
        device
    )
    queue = bank.T.contiguous() if K <= RELEASED_UP_TO else None
    return Problem([view.requires_grad_() for view in views], positive, bank, queue)


def forms(problem: Problem) -> dict[str, Callable[[], Tensor]]:
    """Return every way to the loss that this device and this bank allow."""
    views, positive, bank, queue = problem

    def ours(implementation: Implementation) -> Callable[[], Tensor]:
        return lambda: (
            aimclr_loss(
                views[0], views[1:], positive, bank, mine=True, positives="mean", implementation=implementation
            ).total
        )

    found: dict[str, Callable[[], Tensor]] = {}
    if queue is not None:
        found[RELEASED] = lambda: released_aimclr_loss(views[0], views[1:], positive, queue, temperature=0.07, k=1)
        found["dense"] = ours("dense")
    found["chunked"] = ours("chunked")
    if choose("benchmark", "auto", bank, queries=3 * len(positive), dtype=bank.dtype) == "triton":
        found["triton"] = ours("triton")
    return found


def check_that_numbers_agree(problem: Problem) -> None:
    """Stop where a form's loss or gradients are others than the released form's."""
    found = {name: both(problem, form)() for name, form in forms(problem).items()}
    for numbers in found.values():
        torch.testing.assert_close(numbers, found[RELEASED], rtol=1e-3, atol=1e-5)


def measure_one(problem: Problem, repeats: int, clock: Clock) -> dict[str, Any]:
    """Time forward, backward and both, and print them with the memory of both beside the released form's."""
    device, kept = problem.bank.device, {}
    steps: dict[str, Callable[[], object]] = {}
    for name, form in forms(problem).items():

        def forward(name: str = name, form: Callable[[], Tensor] = form) -> None:
            kept[name] = form()

        def backward(name: str = name) -> None:
            torch.autograd.grad(kept.pop(name), problem.views)

        steps[f"{name}, forward"], steps[f"{name}, backward"] = forward, backward
    times = interleaved(steps, repeats=repeats, device=device, clock=clock)
    memory = {name: peak_memory(both(problem, form), device) for name, form in forms(problem).items()}
    parts: dict[str, dict[str, list[float]]] = {}
    for name in forms(problem):
        forwards, backwards = times[f"{name}, forward"], times[f"{name}, backward"]
        together = [a + b for a, b in zip(forwards, backwards, strict=True)]
        parts[name] = {"forward": forwards, "backward": backwards, "both": together}

    print(f"\n{'milliseconds, median (quartiles)':34}{'forward':>26}{'backward':>26}{'both':>26}{'memory':>12}")
    for name, of_parts in parts.items():
        shown = "".join(f"{Spread.of(values).show(1e3):>26}" for values in of_parts.values())
        print(f"{name:34}{shown}{show_bytes(memory[name]):>12}")
    print(f"\n{'times faster than the released form':34}")
    ratios = {}
    for name in list(parts)[1:]:
        ratios[name] = {part: speedup(parts[RELEASED][part], values) for part, values in parts[name].items()}
        shown = "".join(f"{ratio.show():>26}" for ratio in ratios[name].values())
        print(f"{name:34}{shown}{memory[RELEASED] / memory[name]:>10.0f} x")
    seconds = {name: {part: Spread.of(values)._asdict() for part, values in of.items()} for name, of in parts.items()}
    faster = {name: {part: ratio._asdict() for part, ratio in of.items()} for name, of in ratios.items()}
    return {"seconds": seconds, "times_faster": faster, "bytes": memory}


def both(problem: Problem, form: Callable[[], Tensor]) -> Callable[[], tuple[Tensor, ...]]:
    """Return forward and backward as one call, which gives the loss and its gradients."""

    def call() -> tuple[Tensor, ...]:
        loss = form()
        return (loss.detach(), *torch.autograd.grad(loss, problem.views))

    return call


def measure_limits(problem: Problem, one: dict[str, Any], clock: Clock) -> dict[str, Any]:
    """Say what the two matrix products of the read take at the rate of torch's own products, and our share of that."""
    queries, (K, D) = len(problem.views) * problem.views[0].shape[0], problem.bank.shape
    rate = matrix_rate(2048, D, queries, device=problem.bank.device, clock=clock)
    floor = 2 * 2 * queries * K * D / rate
    best = [name for name in one["seconds"] if name != RELEASED][-1]
    share = floor / one["seconds"][best]["both"]["median"]
    print(f"\nthe read's two matrix products alone, at {rate / 1e9:.1f} GFLOP/s: {floor * 1e3:.4g} ms")
    print(f"share of them in the time of {best}, forward and backward: {share:.0%}")
    return {"matrix_flops_per_second": rate, "floor_seconds": floor, "share_of_floor": share}


def measure_banks(
    N: int, D: int, banks: Sequence[int], repeats: int, device: torch.device, clock: Clock
) -> list[dict[str, Any]]:
    """Time forward and backward, and their memory, over banks of other sizes."""
    print(f"\n{'keys':>9}  {'form':16}{'milliseconds (quartiles)':>26}{'memory':>14}{'bank':>14}")
    found = []
    for K in banks:
        problem = draw(N, D, K, device)
        of_bank = {name: both(problem, form) for name, form in forms(problem).items()}
        times = interleaved(of_bank, repeats=repeats, warmup=1, device=device, clock=clock)
        for name, call in of_bank.items():
            seconds, held = Spread.of(times[name]), peak_memory(call, device)
            found.append({"keys": K, "form": name, "seconds": seconds._asdict(), "bytes": held})
            sizes = f"{show_bytes(held):>14}{show_bytes(problem.bank.nbytes):>14}"
            print(f"{K:9}  {name:16}{seconds.show(1e3):>26}{sizes}")
    return found


if __name__ == "__main__":
    main()
