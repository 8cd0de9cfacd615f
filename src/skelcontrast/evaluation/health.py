"""The health of a contrastive run: has the representation collapsed, and what are its positives and negatives worth?

All functions take tensors and know no method, so they can be called on any batch of any loop, during training too.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from skelcontrast import _check
from skelcontrast._autocast import autocast_off
from skelcontrast.evaluation.bank import check_some_integers, neighbor_precision, own_key_share
from skelcontrast.evaluation.features import check_features


def alignment(query: Tensor, key: Tensor) -> float:
    """Return the mean squared distance between two views of the same samples, on the unit sphere.

    0 where all views agree, 2 where they are unrelated. It is 2 - 2 cosine, so 0 is also what a collapsed encoder
    reaches: read it beside `uniformity`.

    Args:
        query: Embeddings (N, D) of one view; brought to length one here.
        key: Embeddings (N, D) of the other view of the same samples; likewise.

    Raises:
        TypeError: If an argument is not a floating point tensor.
        ValueError: If shapes do not match, or an embedding is not finite.

    References:
        Wang and Isola, Understanding Contrastive Representation Learning through Alignment and Uniformity on the
        Hypersphere, ICML 2020, with exponent 2.

    Example:
        The first pair agrees, the second is at a right angle, 2 apart when squared:

        >>> alignment(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[3.0, 0.0], [0.0, 1.0]]))
        1.0
    """
    check_features("alignment", "query", query)
    check_features("alignment", "key", key)
    _check.shape("alignment", "key", key, "N D", N=query.shape[0], D=query.shape[1], why="to match `query`")
    return float((_unit(query) - _unit(key)).square().sum(dim=1).mean())


def uniformity(embeddings: Tensor, *, t: float = 2.0, chunk_size: int = 512) -> float:
    r"""Return the logarithm of the mean Gaussian potential of all pairs, on the unit sphere.

    0 where all embeddings are one point, that is after a collapse; about -4 at best for t = 2 and many dimensions,
    since most pairs are then at a right angle, :math:`\log \exp(-2 \cdot 2)`.

    Args:
        embeddings: Embeddings (N, D) of different samples, N at least 2; brought to length one here.
        t: Sharpness of the potential exp(-t * squared distance), positive.
        chunk_size: Rows compared with all others at a time: three times chunk_size x N numbers are held. Changes
            memory, not the value.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If there are fewer than two embeddings, one is not finite, or an option is out of range.

    References:
        Wang and Isola, ICML 2020 (see `alignment`).

    Example:
        Two opposite points are 4 apart when squared, so it is log exp(-2 * 4):

        >>> round(uniformity(torch.tensor([[1.0], [-1.0]])), 4)
        -8.0
    """
    check_features("uniformity", "embeddings", embeddings)
    _check.interval("uniformity", "t", t, 0, open_low=True)
    chunk_size = _check.integer("uniformity", "chunk_size", chunk_size, 1)
    if len(embeddings) < 2:
        _check.fail("uniformity", "embeddings", "hold at least 2 rows", len(embeddings))
    points = _unit(embeddings)
    sums = []
    for start in range(0, len(points), chunk_size):
        # |x - y|^2 = 2 - 2 x.y between unit vectors; a point's distance to itself is taken out.
        with autocast_off(points.device):
            log_potential = t * (2 * points[start : start + chunk_size] @ points.T - 2)
        log_potential.diagonal(start).fill_(-torch.inf)
        sums.append(log_potential.flatten().logsumexp(dim=0))
    pairs = len(points) * (len(points) - 1)
    return float(torch.stack(sums).logsumexp(dim=0)) - math.log(pairs)


def effective_rank(embeddings: Tensor) -> float:
    r"""Return how many dimensions the embeddings really use: exp of the entropy of their singular values.

    From 1 (all on a line through the origin, which a collapse is) to min(N, D) (singular values all equal). With
    :math:`p_i = \sigma_i / \sum_j \sigma_j` it is :math:`\exp(-\sum_i p_i \log p_i)`. Nothing is centred first, so
    features that are never negative, such as an encoder's, have a lower value than embeddings behind a head.

    Args:
        embeddings: Embeddings or features (N, D). Take N well above D, or N bounds the value.

    Raises:
        TypeError: If `embeddings` is not a floating point tensor.
        ValueError: If it is not of rank 2, empty, or not finite.

    References:
        Roy and Vetterli, The effective rank: a measure of effective dimensionality, EUSIPCO 2007; Garrido et al.,
        RankMe, ICML 2023.

    Example:
        Singular values 2, 1, 1 are shares 1/2, 1/4, 1/4, whose entropy is 3/2 ln 2; so 2 to the 3/2:

        >>> round(effective_rank(torch.diag(torch.tensor([2.0, 1.0, 1.0]))), 4)
        2.8284
    """
    check_features("effective_rank", "embeddings", embeddings)
    values = torch.linalg.svdvals(embeddings.detach().float())
    shares = values / values.sum().clamp_min(torch.finfo(values.dtype).tiny)
    return float(torch.special.entr(shares).sum().exp())


def dimension_spread(embeddings: Tensor) -> Tensor:
    """Return the standard deviation of every dimension on the unit sphere, in units of 1 / sqrt(D).

    About 1 everywhere where directions are spread evenly, 0 everywhere after a collapse, 0 in some dimensions where
    these died.

    Args:
        embeddings: Embeddings (N, D) of different samples; brought to length one here.

    Returns:
        Spread (D,), on the device of the embeddings.

    Raises:
        TypeError: If `embeddings` is not a floating point tensor.
        ValueError: If it is not of rank 2, empty, or not finite.

    References:
        Chen and He, Exploring Simple Siamese Representation Learning, CVPR 2021, Section 4.1.

    Example:
        Four directions in a plane have variance 1/2 in each coordinate; the third coordinate is dead:

        >>> points = torch.tensor([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, -1.0, 0.0]])
        >>> dimension_spread(points).square()
        tensor([1.5000, 1.5000, 0.0000])
    """
    check_features("dimension_spread", "embeddings", embeddings)
    points = _unit(embeddings)
    return points.std(dim=0, correction=0) * math.sqrt(points.shape[1])


def contrastive_health(
    query: Tensor, key: Tensor, neighbors: Tensor, *, samples: Tensor, bank_samples: Tensor, labels: Tensor
) -> dict[str, float]:
    """Return all measures of a run's health on some samples, by the names that `viz.plot_curves` draws.

    Args:
        query: Embeddings (N, D) of one view of the samples, N at least 2.
        key: Embeddings (N, D) of another view of them, by the key side.
        neighbors: Rows of the bank (N, P) that are nearest to each query, as from `losses.nearest_neighbors`.
        samples: Which samples these are (N,), as positions in the data set.
        bank_samples: Which samples lie in the bank (K,), -1 where that is unknown, as from `bank_contents`.
        labels: Classes (S,) of the whole data set. The integer tensors above are moved to its device.

    Returns:
        ``alignment``, ``uniformity``, ``effective_rank``, ``least_spread`` (the smallest `dimension_spread`),
        ``neighbor_precision`` and ``own_key_share``.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If shapes do not match, an embedding is not finite, or a position is outside of the data set.

    Example:
        Four classes of two samples; each query finds its own older key, which is a quarter of the bank of four:

        >>> views, rows = torch.eye(4), torch.arange(4)
        >>> labels = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3])
        >>> found = contrastive_health(views, views, rows[:, None], samples=rows, bank_samples=rows, labels=labels)
        >>> found["alignment"], round(found["uniformity"], 4), round(found["effective_rank"], 4)
        (0.0, -4.0, 4.0)
        >>> found["neighbor_precision"], found["own_key_share"]
        (1.0, 0.25)
    """
    owner = "contrastive_health"
    check_features(owner, "query", query)
    check_some_integers(owner, "labels", labels)
    for name, rows, low in (("samples", samples, 0), ("bank_samples", bank_samples, -1)):
        check_some_integers(owner, name, rows)
        if int(rows.min()) < low or int(rows.max()) >= len(labels):
            got = f"positions from {int(rows.min())} to {int(rows.max())}"
            _check.fail(owner, name, f"lie in [{low}, {len(labels) - 1}], the positions in `labels`", got)
    _check.shape(owner, "samples", samples, "N", N=len(query), why="to match `query`")
    samples, stored = samples.to(labels.device).long(), bank_samples.to(labels.device).long()
    bank_labels = torch.where(stored >= 0, labels[stored], -1)
    return {
        "alignment": alignment(query, key),
        "uniformity": uniformity(query),
        "effective_rank": effective_rank(query),
        "least_spread": float(dimension_spread(query).min()),
        "neighbor_precision": neighbor_precision(neighbors.to(labels.device), labels[samples], bank_labels),
        "own_key_share": own_key_share(samples, stored),
    }


def _unit(embeddings: Tensor) -> Tensor:
    return functional.normalize(embeddings.detach().float(), dim=1)
