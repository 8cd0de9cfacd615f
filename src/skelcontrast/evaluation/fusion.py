"""Several streams, one answer: weighted sums of scores, matched by the names of the samples."""

import itertools
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

from skelcontrast import _check
from skelcontrast.evaluation.features import check_features, check_integers

STREAM_WEIGHTS: Mapping[str, float] = MappingProxyType({"joint": 0.6, "bone": 0.6, "motion": 0.4})
"""The paper's weights of the three streams (AimCLR, Section 4.2), read-only."""


class Scores(NamedTuple):
    """Scores of a set of samples, and which samples these are.

    Attributes:
        logits: Logits (N, num_classes), as `LinearProbeResult` holds them.
        labels: Classes (N,).
        names: Names of the samples, N different ones, as `SkeletonDataset` holds them.
    """

    logits: Tensor
    labels: Tensor
    names: Sequence[str]

    @property
    def accuracy(self) -> float:
        """Share of samples whose greatest logit is that of their class, in [0, 1]."""
        return float((self.logits.argmax(dim=1) == self.labels).double().mean())


class WeightSearch(NamedTuple):
    """Weights found on a validation part.

    Attributes:
        weights: By stream, a weight in [0, 1]; they add up to 1.
        accuracy: Accuracy on the validation part with these weights, which is better than it will be elsewhere.
    """

    weights: dict[str, float]
    accuracy: float


def fuse(streams: Mapping[str, Scores], *, weights: Mapping[str, float] = STREAM_WEIGHTS) -> Scores:
    """Add up the logits of several streams, sample by sample.

    Samples are matched by name, so the streams may list them in any order.

    Args:
        streams: By name, the scores of each stream, all of the same samples.
        weights: By name, the weight of each stream, at least 0. The paper's by default.

    Returns:
        The weighted sum of the logits, in the order of the first stream.

    Raises:
        TypeError: If `streams` is no mapping, a stream is not `Scores`, logits are not floating point tensors, or
            labels not integers.
        ValueError: If there is no stream, one has no weight, streams differ in their samples, their classes or their
            labels, logits are not finite, or a name repeats.

    Note:
        The released code matches samples by their order; where both streams list them alike the result is the same.

    References:
        Guo et al., "Contrastive Learning from Extremely Augmented Skeleton Sequences for Self-Supervised Action
        Recognition", AAAI 2022, Section 4.2: weights 0.6, 0.6 and 0.4 of joint, bone and motion.

    Example:
        >>> labels = torch.tensor([0, 1])
        >>> joint = Scores(torch.tensor([[2.0, 0.0], [1.0, 0.0]]), labels, ["a", "b"])
        >>> motion = Scores(torch.tensor([[0.0, 5.0], [5.0, 0.0]]), labels.flip(0), ["b", "a"])
        >>> fused = fuse({"joint": joint, "motion": motion})
        >>> fused.logits  # of a: 0.6 x (2, 0) + 0.4 x (5, 0)
        tensor([[3.2000, 0.0000],
                [0.6000, 2.0000]])
        >>> joint.accuracy, fused.accuracy
        (0.5, 1.0)
    """
    owner = "fuse"
    aligned = _aligned(owner, "streams", streams)
    for name in aligned:
        if name not in weights:
            known = ", ".join(map(str, weights)) or "none"
            _check.fail(owner, "weights", f"hold a weight for the stream {name!r}", f"weights for {known}")
        _check.interval(owner, f"weights[{name!r}]", weights[name], 0)
    if not any(weights[name] for name in aligned):
        _check.fail(owner, "weights", "be above zero for at least one stream", "only zeros")
    first = next(iter(streams.values()))
    return Scores(_weighted(aligned, {name: weights[name] for name in aligned}), first.labels, tuple(first.names))


def search_weights(validation: Mapping[str, Scores], *, steps: int = 10) -> WeightSearch:
    """Find the weights with which a fusion of streams is most accurate.

    Every combination of weights that are multiples of 1 / steps and add up to 1 is tried; of equally good ones the
    most even one is returned.

    Args:
        validation: By name, the scores of each stream on samples held out of the *training* set. Weights chosen on
            the test set would make its accuracy worthless.
        steps: Number of steps between 0 and 1; three streams at 10 are 66 combinations.

    Returns:
        The weights, for `fuse`, and the accuracy they gave.

    Raises:
        TypeError: If `validation` is no mapping, a stream is not `Scores`, logits are not floating point tensors, or
            labels not integers.
        ValueError: As `fuse`, and if `steps` is below 1.

    Example:
        >>> labels = torch.tensor([0, 1])
        >>> good = Scores(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), labels, ["a", "b"])
        >>> bad = Scores(torch.tensor([[0.0, 3.0], [3.0, 0.0]]), labels, ["a", "b"])
        >>> search_weights({"joint": good, "motion": bad})
        WeightSearch(weights={'joint': 0.8, 'motion': 0.2}, accuracy=1.0)
    """
    owner = "search_weights"
    steps = _check.integer(owner, "steps", steps, 1)
    aligned = _aligned(owner, "validation", validation)
    labels = next(iter(validation.values())).labels
    best, best_key = WeightSearch({}, 0.0), (-1.0, 0)
    for parts in itertools.product(range(steps + 1), repeat=len(aligned)):
        if sum(parts) != steps:
            continue
        weights = {name: part / steps for name, part in zip(aligned, parts, strict=True)}
        accuracy = float((_weighted(aligned, weights).argmax(dim=1) == labels).double().mean())
        key = (accuracy, -sum(part**2 for part in parts))
        if key > best_key:
            best, best_key = WeightSearch(weights, accuracy), key
    return best


def _weighted(logits: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Return the weighted sum of logits (N, num_classes) whose rows belong together."""
    return torch.stack([weight * logits[name] for name, weight in weights.items()]).sum(dim=0)


def _aligned(owner: str, argument: str, streams: Mapping[str, Scores]) -> dict[str, Tensor]:
    """Check the streams and return the logits of each, in the order of the first one's samples."""
    if not _check.mapping(owner, argument, streams):
        _check.fail(owner, argument, "hold at least one stream", "none")
    (first_name, first), *_ = streams.items()
    aligned = {}
    for name, scores in streams.items():
        where = f"{argument}[{name!r}]"
        rows = _rows(owner, where, scores)
        if missing := [sample for sample in first.names if sample not in rows]:
            got = f"no {missing[0]!r} ({len(missing)} missing)"
            _check.fail(owner, where, f"hold the samples of the stream {first_name!r}", got)
        if len(rows) > len(first.names):
            extra = sorted(set(rows) - set(first.names))
            got = f"{extra[0]!r} besides ({len(extra)} too many)"
            _check.fail(owner, where, f"hold only the samples of the stream {first_name!r}", got)
        _check.same_device(owner, f"{where}.logits", scores.logits, f"{argument}[{first_name!r}]", first.logits.device)
        order = torch.tensor([rows[sample] for sample in first.names], device="cpu")
        aligned[name] = scores.logits[order.to(scores.logits.device)]
        if aligned[name].shape != aligned[first_name].shape:
            must = f"score {aligned[first_name].shape[1]} classes, as the stream {first_name!r} does"
            _check.fail(owner, where, must, aligned[name].shape[1])
        differing = (scores.labels.cpu()[order] != first.labels.cpu()).nonzero().flatten().tolist()
        if differing:
            sample = first.names[differing[0]]
            got = f"class {int(scores.labels[rows[sample]])} for {sample!r} ({len(differing)} differ)"
            _check.fail(owner, where, f"have the labels of the stream {first_name!r}", got)
    return aligned


def _rows(owner: str, where: str, scores: Scores) -> dict[str, int]:
    """Check one stream and return the row of each sample."""
    if not isinstance(scores, Scores):
        _check.fail(owner, where, "be Scores", type(scores).__name__, kind=TypeError)
    check_features(owner, f"{where}.logits", scores.logits)
    N = len(scores.logits)
    check_integers(owner, f"{where}.labels", scores.labels, N=N, why="to match its logits")
    rows = {sample: row for row, sample in enumerate(scores.names)}
    if len(scores.names) != N:
        _check.fail(owner, f"{where}.names", f"name each of the {N} samples", f"{len(scores.names)} names")
    if len(rows) != N:
        repeated = _check.first_repeated(scores.names)
        _check.fail(owner, f"{where}.names", "name each sample once", f"{repeated!r} twice")
    return rows
