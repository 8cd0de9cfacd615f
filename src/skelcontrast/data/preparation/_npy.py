"""The `.npy` form, written and read with care: a header of fixed size, and files that are what they claim to be."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from skelcontrast import _check
from skelcontrast.data._array import Array
from skelcontrast.data.clip import SkeletonFormatError
from skelcontrast.data.readers._reading import map_npy

HEADER = 128
"""Bytes in front of the numbers: known before it is known how many there will be."""


def npy_header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    """Return the start of a `.npy` file (format 1.0), as long for every shape."""
    content = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    magic = np.lib.format.magic(1, 0)
    text = repr(content).encode("latin1").ljust(HEADER - len(magic) - 3) + b"\n"
    return magic + len(text).to_bytes(2, "little") + text


def open_npy(owner: str, path: Path, shape: Sequence[int], dtype: str) -> Array:
    """Map a `.npy` file into memory if it is whole and holds such an array.

    Raises:
        OSError: If it cannot be opened.
        SkeletonFormatError: If it is broken or holds another array.
    """
    array = map_npy(owner, path)
    if array.shape != tuple(shape) or array.dtype != np.dtype(dtype):
        got = f"{_check.show(array.shape)} of {array.dtype}"
        hint = "It is not of this folder."
        raise SkeletonFormatError(owner, path, f"hold {_check.show(shape)} of {dtype}", got, hint=hint)
    return array
