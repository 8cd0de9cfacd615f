"""Linear classifiers trained side by side: the same batches, one learning rate each, gradients written out."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from skelcontrast import _check


class Heads(NamedTuple):
    """Weights (H, num_classes, D) and biases (H, num_classes) of H linear classifiers."""

    weight: Tensor
    bias: Tensor


class Schedule(NamedTuple):
    """How long and in which steps; `factors` multiply the learning rate, one per epoch."""

    factors: tuple[float, ...]
    batch_size: int
    momentum: float
    seed: int


class Found(NamedTuple):
    """The state in which a classifier did best, and how well it did."""

    accuracy: float
    epoch: int
    weight: Tensor
    bias: Tensor


def step_factors(owner: str, epochs: int, milestones: Sequence[int], gamma: float) -> tuple[float, ...]:
    """Return the factor on the learning rate in each epoch: `gamma` once for every milestone that has been reached."""
    for index, milestone in enumerate(milestones):
        _check.integer(owner, f"milestones[{index}]", milestone, 0)
    return tuple(gamma ** sum(epoch >= milestone for milestone in milestones) for epoch in range(epochs))


def train_heads(
    x: Tensor,
    labels: Tensor,
    num_classes: int,
    rates: Sequence[float],
    schedule: Schedule,
    look: Callable[[int, Heads], None] | None = None,
) -> Heads:
    """Train one classifier per learning rate by SGD on softmax cross-entropy; `look` is called after each epoch.

    All start from the same weights and see the same batches, so a classifier does not depend on which others are
    trained beside it, but for rounding. The gradient, (softmax - target) / batch, is written out and every buffer made
    beforehand, since a step this small would spend most of its time in automatic differentiation and the optimiser.
    """
    N, D = x.shape
    H, C, B = len(rates), num_classes, min(schedule.batch_size, N)
    # Drawn on the host, so that a seed means the same on every device.
    generator = torch.Generator().manual_seed(schedule.seed)
    drawn = torch.randn(C, D, generator=generator, dtype=torch.float32, device="cpu")
    weight = (drawn * 0.02).to(x).repeat(H, 1)
    bias = x.new_zeros(H * C)
    heads = Heads(weight.view(H, C, D), bias.view(H, C))
    weight_velocity, bias_velocity = torch.zeros_like(weight), torch.zeros_like(bias)
    descent = -torch.tensor(rates, dtype=x.dtype, device=x.device).repeat_interleave(C)[:, None]
    shuffled, targets = torch.empty_like(x), torch.empty_like(labels)
    logits, softmax = x.new_empty(B, H * C), x.new_empty(B, H, C)
    tiny = torch.finfo(x.dtype).tiny
    ones, minus_one = x.new_ones(B), x.new_full((B, H, 1), -1.0)
    with torch.no_grad():
        for epoch, factor in enumerate(schedule.factors, start=1):
            order = torch.randperm(N, generator=generator, device="cpu").to(x.device)
            torch.index_select(x, 0, order, out=shuffled)  # once per epoch: batches are then views
            torch.index_select(labels, 0, order, out=targets)
            step = descent * factor
            target = targets.view(N, 1, 1).expand(N, H, 1)
            for inputs, index in zip(shuffled.split(B), target.split(B), strict=True):
                n = len(inputs)
                torch.addmm(bias, inputs, weight.T, out=logits[:n])
                torch.softmax(logits[:n].view(n, H, C), dim=2, out=softmax[:n])
                # A CPU multiplies numbers this close to zero far more slowly, and no weight would notice them.
                functional.threshold(softmax[:n], tiny, 0.0, inplace=True)
                error = softmax[:n].scatter_add_(2, index, minus_one[:n]).view(n, H * C).T
                weight_velocity.addmm_(error, inputs, beta=schedule.momentum, alpha=1 / n)
                bias_velocity.addmv_(error, ones[:n], beta=schedule.momentum, alpha=1 / n)
                weight.addcmul_(weight_velocity, step)
                bias.addcmul_(bias_velocity, step[:, 0])
            if look is not None:
                look(epoch, heads)
    return heads


def best_heads(
    x: Tensor,
    labels: Tensor,
    other_x: Tensor,
    other_labels: Tensor,
    num_classes: int,
    rates: Sequence[float],
    schedule: Schedule,
    *,
    every: int,
) -> list[Found]:
    """Train classifiers and return, of each, the earliest state that classified the other features best.

    They are classified every few epochs and after the last one. A classifier that has overflown counts as never right.
    """
    found: dict[int, Found] = {}

    def look(epoch: int, heads: Heads) -> None:
        if epoch % every and epoch < len(schedule.factors):
            return
        for head, (weight, bias) in enumerate(zip(heads.weight, heads.bias, strict=True)):
            accuracy = 0.0
            if weight.isfinite().all():
                predictions = torch.addmm(bias, other_x, weight.T).argmax(dim=1)
                accuracy = float((predictions == other_labels).double().mean())
            if head not in found or accuracy > found[head].accuracy:
                found[head] = Found(accuracy, epoch, weight.clone(), bias.clone())

    train_heads(x, labels, num_classes, rates, schedule, look)
    return [found[head] for head in range(len(rates))]
