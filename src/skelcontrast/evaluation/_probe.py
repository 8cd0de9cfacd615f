"""What the linear and the logistic probe share: checks, scaling, the held-out part and the result."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from skelcontrast import _check
from skelcontrast.evaluation.features import Features, check_classes_present, check_sets
from skelcontrast.evaluation.splits import held_out


class LinearProbeResult(NamedTuple):
    """A trained linear classifier and what it says about the test set.

    Attributes:
        accuracy: Share of test features classified rightly, in [0, 1].
        weight: Weight (num_classes, D); logits are ``features @ weight.T + bias``.
        bias: Bias (num_classes,).
        predictions: Predicted classes (L,) of the test features, int64.
        logits: Logits (L, num_classes) of the test features; `Scores` takes them to fuse streams.
        setting: What this classifier was trained with: its learning rate, or for `logistic_probe` its penalty.
        epoch: The number of epochs that it was trained for; for `logistic_probe` of iterations.
        choices: Where there was something to choose, the accuracy that each setting was chosen by: its best one on
            the validation part or, with ``select="test-best"``, on the test set. Empty otherwise.
    """

    accuracy: float
    weight: Tensor
    bias: Tensor
    predictions: Tensor
    logits: Tensor
    setting: float
    epoch: int
    choices: dict[float, float]


class Scaled(NamedTuple):
    """Both sets as a probe sees them, and how they were moved there."""

    x: Tensor
    labels: Tensor
    test_x: Tensor
    test_labels: Tensor
    shift: Tensor
    scale: Tensor


def checked_classes(owner: str, train: Features, test: Features, num_classes: int | None) -> int:
    """Check both sets and return the number of classes."""
    check_sets(owner, train, test)
    sets = {"train.labels": train.labels, "test.labels": test.labels}
    if num_classes is None:
        count = 1 + max(int(labels.max()) for labels in sets.values())
    else:
        count = _check.integer(owner, "num_classes", num_classes, 1)
    for name, labels in sets.items():
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= count:
            _check.fail(owner, name, f"lie in [0, {count - 1}]", f"labels from {low} to {high}")
    check_classes_present(owner, train, test)
    return count


def positive_numbers(owner: str, name: str, value: float | Sequence[float]) -> tuple[float, ...]:
    """Return one number or several, above zero, as a tuple."""
    several = tuple(value) if isinstance(value, Sequence) else (value,)
    if not several:
        _check.fail(owner, name, "name at least one number", "none")
    return tuple(_check.interval(owner, name, one, 0, open_low=True) for one in several)


def scaled(train: Features, test: Features, *, standardize: bool) -> Scaled:
    """Return both sets in floating point of 32 bits or more, standardised over the training set where asked for."""
    x = train.features.detach()
    x = x if x.dtype == torch.float64 else x.float()
    test_x = test.features.detach().to(x.dtype)
    shift, scale = x.new_zeros(x.shape[1]), x.new_ones(x.shape[1])
    if standardize:
        scale, shift = torch.std_mean(x, dim=0, correction=0)
        scale = scale.where(scale > 1e-6 * shift.abs(), 1.0)  # a feature that is constant up to rounding stays so
        x, test_x = (x - shift) / scale, (test_x - shift) / scale
    return Scaled(x, train.labels.long(), test_x, test.labels.long(), shift, scale)


def validation_rows(owner: str, labels: Tensor, share: float, *, seed: int) -> tuple[Tensor, Tensor]:
    """Return the rows (kept, held out) of the training part, class by class."""
    _check.interval(owner, "validation_share", share, 0, 1, open_low=True, open_high=True)
    kept, out = held_out(labels, share, seed=seed)
    if not len(out):
        got = f"{share:g} of {len(labels)} samples, which is none of any class"
        _check.fail(owner, "validation_share", "hold out at least one sample", got)
    return kept.to(labels.device), out.to(labels.device)


def probe_result(
    data: Scaled, weight: Tensor, bias: Tensor, *, setting: float, epoch: int, choices: dict[float, float]
) -> LinearProbeResult:
    """Measure a classifier of scaled features on the test set, and move it to the scale of the given ones."""
    logits = torch.addmm(bias, data.test_x, weight.T)
    predictions = logits.argmax(dim=1)
    accuracy = float((predictions == data.test_labels).double().mean())
    weight = weight / data.scale
    return LinearProbeResult(accuracy, weight, bias - weight @ data.shift, predictions, logits, setting, epoch, choices)
