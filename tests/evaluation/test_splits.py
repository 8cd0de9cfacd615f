"""The semi-supervised lists: counts of each class, numbers that may never change, and the messages of bad calls."""

import re
from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skelcontrast.evaluation import semi_supervised_indices


@given(
    labels=st.lists(st.integers(0, 5), min_size=1, max_size=60),
    share=st.sampled_from([0.01, 0.1, 0.25, 0.5, 0.999, 1.0]),
    seed=st.integers(-3, 3),
)
def test_each_class_gives_its_share_and_at_least_one(labels: list[int], share: float, seed: int) -> None:
    found = semi_supervised_indices(labels, share, seed=seed)
    assert found.dtype == torch.int64
    assert found.tolist() == sorted(set(found.tolist()))
    expected = {label: max(1, round(share * count)) for label, count in Counter(labels).items()}
    assert Counter(labels[position] for position in found.tolist()) == expected


def test_these_numbers_may_never_change() -> None:
    """Lists behind published results; they come from SHA-256 and nothing else."""
    labels = [position * position % 7 for position in range(60)]
    assert semi_supervised_indices(labels, 0.1).tolist() == [10, 20, 22, 40, 49, 58, 59]
    short = torch.tensor(labels, dtype=torch.int16)
    assert semi_supervised_indices(short, 0.1, seed=1).tolist() == [9, 15, 18, 30, 41, 42, 45]
    assert semi_supervised_indices(labels, 0.01, seed=2**40).tolist() == [7, 32, 33, 48]


def test_a_larger_share_contains_the_smaller() -> None:
    labels = torch.randint(8, (500,))
    small, large = (set(semi_supervised_indices(labels, share, seed=4).tolist()) for share in (0.05, 0.1))
    assert small < large


def test_class_and_seed_both_matter() -> None:
    labels = [0] * 50 + [1] * 50
    first, other = (semi_supervised_indices(labels, 0.2, seed=seed) for seed in (0, 1))
    assert not torch.equal(first, other)
    assert first[:10].tolist() != (first[10:] - 50).tolist()


def test_no_place_is_preferred() -> None:
    """Each place of a class is taken about as often as any other: 300 draws of 5 in 20, so 75 times, give or take."""
    taken = Counter(
        place for seed in range(300) for place in semi_supervised_indices([0] * 20, 0.25, seed=seed).tolist()
    )
    assert all(45 < taken[place] < 105 for place in range(20))


@pytest.mark.parametrize(
    ("labels", "share", "seed", "kind", "message"),
    [
        ([], 0.1, 0, ValueError, "`labels` must hold at least one label, got none."),
        ([0, -1], 0.1, 0, ValueError, "`labels` must be at least 0, got -1."),
        ([0.5], 0.1, 0, TypeError, "`labels` must hold integers, got torch.float32."),
        ([[0]], 0.1, 0, ValueError, "`labels` must have shape (N,), got (1, 1)."),
        ([0], 0.0, 0, ValueError, "`share` must lie in (0, 1], got 0."),
        ([0], 10, 0, ValueError, "`share` must lie in (0, 1], got 10."),
        ([0], 0.1, 0.5, TypeError, "`seed` must be an integer, got 0.5."),
    ],
)
def test_bad_calls(labels: Any, share: float, seed: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=re.escape(f"semi_supervised_indices: {message}")):
        semi_supervised_indices(labels, share, seed=seed)
