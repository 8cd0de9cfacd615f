"""Memory-mapped files in pickles: where the file lies instead of what it holds."""

import mmap
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from skelcontrast.data._array import Array


@dataclass(frozen=True)
class MappedFile:
    """What it takes to map a file again."""

    path: str
    dtype: np.dtype[Any]
    offset: int
    shape: tuple[int, ...]
    fortran: bool


def pickled(data: Array | Tensor) -> Array | Tensor | MappedFile:
    """Return `data`, or where it lies if it is a whole memory-mapped file."""
    # A view of a mapped file keeps the offset of the file's start, so only the file's own array can be mapped again;
    # and what was written to a copy-on-write array is not in the file.
    base: object = data.base if isinstance(data, np.memmap) and data.mode != "c" else None
    if isinstance(data, np.memmap) and isinstance(base, mmap.mmap) and data.filename is not None:
        fortran = data.flags.f_contiguous and not data.flags.c_contiguous
        return MappedFile(str(data.filename), data.dtype, data.offset, data.shape, fortran)
    return data


def unpickled(data: Array | Tensor | MappedFile) -> Array | Tensor:
    """Return the data, mapping its file again (read-only) where `pickled` put one."""
    if not isinstance(data, MappedFile):
        return data
    return np.memmap(
        data.path,
        dtype=data.dtype,
        mode="r",
        offset=data.offset,
        shape=data.shape,
        order="F" if data.fortran else "C",
    )
