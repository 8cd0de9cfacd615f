"""Nearest neighbours against a ranking written out by hand, ties, chunks and the messages of bad calls."""

import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.largest import Largest
from tests.reference import evaluation as reference
from torch import Tensor

from skelcontrast.evaluation import Features, knn_accuracy, knn_predict


def draw(train: int, test: int, width: int, classes: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(train, width, generator=generator),
        torch.randint(classes, (train,), generator=generator),
        torch.randn(test, width, generator=generator),
    )


@settings(max_examples=40, deadline=None)
@given(
    train=st.integers(1, 20),
    test=st.integers(1, 7),
    k=st.integers(1, 20),
    temperature=st.sampled_from([None, 0.07, 1.0]),
    chunk_size=st.sampled_from([1, 3, 8, 4096]),
    seed=st.integers(0, 1000),
)
def test_agrees_with_the_oracle(
    train: int, test: int, k: int, temperature: float | None, chunk_size: int, seed: int
) -> None:
    features, labels, queries = draw(train, test, 5, 4, seed)
    k = min(k, train)
    found = knn_predict(features, labels, queries, k=k, temperature=temperature, chunk_size=chunk_size)
    assert found.tolist() == reference.knn_predict(features, labels, queries, k=k, temperature=temperature)


def test_scale_of_a_feature_does_not_matter() -> None:
    features, labels, queries = draw(12, 6, 4, 3, 0)
    expected = knn_predict(features, labels, queries, k=3)
    scale = torch.logspace(-3, 3, 12)[:, None]
    assert torch.equal(knn_predict(features * scale, labels, queries * 100, k=3), expected)


def test_a_tie_goes_to_the_tied_class_with_the_nearest_neighbour() -> None:
    angle = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5])
    train = torch.stack([angle.cos(), angle.sin()], dim=1)
    query = torch.tensor([[1.0, 0.0]])
    # Class 9 is nearest with one vote; 5 and 2 have two votes each, and 5 is the nearer of them.
    assert knn_predict(train, torch.tensor([9, 5, 2, 2, 5]), query, k=5).tolist() == [5]
    assert knn_predict(train, torch.tensor([9, 2, 5, 2, 5]), query, k=5).tolist() == [2]


def test_low_temperature_is_finite_and_follows_the_nearest() -> None:
    features, labels, queries = draw(30, 10, 8, 3, 1)
    found = knn_predict(features, labels, queries, k=30, temperature=1e-4)
    assert torch.equal(found, knn_predict(features, labels, queries, k=1))


def test_votes_of_near_neighbours_add_up_at_a_temperature_whose_weights_leave_float32() -> None:
    angle = torch.tensor([0.0, 0.001, 0.002])
    train = torch.stack([angle.cos(), angle.sin()], dim=1)
    query = torch.tensor([[1.0, 0.0]])  # exp(1 / 0.005) is 7e86
    assert knn_predict(train, torch.tensor([0, 1, 1]), query, k=3, temperature=0.005).tolist() == [1]


def test_high_temperature_is_the_plain_vote() -> None:
    features, labels, queries = draw(31, 10, 8, 2, 2)  # two classes and an odd k: no ties
    found = knn_predict(features, labels, queries, k=31, temperature=1e6)
    assert torch.equal(found, knn_predict(features, labels, queries, k=31))


def test_labels_may_be_any_integers() -> None:
    train = torch.eye(3)
    found = knn_predict(train, torch.tensor([-5, 10**12, 7]), train)
    assert found.tolist() == [-5, 10**12, 7]
    assert found.dtype == torch.int64
    assert knn_predict(train, torch.tensor([4, 5, 6], dtype=torch.int16), train).dtype == torch.int64


def test_training_features_find_themselves_and_a_zero_feature_finds_someone() -> None:
    features, labels, _ = draw(9, 1, 4, 9, 3)
    assert torch.equal(knn_predict(features, labels, features), labels)
    assert knn_predict(features, labels, torch.zeros(1, 4)).tolist()[0] in labels.tolist()


def test_cosines_that_float32_cannot_tell_apart_are_told_apart() -> None:
    features, labels, queries = draw(40, 30, 64, 5, 6)
    features, queries = (1 + 1e-4 * one for one in (features, queries))  # cosines of 1 - 1e-8, a sixth of a step
    found = knn_predict(features, labels, queries, k=1)
    assert found.tolist() == reference.knn_predict(features, labels, queries, k=1, temperature=None)


def test_half_precision_features_are_compared_as_float32_ones() -> None:
    features, labels, queries = draw(20, 5, 8, 4, 4)
    found = knn_predict(features.bfloat16(), labels, queries.bfloat16(), k=3)
    assert torch.equal(found, knn_predict(features.bfloat16().float(), labels, queries.bfloat16().float(), k=3))


def test_k_may_be_a_number_of_numpy() -> None:
    features = Features(torch.randn(9, 4), torch.arange(9) % 3)
    assert knn_accuracy(features, features, k=np.int64(1)) == 1  # type: ignore[call-overload]  # numpy's are no int


def test_accuracy_counts_right_answers() -> None:
    train = Features(torch.eye(4), torch.arange(4))
    test = Features(torch.eye(4), torch.tensor([0, 1, 2, 0]))
    assert knn_accuracy(train, test) == 0.75
    assert knn_accuracy(train, test, k=4, temperature=0.01) == 0.75


@pytest.mark.parametrize("temperature", [None, 0.07])
def test_several_k_are_those_one_by_one(temperature: float | None) -> None:
    features, labels, queries = draw(50, 20, 8, 5, 7)
    found = knn_predict(features, labels, queries, k=[20, 1, 5], temperature=temperature, chunk_size=16)
    assert list(found) == [20, 1, 5]
    for k, predicted in found.items():
        assert torch.equal(predicted, knn_predict(features, labels, queries, k=k, temperature=temperature))
    train, test = Features(features, labels), Features(queries, labels[:20])
    accuracy = knn_accuracy(train, test, k=(1, 5), temperature=temperature)
    assert accuracy == {k: knn_accuracy(train, test, k=k, temperature=temperature) for k in (1, 5)}


@pytest.mark.parametrize("temperature", [None, 0.1])
@pytest.mark.parametrize("k", [1, 7])
def test_agrees_with_scikit_learn(k: int, temperature: float | None) -> None:
    neighbors = pytest.importorskip("sklearn.neighbors")
    features, labels, queries = draw(200, 60, 16, 2, 8)  # two classes and an odd k: no ties

    def weights(distance: Any) -> Any:
        return np.exp((1 - distance) / (temperature or np.inf))

    classifier = neighbors.KNeighborsClassifier(k, metric="cosine", weights=weights).fit(features.numpy(), labels)
    assert knn_predict(features, labels, queries, k=k, temperature=temperature).tolist() == list(
        classifier.predict(queries.numpy())
    )


def test_memory_is_bounded_by_the_chunks() -> None:
    features, labels, queries = draw(300, 250, 8, 20, 9)
    with Largest() as largest:
        knn_predict(features, labels, queries, k=20, chunk_size=50)
    assert largest.numel == 50 * 50  # and the features, 300 x 8: never 300 x 250


GOOD: dict[str, Any] = {
    "train_features": torch.rand(6, 4),
    "train_labels": torch.arange(6),
    "test_features": torch.rand(3, 4),
}
HOLED = torch.rand(3, 4)
HOLED[1, 2] = torch.nan


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"k": 7}, ValueError, "`k` must lie in [1, 6], got 7. There are no more training features than that."),
        ({"k": 0}, ValueError, "`k` must lie in [1, 6], got 0."),
        ({"k": 1.5}, TypeError, "`k` must be an integer, got 1.5."),
        ({"chunk_size": 0}, ValueError, "`chunk_size` must be at least 1, got 0."),
        ({"k": ()}, ValueError, "`k` must name at least one number of neighbours, got none."),
        ({"k": (1, 7)}, ValueError, "`k` must lie in [1, 6], got 7. There are no more training features than that."),
        ({"k": 2.0}, TypeError, "`k` must be an integer, got 2.0."),
        ({"temperature": 0.0}, ValueError, "`temperature` must lie in (0, inf), got 0."),
        ({"temperature": -1}, ValueError, "`temperature` must lie in (0, inf), got -1."),
        (
            {"train_labels": torch.arange(5)},
            ValueError,
            "`train_labels` must have shape (6,) to match `train_features`",
        ),
        ({"train_labels": torch.rand(6)}, TypeError, "`train_labels` must hold integers, got torch.float32."),
        ({"train_labels": torch.ones(6) > 0}, TypeError, "`train_labels` must hold integers, got torch.bool."),
        ({"train_labels": torch.ones(6) * 1j}, TypeError, "`train_labels` must hold integers, got torch.complex64."),
        (
            {"train_labels": torch.arange(6, device="meta")},
            ValueError,
            "`train_labels` must be on the device of `train_features` (cpu), got meta.",
        ),
        ({"train_labels": [0] * 6}, TypeError, "`train_labels` must be a torch.Tensor, got list."),
        (
            {"test_features": torch.rand(3, 5)},
            ValueError,
            "`test_features` must have shape (N, 4) to match the training",
        ),
        ({"test_features": HOLED}, ValueError, "`test_features` must be finite, got NaN or infinity in 1 of 3 rows."),
        ({"train_features": torch.full((6, 4), torch.inf)}, ValueError, "`train_features` must be finite, got NaN or"),
        ({"train_features": torch.rand(6)}, ValueError, "`train_features` must have shape (N, D), got (6,)."),
        (
            {"train_features": torch.ones(6, 4).int()},
            TypeError,
            "`train_features` must be floating point, got torch.int32",
        ),
        (
            {"train_features": torch.rand(0, 4)},
            ValueError,
            "`train_features` must hold at least one row and one column",
        ),
    ],
)
def test_bad_calls(change: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=re.escape(f"knn_predict: {message}")):
        knn_predict(**{**GOOD, **change})


def test_bad_test_labels() -> None:
    train = Features(torch.eye(2), torch.arange(2))
    message = r"knn_accuracy: `test.labels` must have shape \(2,\) to match its features, got \(3,\)."
    with pytest.raises(ValueError, match=message):
        knn_accuracy(train, Features(torch.eye(2), torch.arange(3)))


def test_a_class_that_only_the_test_part_has() -> None:
    train, test = Features(torch.eye(2), torch.arange(2)), Features(torch.eye(2), torch.tensor([1, 7]))
    message = "knn_accuracy: `train.labels` must hold every class of `test.labels`, got none of class 7."
    with pytest.raises(ValueError, match=re.escape(message)):
        knn_accuracy(train, test)
    many = Features(torch.ones(8, 2), torch.arange(8))
    with pytest.raises(ValueError, match=re.escape("got none of class 2, 3, 4, 5, 6 and others.")):
        knn_accuracy(train, many)
