"""Batches of skeleton sequences, the same for the same (seed, epoch), whatever the number of workers."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, distributed
from torch.utils.data import DataLoader, Dataset

from skelcontrast import _check
from skelcontrast.data._device import to_device
from skelcontrast.data.dataset import SkeletonDataset

OWNER = "SkeletonLoader"
ORDER, AUGMENT = 0, 1  # the two streams of random numbers of an epoch


class SkeletonBatch(NamedTuple):
    """One batch of a `SkeletonLoader`."""

    x: Tensor
    """Sequences (N, C, T, V, M)."""
    labels: Tensor
    """Their classes (N,), on the device of `x`."""
    rows: Tensor
    """Their places in the dataset (N,), on the CPU."""
    generator: torch.Generator
    """Random numbers for the augmentation of this batch, on the device of `x`, fixed by (seed, epoch, step)."""


class SkeletonLoader:
    """Batches of a dataset, epoch by epoch.

    The order of the sequences depends on (seed, epoch) only, and each batch brings a generator that depends on
    (seed, epoch, step) only. Augmentation that draws from it differs from epoch to epoch and from step to step, and is
    the same in every run with the same seed, for any number of workers, and after a restart in the middle.

    A pass over the loader is an epoch: the first is number 0, the next 1, and so on; `set_epoch` says which comes next.
    Sequences in memory need no workers: a batch of them is taken at once. Workers help where reading a file is slow.
    Sequences on a device (`SkeletonDataset.to`) never pass through the CPU: the order of an epoch, drawn on the CPU so
    that it is the same for every device, is copied there once, when the pass begins, and nothing waits for the device,
    neither then nor in any step.

    Under `torch.distributed` each process gets one of every `world_size` neighbours in the order of the epoch, and as
    many batches as every other. What does not fill a whole multiple is left out, other sequences each epoch. Every
    process draws its own augmentation.

    Args:
        dataset: The sequences.
        batch_size: Sequences in a batch, at least 1.
        seed: Seed of order and augmentation, at least 0.
        shuffle: Whether each epoch has its own random order; else it is that of the dataset.
        drop_last: Whether the last batch is left out when it is not full.
        num_workers: Processes that read batches ahead; 0 reads in this one.
        device: Where batches go; where the sequences of the dataset lie unless given.
        rank: Which of the processes this is, from 0; asked of `torch.distributed` unless given.
        world_size: How many processes share an epoch; asked of `torch.distributed`, or 1, unless given.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If a number is out of range, `drop_last` would leave no batch, or only one of `rank` and
            `world_size` is given.

    Note:
        The released code seeds worker w with w at the start of every epoch, so that its augmentation repeats the same
        draws in each of the 300 epochs.

    Example:
        >>> from skelcontrast.data import SkeletonDataset
        >>> clips = SkeletonDataset(torch.zeros(5, 3, 50, 25, 2), [0, 1, 0, 1, 0], names=["a", "b", "c", "d", "e"])
        >>> loader = SkeletonLoader(clips, 2)
        >>> len(loader)
        2
        >>> for batch in loader:
        ...     noise = torch.randn(batch.x.shape, generator=batch.generator)
        >>> batch.x.shape, batch.labels.shape, loader.epoch
        (torch.Size([2, 3, 50, 25, 2]), torch.Size([2]), 1)
    """

    epoch: int
    """Number of the epoch that the next pass will be."""

    def __init__(
        self,
        dataset: SkeletonDataset,
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = True,
        drop_last: bool = True,
        num_workers: int = 0,
        device: torch.device | str | None = None,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        if not isinstance(dataset, SkeletonDataset):
            _check.fail(OWNER, "dataset", "be a SkeletonDataset", type(dataset).__name__, kind=TypeError)
        batch_size = _check.integer(OWNER, "batch_size", batch_size, 1)
        seed = _check.integer(OWNER, "seed", seed, 0)
        num_workers = _check.integer(OWNER, "num_workers", num_workers, 0)
        self.rank, self.world_size = _rank_and_world_size(rank, world_size)
        share = len(dataset) // self.world_size
        if share == 0:
            _check.fail(OWNER, "world_size", f"be at most the number of sequences, {len(dataset)}", self.world_size)
        if drop_last and batch_size > share:
            each = f" of each of {self.world_size} processes," if self.world_size > 1 else ""
            must = f"be at most the number of sequences, {share},{each} with drop_last=True"
            _check.fail(OWNER, "batch_size", must, batch_size, hint="No batch would be full.")
        if num_workers > 0 and dataset.device.type != "cpu":
            must = f"be 0 for sequences on device '{dataset.device}'"
            _check.fail(OWNER, "num_workers", must, num_workers, hint="Worker processes read from the CPU only.")
        self.dataset = dataset
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.num_workers = num_workers
        self.device = dataset.device if device is None else torch.device(device)
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set which epoch the next pass is.

        Args:
            epoch: Number of the epoch, at least 0.

        Raises:
            TypeError: If `epoch` is not an integer.
            ValueError: If it is negative.
        """
        self.epoch = _check.integer(f"{OWNER}.set_epoch", "epoch", epoch, 0)

    def order(self, epoch: int) -> Tensor:
        """Return the positions in the dataset of an epoch's sequences, in their order (n,), on the CPU.

        They are the ``rows`` of its batches, concatenated. No sequence is read.

        Args:
            epoch: Number of the epoch, at least 0.

        Raises:
            TypeError: If `epoch` is not an integer.
            ValueError: If it is negative.
        """
        epoch = _check.integer(f"{OWNER}.order", "epoch", epoch, 0)
        return self._order(epoch)[: len(self) * self.batch_size]

    def __len__(self) -> int:
        full, rest = divmod(len(self.dataset) // self.world_size, self.batch_size)
        return full if self.drop_last or rest == 0 else full + 1

    def __iter__(self) -> Iterator[SkeletonBatch]:
        # Not a generator function: the epoch is taken when the pass begins, not when its first batch is asked for.
        epoch, self.epoch = self.epoch, self.epoch + 1
        return self._batches(epoch)

    def _batches(self, epoch: int) -> Iterator[SkeletonBatch]:
        order = self._order(epoch)
        chunks = torch.split(order, self.batch_size)[: len(self)]
        labels = torch.split(to_device(self.dataset.labels[order], self.device), self.batch_size)
        for step, (rows, x, y) in enumerate(zip(chunks, self._read(order, chunks), labels, strict=False)):
            generator = torch.Generator(self.device).manual_seed(self._augment_seed(epoch, step))
            yield SkeletonBatch(x.to(self.device, non_blocking=True), y, rows, generator)

    def _augment_seed(self, epoch: int, step: int) -> int:
        # The first process draws what a single one would.
        return _seed(self.seed, epoch, AUGMENT, step, *([self.rank] if self.rank > 0 else []))

    def _order(self, epoch: int) -> Tensor:
        """Return this process's sequences in the order of the epoch; drawn on the CPU, the same for every device."""
        count = len(self.dataset)
        if self.shuffle:
            generator = torch.Generator().manual_seed(_seed(self.seed, epoch, ORDER))
            order = torch.randperm(count, generator=generator, device="cpu")
        else:
            order = torch.arange(count, device="cpu")
        return order[self.rank : count - count % self.world_size : self.world_size]

    def _read(self, order: Tensor, chunks: tuple[Tensor, ...]) -> Iterator[Tensor]:
        if self.num_workers == 0:
            return self.dataset.batches(order, self.batch_size)
        # A DataLoader takes a number from its generator, on the default device unless told otherwise.
        with torch.device("cpu"):
            return iter(
                DataLoader(
                    _Chunks(self.dataset, chunks),
                    batch_size=None,
                    num_workers=self.num_workers,
                    pin_memory=self.device.type == "cuda",
                    # Workers draw nothing, but a DataLoader without a generator takes a number from the global one.
                    generator=torch.Generator(),
                )
            )

    def __repr__(self) -> str:
        return (
            f"SkeletonLoader({self.dataset!r}, batch_size={self.batch_size}, seed={self.seed}, shuffle={self.shuffle}, "
            f"drop_last={self.drop_last}, num_workers={self.num_workers}, device='{self.device}'"
            f"{f', rank={self.rank} of {self.world_size}' if self.world_size > 1 else ''})"
        )


class _Chunks(Dataset[Tensor]):
    """The batches of one epoch as items: a worker fetches a whole batch at a time."""

    def __init__(self, dataset: SkeletonDataset, chunks: tuple[Tensor, ...]) -> None:
        self.dataset = dataset
        self.chunks = chunks

    def __len__(self) -> int:
        return len(self.chunks)

    def __getitem__(self, step: int) -> Tensor:
        return self.dataset.take(self.chunks[step])


def _rank_and_world_size(rank: int | None, world_size: int | None) -> tuple[int, int]:
    if (rank is None) != (world_size is None):
        _check.fail(OWNER, "rank" if rank is None else "world_size", "be given together with the other", "None")
    if rank is None or world_size is None:
        if not (distributed.is_available() and distributed.is_initialized()):
            return 0, 1
        return distributed.get_rank(), distributed.get_world_size()
    world_size = _check.integer(OWNER, "world_size", world_size, 1)
    return _check.integer(OWNER, "rank", rank, 0, world_size - 1), world_size


def _seed(seed: int, epoch: int, *stream: int) -> int:
    """Return a 64-bit seed, well mixed from all its numbers: neighbouring ones give unrelated seeds."""
    return int(np.random.SeedSequence((seed, epoch), spawn_key=stream).generate_state(1, np.uint64)[0])
