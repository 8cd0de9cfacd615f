"""What the losses' choices go by: the size of a chunk, the size up to which all similarities are held, cross-stream.

python -m benchmarks.losses_rules                        forward and backward, float32
python -m benchmarks.losses_rules --threads 1            on a busy CPU: counts time computed, not time passed
python -m benchmarks.losses_rules --json result.json     also as numbers in a file

Embeddings of 128 numbers.
"""

import argparse
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias
from unittest import mock

import torch
from tests.reference.losses import unit_rows
from torch import Tensor

from benchmarks.forms import Row, measure_calls, print_head, table
from benchmarks.measure import Timing, save
from skelcontrast.losses import _chunked_read, aimclr_loss, cross_stream, info_nce
from skelcontrast.losses.bank_read import Implementation

Call: TypeAlias = Callable[[], object]
D = 128
FORMS: tuple[Implementation, ...] = ("dense", "chunked")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.losses_rules", description="What `auto` goes by.")
    Timing.add_arguments(parser, repeats=11)
    args = parser.parse_args(argv)
    timing = Timing.of(args)
    tables = [measure_chunks(timing), measure_small(timing), measure_cross_stream(timing)]
    save(args.json, {**timing.settings(), "tables": tables})


def measure_chunks(timing: Timing) -> dict[str, Any]:
    """Read one bank in chunks of several sizes, for one neighbour and for eight."""
    constant = "_ON_CPU" if timing.device.type == "cpu" else "_ELSEWHERE"

    def in_chunks(size: int, call: Call) -> Call:
        def sized() -> None:
            with mock.patch.object(_chunked_read, constant, size):
                call()

        return sized

    title = "AimCLR, 3 views of 128 samples, 32768 keys: size of a chunk"
    print_head(title)
    rows = []
    for k in (1, 8):
        call = aimclr(128, 32768, "chunked", timing, k=k)
        powers = range(15, 21) if timing.device.type == "cpu" else range(18, 24)
        calls = {f"2^{power} similarities": in_chunks(2**power, call) for power in powers}
        rows += measure_calls(f"k {k}", calls, timing)
    return table(title, "neighbours", rows)


def measure_small(timing: Timing) -> dict[str, Any]:
    """Compare both forms on small problems of 32 samples."""
    title, rows = "Few similarities (views x samples x keys), 32 samples", list[Row]()
    print_head(title)
    longer = timing._replace(repeats=5 * timing.repeats)
    for power in range(13, 19):
        of_one = {form: single(32, 2**power // 32, form, timing) for form in FORMS}
        of_three = {form: aimclr(32, 2**power // 96, form, timing) for form in FORMS}
        rows += measure_calls(f"InfoNCE, 2^{power}", of_one, longer)
        rows += measure_calls(f"AimCLR, 2^{power}", of_three, longer)
    return table(title, "loss", rows)


def measure_cross_stream(timing: Timing) -> dict[str, Any]:
    """Compare both forms of the cross-stream loss."""
    title, rows = "Cross-stream mining, 128 samples, 32768 keys", list[Row]()
    print_head(title)
    for streams in (2, 3):
        for context in (True, False):
            calls = {form: crossed(streams, context, form, timing) for form in FORMS}
            rows += measure_calls(f"{streams} streams, {'' if context else 'no '}context", calls, timing)
    return table(title, "streams", rows)


def aimclr(N: int, K: int, implementation: Implementation, timing: Timing, *, k: int = 1) -> Call:
    """Return AimCLR's second stage, forward and backward."""
    (query, *extremes), (bank, *_) = draw(N, K, 3, timing)
    return lambda: torch.autograd.grad(
        aimclr_loss(query, extremes, query, bank, mine=True, k=k, implementation=implementation).total,
        [query, *extremes],
    )


def single(N: int, K: int, implementation: Implementation, timing: Timing) -> Call:
    """Return InfoNCE, forward and backward."""
    (query,), (bank,) = draw(N, K, 1, timing)
    return lambda: torch.autograd.grad(info_nce(query, query, bank, implementation=implementation), query)


def crossed(streams: int, context: bool, implementation: Implementation, timing: Timing) -> Call:
    """Return the cross-stream loss, forward and backward."""
    queries, banks = draw(128, 32768, streams, timing)
    return lambda: torch.autograd.grad(
        cross_stream(queries, queries, banks, context=context, implementation=implementation).total, queries
    )


def draw(N: int, K: int, streams: int, timing: Timing) -> tuple[list[Tensor], list[Tensor]]:
    """Draw queries that are trained, and banks."""
    queries = [unit_rows(N, D, seed, dtype=torch.float32).to(timing.device) for seed in range(streams)]
    banks = [unit_rows(K, D, 10 + seed, dtype=torch.float32).to(timing.device) for seed in range(streams)]
    return [query.requires_grad_() for query in queries], banks


if __name__ == "__main__":
    main()
