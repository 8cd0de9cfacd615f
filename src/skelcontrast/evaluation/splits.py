"""Which samples are labelled: class-balanced index lists that are the same everywhere."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from skelcontrast import _check
from skelcontrast.evaluation.features import check_integers


def semi_supervised_indices(labels: Sequence[int] | Tensor, share: float, *, seed: int = 0) -> Tensor:
    """Choose the labelled samples of the semi-supervised protocol: the same share of every class.

    Of a class with n samples, round(share x n) are taken, half to even, but at least one. Which ones follows from a
    hash of the seed, the class and the sample's place within its class, so the list is the same on every machine and
    with every version of every library. With one seed, a larger share contains the smaller one.

    Args:
        labels: Classes (N,) of the training part, integers from 0.
        share: Share of each class to take, in (0, 1]: 0.01, 0.05 and 0.1 in the literature.
        seed: Seed of the choice, any integer.

    Returns:
        Positions of the chosen samples, int64, in rising order, on the CPU.

    Raises:
        TypeError: If labels are not integers.
        ValueError: If there is no label, one is negative, or `share` is out of range.

    References:
        Guo et al., "Contrastive Learning from Extremely Augmented Skeleton Sequences for Self-Supervised Action
        Recognition", AAAI 2022, Section 4.2 (1 % and 10 %). The released code draws the same numbers per class from
        Python's global generator; which samples these were is not published.

    Example:
        Four samples of class 0, two of class 1 and one of class 2: a half is two, one and, at least, one.

        >>> semi_supervised_indices([0, 0, 0, 0, 1, 1, 2], 0.5)
        tensor([0, 1, 5, 6])
    """
    owner = "semi_supervised_indices"
    classes = torch.as_tensor(labels, device="cpu")
    if not classes.numel():
        _check.fail(owner, "labels", "hold at least one label", "none")
    check_integers(owner, "labels", classes)
    _check.interval(owner, "share", share, 0, 1, open_low=True)
    seed = _check.integer(owner, "seed", seed, -(2**63))
    members: dict[int, list[int]] = {}
    for position, label in enumerate(classes.tolist()):
        members.setdefault(label, []).append(position)
    if min(members) < 0:
        _check.fail(owner, "labels", "be at least 0", min(members))
    chosen: list[int] = []
    for label, positions in members.items():
        order = _order(seed, label, len(positions))
        chosen += [positions[place] for place in order[: max(1, round(share * len(positions)))]]
    return torch.tensor(sorted(chosen), device="cpu")


def held_out(labels: Tensor, share: float, *, seed: int) -> tuple[Tensor, Tensor]:
    """Return the positions (kept, held out) of a class-balanced split; each class keeps at least one sample."""
    kept = semi_supervised_indices(labels, 1 - share, seed=seed)
    out = torch.ones(len(labels), dtype=torch.bool, device="cpu")
    out[kept] = False
    return kept, out.nonzero().flatten()


def _order(seed: int, label: int, count: int) -> list[int]:
    """Return the places 0 to count - 1 in the order of a hash: as good as random, and always the same."""
    return sorted(range(count), key=lambda place: hashlib.sha256(f"{seed} {label} {place}".encode()).digest())
