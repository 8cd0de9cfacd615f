"""A set of skeleton sequences: where the numbers lie, what each sequence shows, and how the set is split."""

import copy
import math
import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from typing_extensions import Self

from skelcontrast import _check
from skelcontrast.data._array import Array
from skelcontrast.data._device import check_memory, to_device
from skelcontrast.data._fields import Booleans, Integers, flags, integers, number_of_classes, sequences, strings
from skelcontrast.data._mapped import pickled, unpickled
from skelcontrast.skeleton import SkeletonLayout

OWNER = "SkeletonDataset"
COPIED_AT_ONCE = 1024  # sequences of a memory-mapped file on their way to a device


class SkeletonSample(NamedTuple):
    """One sequence of a `SkeletonDataset`."""

    x: Tensor
    """The sequence (C, T, V, M), float32, a copy."""
    label: int
    """Its class, counted from 0."""
    row: int
    """Its position in the dataset."""
    name: str
    """Its name."""


class SkeletonDataset(Dataset[SkeletonSample]):
    """Skeleton sequences of one length, with labels, names, and who and which camera recorded them.

    The sequences stay where they are and as they are: a memory-mapped file is read only for samples that are asked for,
    and a subset shares the sequences of the set that it came from. Samples come as float32, which encoders take. Treat
    a dataset as read-only.

    Args:
        data: Sequences (N, C, T, V, M), floating point: a NumPy array, a memory-mapped file
            (`numpy.load(path, mmap_mode="r")`) or a tensor on any device. Their numbers should be finite, which is not
            checked.
        labels: Class of each sequence (N,), integers from 0.
        names: Name of each sequence, N different ones.
        subjects: Who is seen in each sequence (N,), integers.
        cameras: Which camera or setup recorded each sequence (N,), integers.
        layout: The skeleton; where given, V must be its number of joints.
        class_names: Name of each class, in the order of the labels.
        num_classes: Number of classes. From `class_names`, or else the largest label + 1, unless given.
        protocols: Named ways to split the set: for each name N truth values, true for training.

    Raises:
        TypeError: If `data` is not floating point, labels, subjects or cameras are not integers, or a protocol is not
            boolean.
        ValueError: If `data` is not (N, C, T, V, M) or empty, a length is not N, V is not that of the layout, names
            repeat, or a label is negative or not below the number of classes.

    Example:
        >>> import torch
        >>> data = torch.zeros(4, 3, 50, 25, 2)
        >>> clips = SkeletonDataset(data, [0, 1, 1, 0], names=["a", "b", "c", "d"], subjects=[1, 2, 3, 1])
        >>> clips
        SkeletonDataset(4 sequences, C=3, T=50, V=25, M=2, 2 classes, 3 subjects)
        >>> clips[1].x.shape, clips[1].label, clips[1].name
        (torch.Size([3, 50, 25, 2]), 1, 'b')
        >>> train, test = clips.cross_subject([1, 3])
        >>> train.names, test.names
        (('a', 'c', 'd'), ('b',))
    """

    labels: Tensor
    """Class of each sequence, (N,) int64 on the CPU."""
    names: tuple[str, ...]
    """Name of each sequence."""
    subjects: Tensor | None
    """Who is seen in each sequence, (N,) int64 on the CPU."""
    cameras: Tensor | None
    """Which camera recorded each sequence, (N,) int64 on the CPU."""
    layout: SkeletonLayout | None
    """The skeleton."""
    class_names: tuple[str, ...] | None
    """Name of each class."""
    num_classes: int
    """Number of classes; a subset keeps that of the whole."""
    protocols: Mapping[str, Tensor]
    """Named ways to split the set, (N,) bool each, true for training."""

    def __init__(
        self,
        data: Array | Tensor,
        labels: Integers,
        *,
        names: Sequence[str],
        subjects: Integers | None = None,
        cameras: Integers | None = None,
        layout: SkeletonLayout | None = None,
        class_names: Sequence[str] | None = None,
        num_classes: int | None = None,
        protocols: Mapping[str, Booleans] | None = None,
    ) -> None:
        self._data = sequences(OWNER, data, layout)
        self._rows: Tensor | None = None  # rows of `_data` that a subset shows; None for all
        N = self._data.shape[0]
        self.labels = integers(OWNER, "labels", labels, N)
        self.names = strings(OWNER, "names", names, N)
        self.subjects = None if subjects is None else integers(OWNER, "subjects", subjects, N)
        self.cameras = None if cameras is None else integers(OWNER, "cameras", cameras, N)
        self.layout = layout
        self.class_names = None if class_names is None else strings(OWNER, "class_names", class_names)
        self.num_classes = number_of_classes(OWNER, self.labels, self.class_names, num_classes)
        named = (protocols or {}).items()
        self.protocols = {name: flags(OWNER, f"protocols[{name!r}]", mask, N) for name, mask in named}

    def __len__(self) -> int:
        return len(self.names)

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, T, V, M), without reading anything."""
        return (len(self), *self._data.shape[1:])

    @property
    def device(self) -> torch.device:
        """Where the sequences lie."""
        return self._data.device if isinstance(self._data, Tensor) else torch.device("cpu")

    def __getitem__(self, index: int) -> SkeletonSample:
        try:
            position = range(len(self))[operator.index(index)]  # negative positions and IndexError as for a list
        except TypeError:
            hint = "Use take or subset for several sequences."
            _check.fail(OWNER, "index", "be an integer", repr(index), hint=hint, kind=TypeError)
        return SkeletonSample(self.take([position])[0], int(self.labels[position]), position, self.names[position])

    def __iter__(self) -> Iterator[SkeletonSample]:
        return (self[position] for position in range(len(self)))

    def take(self, indices: Integers) -> Tensor:
        """Return some sequences as one tensor (n, C, T, V, M), a copy, in the order of `indices`.

        Only these sequences are read from a memory-mapped file. They come as float32, however they are stored.

        Args:
            indices: Positions in this dataset, in any order, possibly repeated.

        Raises:
            TypeError: If they are not integers.
            ValueError: If one is not a position in this dataset.
        """
        return self._cut(self._source(self._positions(f"{OWNER}.take", indices))).float()

    def batches(self, order: Integers, batch_size: int) -> Iterator[Tensor]:
        """Yield sequences as tensors (`batch_size`, C, T, V, M) in an order; the last may be shorter.

        If the sequences are on another device, the order is copied there once, before the first batch.

        Args:
            order: Positions in this dataset, in any order, possibly repeated.
            batch_size: Sequences in a tensor, at least 1.

        Raises:
            TypeError: If `order` or `batch_size` are not integers.
            ValueError: If one is not a position in this dataset, or `batch_size` is below 1.
        """
        owner = f"{OWNER}.batches"
        batch_size = _check.integer(owner, "batch_size", batch_size, 1)
        rows = to_device(self._source(self._positions(owner, order, name="order")), self.device)
        return (self._cut(part).float() for part in rows.split(batch_size))

    def tensor(self) -> Tensor:
        """Return all sequences as one tensor (N, C, T, V, M), a copy; of a memory-mapped file all is read."""
        return self.take(torch.arange(len(self), device="cpu"))

    @property
    def nbytes(self) -> int:
        """Bytes that the sequences take as they are stored."""
        return math.prod(self.shape) * self._data.dtype.itemsize

    def to(self, device: torch.device | str) -> Self:
        """Return this dataset with its sequences as one tensor on `device`; labels and names stay as they are.

        They are copied part by part, so that memory never holds a second copy of all of them.

        Raises:
            RuntimeError: If the device has less memory left than the sequences need, `nbytes`.
        """
        target = torch.device(device)
        check_memory(f"{OWNER}.to", self.nbytes, target)
        rows = self._source(torch.arange(len(self), device="cpu"))
        whole = torch.empty(self.shape, dtype=self._cut(rows[:1]).dtype, device=target)
        for room, part in zip(whole.split(COPIED_AT_ONCE), rows.split(COPIED_AT_ONCE), strict=True):
            room.copy_(self._cut(part))
        moved = copy.copy(self)
        moved._data, moved._rows = whole, None
        return moved

    def subset(self, indices: Integers) -> Self:
        """Return the dataset of some sequences, which it shares with this one.

        Args:
            indices: Positions in this dataset, in the order that the subset has; each at most once.

        Raises:
            TypeError: If they are not integers.
            ValueError: If there is none, one is not a position in this dataset, or one repeats.
        """
        owner = f"{OWNER}.subset"
        positions = self._positions(owner, indices)
        if len(positions) == 0:
            _check.fail(owner, "indices", "name at least one sequence", "none")
        if len(set(positions.tolist())) < len(positions):
            _check.fail(owner, "indices", "name each sequence at most once", "a repeated position")
        part = copy.copy(self)
        part._rows = positions if self._rows is None else self._rows[positions]
        part.labels = self.labels[positions]
        part.names = tuple(self.names[position] for position in positions.tolist())
        part.subjects = None if self.subjects is None else self.subjects[positions]
        part.cameras = None if self.cameras is None else self.cameras[positions]
        part.protocols = {name: mask[positions] for name, mask in self.protocols.items()}
        return part

    def split(self, protocol: str) -> tuple[Self, Self]:
        """Return (train, test) by one of the named `protocols`.

        Raises:
            ValueError: If there is no such protocol, or one part would be empty.
        """
        if protocol not in self.protocols:
            known = ", ".join(repr(name) for name in self.protocols) or "none; see cross_subject and cross_view"
            _check.fail(f"{OWNER}.split", "protocol", f"be a protocol of this dataset ({known})", repr(protocol))
        return self._split(f"{OWNER}.split", "protocol", self.protocols[protocol])

    def cross_subject(self, train_subjects: Integers) -> tuple[Self, Self]:
        """Return (train, test): the sequences of the given subjects, and those of all others.

        Raises:
            TypeError: If `train_subjects` are not integers.
            ValueError: If the dataset has no subjects or not all of these, or one part would be empty.
        """
        return self._split_by(f"{OWNER}.cross_subject", "subjects", train_subjects)

    def cross_view(self, train_cameras: Integers) -> tuple[Self, Self]:
        """Return (train, test): the sequences of the given cameras, and those of all others.

        Raises:
            TypeError: If `train_cameras` are not integers.
            ValueError: If the dataset has no cameras or not all of these, or one part would be empty.
        """
        return self._split_by(f"{OWNER}.cross_view", "cameras", train_cameras)

    def _split_by(self, owner: str, field: Literal["subjects", "cameras"], train: Integers) -> tuple[Self, Self]:
        values = self.subjects if field == "subjects" else self.cameras
        if values is None:
            _check.fail(owner, field, "be given when the dataset is made", "none")
        chosen = integers(owner, f"train_{field}", train)
        unknown = chosen[~torch.isin(chosen, values)].tolist()
        if unknown:
            others = " and others" if len(unknown) > 5 else ""
            got = f"{', '.join(map(str, unknown[:5]))}{others}, of whom there is no sequence"
            _check.fail(owner, f"train_{field}", f"be {field} of this dataset", got)
        return self._split(owner, f"train_{field}", torch.isin(values, chosen))

    def _split(self, owner: str, name: str, train: Tensor) -> tuple[Self, Self]:
        if train.all() or not train.any():
            empty = "an empty test part" if train.all() else "an empty training part"
            _check.fail(owner, name, "leave sequences for training and for testing", empty)
        return self.subset(train.nonzero().flatten()), self.subset((~train).nonzero().flatten())

    def _source(self, positions: Tensor) -> Tensor:
        return positions if self._rows is None else self._rows[positions]

    def _cut(self, rows: Tensor) -> Tensor:
        if isinstance(self._data, Tensor):
            return self._data.index_select(0, rows.to(self._data.device))
        return torch.from_numpy(np.asarray(self._data[rows.numpy()]))

    def _positions(self, owner: str, indices: Integers, *, name: str = "indices") -> Tensor:
        positions = integers(owner, name, indices)
        if len(positions) > 0 and not 0 <= int(positions.min()) <= int(positions.max()) < len(self):
            got = f"{int(positions.min())} to {int(positions.max())}"
            _check.fail(owner, name, f"lie in [0, {len(self) - 1}]", got)
        return positions

    def __repr__(self) -> str:
        C, T, V, M = self.shape[1:]
        counts = [f"{len(self)} sequences, C={C}, T={T}, V={V}, M={M}, {self.num_classes} classes"]
        for field, values in (("subjects", self.subjects), ("cameras", self.cameras)):
            if values is not None:
                counts.append(f"{len(set(values.tolist()))} {field}")
        return f"{type(self).__name__}({', '.join(counts)})"

    def __copy__(self) -> Self:
        # That of `copy` goes by the state below, and would map the file anew: who knows what lies there by then.
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin

    def __getstate__(self) -> dict[str, Any]:
        # Pickling a memory-mapped file would write all of it; worker processes are sent where it lies instead.
        return {**self.__dict__, "_data": pickled(self._data)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._data = unpickled(self._data)
