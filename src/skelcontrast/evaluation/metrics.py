"""What predictions are worth: top-k and per-class accuracy, the confusion matrix, intervals and spreads."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from skelcontrast import _check
from skelcontrast.evaluation.features import check_features, check_integers

DRAWN_TOGETHER = 2**18  # test samples of the bootstrap in one operation, so few that they stay in the cache


class Interval(NamedTuple):
    """A value and the bounds of a confidence interval around it.

    Attributes:
        value: The value measured.
        low: Lower bound.
        high: Upper bound.
    """

    value: float
    low: float
    high: float


class Summary(NamedTuple):
    """Mean and spread of one number over several runs.

    Attributes:
        mean: Mean.
        std: Standard deviation of the sample, with n - 1 below the sum of squares; NaN for a single run.
        low: Least value.
        high: Greatest value.
        runs: Number of runs n.
    """

    mean: float
    std: float
    low: float
    high: float
    runs: int


def topk_accuracy(logits: Tensor, labels: Tensor, *, k: int = 5) -> float:
    """Return the share of samples whose class is among the `k` greatest logits.

    Among equal logits the class of lower number comes first.

    Args:
        logits: Logits or any scores (N, num_classes).
        labels: Classes (N,) in [0, num_classes).
        k: Number of guesses, in [1, num_classes].

    Returns:
        Accuracy in [0, 1].

    Raises:
        TypeError: If logits are not a floating point tensor or labels not integers.
        ValueError: If shapes do not match, a logit is not finite, or a label or `k` is out of range.

    Example:
        >>> logits = torch.tensor([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2]])
        >>> labels = torch.tensor([2, 0])
        >>> topk_accuracy(logits, labels, k=1), topk_accuracy(logits, labels, k=2)
        (0.5, 1.0)
    """
    owner = "topk_accuracy"
    check_features(owner, "logits", logits)
    check_integers(owner, "labels", labels, N=len(logits), why="to match `logits`")
    target = _in_range(owner, "labels", labels, logits.shape[1])[:, None]
    k = _check.integer(owner, "k", k, 1, logits.shape[1])
    own = logits.gather(1, target)
    before = torch.arange(logits.shape[1], device=logits.device) < target
    rank = ((logits > own) | ((logits == own) & before)).sum(dim=1)
    return float((rank < k).double().mean())


def confusion_matrix(predictions: Tensor, labels: Tensor, *, num_classes: int | None = None) -> Tensor:
    """Count how often each class is taken for each.

    Args:
        predictions: Predicted classes (N,) in [0, num_classes).
        labels: True classes (N,) in [0, num_classes).
        num_classes: Number of classes; one more than the greatest of both unless given.

    Returns:
        Counts (num_classes, num_classes), int64: the row is the true class, the column the predicted one.

    Raises:
        TypeError: If predictions or labels are not integer tensors.
        ValueError: If shapes do not match, there is no sample, or a class is out of range.

    Example:
        >>> confusion_matrix(torch.tensor([0, 1, 1, 1]), torch.tensor([0, 0, 1, 1]))
        tensor([[1, 1],
                [0, 2]])
    """
    owner = "confusion_matrix"
    if num_classes is not None:
        num_classes = _check.integer(owner, "num_classes", num_classes, 1)
    check_integers(owner, "predictions", predictions)
    predicted = _in_range(owner, "predictions", predictions, num_classes)
    check_integers(owner, "labels", labels, N=len(predicted), why="to match `predictions`")
    true = _in_range(owner, "labels", labels, num_classes)
    count = 1 + max(int(predicted.max()), int(true.max())) if num_classes is None else num_classes
    return torch.bincount(true * count + predicted, minlength=count * count).reshape(count, count)


def per_class_accuracy(predictions: Tensor, labels: Tensor, *, num_classes: int | None = None) -> Tensor:
    """Return the share of each class's samples that are classified rightly.

    Args:
        predictions: Predicted classes (N,) in [0, num_classes).
        labels: True classes (N,) in [0, num_classes).
        num_classes: Number of classes; one more than the greatest of both unless given.

    Returns:
        Accuracies (num_classes,), float64; NaN for a class without samples. Their `nanmean` is the mean class accuracy.

    Raises:
        TypeError: If predictions or labels are not integer tensors.
        ValueError: If shapes do not match, there is no sample, or a class is out of range.

    Example:
        >>> per_class_accuracy(torch.tensor([0, 1, 1, 1]), torch.tensor([0, 0, 1, 1]))
        tensor([0.5000, 1.0000], dtype=torch.float64)
    """
    counts = confusion_matrix(predictions, labels, num_classes=num_classes).double()
    return counts.diagonal() / counts.sum(dim=1)


def bootstrap_interval(values: Tensor, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0) -> Interval:
    """Return the mean over test samples and how far another test set like it might move it.

    The percentile bootstrap: means of samples drawn with replacement. Pass ``predictions == labels`` for an accuracy;
    for two classifiers of the same samples, the difference of two such tensors, whose interval says whether they
    differ. It knows nothing of other seeds or another training set: see `summarize`.

    Args:
        values: One value per test sample (N,), truth values or finite numbers.
        confidence: Share of the means between the bounds, in (0, 1).
        resamples: Number of means drawn.
        seed: Seed of the draws, at least 0; the global generators are not touched.

    Returns:
        The mean of all values and both bounds.

    Raises:
        TypeError: If `values` is not a tensor of real numbers.
        ValueError: If its shape is not (N,), it is empty or not finite, or an option is out of range.

    Example:
        >>> right = torch.tensor([True] * 75 + [False] * 25)
        >>> value, low, high = bootstrap_interval(right)
        >>> value, 0.6 < low < 0.7, 0.8 < high < 0.9
        (0.75, True, True)
    """
    owner = "bootstrap_interval"
    _check.shape(owner, "values", _check.tensor(owner, "values", values, floating=False), "N")
    if values.is_complex():
        _check.fail(owner, "values", "hold real numbers", values.dtype, kind=TypeError)
    x = values.detach().double().cpu()
    if not len(x):
        _check.fail(owner, "values", "hold at least one value", "none")
    if not x.isfinite().all():
        _check.fail(owner, "values", "be finite", f"NaN or infinity in {int((~x.isfinite()).sum())} of {len(x)}")
    _check.interval(owner, "confidence", confidence, 0, 1, open_low=True, open_high=True)
    resamples = _check.integer(owner, "resamples", resamples, 1)
    seed = _check.integer(owner, "seed", seed, 0)
    generator, together = torch.Generator().manual_seed(seed), max(1, DRAWN_TOGETHER // len(x))
    sizes = [min(together, resamples - start) for start in range(0, resamples, together)]
    drawn = (torch.randint(len(x), (size, len(x)), generator=generator, device="cpu") for size in sizes)
    means = torch.cat([x[rows].mean(dim=1) for rows in drawn])
    tail = (1 - confidence) / 2
    low, high = torch.quantile(means, means.new_tensor([tail, 1 - tail])).tolist()
    return Interval(float(x.mean()), low, high)


def summarize(values: Sequence[float]) -> Summary:
    """Return mean and spread of one number over several runs, such as the accuracies of several seeds.

    Args:
        values: The number of each run, at least one.

    Returns:
        Mean, standard deviation, least and greatest value, and number of runs.

    Raises:
        TypeError: If a value is not a number.
        ValueError: If there is none, or one is not finite.

    Example:
        >>> summarize([0.5, 0.75, 1.0])
        Summary(mean=0.75, std=0.25, low=0.5, high=1.0, runs=3)
    """
    owner = "summarize"
    numbers = [_check.interval(owner, "values", value) for value in values]
    if not numbers:
        _check.fail(owner, "values", "hold at least one number", "none")
    std = statistics.stdev(numbers) if len(numbers) > 1 else math.nan
    return Summary(statistics.fmean(numbers), std, min(numbers), max(numbers), len(numbers))


def _in_range(owner: str, name: str, classes: Tensor, num_classes: int | None) -> Tensor:
    """Return classes (N,), at least one and each in [0, num_classes), as int64."""
    if not len(classes):
        _check.fail(owner, name, "hold at least one class", "none")
    low, high = int(classes.min()), int(classes.max())
    if low < 0 or (num_classes is not None and high >= num_classes):
        must = "be at least 0" if num_classes is None else f"lie in [0, {num_classes - 1}]"
        _check.fail(owner, name, must, f"classes from {low} to {high}")
    return classes.long()
