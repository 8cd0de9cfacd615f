"""What the losses' choices go by: the size of a chunk, the size up to which all similarities are held, cross-stream.

python -m benchmarks.losses_rules                        one thread of a CPU, forward and backward, float32
python -m benchmarks.losses_rules --json result.json     also as numbers in a file

Embeddings of 128 numbers; time that the thread computed.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch
from tests.reference.losses import unit_rows
from torch import Tensor

from benchmarks.measure import Spread, interleaved, peak_memory, show_bytes
from skelcontrast.losses import _chunked_read, aimclr_loss, cross_stream, info_nce
from skelcontrast.losses.bank_read import Implementation

Call: TypeAlias = Callable[[], object]
D = 128
FORMS: tuple[Implementation, ...] = ("dense", "chunked")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.losses_rules", description="What `auto` goes by.")
    parser.add_argument("--repeats", type=int, default=11, help="how often each is timed")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    rows = [*measure_chunks(args.repeats), *measure_small(args.repeats), *measure_cross_stream(args.repeats)]
    if args.json is not None:
        args.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


def measure_chunks(repeats: int) -> list[dict[str, Any]]:
    """Read one bank in chunks of several sizes, for one neighbour and for eight."""
    chosen = _chunked_read._ON_CPU

    def in_chunks(size: int, call: Call) -> Call:
        def sized() -> None:
            _chunked_read._ON_CPU = size
            call()

        return sized

    candidates = {
        f"2^{power} similarities, k = {k}": in_chunks(2**power, aimclr(128, 32768, "chunked", k=k))
        for power in range(17, 22)
        for k in (1, 8)
    }
    try:
        return show("AimCLR, 3 views of 128 samples, 32768 keys: size of a chunk", candidates, repeats)
    finally:
        _chunked_read._ON_CPU = chosen


def measure_small(repeats: int) -> list[dict[str, Any]]:
    """Compare both forms on small problems of 32 samples."""
    rows: list[dict[str, Any]] = []
    for power in range(13, 19):
        candidates = {f"info_nce, {form}": single(32, 2**power // 32, form) for form in FORMS}
        candidates |= {f"AimCLR, {form}": aimclr(32, 2**power // 96, form) for form in FORMS}
        rows += show(f"2^{power} similarities", candidates, 5 * repeats)
    return rows


def measure_cross_stream(repeats: int) -> list[dict[str, Any]]:
    """Compare both forms of the cross-stream loss."""
    candidates = {
        f"{streams} streams, {'' if context else 'no '}context, {form}": crossed(streams, context, form)
        for streams in (2, 3)
        for context in (True, False)
        for form in FORMS
    }
    return show("cross_stream, 128 samples, 32768 keys", candidates, repeats)


def aimclr(N: int, K: int, implementation: Implementation, *, k: int = 1) -> Call:
    """Return AimCLR's second stage, forward and backward."""
    (query, *extremes), (bank, *_) = draw(N, K, 3)
    return lambda: torch.autograd.grad(
        aimclr_loss(query, extremes, query, bank, mine=True, k=k, implementation=implementation).total,
        [query, *extremes],
    )


def single(N: int, K: int, implementation: Implementation) -> Call:
    """Return InfoNCE, forward and backward."""
    (query,), (bank,) = draw(N, K, 1)
    return lambda: torch.autograd.grad(info_nce(query, query, bank, implementation=implementation), query)


def crossed(streams: int, context: bool, implementation: Implementation) -> Call:
    """Return the cross-stream loss, forward and backward."""
    queries, banks = draw(128, 32768, streams)
    return lambda: torch.autograd.grad(
        cross_stream(queries, queries, banks, context=context, implementation=implementation).total, queries
    )


def draw(N: int, K: int, streams: int) -> tuple[list[Tensor], list[Tensor]]:
    """Draw queries that are trained, and banks."""
    queries = [unit_rows(N, D, seed, dtype=torch.float32, requires_grad=True) for seed in range(streams)]
    return queries, [unit_rows(K, D, 10 + seed, dtype=torch.float32) for seed in range(streams)]


def show(title: str, candidates: Mapping[str, Call], repeats: int) -> list[dict[str, Any]]:
    """Time candidates, and print them with their memory."""
    times = interleaved(candidates, repeats=repeats, clock="cpu")
    print(f"\n{title}\n{'':36}{'milliseconds (quartiles)':>28}{'memory':>12}")
    rows = []
    for name, call in candidates.items():
        seconds, held = Spread.of(times[name]), peak_memory(call)
        rows.append({"title": title, "name": name, "seconds": seconds._asdict(), "bytes": held})
        print(f"{name:36}{seconds.show(1e3):>28}{show_bytes(held):>12}")
    return rows


if __name__ == "__main__":
    main()
