"""The linear protocol: one linear layer trained on features that were computed once."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from skelcontrast import _check
from skelcontrast.evaluation.features import Features, check_features, check_labels


class LinearProbeResult(NamedTuple):
    """A trained linear classifier and what it says about the test set.

    Attributes:
        accuracy: Share of test features classified rightly after the last epoch, in [0, 1].
        weight: Weight (num_classes, D); logits are ``features @ weight.T + bias``.
        bias: Bias (num_classes,).
        predictions: Predicted classes (L,) of the test features, int64.
    """

    accuracy: float
    weight: Tensor
    bias: Tensor
    predictions: Tensor


def linear_probe(
    train: Features,
    test: Features,
    *,
    num_classes: int | None = None,
    epochs: int = 100,
    batch_size: int = 128,
    lr: float = 3.0,
    milestones: Sequence[int] = (80,),
    gamma: float = 0.1,
    momentum: float = 0.9,
    standardize: bool = False,
    seed: int = 0,
) -> LinearProbeResult:
    """Train a linear classifier on features and measure it on others.

    Softmax cross-entropy by stochastic gradient descent with momentum and no weight decay, weights drawn from
    N(0, 0.02) and biases zero. The defaults are the schedule of AimCLR's released code. The encoder is not run again,
    so a probe takes seconds.

    Args:
        train: Features (N, D) and classes (N,) in [0, num_classes).
        test: Features (L, D) and classes (L,) in [0, num_classes).
        num_classes: Number of classes; one more than the greatest label unless given.
        epochs: Passes over the training features, each in a new order.
        batch_size: Features per step; the last batch of an epoch may be smaller.
        lr: Learning rate, above zero.
        milestones: Numbers of epochs after which the learning rate is multiplied by `gamma`.
        gamma: Factor on the learning rate, in (0, 1].
        momentum: Momentum, in [0, 1).
        standardize: Whether features are first brought to zero mean and unit variance over the training set, which
            makes the learning rate fit features of any scale. The returned weight and bias apply to the features as
            they were given.
        seed: Seed of the weights and of the order of the features; the global generators are not touched.

    Returns:
        Accuracy of the last epoch, weight, bias and predictions.

    Raises:
        TypeError: If features are not floating point tensors or labels not integers.
        ValueError: If shapes do not match, features are not finite, a label or an option is out of range.
        RuntimeError: If the weights overflow, since the learning rate is too high for these features.

    Note:
        Deviates from the released code, which drops the last partial batch of an epoch and reports the best test
        accuracy of all epochs; here every feature is seen in each epoch and the last epoch counts.

    References:
        Guo et al., "Contrastive Learning from Extremely Augmented Skeleton Sequences for Self-Supervised Action
        Recognition", AAAI 2022, Section 4.2, linear evaluation protocol.

    Example:
        >>> train = Features(torch.tensor([[1.0], [2.0], [-1.0], [-2.0]]), torch.tensor([0, 0, 1, 1]))
        >>> test = Features(torch.tensor([[3.0], [-3.0]]), torch.tensor([0, 0]))
        >>> result = linear_probe(train, test)
        >>> result.predictions, result.accuracy
        (tensor([0, 1]), 0.5)
    """
    owner = "linear_probe"
    num_classes = _check_sets(owner, train, test, num_classes)
    _check.integer(owner, "epochs", epochs, 1)
    _check.integer(owner, "batch_size", batch_size, 1)
    _check.interval(owner, "lr", lr, 0, open_low=True, open_high=True)
    _check.interval(owner, "gamma", gamma, 0, 1, open_low=True)
    _check.interval(owner, "momentum", momentum, 0, 1, open_high=True)

    x = train.features.detach().float()
    shift, scale = x.new_zeros(x.shape[1]), x.new_ones(x.shape[1])
    if standardize:
        scale, shift = torch.std_mean(x, dim=0, correction=0)
        scale = scale.where(scale > 1e-6 * shift.abs(), 1.0)  # a feature that is constant up to rounding stays so
        x = (x - shift) / scale
    rates = [lr * gamma ** sum(epoch >= milestone for milestone in milestones) for epoch in range(epochs)]
    weight, bias = _descend(x, train.labels.long(), num_classes, rates, batch_size, momentum, seed)

    weight = weight / scale
    bias = bias - weight @ shift
    if not (weight.isfinite().all() and bias.isfinite().all()):
        hint = "Use standardize=True or a lower rate."
        _check.fail(
            owner,
            "lr",
            "be low enough for these features",
            f"weights that are not finite at {lr:g}",
            hint=hint,
            kind=RuntimeError,
        )
    predictions = (test.features.detach().float() @ weight.T + bias).argmax(dim=1)
    accuracy = float((predictions == test.labels).double().mean())
    return LinearProbeResult(accuracy, weight, bias, predictions)


def _descend(
    x: Tensor, labels: Tensor, num_classes: int, rates: Sequence[float], batch_size: int, momentum: float, seed: int
) -> tuple[Tensor, Tensor]:
    """Return weight (num_classes, D) and bias (num_classes,) after one epoch per learning rate.

    The gradient of softmax cross-entropy is written out, (softmax - target) / batch, since a step this small would
    spend most of its time in automatic differentiation and the optimiser. Bias and weight are one matrix.
    """
    # Drawn on the host, so that a seed means the same on every device.
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(num_classes, x.shape[1], generator=generator) * 0.02
    parameters = torch.cat([drawn, torch.zeros(num_classes, 1)], dim=1).to(x.device)
    velocity = torch.zeros_like(parameters)
    x = torch.cat([x, x.new_ones(len(x), 1)], dim=1)
    with torch.no_grad():
        for rate in rates:
            order = torch.randperm(len(x), generator=generator).to(x.device)
            for rows in torch.split(order, batch_size):
                inputs, target = x[rows], labels[rows]
                error = (inputs @ parameters.T).softmax(dim=1)
                error.scatter_add_(1, target[:, None], error.new_full((len(rows), 1), -1.0))
                velocity.mul_(momentum).addmm_(error.T, inputs, alpha=1 / len(rows))
                parameters.sub_(velocity, alpha=rate)
    return parameters[:, :-1], parameters[:, -1]


def _check_sets(owner: str, train: Features, test: Features, num_classes: int | None) -> int:
    """Check both sets and return the number of classes."""
    check_features(owner, "train.features", train.features)
    check_features(owner, "test.features", test.features, width=train.features.shape[1])
    sets = {"train.labels": train, "test.labels": test}
    for name, (features, labels) in sets.items():
        check_labels(owner, name, labels, rows=len(features), why="to match its features")
        _check.same_device(owner, name, labels, "train.features", train.features.device)
    _check.same_device(owner, "test.features", test.features, "train.features", train.features.device)
    count = 1 + max(int(labels.max()) for _, labels in sets.values()) if num_classes is None else num_classes
    if num_classes is not None:
        _check.integer(owner, "num_classes", num_classes, 1)
    for name, (_, labels) in sets.items():
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= count:
            _check.fail(owner, name, f"lie in [0, {count - 1}]", f"labels from {low} to {high}")
    return count
