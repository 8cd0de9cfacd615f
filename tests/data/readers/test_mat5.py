"""The reader of MATLAB v5 arrays: as SciPy reads them, and with every count in doubt."""

import io
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skelcontrast.data.readers._mat5 import HEADER, read_array

scipy_io = pytest.importorskip("scipy.io")

BYTE_ORDERS = {"<": b"\x00\x01IM", ">": b"\x01\x00MI"}


def saved(*, do_compression: bool = False, **variables: Any) -> bytes:
    file = io.BytesIO()
    scipy_io.savemat(file, variables, do_compression=do_compression)
    return file.getvalue()


def element(kind: int, body: bytes, order: str = "<") -> bytes:
    return struct.pack(order + "II", kind, len(body)) + body + bytes(-len(body) % 8)


def matrix(
    *, shape: Any = (2, 3), kind: int = 2, stored: bytes = bytes(range(6)), name: bytes = b"x", flags: int = 6,
    order: str = "<",
) -> bytes:  # fmt: skip
    """Write an array of doubles that is stored in one byte a number, as MATLAB does where that loses nothing."""
    parts = (
        element(6, struct.pack(order + "II", flags, 0), order),
        element(5, struct.pack(f"{order}{len(shape)}i", *shape), order),
        element(1, name, order),
        element(kind, stored, order),
    )
    return element(14, b"".join(parts), order)


def file_of(*elements: bytes, order: str = "<") -> bytes:
    return bytes(HEADER - 4) + BYTE_ORDERS[order] + b"".join(elements)


@pytest.mark.parametrize("do_compression", [False, True])
@pytest.mark.parametrize("dtype", ["f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"])
@pytest.mark.parametrize("shape", [(20, 3, 7), (1, 1), (20, 3, 0), (2, 3, 4, 5)])
def test_arrays_that_scipy_wrote(dtype: str, shape: tuple[int, ...], do_compression: bool) -> None:
    array = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    found = read_array(saved(other=np.eye(2), x=array, do_compression=do_compression), "x")
    assert found is not None
    assert found.dtype == array.dtype
    assert np.array_equal(found, array)


def test_the_real_files_read_as_scipy_reads_them(shared_path: Callable[[str], Path]) -> None:
    for path in sorted(shared_path("data/utd_mhad").glob("a*_s1_t1_skeleton.mat")):
        found = read_array(path.read_bytes(), "d_skel")
        assert found is not None
        assert np.array_equal(found, scipy_io.loadmat(path)["d_skel"])


@pytest.mark.parametrize("order", ["<", ">"])
def test_small_storage_and_both_byte_orders(order: str) -> None:
    expected = np.array([[0, 2, 4], [1, 3, 5]])
    plain = matrix(order=order)
    compressed = struct.pack(order + "II", 15, len(zlib.compress(plain))) + zlib.compress(plain)
    for stored in (plain, compressed, matrix(name=b"other", order=order) + compressed):
        found = read_array(file_of(stored, order=order), "x")
        assert found is not None
        assert found.dtype == np.float64
        assert np.array_equal(found, expected)
    assert read_array(file_of(plain, order=order), "y") is None
    assert read_array(file_of(order=order), "x") is None


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "no header of MATLAB v5"),
        (b"x" * 200, "no header of MATLAB v5"),
        (file_of(b"\0" * 5), "it ends too early"),
        (file_of(matrix()[:-1]), "it ends too early"),
        (file_of(element(9, bytes(8))), "a variable of kind 9"),
        (file_of(struct.pack("<II", 14, 0xFFFFFFFF)), "it ends too early"),
        (file_of(struct.pack("<II", 0xFFFF000E, 0)), "it ends too early"),
        (file_of(struct.pack("<II", 15, 4) + b"abcd"), "Error -3 while decompressing data"),
        (file_of(struct.pack("<II", 15, 12) + zlib.compress(matrix())[:12]), "it ends too early"),
        (file_of(element(14, element(6, bytes(8)))), "it ends too early"),
        (file_of(element(14, 4 * element(6, bytes(8)))), "a variable without flags, dimensions and name"),
        (file_of(matrix(shape=(2, 4))), "6 numbers for the dimensions (2, 4)"),
        (file_of(matrix(shape=(-2, -3))), "6 numbers for the dimensions (-2, -3)"),
        (file_of(matrix(shape=(2**31 - 1,) * 3)), "6 numbers for the dimensions"),
        (file_of(matrix(shape=(1,) * 60, stored=b"1")), "1 numbers for the dimensions"),
        (file_of(matrix(shape=(), stored=b"1")), "1 numbers for the dimensions ()"),
        (file_of(matrix(kind=99)), "x holds no numbers"),
        (file_of(matrix(kind=9)), "a part of a number"),
        (file_of(matrix(flags=0x0806)), "x is no array of real numbers"),
        (saved(x=np.eye(2) * 1j), "x is no array of real numbers"),
        (saved(x="text"), "x is no array of real numbers"),
        (saved(x={"a": 1}), "x is no array of real numbers"),
        (saved(x=np.array([[1], "a"], dtype=object)), "x is no array of real numbers"),
    ],
    ids=lambda value: value if isinstance(value, str) else "file",  # which may hold the second it was made in
)
def test_what_is_wrong_is_said(content: bytes, text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        read_array(content, "x")


def test_a_bomb_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skelcontrast.data.readers._mat5.LARGEST", 4096)
    packed = zlib.compress(bytes(2**20))
    with pytest.raises(ValueError, match="it ends too early"):
        read_array(file_of(struct.pack("<II", 15, len(packed)) + packed), "x")
