"""Health of a run: against plain oracles, at the ends of every scale, all at once, and the messages."""

import re
from typing import Any

import numpy as np
import pytest
import torch
from tests.largest import Largest
from tests.reference import evaluation as reference
from torch import Tensor
from torch.nn import functional

from skelcontrast.evaluation import (
    alignment,
    contrastive_health,
    dimension_spread,
    effective_rank,
    neighbor_precision,
    own_key_share,
    uniformity,
)


def draw(rows: int, width: int, seed: int = 0) -> Tensor:
    return 3 * torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("rows", "width"), [(2, 3), (17, 5), (9, 1)])
def test_alignment_and_uniformity_agree_with_the_oracle(rows: int, width: int) -> None:
    x, y = draw(rows, width), draw(rows, width, 1)
    assert alignment(x, y) == pytest.approx(reference.alignment(x, y), abs=1e-5)
    for t in (0.5, 2.0):
        assert uniformity(x, t=t) == pytest.approx(reference.uniformity(x, t=t), abs=1e-5)


def test_a_whole_data_set_takes_little_memory() -> None:
    x = draw(1100, 3)
    with Largest() as largest:
        uniformity(x)
    assert largest.nbytes == 512 * 1100 * 4  # float32, never 1100 x 1100


@pytest.mark.parametrize("chunk_size", [1, 4, 16, 17, 1000])
def test_uniformity_in_parts(chunk_size: int) -> None:
    x = draw(17, 6)
    assert uniformity(x, chunk_size=chunk_size) == pytest.approx(uniformity(x), abs=1e-5)


def test_the_ends_of_the_scales() -> None:
    one_point = torch.ones(64, 32)
    spread = functional.normalize(draw(4096, 32), dim=1)
    assert alignment(one_point, 2 * one_point) == 0
    assert uniformity(one_point) == pytest.approx(0, abs=1e-5)
    assert effective_rank(one_point) == pytest.approx(1, abs=1e-3)
    assert dimension_spread(one_point).max() < 1e-5
    assert alignment(spread[:2048], spread[2048:]) == pytest.approx(2, abs=0.05)
    assert -4 < uniformity(spread) < -3.5
    assert 31 < effective_rank(spread) <= 32
    torch.testing.assert_close(dimension_spread(spread), torch.ones(32), rtol=0.05, atol=0)
    assert effective_rank(torch.zeros(4, 4)) == 1


@pytest.mark.parametrize(("rows", "width"), [(6, 4), (3, 9)])
def test_effective_rank_and_spread_agree_with_the_oracle(rows: int, width: int) -> None:
    x = draw(rows, width)
    assert effective_rank(x) == pytest.approx(reference.effective_rank(x), rel=1e-4)
    unit = (x.double() / x.double().norm(dim=1, keepdim=True)).numpy()
    expected = torch.from_numpy(np.asarray(unit.std(axis=0) * np.sqrt(width))).float()
    torch.testing.assert_close(dimension_spread(x), expected)


def test_half_precision_and_autocast_are_measured_in_float32() -> None:
    half = draw(9, 4).bfloat16()
    measures = (lambda x: alignment(x, -x), uniformity, effective_rank, lambda x: dimension_spread(x).tolist())
    expected = [measure(half.float()) for measure in measures]
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            assert [measure(half) for measure in measures] == expected


@pytest.mark.parametrize("measure", [uniformity, effective_rank, dimension_spread])
def test_embeddings_that_are_not_finite_are_refused(measure: Any) -> None:
    message = f"{measure.__name__}: `embeddings` must be finite, got NaN or infinity in 1 of 4 rows."
    with pytest.raises(ValueError, match=re.escape(message)):
        measure(torch.tensor([[1.0], [torch.nan], [2.0], [3.0]]))


def test_rank_counts_the_dimensions_in_use() -> None:
    assert effective_rank(torch.eye(5)[:, [0, 1, 2]]) == pytest.approx(3)
    assert effective_rank(draw(50, 1) @ draw(1, 20)) == pytest.approx(1, abs=1e-3)


def test_all_at_once_are_the_single_ones() -> None:
    labels, samples, stored = torch.arange(20) % 3, torch.tensor([4, 7, 11, 0]), torch.tensor([7, -1, 0, 19, 4, 4])
    query, key, mined = draw(4, 5), draw(4, 5, 1), torch.tensor([[0, 1], [3, 3], [5, 2], [2, 4]])
    found = contrastive_health(query.requires_grad_(), key, mined, samples=samples, bank_samples=stored, labels=labels)
    small = {"samples": samples.byte(), "bank_samples": stored.short(), "labels": labels.byte()}
    assert contrastive_health(query, key, mined.byte(), **small) == found
    assert found == {
        "alignment": alignment(query, key),
        "uniformity": uniformity(query),
        "effective_rank": effective_rank(query),
        "least_spread": float(dimension_spread(query).min()),
        "neighbor_precision": neighbor_precision(mined, labels[samples], torch.tensor([1, -1, 0, 1, 1, 1])),
        "own_key_share": own_key_share(samples, stored),
    }
    assert all(type(value) is float for value in found.values())


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"query": [0.0]}, TypeError, "contrastive_health: `query` must be a torch.Tensor, got list."),
        ({"samples": torch.arange(3)}, ValueError, "`samples` must have shape (4,) to match `query`, got (3,)."),
        (
            {"samples": torch.arange(4) + 5},
            ValueError,
            "`samples` must lie in [0, 7], the positions in `labels`, got p",
        ),
        ({"samples": torch.arange(4) - 1}, ValueError, "got positions from -1 to 2."),
        (
            {"samples": torch.zeros(4)},
            TypeError,
            "contrastive_health: `samples` must hold integers, got torch.float32.",
        ),
        ({"bank_samples": torch.arange(3) - 2}, ValueError, "`bank_samples` must lie in [-1, 7], the positions in `la"),
        ({"bank_samples": torch.arange(0)}, ValueError, "`bank_samples` must hold at least one number, got (0,)."),
        ({"labels": torch.zeros(2, 2)}, ValueError, "contrastive_health: `labels` must have shape (N,), got (2, 2)."),
        ({"labels": None}, TypeError, "contrastive_health: `labels` must be a torch.Tensor, got NoneType."),
        ({"key": torch.eye(3)}, ValueError, "alignment: `key` must have shape (4, 4) to match `query`, got (3, 3)."),
    ],
)
def test_bad_calls_of_all_at_once(changes: dict[str, Any], kind: type[Exception], message: str) -> None:
    rows = torch.arange(4)
    arguments: dict[str, Any] = {"query": torch.eye(4), "key": torch.eye(4), "neighbors": rows[:, None]}
    arguments |= {"samples": rows, "bank_samples": rows, "labels": torch.arange(8), **changes}
    with pytest.raises(kind, match=re.escape(message)):
        contrastive_health(**arguments)


def test_no_gradient_is_asked_for() -> None:
    x = draw(5, 3).requires_grad_()
    values: list[Any] = [alignment(x, x), uniformity(x), effective_rank(x)]
    assert all(type(value) is float for value in values)
    assert not dimension_spread(x).requires_grad


NOT_A_TENSOR: Any = [0.0]
X = torch.zeros(4, 3)
L = torch.zeros(4, dtype=torch.long)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda: alignment(X, X[:3]),
            ValueError,
            "alignment: `key` must have shape (4, 3) to match `query`, got (3, 3)",
        ),
        (lambda: alignment(NOT_A_TENSOR, X), TypeError, "alignment: `query` must be a torch.Tensor, got list."),
        (
            lambda: alignment(X, X / 0),
            ValueError,
            "alignment: `key` must be finite, got NaN or infinity in 4 of 4 rows.",
        ),
        (lambda: uniformity(X[:1]), ValueError, "uniformity: `embeddings` must hold at least 2 rows, got 1."),
        (lambda: uniformity(X, t=0), ValueError, "uniformity: `t` must lie in (0, inf), got 0."),
        (lambda: uniformity(X, chunk_size=0), ValueError, "uniformity: `chunk_size` must be at least 1, got 0."),
        (lambda: effective_rank(L), TypeError, "effective_rank: `embeddings` must be floating point, got torch.int64."),
        (lambda: effective_rank(X[0]), ValueError, "effective_rank: `embeddings` must have shape (N, D), got (3,)."),
        (
            lambda: dimension_spread(X[:0]),
            ValueError,
            "`embeddings` must hold at least one row and one column, got (0, ",
        ),
    ],
)
def test_bad_calls(call: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=re.escape(message)):
        call()
