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
