"""Metrics against scikit-learn and hand arithmetic, intervals against the binomial, and the messages of bad calls."""

import math
import random
import re
from typing import Any

import pytest
import torch

from skelcontrast.evaluation import (
    bootstrap_interval,
    confusion_matrix,
    per_class_accuracy,
    summarize,
    topk_accuracy,
)
from skelcontrast.evaluation import metrics as room


@pytest.mark.parametrize("k", [1, 2, 5, 7])
def test_topk_agrees_with_scikit_learn(k: int) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    logits, labels = torch.randn(100, 8), torch.randint(8, (100,))
    expected = metrics.top_k_accuracy_score(labels.numpy(), logits.numpy(), k=k, labels=range(8))
    assert topk_accuracy(logits, labels, k=k) == pytest.approx(expected)


def test_topk_at_the_ends() -> None:
    logits, labels = torch.randn(50, 6), torch.randint(6, (50,))
    assert topk_accuracy(logits, labels, k=1) == float((logits.argmax(dim=1) == labels).double().mean())
    assert topk_accuracy(logits, labels, k=6) == 1.0


def test_equal_logits_are_no_gift() -> None:
    labels = torch.arange(4)
    assert [topk_accuracy(torch.zeros(4, 4), labels, k=k) for k in (1, 2, 3, 4)] == [0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize("num_classes", [None, 6, 9])
def test_confusion_and_per_class_agree_with_scikit_learn(num_classes: int | None) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    predictions, labels = torch.randint(6, (200,)), torch.randint(5, (200,))
    predictions[0] = 5
    classes = range(num_classes or 6)
    expected = metrics.confusion_matrix(labels.numpy(), predictions.numpy(), labels=classes)
    found = confusion_matrix(predictions, labels, num_classes=num_classes)
    assert found.tolist() == expected.tolist()
    assert confusion_matrix(labels, predictions, num_classes=num_classes).tolist() == expected.T.tolist()
    shares = per_class_accuracy(predictions, labels, num_classes=num_classes)
    recall = metrics.recall_score(labels.numpy(), predictions.numpy(), labels=range(5), average=None)
    torch.testing.assert_close(shares[:5], torch.from_numpy(recall))
    assert shares.shape == (len(classes),)
    assert shares[5:].isnan().all()


def test_interval_is_the_binomials() -> None:
    """For an accuracy the bootstrap means are binomial: 1.96 standard errors either side, nearly."""
    right = torch.arange(400) < 300
    value, low, high = bootstrap_interval(right, resamples=4000)
    error = math.sqrt(0.75 * 0.25 / 400)
    assert value == 0.75
    assert low == pytest.approx(0.75 - 1.96 * error, abs=0.005)
    assert high == pytest.approx(0.75 + 1.96 * error, abs=0.005)
    narrow = bootstrap_interval(right, confidence=0.5)
    assert low < narrow.low < value < narrow.high < high
    assert narrow.low == pytest.approx(0.75 - 0.6745 * error, abs=0.003)  # the quartiles of a normal distribution
    assert narrow.high == pytest.approx(0.75 + 0.6745 * error, abs=0.003)


def test_interval_of_a_difference_and_of_a_constant() -> None:
    first, second = torch.arange(100) < 80, torch.arange(100) < 60
    assert bootstrap_interval(first.double() - second.double()).low > 0
    assert bootstrap_interval(torch.full((7,), 3)) == (3.0, 3.0, 3.0)


def test_interval_is_the_same_however_many_draws_are_made_together(monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.rand(30, dtype=torch.float64)
    whole = bootstrap_interval(values, resamples=50)
    for together in (1, 30 * 7, 30 * 25):
        monkeypatch.setattr(room, "DRAWN_TOGETHER", together)
        assert bootstrap_interval(values, resamples=50) == pytest.approx(whole, rel=1e-12)


def test_interval_has_its_own_randomness() -> None:
    values = torch.rand(30)
    before = torch.get_rng_state(), random.getstate()
    first, again, other = (bootstrap_interval(values, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]


def test_summary_by_hand() -> None:
    found = summarize([1.0, 2.0, 6.0])
    assert found[:1] + found[2:] == (3.0, 1.0, 6.0, 3)
    assert found.std == pytest.approx(math.sqrt((4 + 1 + 9) / 2))
    assert summarize([1.0, 2.0]).std == pytest.approx(math.sqrt(1 / 2))
    single = summarize([0.5])
    assert single.mean == 0.5
    assert math.isnan(single.std)


EYE = torch.eye(3)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: topk_accuracy(EYE, torch.arange(3), k=4), ValueError, "topk_accuracy: `k` must lie in [1, 3], got 4."),
        (
            lambda: topk_accuracy(EYE, torch.arange(2)),
            ValueError,
            "topk_accuracy: `labels` must have shape (3,) to match `logits`, got (2,).",
        ),
        (
            lambda: topk_accuracy(EYE, torch.arange(1, 4)),
            ValueError,
            "topk_accuracy: `labels` must lie in [0, 2], got classes from 1 to 3.",
        ),
        (
            lambda: topk_accuracy(EYE * torch.nan, torch.arange(3)),
            ValueError,
            "topk_accuracy: `logits` must be finite, got NaN or infinity in 3 of 3 rows.",
        ),
        (
            lambda: confusion_matrix(torch.arange(3), torch.arange(2)),
            ValueError,
            "confusion_matrix: `labels` must have shape (3,) to match `predictions`, got (2,).",
        ),
        (
            lambda: confusion_matrix(torch.rand(3), torch.arange(3)),
            TypeError,
            "confusion_matrix: `predictions` must hold integers, got torch.float32.",
        ),
        (
            lambda: confusion_matrix(torch.arange(3), torch.arange(3) - 1),
            ValueError,
            "confusion_matrix: `labels` must be at least 0, got classes from -1 to 1.",
        ),
        (
            lambda: confusion_matrix(torch.arange(3), torch.arange(3), num_classes=2),
            ValueError,
            "confusion_matrix: `predictions` must lie in [0, 1], got classes from 0 to 2.",
        ),
        (
            lambda: confusion_matrix(torch.arange(3), torch.arange(3), num_classes=0),
            ValueError,
            "confusion_matrix: `num_classes` must be at least 1, got 0.",
        ),
        (
            lambda: confusion_matrix(torch.arange(0), torch.arange(0)),
            ValueError,
            "confusion_matrix: `predictions` must hold at least one class, got none.",
        ),
        (
            lambda: bootstrap_interval(EYE),
            ValueError,
            "bootstrap_interval: `values` must have shape (N,), got (3, 3).",
        ),
        (
            lambda: bootstrap_interval(torch.zeros(0)),
            ValueError,
            "bootstrap_interval: `values` must hold at least one value, got none.",
        ),
        (
            lambda: bootstrap_interval(torch.tensor([1.0, torch.nan])),
            ValueError,
            "bootstrap_interval: `values` must be finite, got NaN or infinity in 1 of 2.",
        ),
        (
            lambda: bootstrap_interval(torch.ones(2, dtype=torch.complex64)),
            TypeError,
            "bootstrap_interval: `values` must hold real numbers, got torch.complex64.",
        ),
        (
            lambda: bootstrap_interval(torch.ones(2), resamples=0),
            ValueError,
            "bootstrap_interval: `resamples` must be at least 1, got 0.",
        ),
        (
            lambda: bootstrap_interval(torch.ones(2), seed=-1),
            ValueError,
            "bootstrap_interval: `seed` must be at least 0, got -1.",
        ),
        (
            lambda: bootstrap_interval(torch.ones(2), confidence=1.0),
            ValueError,
            "bootstrap_interval: `confidence` must lie in (0, 1), got 1.",
        ),
        (lambda: summarize([]), ValueError, "summarize: `values` must hold at least one number, got none."),
        (lambda: summarize([math.nan]), ValueError, "summarize: `values` must lie in (-inf, inf), got nan."),
    ],
)
def test_bad_calls(call: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=re.escape(message)):
        call()
