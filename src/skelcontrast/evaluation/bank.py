"""What lies in a contrastive bank, and what a run's positives and negatives are therefore worth.

All functions take tensors and know no bank, so they can be called in any loop.
"""

import torch
from torch import Tensor

from skelcontrast import _check
from skelcontrast.evaluation.features import check_integers


def bank_contents(seen: Tensor, *, size: int, pointer: int | Tensor) -> Tensor:
    """Return which sample lies in every row of a first-in-first-out bank, so that nothing need be stored beside it.

    Args:
        seen: An integer for each sample, such as its position in the data set (S,), in the order in which the keys were
            enqueued. The last `size` of them are enough.
        size: Number of rows of the bank, K.
        pointer: Row that the next key takes, ``MemoryQueue.pointer``.

    Returns:
        What lies in each row (K,), int64, on the device of `seen`; -1 in rows that were filled before `seen` begins.

    Raises:
        TypeError: If `seen` does not hold integers.
        ValueError: If it is not of rank 1, or a number is out of range.

    Example:
        Five samples went through a bank of four. The fifth, 14, took row 0 again, so the next row is 1:

        >>> bank_contents(torch.tensor([10, 11, 12, 13, 14]), size=4, pointer=1)
        tensor([14, 11, 12, 13])
        >>> bank_contents(torch.tensor([10, 11]), size=4, pointer=2)
        tensor([10, 11, -1, -1])
    """
    owner = "bank_contents"
    check_integers(owner, "seen", seen)
    size = _check.integer(owner, "size", size, 1)
    first_free = _check.integer(owner, "pointer", int(pointer), 0, size - 1)
    recent = seen[-size:]
    rows = (first_free - len(recent) + torch.arange(len(recent), device=seen.device)) % size
    return torch.full((size,), -1, device=seen.device).index_copy_(0, rows, recent.long())


def neighbor_precision(neighbors: Tensor, labels: Tensor, bank_labels: Tensor) -> float:
    """Return the share of mined neighbours that are of their query's class.

    Compare it with the share of the class in the bank, which neighbours drawn at random would reach.

    Args:
        neighbors: Rows of the bank (N, P), as `losses.nearest_neighbors` returns them.
        labels: Classes (N,) of the queries.
        bank_labels: Classes (K,) of what lies in the bank, -1 where that is unknown; such a neighbour counts as wrong.

    Raises:
        TypeError: If an argument does not hold integers.
        ValueError: If shapes do not match, or there are no neighbours.

    Example:
        Of the first query's neighbours one is of its class 5, of the second's both are of its class 6:

        >>> bank_labels = torch.tensor([5, 6, 6, -1])
        >>> neighbor_precision(torch.tensor([[0, 3], [1, 2]]), torch.tensor([5, 6]), bank_labels)
        0.75
    """
    owner = "neighbor_precision"
    check_some_integers(owner, "neighbors", neighbors, "N P")
    check_integers(owner, "labels", labels, N=len(neighbors), why="to match `neighbors`")
    check_some_integers(owner, "bank_labels", bank_labels)
    neighbors = neighbors.long()  # small integers are no indices, and those of a byte are a mask
    low, high = int(neighbors.min()), int(neighbors.max())
    if low < 0 or high >= len(bank_labels):
        must = f"lie in [0, {len(bank_labels) - 1}], the rows of `bank_labels`"
        _check.fail(owner, "neighbors", must, f"rows from {low} to {high}")
    found = bank_labels[neighbors]
    return float(((found == labels[:, None]) & (found >= 0)).double().mean())


def own_key_share(samples: Tensor, bank_samples: Tensor) -> float:
    """Return the share of the bank that holds older keys of the query itself, averaged over the queries.

    Those are false negatives: the loss pushes a query away from itself. 0 is healthy. Times K it is the number of its
    own keys that a query meets: of all samples at once c on average, if the bank is c times as large as the data set.
    A batch in training meets fewer, because each epoch goes through all samples once, in a new order: none from its
    own epoch, and over an epoch about c^2 / 2 for c up to 1, c - 1/2 above. Call it before the keys of the current
    step are enqueued, which are not older ones.

    Args:
        samples: Which samples the queries are (N,), integers.
        bank_samples: Which samples lie in the bank (K,), -1 where that is unknown, as from `bank_contents`.

    Raises:
        TypeError: If an argument does not hold integers.
        ValueError: If an argument is not of rank 1, or is empty.

    Example:
        Sample 7 is in two of four rows, sample 8 in none:

        >>> own_key_share(torch.tensor([7, 8]), torch.tensor([7, 9, 7, -1]))
        0.25
    """
    check_some_integers("own_key_share", "samples", samples)
    check_some_integers("own_key_share", "bank_samples", bank_samples)
    own = samples[:, None] == bank_samples
    return int(own.count_nonzero()) / own.numel()  # a mean would hold eight bytes for each of the N x K


def check_some_integers(owner: str, name: str, value: object, axes: str = "N") -> None:
    """Check integers of the given rank, at least one of them."""
    numbers = check_integers(owner, name, value, axes)
    if not numbers.numel():
        _check.fail(owner, name, "hold at least one number", _check.show(numbers.shape))
