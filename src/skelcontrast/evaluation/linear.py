"""The linear protocol: one linear layer trained on features that were computed once."""

from collections.abc import Sequence
from typing import Literal, get_args

from torch import Tensor

from skelcontrast import _check
from skelcontrast._autocast import autocast_off
from skelcontrast.evaluation._heads import Schedule, best_heads, step_factors, train_heads
from skelcontrast.evaluation._probe import (
    LinearProbeResult,
    Scaled,
    checked_classes,
    positive_numbers,
    probe_result,
    scaled,
    validation_rows,
)
from skelcontrast.evaluation.features import Features

Select = Literal["last", "validation", "test-best"]


def linear_probe(
    train: Features,
    test: Features,
    *,
    num_classes: int | None = None,
    epochs: int = 100,
    batch_size: int = 128,
    lr: float | Sequence[float] = 3.0,
    milestones: Sequence[int] = (80,),
    gamma: float = 0.1,
    momentum: float = 0.9,
    select: Select = "last",
    validation_share: float = 0.1,
    every: int = 5,
    standardize: bool = False,
    seed: int = 0,
) -> LinearProbeResult:
    """Train a linear classifier on features and measure it on others.

    Softmax cross-entropy by stochastic gradient descent with momentum and no weight decay, weights drawn from
    N(0, 0.02) and biases zero. The defaults are the schedule of AimCLR's released code. The encoder is not run again,
    so a probe takes seconds. Several learning rates are trained in one run, on the same batches.

    `select` says which classifier is reported:

    - `"last"`: the one after the last epoch; there is one learning rate.
    - `"validation"`: learning rate and epoch are chosen on a part held out of the training set, class by class; then
      a classifier is trained on the whole training set with that learning rate, up to that epoch of the schedule.
    - `"test-best"`: learning rate and epoch are chosen on the test set, as the released code does. The accuracy is
      then too high by construction: a table should say that it was used.

    Args:
        train: Features (N, D) and classes (N,) in [0, num_classes).
        test: Features (L, D) and classes (L,) in [0, num_classes), each of them a class of the training set.
        num_classes: Number of classes; one more than the greatest label unless given.
        epochs: Passes over the training features, each in a new order.
        batch_size: Features per step; the last batch of an epoch may be smaller.
        lr: Learning rate, above zero; or several, for `"validation"` or `"test-best"` to choose from.
        milestones: Numbers of epochs, at least 0, after which the learning rate is multiplied by `gamma`.
        gamma: Factor on the learning rate, in (0, 1].
        momentum: Momentum, in [0, 1).
        select: Which of the trained classifiers is reported.
        validation_share: Share of each class that `"validation"` holds out, in (0, 1).
        every: Epochs between two measurements of the validation or test accuracy; the last epoch is always measured.
        standardize: Whether features are first brought to zero mean and unit variance over the training set, which
            makes the learning rate fit features of any scale. The returned weight and bias apply to the features as
            they were given.
        seed: Seed, at least 0, of the weights, of the order of the features and of the part held out; the global
            generators are not touched.

    Returns:
        The classifier, its accuracy, predictions and logits on the test set, and how it was chosen.

    Raises:
        TypeError: If a set is not `Features`, features are not floating point tensors, or labels not integers.
        ValueError: If shapes do not match, features are not finite, a label or an option is out of range, the
            training set lacks a class of the test set, or there are several learning rates and no way to choose.
        RuntimeError: If the weights overflow, since the learning rate is too high for these features.

    Note:
        Deviates from the released code, which drops the last partial batch of an epoch and reports the best test
        accuracy of all epochs; here every feature is seen in each epoch and, by default, the last epoch counts.

    References:
        Guo et al., "Contrastive Learning from Extremely Augmented Skeleton Sequences for Self-Supervised Action
        Recognition", AAAI 2022, Section 4.2, linear evaluation protocol.

    Example:
        >>> import torch
        >>> train = Features(torch.tensor([[1.0], [2.0], [-1.0], [-2.0]]), torch.tensor([0, 0, 1, 1]))
        >>> test = Features(torch.tensor([[3.0], [-3.0]]), torch.tensor([0, 0]))
        >>> probe = linear_probe(train, test)
        >>> probe.predictions, probe.accuracy
        (tensor([0, 1]), 0.5)
        >>> probe = linear_probe(train, test, lr=(0.1, 3.0), select="validation", validation_share=0.5)
        >>> probe.choices, probe.setting
        ({0.1: 1.0, 3.0: 1.0}, 0.1)
    """
    owner = "linear_probe"
    num_classes = checked_classes(owner, train, test, num_classes)
    epochs = _check.integer(owner, "epochs", epochs, 1)
    batch_size = _check.integer(owner, "batch_size", batch_size, 1)
    every = _check.integer(owner, "every", every, 1)
    seed = _check.integer(owner, "seed", seed, 0)
    rates = positive_numbers(owner, "lr", lr)
    _check.interval(owner, "gamma", gamma, 0, 1, open_low=True)
    _check.interval(owner, "momentum", momentum, 0, 1, open_high=True)
    _check.choice(owner, "select", select, get_args(Select))
    if select == "last" and len(rates) > 1:
        hint = 'Pass select="validation" to choose among several.'
        _check.fail(owner, "lr", 'be one number with select="last"', f"{len(rates)} of them", hint=hint)

    data = scaled(train, test, standardize=standardize)
    factors = step_factors(owner, epochs, milestones, gamma)
    schedule = Schedule(factors, batch_size, momentum, seed)
    with autocast_off(data.x.device):
        rate, epoch, choices = rates[0], epochs, {}
        if select != "last":
            watched = _watched(owner, data, select, validation_share, seed)
            found = best_heads(*watched, num_classes, rates, schedule, every=every)
            choices = {rate: one.accuracy for rate, one in zip(rates, found, strict=True)}
            best = max(range(len(rates)), key=lambda head: found[head].accuracy)  # the first of equals
            rate, epoch, weight, bias = rates[best], found[best].epoch, found[best].weight, found[best].bias
        if select != "test-best":
            heads = train_heads(data.x, data.labels, num_classes, [rate], schedule._replace(factors=factors[:epoch]))
            weight, bias = heads.weight[0], heads.bias[0]
        if not (weight.isfinite().all() and bias.isfinite().all()):
            hint, got = "Use standardize=True or a lower rate.", f"weights that are not finite at {rate:g}"
            _check.fail(owner, "lr", "be low enough for these features", got, hint=hint, kind=RuntimeError)
        return probe_result(data, weight, bias, setting=rate, epoch=epoch, choices=choices)


def _watched(
    owner: str, data: Scaled, select: Select, share: float, seed: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the features and classes to train on, and those that a classifier is chosen by."""
    if select == "test-best":
        return data.x, data.labels, data.test_x, data.test_labels
    kept, out = validation_rows(owner, data.labels, share, seed=seed)
    return data.x[kept], data.labels[kept], data.x[out], data.labels[out]
