"""Do features fall into classes by themselves: k-means, and how much its clusters tell about the classes."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from skelcontrast import _check, _progress
from skelcontrast._autocast import autocast_off
from skelcontrast.evaluation.features import check_features, check_integers


class KMeans(NamedTuple):
    """Clusters of features.

    Attributes:
        clusters: Cluster (N,) of each feature, int64.
        centres: Centres (num_clusters, D).
        inertia: Sum of squared distances of the features from their centres.
    """

    clusters: Tensor
    centres: Tensor
    inertia: float


def k_means(
    features: Tensor,
    num_clusters: int,
    *,
    restarts: int = 10,
    max_iterations: int = 300,
    seed: int = 0,
    progress: bool = False,
) -> KMeans:
    """Cluster features by k-means: Lloyd's iterations from centres spread out at random.

    The first centre is a random feature, each next one a feature drawn with a probability proportional to its squared
    distance from the nearest centre so far. Of several starts the one with the least inertia is returned.

    Args:
        features: Features (N, D). Bring them to length one first to cluster directions.
        num_clusters: Number of clusters, in [1, N].
        restarts: Number of starts.
        max_iterations: Most iterations of one start; it ends when no feature changes its cluster.
        seed: Seed of the starts, at least 0; the global generators are not touched.
        progress: Whether progress is shown, on the standard error stream; every start counts all features once.

    Returns:
        Clusters, centres and inertia.

    Raises:
        TypeError: If features are not a floating point tensor.
        ValueError: If they are not (N, D) or not finite, or an option is out of range.

    References:
        Arthur and Vassilvitskii, "k-means++: The Advantages of Careful Seeding", 2007.

    Example:
        >>> found = k_means(torch.tensor([[0.0], [1.0], [10.0], [11.0]]), 2)
        >>> sorted(found.centres.flatten().tolist()), found.inertia
        ([0.5, 10.5], 1.0)
    """
    owner = "k_means"
    check_features(owner, "features", features)
    hint = "There are no more features than that."
    num_clusters = _check.integer(owner, "num_clusters", num_clusters, 1, len(features), hint=hint)
    restarts = _check.integer(owner, "restarts", restarts, 1)
    max_iterations = _check.integer(owner, "max_iterations", max_iterations, 1)
    seed = _check.integer(owner, "seed", seed, 0)
    x = features.detach()
    x = x if x.dtype == torch.float64 else x.float()
    shift = x.mean(dim=0)  # distances are differences of squares: keep these small
    x = x - shift
    generator = torch.Generator().manual_seed(seed)
    starts = []
    with _progress.progress("k-means", restarts * len(x), shown=progress) as advance:
        for _ in range(restarts):
            starts.append(_lloyd(x, _spread(x, num_clusters, generator), max_iterations))
            advance(len(x))
    best = min(starts, key=lambda found: found.inertia)
    return best._replace(centres=best.centres + shift)


def normalized_mutual_information(clusters: Tensor, labels: Tensor) -> float:
    r"""Return how much a clustering tells about the classes, between 0 and 1.

    Mutual information over the mean of both entropies, :math:`2 I(U; V) / (H(U) + H(V))`. Names of clusters do not
    matter. Two partitions into a single part each agree: 1.

    Args:
        clusters: Cluster (N,) of each sample, any integers.
        labels: Class (N,) of each sample, any integers.

    Returns:
        0 if they are independent, 1 if they are the same partition.

    Raises:
        TypeError: If they are not integer tensors.
        ValueError: If shapes do not match or there is no sample.

    References:
        Strehl and Ghosh, "Cluster Ensembles", 2002, with the arithmetic mean; Figure 2 of the AimCLR paper reports it.

    Example:
        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> normalized_mutual_information(torch.tensor([7, 7, 3, 3]), labels)
        1.0
        >>> normalized_mutual_information(torch.tensor([0, 1, 0, 1]), labels)
        0.0
    """
    owner = "normalized_mutual_information"
    check_integers(owner, "clusters", clusters)
    check_integers(owner, "labels", labels, N=len(clusters), why="to match `clusters`")
    if not len(clusters):
        _check.fail(owner, "clusters", "hold at least one sample", "none")
    rows, columns = (torch.unique(part, return_inverse=True)[1].cpu() for part in (clusters, labels))
    width = int(columns.max()) + 1
    joint = torch.bincount(rows * width + columns, minlength=(int(rows.max()) + 1) * width).reshape(-1, width)
    of_rows, of_columns, of_both = (_entropy(counts) for counts in (joint.sum(dim=1), joint.sum(dim=0), joint))
    if of_rows + of_columns == 0:
        return 1.0
    return min(1.0, max(0.0, 2 * (of_rows + of_columns - of_both) / (of_rows + of_columns)))


def _entropy(counts: Tensor) -> float:
    """Return the entropy of counted parts, in nats."""
    total = int(counts.sum())
    return math.fsum(-n / total * math.log(n / total) for n in counts.flatten().tolist() if n)


def _spread(x: Tensor, num_clusters: int, generator: torch.Generator) -> Tensor:
    """Return starting centres, each drawn by its squared distance from those before it."""
    chosen = torch.randint(len(x), (), generator=generator, device="cpu").to(x.device)
    rows = [chosen]
    nearest = (x - x[chosen]).square().sum(dim=1)
    for _ in range(1, num_clusters):
        # Added up and drawn on the host: a seed means the same on every device, and CUDA adds up in no fixed order.
        spread = nearest.cpu().double()
        weight = (spread if spread.any() else torch.ones_like(spread)).cumsum(0)  # on a centre all, any will do
        drawn = torch.rand((), generator=generator, dtype=torch.float64, device="cpu") * weight[-1]
        chosen = torch.searchsorted(weight, drawn, right=True).clamp(max=len(x) - 1).to(x.device)
        rows.append(chosen)
        nearest = torch.minimum(nearest, (x - x[chosen]).square().sum(dim=1))
    return x[torch.stack(rows)]


def _lloyd(x: Tensor, centres: Tensor, max_iterations: int) -> KMeans:
    """Move the centres into the middle of their features until these stay where they are."""
    clusters = torch.full((len(x),), -1, device=x.device)
    for _ in range(max_iterations):
        with autocast_off(x.device):
            distance = centres.square().sum(dim=1) - 2 * x @ centres.T  # but for the length of x
        before, clusters = clusters, distance.argmin(dim=1)
        if torch.equal(before, clusters):
            break
        count = torch.bincount(clusters, minlength=len(centres))
        total = torch.zeros_like(centres).index_add_(0, clusters, x)
        centres = torch.where(count[:, None] > 0, total / count.clamp(min=1)[:, None], centres)
        empty = (count == 0).nonzero().flatten()
        if len(empty):  # an empty cluster goes to the features that lie worst
            far = (x - centres[clusters]).square().sum(dim=1).topk(len(empty)).indices
            centres = centres.index_copy(0, empty, x[far])
    inertia = float((x - centres[clusters]).square().sum(dtype=torch.float64))
    return KMeans(clusters, centres, inertia)
