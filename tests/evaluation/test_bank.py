"""What lies in a bank: beside a real one, what is unknown, and the messages."""

import re
from typing import Any

import pytest
import torch
from tests.largest import Largest

from skelcontrast.evaluation import bank_contents, neighbor_precision, own_key_share
from skelcontrast.memory import MemoryQueue


@pytest.mark.parametrize("sizes", [(3, 3), (3, 3, 3), (5, 5, 5, 2), (7,)])
def test_contents_are_those_of_a_real_bank(sizes: tuple[int, ...]) -> None:
    bank, seen, number = MemoryQueue(7, 1), [], 0
    for size in sizes:
        batch = torch.arange(number, number + size)
        bank.enqueue(batch.float()[:, None] + 100)
        seen.append(batch)
        number += size
    found = bank_contents(torch.cat(seen), size=7, pointer=bank.pointer)
    filled = found >= 0
    assert int(filled.sum()) == min(number, 7)
    assert torch.equal(bank.keys.flatten()[filled], found[filled] + 100.0)
    last = bank_contents(torch.cat(seen)[-4:], size=7, pointer=bank.pointer)
    assert set(last.tolist()) == set(torch.cat(seen)[-4:].tolist()) | {-1}


def test_a_bank_tells_of_samples_in_any_integers() -> None:
    found = bank_contents(torch.arange(5, dtype=torch.int32), size=4, pointer=1)
    assert found.dtype == torch.int64
    assert found.tolist() == [4, 1, 2, 3]


def test_nothing_seen_is_nothing_known() -> None:
    assert bank_contents(torch.empty(0, dtype=torch.long), size=3, pointer=2).tolist() == [-1, -1, -1]


def test_precision_is_the_share_of_neighbours_of_the_class_of_their_query() -> None:
    neighbors, labels = torch.tensor([[0, 3], [1, 2], [4, 0]]), torch.tensor([0, 2, 0])
    bank_labels = torch.tensor([0, 2, 1, -1, 0])
    assert neighbor_precision(neighbors, labels, bank_labels) == pytest.approx(4 / 6)


def test_an_unknown_neighbour_is_no_hit_for_an_unknown_query() -> None:
    assert neighbor_precision(torch.tensor([[0]]), torch.tensor([-1]), torch.tensor([-1])) == 0


def test_a_bank_as_large_as_the_data_holds_one_own_key() -> None:
    samples = torch.randperm(20)
    assert own_key_share(samples, torch.randperm(20)) * 20 == pytest.approx(1)


@pytest.mark.parametrize(("times", "expected"), [(0.25, 0.03125), (0.5, 0.125), (1, 0.5), (2, 1.5)])
def test_a_batch_in_training_meets_as_many_own_keys_as_is_said(times: float, expected: float) -> None:
    samples, size, generator = 1024, int(times * 1024), torch.Generator().manual_seed(0)
    seen, met = torch.empty(0, dtype=torch.long), []
    for epoch in range(8):
        for rows in torch.randperm(samples, generator=generator).split(8):
            if epoch >= 3:  # by then the largest of these banks is full
                stored = bank_contents(seen, size=size, pointer=0)
                met.append(own_key_share(rows, stored) * size)
            seen = torch.cat([seen, rows])[-size:]
    assert sum(met) / len(met) == pytest.approx(expected, abs=0.01)


def test_own_keys_of_a_whole_data_set_take_little_memory() -> None:
    with Largest() as largest:
        own_key_share(torch.arange(300), torch.arange(500))
    assert largest.nbytes == 300 * 500  # a truth value each, never a number


X = torch.zeros(4, 3)
L = torch.zeros(4, dtype=torch.long)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda: bank_contents(X[0], size=4, pointer=0),
            TypeError,
            "bank_contents: `seen` must hold integers, got torch",
        ),
        (lambda: bank_contents(L[None], size=4, pointer=0), ValueError, "`seen` must have shape (N,), got (1, 4)."),
        (lambda: bank_contents(L, size=0, pointer=0), ValueError, "bank_contents: `size` must be at least 1, got 0."),
        (lambda: bank_contents(L, size=4, pointer=4), ValueError, "`pointer` must lie in [0, 3], got 4."),
        (lambda: neighbor_precision(L, L, L), ValueError, "`neighbors` must have shape (N, P), got (4,)."),
        (
            lambda: neighbor_precision(L[:0, None], L, L),
            ValueError,
            "`neighbors` must hold at least one number, got (0, 1)",
        ),
        (
            lambda: neighbor_precision(L[:, None], L[:2], L),
            ValueError,
            "`labels` must have shape (4,) to match `neighbors`",
        ),
        (
            lambda: neighbor_precision(L[:, None] + 4, L, L),
            ValueError,
            "`neighbors` must lie in [0, 3], the rows of `bank_labels`, got rows from 4 to 4.",
        ),
        (
            lambda: neighbor_precision(torch.tensor([[0], [3], [-1], [2]]), L, L),
            ValueError,
            "`neighbors` must lie in [0, 3], the rows of `bank_labels`, got rows from -1 to 3.",
        ),
        (
            lambda: neighbor_precision(L[:, None], L, X[0]),
            TypeError,
            "`bank_labels` must hold integers, got torch.float32",
        ),
        (
            lambda: own_key_share(L, L[:0]),
            ValueError,
            "own_key_share: `bank_samples` must hold at least one number, got",
        ),
        (lambda: own_key_share(X, L), ValueError, "own_key_share: `samples` must have shape (N,), got (4, 3)."),
    ],
)
def test_bad_calls(call: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=re.escape(message)):
        call()
