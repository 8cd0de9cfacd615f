"""Reading one array of real numbers from a MATLAB v5 file.

SciPy's reader is made for whole files: a damaged one can crash the interpreter. Here every count is checked against
what is there before anything is read or set aside by it.
"""

import math
import struct
import zlib
from typing import Any, NamedTuple

import numpy as np

from skelcontrast.data._array import Array

HEADER = 128  # bytes of text, version and byte order
COMPRESSED, MATRIX = 15, 14
INT8, INT32, UINT32 = 1, 5, 6
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
ARRAYS = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
COMPLEX = 0x0800
LARGEST = 2**27  # bytes that a compressed variable may take


class _Element(NamedTuple):
    kind: int
    body: bytes
    end: int


def read_array(content: bytes, name: str) -> Array | None:
    """Return the variable `name` of a file, or `None` if there is none of that name.

    Raises:
        ValueError: If the file is broken, or the variable is anything else than an array of real numbers.
    """
    order = {b"\x00\x01IM": "<", b"\x01\x00MI": ">"}.get(content[HEADER - 4 : HEADER])
    if order is None:
        raise ValueError("no header of MATLAB v5")
    position = HEADER
    while position < len(content):
        element = _element(content, position, order)
        position = element.end
        if element.kind == COMPRESSED:
            element = _element(_inflated(element.body), 0, order)
        if element.kind != MATRIX:
            raise ValueError(f"a variable of kind {element.kind}")
        found = _matrix(element.body, name, order)
        if found is not None:
            return found
    return None


def _element(content: bytes, position: int, order: str) -> _Element:
    if position + 8 > len(content):
        raise ValueError("it ends too early")
    kind, size = struct.unpack_from(order + "II", content, position)
    start = position + 8
    if kind >> 16:  # up to four bytes stand in the place of the size
        kind, size, start = kind & 0xFFFF, kind >> 16, position + 4
        end = position + 8
    else:
        end = start + size + (0 if kind == COMPRESSED else -size % 8)
    if start + size > min(end, len(content)):
        raise ValueError("it ends too early")
    return _Element(kind, content[start : start + size], end)


def _inflated(body: bytes) -> bytes:
    stream = zlib.decompressobj()
    try:
        inflated = stream.decompress(body, LARGEST)
    except zlib.error as error:
        raise ValueError(error) from None
    if not stream.eof:  # its checksum, at the end, was not seen
        raise ValueError("it ends too early")
    return inflated


def _matrix(body: bytes, name: str, order: str) -> Array | None:
    flags = _element(body, 0, order)
    dimensions = _element(body, flags.end, order)
    label = _element(body, dimensions.end, order)
    if (flags.kind, len(flags.body), dimensions.kind, label.kind) != (UINT32, 8, INT32, INT8):
        raise ValueError("a variable without flags, dimensions and name")
    if label.body != name.encode():
        return None
    (word,) = struct.unpack_from(order + "I", flags.body)
    if word & 0xFF not in ARRAYS or word & COMPLEX:
        raise ValueError(f"{name} is no array of real numbers")
    shape = tuple(_numbers(dimensions.body, order + "i4").tolist())
    stored = _element(body, label.end, order)
    if stored.kind not in NUMBERS:
        raise ValueError(f"{name} holds no numbers")
    values = _numbers(stored.body, order + NUMBERS[stored.kind])
    if min(shape, default=-1) < 0 or len(shape) > 32 or math.prod(shape) != len(values):
        raise ValueError(f"{len(values)} numbers for the dimensions {shape}")
    return values.astype(ARRAYS[word & 0xFF]).reshape(shape, order="F")


def _numbers(body: bytes, dtype: str) -> np.ndarray[Any, np.dtype[Any]]:
    if len(body) % np.dtype(dtype).itemsize:
        raise ValueError("a part of a number")
    return np.frombuffer(body, dtype)
