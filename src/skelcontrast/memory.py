"""The first-in-first-out bank of keys."""

import warnings

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skelcontrast import _check

__all__ = ["MemoryQueue", "choose_queue_size"]


class MemoryQueue(nn.Module):
    """A fixed number of the most recent keys, the negatives of a contrastive loss.

    All state is in persistent buffers, so it moves with the state dict and with ``.to(device)``. Only `enqueue` changes
    it, and `enqueue` never waits for the device. Until ``size`` keys have been stored, the other rows are random unit
    vectors, as in MoCo.

    Args:
        size: Number of keys, K.
        dim: Size of a key, D.
        generator: Source of the random start on the CPU; torch's default where `None`.

    Raises:
        TypeError: If a size is not an integer.
        ValueError: If a size is not positive.

    References:
        He et al., MoCo, CVPR 2020, Section 3.2; AimCLR, Section 3.1 (the memory bank **M**).

    Example:
        Five keys through a queue of three: the last three stay, the fourth and fifth over the oldest.

        >>> queue = MemoryQueue(3, 1)
        >>> queue.enqueue(torch.tensor([[1.0], [2.0]]))
        >>> queue.enqueue(torch.tensor([[3.0], [4.0], [5.0]]))
        >>> queue.keys.flatten()
        tensor([4., 5., 3.])
    """

    keys: Tensor
    """The bank (K, D), a row per key. Read it; do not write it."""
    pointer: Tensor
    """Row that the next key takes, a scalar."""
    enqueued: Tensor
    """Number of keys stored so far, also those overwritten since, a scalar."""

    def __init__(self, size: int, dim: int, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        _check.integer("MemoryQueue", "size", size, 1)
        _check.integer("MemoryQueue", "dim", dim, 1)
        self.register_buffer("keys", F.normalize(torch.randn(size, dim, generator=generator), dim=1))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.long))
        self.register_buffer("enqueued", torch.zeros((), dtype=torch.long))

    @property
    def size(self) -> int:
        """Number of keys, K."""
        return self.keys.shape[0]

    @property
    def dim(self) -> int:
        """Size of a key, D."""
        return self.keys.shape[1]

    @torch.no_grad()
    def enqueue(self, keys: Tensor, *, gather: bool = False) -> None:
        """Store a batch of keys over the oldest ones, wrapping around.

        Call it after ``backward``: losses in their dense form save the bank, and torch refuses to differentiate
        through a bank that changed since.

        Args:
            keys: New keys (B, D) with B at most K; stored detached and in the bank's dtype. Usually of unit norm,
                which is not checked.
            gather: Under `torch.distributed`, store the keys of all ranks, in rank order, so that every rank's bank
                stays the same. Every rank must bring the same number of keys.

        Raises:
            TypeError: If `keys` is not a floating-point tensor.
            ValueError: If the width is not D, or more keys come than the queue holds.
            RuntimeError: If `gather` is asked for but `torch.distributed` is not initialised.
        """
        self.check_keys(keys, gather=gather)
        if gather:
            keys = _all_ranks(keys)
        count = keys.shape[0]
        rows = (self.pointer + torch.arange(count, device=self.keys.device)) % self.size
        self.keys.index_copy_(0, rows, keys.to(self.keys.dtype))
        self.pointer.copy_((self.pointer + count) % self.size)
        self.enqueued.add_(count)

    def check_keys(self, keys: Tensor, *, gather: bool = False) -> None:
        """Raise what `enqueue` would raise for these keys, and store nothing."""
        _check.tensor("MemoryQueue.enqueue", "keys", keys)
        _check.shape("MemoryQueue.enqueue", "keys", keys, "B D", D=self.dim, why="to match the bank")
        _check.same_device("MemoryQueue.enqueue", "keys", keys, "bank", self.keys.device)
        count = len(keys) * (_ranks() if gather else 1)
        if count > self.size:
            must = f"hold at most {self.size} keys, the size of the queue"
            _check.fail("MemoryQueue.enqueue", "keys", must, count, hint="Make the queue larger or the batch smaller.")

    def extra_repr(self) -> str:
        """Show both sizes."""
        return f"size={self.size}, dim={self.dim}"


def choose_queue_size(samples: int, batch_size: int, *, wanted: int | None = None, largest: int = 32768) -> int:
    """Return how many keys a bank should hold for a data set of this size: half of it, up to the paper's number.

    In a bank as large as the data set every second query meets an older key of itself on average, and the loss pushes
    it away from that; in one of half that size every eighth does (epochs in a new order each). A far smaller bank has
    few negatives to learn from. `evaluation.own_key_share` measures this in a run.

    Args:
        samples: Number of training sequences.
        batch_size: Sequences in a batch, the least that is chosen: a bank takes the keys of a whole batch.
        wanted: A number of your own, which is returned as it is, with a warning where it is above `samples`.
        largest: The most that is chosen, unless a batch is larger. 32768 is what the paper has (Section 4.2).

    Raises:
        TypeError: If an argument is not an integer.
        ValueError: If one is not positive.

    Example:
        >>> choose_queue_size(431, 32), choose_queue_size(1_000_000, 128)
        (215, 32768)
    """
    owner = "choose_queue_size"
    _check.integer(owner, "samples", samples, 1)
    _check.integer(owner, "batch_size", batch_size, 1)
    _check.integer(owner, "largest", largest, 1)
    if wanted is None:
        return max(batch_size, min(largest, samples // 2))
    if _check.integer(owner, "wanted", wanted, 1) > samples:
        warnings.warn(
            f"{owner}: `wanted`, {wanted}, is larger than the number of training sequences, {samples}: the bank will "
            f"hold older keys of the query itself as negatives. About {samples // 2} avoids most of that.",
            stacklevel=2,
        )
    return wanted


def _all_ranks(keys: Tensor) -> Tensor:
    keys = keys.contiguous()
    parts = [torch.empty_like(keys) for _ in range(_ranks())]
    torch.distributed.all_gather(parts, keys)
    return torch.cat(parts)


def _ranks() -> int:
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        _check.fail(
            "MemoryQueue.enqueue", "gather", "be False unless torch.distributed is initialised", True, kind=RuntimeError
        )
    return torch.distributed.get_world_size()
