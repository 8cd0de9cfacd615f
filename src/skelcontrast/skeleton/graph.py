"""The graph of a skeleton, cut into partitions: what the graph convolution sums over."""

from typing import Literal, get_args

import torch
from torch import Tensor

from skelcontrast import _check
from skelcontrast.skeleton.layout import SkeletonLayout, check_layout

Strategy = Literal["uniform", "distance", "spatial"]


def adjacency(layout: SkeletonLayout, *, strategy: Strategy = "spatial", max_hop: int = 1) -> Tensor:
    """Return the normalised adjacency of a skeleton, cut into partitions.

    Joints within `max_hop` bones of each other are neighbours, a joint is its own neighbour, and each column of the
    whole is divided by its sum, so that `einsum("vw,...v->...w")` of the summed partitions averages over neighbours.
    The partitions share the entries among them:

    - `"uniform"`: one partition with everything.
    - `"distance"`: one partition per number of bones, 0 to `max_hop`.
    - `"spatial"`: for 0 bones one partition; for each further number two: neighbours v of w that are as far from the
      centre as w or farther, and neighbours that are nearer. Distances above `max_hop` count as equal.

    Args:
        layout: The skeleton.
        strategy: How the neighbours are shared among partitions.
        max_hop: Largest number of bones between neighbours, at least 1.

    Returns:
        float32 tensor (P, V, V); entry (p, v, w) is the weight of joint v in the sum for joint w. P is 1,
        `max_hop + 1` or `2 * max_hop + 1` by strategy.

    Raises:
        TypeError: If `layout` is not a `SkeletonLayout` or `max_hop` is not an integer.
        ValueError: If `strategy` is unknown or `max_hop` is below 1.

    Note:
        Counting all distances to the centre above `max_hop` as equal is what the released ST-GCN graphs do, and what
        existing checkpoints were trained with; it differs from the partition as the ST-GCN paper describes it.

    References:
        Yan, Xiong, Lin: Spatial Temporal Graph Convolutional Networks for Skeleton-Based Action Recognition, AAAI
        2018, section 3.3.

    Example:
        >>> from skelcontrast.skeleton import SkeletonLayout
        >>> arm = SkeletonLayout("arm", ("shoulder", "elbow", "wrist"), ((1, 0), (2, 1)), centre=0, mirror=())
        >>> adjacency(arm, strategy="uniform")[0, :, 0]  # the shoulder averages itself and the elbow
        tensor([0.5000, 0.5000, 0.0000])
        >>> adjacency(arm).shape
        torch.Size([3, 3, 3])
    """
    check_layout("adjacency", layout)
    _check.choice("adjacency", "strategy", strategy, get_args(Strategy))
    max_hop = _check.integer("adjacency", "max_hop", max_hop, 1)
    hops = layout.hop_distance()
    neighbours = (hops <= max_hop).double()
    weight = neighbours / neighbours.sum(dim=0)
    if strategy == "uniform":
        partitions = [weight]
    elif strategy == "distance":
        partitions = [weight * (hops == hop) for hop in range(max_hop + 1)]
    else:
        to_centre = hops[layout.centre].clamp(max=max_hop + 1)
        nearer = to_centre[:, None] < to_centre[None, :]
        partitions = [weight * (hops == 0)]
        for hop in range(1, max_hop + 1):
            partitions += [weight * ((hops == hop) & ~nearer), weight * ((hops == hop) & nearer)]
    return torch.stack(partitions).float()
