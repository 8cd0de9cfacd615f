"""Searching by example: how early a query finds sequences of its own class."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from skelcontrast import _check, _progress
from skelcontrast._autocast import autocast_off
from skelcontrast.evaluation.features import Features, check_classes_present, check_sets, directions, neighbor_numbers


class Retrieval(NamedTuple):
    """How well queries find their class in a gallery.

    Attributes:
        mean_average_precision: Mean over queries of the average precision, in [0, 1].
        recall: By k, the share of queries that have at least one of their class among the k nearest, in [0, 1].
    """

    mean_average_precision: float
    recall: dict[int, float]


def retrieval(
    gallery: Features,
    queries: Features,
    *,
    k: int | Sequence[int] = (1, 5, 10),
    chunk_size: int = 128,
    progress: bool = False,
) -> Retrieval:
    r"""Rank a gallery by its cosine to each query, in float64, and measure where the query's class stands.

    The average precision of a query with R sequences of its class, at ranks :math:`r_1 < \dots < r_R`, is
    :math:`\frac{1}{R} \sum_i i / r_i`: 1 if they all come first.

    Args:
        gallery: Features (N, D) and classes (N,) to search in, of any length above zero.
        queries: Features (L, D) and classes (L,) to search for, each class present in the gallery. They should not
            be in the gallery themselves: each would find itself first.
        k: Number of nearest sequences, in [1, N], for `recall`; or several such numbers.
        chunk_size: Queries ranked at a time: chunk_size x N similarities are held. The result does not depend on it.
        progress: Whether progress is shown, on the standard error stream; every query sorts the gallery.

    Returns:
        Mean average precision, and recall at each k.

    Raises:
        TypeError: If a set is not `Features`, features are not floating point tensors, or labels or `k` not integers.
        ValueError: If shapes do not match, features are not finite, the gallery lacks a class of the queries, or an
            option is out of range.

    Example:
        The class of the query stands at ranks 1 and 3: (1/1 + 2/3) / 2.

        >>> gallery = Features(torch.tensor([[1.0, 0.0], [1.0, 0.5], [0.0, 1.0]]), torch.tensor([0, 1, 0]))
        >>> queries = Features(torch.tensor([[1.0, 0.1]]), torch.tensor([0]))
        >>> found = retrieval(gallery, queries, k=(1, 2))
        >>> round(found.mean_average_precision, 4), found.recall
        (0.8333, {1: 1.0, 2: 1.0})
    """
    owner = "retrieval"
    names = ("gallery", "queries")
    check_sets(owner, gallery, queries, names=names)
    check_classes_present(owner, gallery, queries, names=names)
    chunk_size = _check.integer(owner, "chunk_size", chunk_size, 1)
    numbers = neighbor_numbers(owner, k, len(gallery.features), rows_are="sequences in the gallery")

    stored = directions(gallery.features)
    asked = directions(queries.features)
    rank = torch.arange(1, len(stored) + 1, device=stored.device)
    precisions: list[Tensor] = []
    firsts: list[Tensor] = []
    with _progress.progress("retrieval", len(asked), shown=progress) as advance:
        for x, labels in zip(asked.split(chunk_size), queries.labels.split(chunk_size), strict=True):
            with autocast_off(x.device):
                similarity = x @ stored.T
            order = similarity.argsort(dim=1, descending=True, stable=True)
            hit = gallery.labels[order] == labels[:, None]
            precision = hit.cumsum(dim=1) / rank
            precisions.append((precision * hit).sum(dim=1, dtype=torch.float64) / hit.sum(dim=1))
            firsts.append(hit.int().argmax(dim=1))
            advance(len(x))
    first = torch.cat(firsts)
    recall = {number: float((first < number).double().mean()) for number in numbers}
    return Retrieval(float(torch.cat(precisions).mean()), recall)
