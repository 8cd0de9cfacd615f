"""Batches of skeleton sequences, the same for the same (seed, epoch), whatever the number of workers."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from skelcontrast import _check
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
    Sequences in memory are cut out as one batch, without workers; workers help where reading a file is slow.

    Args:
        dataset: The sequences.
        batch_size: Sequences in a batch, at least 1.
        seed: Seed of order and augmentation, at least 0.
        shuffle: Whether each epoch has its own random order; else it is that of the dataset.
        drop_last: Whether the last batch is left out when it is not full.
        num_workers: Processes that read batches ahead; 0 reads in this one.
        device: Where batches go; where the sequences of the dataset lie unless given.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If a number is out of range, or `drop_last` would leave no batch.

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
    ) -> None:
        if not isinstance(dataset, SkeletonDataset):
            _check.fail(OWNER, "dataset", "be a SkeletonDataset", type(dataset).__name__, kind=TypeError)
        _check.integer(OWNER, "batch_size", batch_size, 1)
        _check.integer(OWNER, "seed", seed, 0)
        _check.integer(OWNER, "num_workers", num_workers, 0)
        if drop_last and batch_size > len(dataset):
            must = f"be at most the number of sequences, {len(dataset)}, with drop_last=True"
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
        """Say which epoch the next pass is.

        Args:
            epoch: Number of the epoch, at least 0.

        Raises:
            TypeError: If `epoch` is not an integer.
            ValueError: If it is negative.
        """
        self.epoch = _check.integer(f"{OWNER}.set_epoch", "epoch", epoch, 0)

    def __len__(self) -> int:
        full, rest = divmod(len(self.dataset), self.batch_size)
        return full if self.drop_last or rest == 0 else full + 1

    def __iter__(self) -> Iterator[SkeletonBatch]:
        # Not a generator function: the epoch is taken when the pass begins, not when its first batch is asked for.
        epoch, self.epoch = self.epoch, self.epoch + 1
        return self._batches(epoch)

    def _batches(self, epoch: int) -> Iterator[SkeletonBatch]:
        indices = torch.split(self._order(epoch), self.batch_size)[: len(self)]
        for step, (index, x) in enumerate(zip(indices, self._read(indices), strict=True)):
            yield SkeletonBatch(
                x.to(self.device, non_blocking=True),
                self.dataset.labels[index].to(self.device, non_blocking=True),
                index,
                torch.Generator(self.device).manual_seed(_seed(self.seed, epoch, AUGMENT, step)),
            )

    def _order(self, epoch: int) -> Tensor:
        if not self.shuffle:
            return torch.arange(len(self.dataset))
        generator = torch.Generator().manual_seed(_seed(self.seed, epoch, ORDER))
        return torch.randperm(len(self.dataset), generator=generator)

    def _read(self, indices: tuple[Tensor, ...]) -> Iterator[Tensor]:
        if self.num_workers == 0:
            return (self.dataset.take(index) for index in indices)
        return iter(
            DataLoader(
                _Chunks(self.dataset, indices),
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
            f"drop_last={self.drop_last}, num_workers={self.num_workers}, device='{self.device}')"
        )


class _Chunks(Dataset[Tensor]):
    """The batches of one epoch as items: a worker fetches a whole batch at a time."""

    def __init__(self, dataset: SkeletonDataset, indices: tuple[Tensor, ...]) -> None:
        self.dataset = dataset
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, step: int) -> Tensor:
        return self.dataset.take(self.indices[step])


def _seed(seed: int, epoch: int, *stream: int) -> int:
    """Return a 64-bit seed, well mixed from all its numbers: neighbouring ones give unrelated seeds."""
    return int(np.random.SeedSequence((seed, epoch), spawn_key=stream).generate_state(1, np.uint64)[0])
