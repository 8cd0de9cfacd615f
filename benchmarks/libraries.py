"""InfoNCE against a bank, beside the libraries that a user would pick otherwise: lightly and pytorch-metric-learning.

python -m benchmarks.libraries                        128 samples of 128 numbers, banks of 4096, 32768 and 65536 keys
python -m benchmarks.libraries --json result.json     also as numbers in a file

One step each, as a user of the library writes it: embeddings and keys of any norm come in, both are normalised, the
loss and the gradient of the embeddings are computed and the keys are put into the bank. Temperature 0.07, float32.

The step of lightly is the same step: one direction, query against [its key | the bank as it was before], and then the
keys go in. It copies the bank in every call and reads the copy (K, D) as (D, K). At the bank's end it drops what does
not fit of a batch, where skelcontrast wraps around; with K a multiple of N, as here, that is the same.

The step of pytorch-metric-learning is another one, in three points. The keys go in first, so the negatives are the
K - 1 keys of other labels with this batch's among them, and the N oldest keys are gone. Which key is the positive is
found by labels, which the user brings; every sample has its own here, as otherwise more keys would be positives. The
bank holds keys as they come and is normalised in every call. It lists all N x K pairs, and its NTXentLoss then sets
every positive beside every pair, N x N x K numbers at a time; so it runs only where that fits into `--most` GiB.
Its SupConLoss, which with one positive is the same loss, makes (N, K) only, and is measured as well.

On CUDA all steps are launched operation by operation, because both libraries read numbers back to the host in every
step (lightly the bank's pointer), which no CUDA graph can hold. Ours can, and has a captured row of its own.

Every step's loss is first held against a plain form of what is said above, in two steps on the same keys.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from types import ModuleType
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.captured import Captured
from benchmarks.forms import Row, print_head, print_row, table, whole_row
from benchmarks.measure import Timing, full_precision, interleaved, peak_memory, save
from skelcontrast.losses import info_nce
from skelcontrast.memory import MemoryQueue

OURS, CAPTURED, LIGHTLY = "skelcontrast", "skelcontrast, captured", "lightly"
NTXENT, SUPCON = "pytorch-metric-learning, NTXentLoss", "pytorch-metric-learning, SupConLoss"
KEYS_FIRST = (NTXENT, SUPCON)
"""Where a batch's keys are in the bank before its queries are compared with it."""
TEMPERATURE = 0.07
BYTES_PER_NUMBER = 18
"""What NTXentLoss of pytorch-metric-learning holds at its peak for each of N x N x K numbers, measured and rounded."""
Step: TypeAlias = Callable[[], tuple[Tensor, Tensor]]
"""Loss and gradient; the bank holds the keys afterwards."""


class Problem(NamedTuple):
    """Embeddings to train (N, D) and their keys, neither of unit norm, and what is in the bank (K, D)."""

    embeddings: Tensor
    keys: Tensor
    bank: Tensor


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.libraries", description="InfoNCE of three libraries.")
    parser.add_argument("--batch", type=int, default=128, help="samples")
    parser.add_argument("--keys", type=int, nargs="+", default=[4096, 32768, 65536], help="keys in the bank")
    parser.add_argument("--dim", type=int, default=128, help="size of an embedding")
    parser.add_argument("--most", type=float, default=4, help="GiB that NTXentLoss of pytorch-metric-learning may hold")
    Timing.add_arguments(parser, repeats=9)
    args = parser.parse_args(argv)
    libraries = load()
    timing = Timing.of(args)

    settings = {"batch": args.batch, "dim": args.dim, **timing.settings()}
    print(", ".join(f"{name} {value}" for name, value in settings.items()) + f", float32; {versions()}")
    print(
        "loss, gradient and the bank's update; in pytorch-metric-learning's step the keys go in first, so that they are"
    )
    print("negatives of each other, and the positive is found by its label; times faster than lightly")
    rows, losses = list[Row](), {}
    for K in args.keys:
        problem = draw(args.batch, args.dim, K, timing.device)
        made = steps(*libraries, on_cuda=timing.device.type == "cuda")
        found = {name: make for name, make in made.items() if fits(name, problem, args.most)}
        losses[K] = check_losses(problem, found)
        rows += measure(problem, found, timing)
    result = table("InfoNCE against a bank: loss, gradient and update", "bank", rows, losses=losses)
    save(args.json, {**settings, "libraries": versions(), "tables": [result]})


def load() -> tuple[Any, Any]:
    """Import lightly's loss and the losses of pytorch-metric-learning, or leave with a message that says what to do."""
    stand_in_for_torchvision()
    try:
        from lightly.loss import NTXentLoss
        from pytorch_metric_learning import losses
    except ModuleNotFoundError as error:
        sys.exit(f'{error}; install the libraries with: pip install -c constraints.txt -e ".[bench]"')
    return NTXentLoss, losses


def stand_in_for_torchvision() -> None:
    """Where torchvision is missing or does not fit the build of torch, put something empty in its place.

    lightly imports all of its losses and models together, and some of them work on images; NTXentLoss does not.
    """
    try:
        import torchvision  # noqa: F401  whether it can be
    except (ImportError, OSError, RuntimeError) as error:
        print(f"torchvision: {error}; something empty stands in, for lightly's loss does not use it")
        sys.modules |= {name: _Empty(name) for name in ("torchvision", "torchvision.ops", "torchvision.transforms")}


class _Empty(ModuleType):
    """A package that has a class of every name, to derive from and never to use."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__ = []

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def versions() -> str:
    return ", ".join(f"{name} {version(name)}" for name in ("skelcontrast", "lightly", "pytorch-metric-learning"))


def draw(N: int, D: int, K: int, device: torch.device) -> Problem:
    """Draw embeddings that resemble each other, keys that resemble them, and unit vectors for the bank.

    The resemblance makes a batch's keys harder negatives than the bank, so that the order of the update shows.
    """
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(1, D, generator=generator) + torch.randn(N, D, generator=generator)
    keys = embeddings + torch.randn(N, D, generator=generator)
    bank = F.normalize(torch.randn(K, D, generator=generator), dim=1)
    return Problem(embeddings.to(device).requires_grad_(), keys.to(device), bank.to(device))


def ours(problem: Problem) -> Step:
    """Return our step on a bank that it fills."""
    return partial(_step, _filled(problem), problem)


def ours_captured(problem: Problem) -> Step:
    """Return our step as a CUDA graph; what it enqueued to be captured is taken back."""
    queue = _filled(problem)
    before = {name: value.clone() for name, value in queue.state_dict().items()}
    graph = Captured(CAPTURED, partial(_step, queue, problem))
    queue.load_state_dict(before)

    def replay() -> tuple[Tensor, Tensor]:
        graph.replay()
        return graph.result

    return replay


def _filled(problem: Problem) -> MemoryQueue:
    queue = MemoryQueue(*problem.bank.shape).to(problem.bank.device)
    queue.enqueue(problem.bank)
    return queue


def _step(queue: MemoryQueue, problem: Problem) -> tuple[Tensor, Tensor]:
    query, key = F.normalize(problem.embeddings, dim=1), F.normalize(problem.keys, dim=1)
    found = differentiated(info_nce(query, key, queue.keys, temperature=TEMPERATURE), problem)
    queue.enqueue(key)
    return found


def steps(lightly_loss: Any, metric_losses: Any, *, on_cuda: bool = False) -> dict[str, Callable[[Problem], Step]]:  # noqa: ANN401  optional
    """Return for every library the function that fills a bank and gives the step."""

    def lightly(problem: Problem) -> Step:
        loss = lightly_loss(temperature=TEMPERATURE, memory_bank_size=tuple(problem.bank.shape))
        loss.to(problem.bank.device).memory_bank(problem.bank, update=True)
        return lambda: differentiated(loss(problem.embeddings, problem.keys), problem)

    def metric_learning(name: str) -> Callable[[Problem], Step]:
        def make(problem: Problem) -> Step:
            (K, D), N, device = problem.bank.shape, len(problem.keys), problem.bank.device
            inner = getattr(metric_losses, name)(temperature=TEMPERATURE)
            memory = metric_losses.CrossBatchMemory(inner, embedding_size=D, memory_size=K).to(device)
            memory.add_to_memory(problem.bank, torch.arange(-K, 0, device=device), K)
            are_keys = torch.arange(2 * N, device=device) >= N
            labels = torch.arange(N, device=device).repeat(2)

            def step() -> tuple[Tensor, Tensor]:
                nonlocal labels
                labels = labels + N  # new samples: a label that is still in the bank would be one more positive
                both = torch.cat([problem.embeddings, problem.keys])
                return differentiated(memory(both, labels, enqueue_mask=are_keys), problem)

            return step

        return make

    theirs = {SUPCON: metric_learning("SupConLoss"), NTXENT: metric_learning("NTXentLoss")}
    return {LIGHTLY: lightly, OURS: ours, **({CAPTURED: ours_captured} if on_cuda else {}), **theirs}


def differentiated(loss: Tensor, problem: Problem) -> tuple[Tensor, Tensor]:
    return loss.detach(), torch.autograd.grad(loss, problem.embeddings)[0]


def fits(name: str, problem: Problem, most: float) -> bool:
    """Say whether a step holds less than so many GiB, and print where it does not."""
    needs = BYTES_PER_NUMBER * len(problem.keys) ** 2 * len(problem.bank) / 2**30 if name == NTXENT else 0
    if needs > most:
        print(f"\n{name}, {len(problem.bank)} keys: not run, it would hold about {needs:.2g} GiB")
    return needs <= most


def plain_losses(problem: Problem, *, keys_first: bool, count: int = 2) -> list[float]:
    """Return the losses of the first steps, in the plain form of either order."""
    query, key, bank = (F.normalize(rows.detach(), dim=1) for rows in problem)
    losses = []
    for step in range(count):
        rows = (torch.arange(len(key), device=key.device) + step * len(key)) % len(bank)
        before, bank = bank, bank.index_copy(0, rows, key)
        if keys_first:
            scores, positive = query @ bank.T, rows
        else:
            scores, positive = torch.cat([(query * key).sum(1, keepdim=True), query @ before.T], 1), 0 * rows
        losses.append(F.cross_entropy(scores / TEMPERATURE, positive).item())
    return losses


def check_losses(problem: Problem, found: dict[str, Callable[[Problem], Step]]) -> dict[str, list[float]]:
    """Stop where a library's losses are others than the plain form's to 1e-4, and print them."""
    losses = {}
    print(f"\n{len(problem.bank)} keys, losses of two steps:")
    with full_precision():
        plain = {first: plain_losses(problem, keys_first=first) for first in (False, True)}
        for name, make in found.items():
            step = make(problem)
            losses[name] = [step()[0].item() for _ in plain[False]]
    for name in found:
        torch.testing.assert_close(losses[name], plain[name in KEYS_FIRST], rtol=1e-4, atol=1e-5)
        print(f"{name:38}" + "".join(f"{loss:12.5f}" for loss in losses[name]))
    return losses


def measure(problem: Problem, found: dict[str, Callable[[Problem], Step]], timing: Timing) -> list[Row]:
    """Time the steps in turns, and print them with their memory, beside the first."""
    device, made = problem.bank.device, {name: make(problem) for name, make in found.items()}
    times = interleaved(made, timing, warmup=1)
    print_head(f"{len(problem.bank)} keys")
    baseline, rows = next(iter(made)), []
    for name, step in made.items():
        held = peak_memory(step, device)
        rows.append(whole_row(f"{len(problem.bank)} keys", name, times[name], times[baseline], held))
        print_row(rows[-1], is_first=name == baseline)
    return rows


if __name__ == "__main__":
    main()
