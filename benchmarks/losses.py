"""Time and memory of AimCLR's loss in its second stage, against the same loss in the operations of the released code.

python -m benchmarks.losses                              128 samples, 32768 keys of 128 numbers
python -m benchmarks.losses --threads 1                  on a busy CPU: counts time computed, not time passed
python -m benchmarks.losses --json result.json           also as numbers in a file

Three views of every sample, one neighbour each, float32, and InfoNCE of a single view. The released form holds three
blocks of similarities, takes the logarithm after the softmax and marks neighbours in one-hot masks; it is one of the
tests' oracles. The work counted is two products of all views with the bank, and the bank read once.
"""

import argparse
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from tests.reference.losses import released_aimclr_loss, unit_rows
from torch import Tensor

from benchmarks.forms import Binding, Form, Row, measure_forms, print_head, table
from benchmarks.measure import Limits, Timing, Work, save
from skelcontrast.losses import aimclr_loss, info_nce
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

    def work(self) -> Work:
        """Return what any form that reads the bank once has to do."""
        queries = sum(view.shape[0] for view in self.views)
        return Work(flops=2 * 2 * queries * self.bank.numel(), moved=self.bank.nbytes)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.losses", description="Speed of AimCLR's loss.")
    parser.add_argument("--batch", type=int, default=128, help="samples")
    parser.add_argument("--keys", type=int, default=32768, help="keys in the bank")
    parser.add_argument("--dim", type=int, default=128, help="size of an embedding")
    Timing.add_arguments(parser, repeats=15)
    args = parser.parse_args(argv)
    timing = Timing.of(args)
    limits = Limits.measure(timing)
    settings = {"batch": args.batch, "keys": args.keys, "dim": args.dim, **timing.settings()}
    print(", ".join(f"{name} {value}" for name, value in settings.items()) + f", float32\n{limits.show()}")

    title = f"AimCLR's loss: 3 views of {args.batch} samples, {args.keys} keys of {args.dim} numbers"
    print_head(title)
    problem = draw(args.batch, args.dim, args.keys, timing.device)
    rows = measure_problem("second stage", problem, timing, limits)
    single = Problem(problem.views[:1], problem.positive, problem.bank, None)
    bound = Binding(single.work(), limits)
    rows += measure_forms("InfoNCE of one view", info_nce_forms(single), timing, bound=bound)
    save(args.json, {**settings, "limits": limits._asdict(), "tables": [table(title, "loss", rows)]})


def measure_problem(case: str, problem: Problem, timing: Timing, limits: Limits) -> list[Row]:
    """Measure every form of the second stage's loss."""
    return measure_forms(case, forms(problem), timing, bound=Binding(problem.work(), limits))


def draw(N: int, D: int, K: int, device: torch.device) -> Problem:
    """Draw unit vectors."""
    *views, positive = (unit_rows(N, D, seed, dtype=torch.float32).to(device) for seed in range(4))
    bank = torch.nn.functional.normalize(torch.randn(K, D, generator=torch.Generator().manual_seed(4)), dim=1).to(
        device
    )
    queue = bank.T.contiguous() if K <= RELEASED_UP_TO else None
    return Problem([view.requires_grad_() for view in views], positive, bank, queue)


def forms(problem: Problem) -> dict[str, Form]:
    """Return every way to the second stage's loss that this device and this bank allow, the released one first."""
    _, positive, bank, queue = problem

    def ours(implementation: Implementation) -> Callable[..., Tensor]:
        return lambda query, *extremes: (
            aimclr_loss(
                query, extremes, positive, bank, mine=True, positives="mean", implementation=implementation
            ).total
        )

    def released(query: Tensor, *extremes: Tensor) -> Tensor:
        if queue is None:
            raise ValueError("the bank is too large for the released form")
        return released_aimclr_loss(query, extremes, positive, queue, temperature=0.07, k=1)

    found: dict[str, Callable[..., Tensor]] = {}
    if queue is not None:
        found |= {RELEASED: released, "dense": ours("dense")}
    found |= {name: ours(name) for name in streaming(problem)}
    return {name: Form.of_loss(call, problem.views) for name, call in found.items()}


def info_nce_forms(problem: Problem) -> dict[str, Form]:
    """Return every way to InfoNCE, the plain one first: logits side by side, and torch's cross-entropy."""
    positive, bank = problem.positive, problem.bank
    target = torch.zeros(len(positive), dtype=torch.int64, device=bank.device)

    def plain(query: Tensor) -> Tensor:
        logits = torch.cat([(query * positive).sum(dim=1, keepdim=True), query @ bank.T], dim=1)
        return torch.nn.functional.cross_entropy(logits / 0.07, target)

    def ours(implementation: Implementation) -> Callable[..., Tensor]:
        return lambda query: info_nce(query, positive, bank, implementation=implementation)

    found: dict[str, Callable[..., Tensor]] = {"plain form": plain, "dense": ours("dense")}
    found |= {name: ours(name) for name in streaming(problem)}
    return {name: Form.of_loss(call, problem.views) for name, call in found.items()}


def streaming(problem: Problem) -> list[Implementation]:
    """Return the forms that never hold all similarities, as far as they run here."""
    found: list[Implementation] = ["chunked"]
    queries, bank = sum(view.shape[0] for view in problem.views), problem.bank
    if choose("benchmark", "auto", bank, queries=queries, dtype=bank.dtype) == "triton":
        found.append("triton")
    return found


if __name__ == "__main__":
    main()
