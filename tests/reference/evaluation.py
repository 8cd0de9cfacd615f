"""Slow, plain versions of the evaluation protocols, in float64, one sample at a time."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn


def knn_predict(train: Tensor, labels: Tensor, test: Tensor, *, k: int, temperature: float | None) -> list[int]:
    """Rank by cosine, let the k nearest vote, give ties to the class whose neighbour comes first."""
    predictions = []
    for sample in test.double().numpy():
        ranked = []
        for row, other in enumerate(train.double().numpy()):
            cosine = float(np.dot(sample, other)) / (
                math.sqrt(np.dot(sample, sample)) * math.sqrt(np.dot(other, other))
            )
            ranked.append((cosine, int(labels[row])))
        ranked.sort(key=lambda pair: -pair[0])
        votes: dict[int, float] = {}
        for cosine, label in ranked[:k]:
            votes[label] = votes.get(label, 0.0) + (1.0 if temperature is None else math.exp(cosine / temperature))
        most = max(votes.values())
        predictions.append(next(label for _, label in ranked[:k] if votes[label] == most))
    return predictions


def train_linear(
    features: Tensor,
    labels: Tensor,
    weight: Tensor,
    batches: Sequence[Sequence[Tensor]],
    *,
    lr: float,
    milestones: Sequence[int],
    gamma: float,
    momentum: float,
) -> tuple[Tensor, Tensor]:
    """Train `nn.Linear` with PyTorch's own loss, optimiser and schedule, in float64; `batches` lists rows by epoch."""
    layer = nn.Linear(weight.shape[1], weight.shape[0]).double()
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.zero_()
    optimizer = torch.optim.SGD(layer.parameters(), lr=lr, momentum=momentum)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, list(milestones), gamma=gamma)
    for epoch in batches:
        for rows in epoch:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(layer(features[rows].double()), labels[rows])
            torch.autograd.backward(loss)
            optimizer.step()
        schedule.step()
    return layer.weight.detach(), layer.bias.detach()


def alignment(query: Tensor, key: Tensor) -> float:
    """Squared distance of every pair of unit vectors, coordinate by coordinate, averaged."""
    distances = [_squared(x, y) for x, y in zip(_units(query), _units(key), strict=True)]
    return math.fsum(distances) / len(distances)


def uniformity(embeddings: Tensor, *, t: float) -> float:
    """Logarithm of the mean of exp(-t d^2) over all unordered pairs."""
    points = _units(embeddings)
    potentials = [math.exp(-t * _squared(x, y)) for i, x in enumerate(points) for y in points[:i]]
    return math.log(math.fsum(potentials) / len(potentials))


def effective_rank(embeddings: Tensor) -> float:
    """Singular values as roots of the eigenvalues of the Gram matrix, then exp of the entropy of their shares."""
    x = embeddings.double().numpy()
    gram = x @ x.T if len(x) < x.shape[1] else x.T @ x
    values = [math.sqrt(max(float(value), 0.0)) for value in np.linalg.eigvalsh(gram)]
    shares = [value / math.fsum(values) for value in values]
    return math.exp(-math.fsum(share * math.log(share) for share in shares if share > 0))


def _units(embeddings: Tensor) -> list[list[float]]:
    rows = [[float(value) for value in row] for row in embeddings.double()]
    return [[value / math.sqrt(math.fsum(v * v for v in row)) for value in row] for row in rows]


def _squared(x: Sequence[float], y: Sequence[float]) -> float:
    return math.fsum((a - b) ** 2 for a, b in zip(x, y, strict=True))
