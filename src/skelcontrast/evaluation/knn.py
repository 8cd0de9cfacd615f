"""Nearest-neighbour classification of features: no parameters, no training, the quickest look at a representation."""

from collections.abc import Sequence
from typing import overload

import torch
from torch import Tensor

from skelcontrast import _check
from skelcontrast._autocast import autocast_off
from skelcontrast.evaluation.features import (
    Features,
    check_classes_present,
    check_features,
    check_integers,
    check_sets,
    directions,
    neighbor_numbers,
)


@overload
def knn_predict(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    *,
    k: int = 1,
    temperature: float | None = None,
    chunk_size: int = 4096,
) -> Tensor: ...


@overload
def knn_predict(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    *,
    k: Sequence[int],
    temperature: float | None = None,
    chunk_size: int = 4096,
) -> dict[int, Tensor]: ...


def knn_predict(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    *,
    k: int | Sequence[int] = 1,
    temperature: float | None = None,
    chunk_size: int = 4096,
) -> Tensor | dict[int, Tensor]:
    r"""Classify by the `k` most similar training features.

    Similarity is the cosine, in float64: features of an untrained encoder nearly all point one way, and float32 cannot
    tell their cosines apart. Each neighbour votes for its class, with weight 1 or, given a temperature t, with weight
    :math:`\exp(\text{similarity} / t)`. Where classes are tied, the tied class of the nearest neighbour wins.

    Args:
        train_features: Features (N, D) of the training set, of any length above zero.
        train_labels: Classes (N,) of the training set, any integers.
        test_features: Features (L, D) to classify.
        k: Number of neighbours, in [1, N]; or several such numbers, for which the features are compared only once.
        temperature: Temperature of the weights, above zero; None for votes of equal weight.
        chunk_size: Rows of either set compared at a time. At most chunk_size x chunk_size similarities are held;
            the predictions do not depend on it, but for the order among exactly equal similarities.

    Returns:
        Predicted classes (L,), int64, on the device of the features; for several `k`, a dict of these.

    Raises:
        TypeError: If features are not floating point tensors or labels not integers.
        ValueError: If shapes do not match, features are not finite, or an option is out of range.

    References:
        Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance Discrimination", 2018, Section 3.4, for
        the weighted vote (there k = 200, temperature 0.07).

    Example:
        At k = 3 two of three votes go to class 0; at a low temperature the nearest neighbour decides.

        >>> train = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 3.0]])
        >>> labels = torch.tensor([1, 0, 0])
        >>> test = torch.tensor([[2.0, 1.0]])
        >>> knn_predict(train, labels, test, k=3)
        tensor([0])
        >>> knn_predict(train, labels, test, k=3, temperature=0.1)
        tensor([1])
        >>> knn_predict(train, labels, test, k=(1, 3))
        {1: tensor([1]), 3: tensor([0])}
    """
    owner = "knn_predict"
    check_features(owner, "train_features", train_features)
    check_features(owner, "test_features", test_features, width=train_features.shape[1])
    check_integers(owner, "train_labels", train_labels, N=len(train_features), why="to match `train_features`")
    _check.same_device(owner, "test_features", test_features, "train_features", train_features.device)
    _check.same_device(owner, "train_labels", train_labels, "train_features", train_features.device)
    numbers = neighbor_numbers(owner, k, len(train_features), rows_are="training features")
    chunk_size = _check.integer(owner, "chunk_size", chunk_size, 1)
    if temperature is not None:
        _check.interval(owner, "temperature", temperature, 0, open_low=True)

    train = directions(train_features)
    classes, class_index = torch.unique(train_labels, return_inverse=True)
    predictions: dict[int, list[Tensor]] = {number: [] for number in numbers}
    for test in torch.split(test_features, chunk_size):
        similarity, rows = _nearest(directions(test), train, max(numbers), chunk_size)
        for number, parts in predictions.items():
            near, near_classes = similarity[:, :number], class_index[rows[:, :number]]
            parts.append(classes[_vote(near, near_classes, len(classes), temperature)])
    joined = {number: torch.cat(parts).long() for number, parts in predictions.items()}
    return joined if isinstance(k, Sequence) else joined[k]


@overload
def knn_accuracy(train: Features, test: Features, *, k: int = 1, temperature: float | None = None) -> float: ...


@overload
def knn_accuracy(
    train: Features, test: Features, *, k: Sequence[int], temperature: float | None = None
) -> dict[int, float]: ...


def knn_accuracy(
    train: Features, test: Features, *, k: int | Sequence[int] = 1, temperature: float | None = None
) -> float | dict[int, float]:
    """Return the share of test features that `knn_predict` classifies rightly.

    Args:
        train: Features (N, D) and classes (N,) of the training set.
        test: Features (L, D) and classes (L,) of the test set, each of them a class of the training set.
        k: Number of neighbours, in [1, N]; or several such numbers, for which the features are compared only once.
        temperature: Temperature of the weighted vote, above zero; None for votes of equal weight.

    Returns:
        Accuracy in [0, 1]; for several `k`, a dict of these.

    Raises:
        TypeError: If a set is not `Features`, features are not floating point tensors, or labels not integers.
        ValueError: As `knn_predict`, if the test labels do not match the test features, and if the training set lacks
            a class of the test set.

    Example:
        >>> train = Features(torch.eye(2), torch.tensor([0, 1]))
        >>> test = Features(torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.5], [0.3, 0.4]]), torch.tensor([0, 1, 1, 1]))
        >>> knn_accuracy(train, test)
        0.75
        >>> knn_accuracy(train, test, k=(1, 2))
        {1: 0.75, 2: 0.75}
    """
    owner = "knn_accuracy"
    check_sets(owner, train, test)
    check_classes_present(owner, train, test)
    numbers = neighbor_numbers(owner, k, len(train.features), rows_are="training features")
    found = knn_predict(train.features, train.labels, test.features, k=numbers, temperature=temperature)
    accuracy = {number: float((classes == test.labels).double().mean()) for number, classes in found.items()}
    return accuracy if isinstance(k, Sequence) else accuracy[k]


def _nearest(test: Tensor, train: Tensor, k: int, chunk_size: int) -> tuple[Tensor, Tensor]:
    """Return the k greatest similarities (L, k), in falling order, and the training rows (L, k) they belong to."""
    similarity = test.new_empty(len(test), 0)
    rows = torch.empty(len(test), 0, dtype=torch.long, device=test.device)
    for start in range(0, len(train), chunk_size):
        with autocast_off(test.device):
            product = test @ train[start : start + chunk_size].T
        near, near_rows = product.topk(min(k, chunk_size, len(train) - start))
        similarity, order = torch.cat([similarity, near], dim=1).sort(dim=1, descending=True, stable=True)
        rows = torch.cat([rows, near_rows + start], dim=1).gather(1, order)
        similarity, rows = similarity[:, :k], rows[:, :k]
    return similarity, rows


def _vote(similarity: Tensor, classes: Tensor, num_classes: int, temperature: float | None) -> Tensor:
    """Return the class (L,) with most votes of the neighbours (L, k), the nearest neighbour's among tied ones."""
    if temperature is None:
        weight = torch.ones_like(similarity)
    else:  # the greatest similarity is taken off, as exp(1 / 0.001) is beyond float64; it cancels in the comparison
        weight = ((similarity - similarity[:, :1]) / temperature).exp()
    votes = weight.new_zeros(len(weight), num_classes).scatter_add_(1, classes, weight)
    winning = (votes == votes.amax(dim=1, keepdim=True)).gather(1, classes)
    first = winning.int().argmax(dim=1, keepdim=True)
    return classes.gather(1, first).squeeze(1)
