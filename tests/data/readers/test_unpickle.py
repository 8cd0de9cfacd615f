"""Pickles of plain values: what is read, and what a damaged or hostile one cannot do."""

import pickle
import re
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skelcontrast.data.clip import SkeletonFormatError
from skelcontrast.data.readers._unpickle import load_plain

LIST = [1, -2, 2**40, 2**100, 0.5, True, None, "text", "é" * 300, b"bytes", b"x" * 300, b""]
PLAIN = {"list": LIST, ("a", "tuple"): {"a": [LIST, LIST]}}
SETS = {"sets": [{1, 2}, frozenset((3,))], "other": LIST}
ARRAYS: list[Any] = [
    np.arange(6, dtype=np.float16).reshape(2, 3),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.arange(3, dtype=">i4"),
    np.array(["a", "bc"]),
    np.array([b"a", b"bc"]),
    np.array([True, False]),
    np.array(["a", 1, None], dtype=object),
    np.zeros((0, 3)),
    np.zeros(()),
    np.float32(0.5),
    np.int64(-3),
    np.bool_(True),
    np.str_("abc"),
]


def load(folder: Path, content: bytes) -> Any:
    path = folder / "plain.pkl"
    path.write_bytes(content)
    return load_plain("read", path)


def refused(folder: Path, content: bytes, text: str) -> None:
    expected = f"read: `{folder / 'plain.pkl'}` must be a whole pickle file, got an error on reading it: {text}"
    with pytest.raises(SkeletonFormatError, match=re.escape(expected)):
        load(folder, content)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values(tmp_path: Path, protocol: int) -> None:
    plain = SETS if protocol > 3 else PLAIN  # before, sets ask for a function
    assert load(tmp_path, pickle.dumps(plain, protocol=protocol)) == plain


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("array", ARRAYS, ids=repr)
@pytest.mark.parametrize("core", [b"numpy._core.", b"numpy.core."])
def test_arrays_and_scalars(tmp_path: Path, array: Any, protocol: int, core: bytes) -> None:
    stored = pickle.dumps([array, array], protocol=protocol)
    if protocol < 4:  # later ones hold the lengths of names
        stored = stored.replace(b"numpy._core.", core)
    first, second = load(tmp_path, stored)
    assert first is second
    assert first.dtype == array.dtype or first.dtype == array.dtype.newbyteorder()  # NumPy turns bytes on reading
    assert first.shape == array.shape
    assert np.array_equal(first, array)


def built(*parts: Any) -> bytes:
    """Put a pickle of protocol 2 together from opcodes and values."""
    values = (part if isinstance(part, bytes) else pickle.dumps(part, protocol=2)[2:-1] for part in parts)
    return b"\x80\x02" + b"".join(values) + b"."


RECONSTRUCT, NDARRAY, DTYPE = b"cnumpy.core.multiarray\n_reconstruct\n", b"cnumpy\nndarray\n", b"cnumpy\ndtype\n"
SCALAR, BUFFER = b"cnumpy.core.multiarray\nscalar\n", b"cnumpy.core.numeric\n_frombuffer\n"
CALL, BUILD, TUPLE2, TUPLE3 = b"R", b"b", b"\x86", b"\x87"


def dtype(code: str) -> bytes:
    return built(DTYPE, (code, False, True), CALL)[2:-1]


def filled(shape: Any, code: str, data: Any) -> bytes:
    """Write an array as NumPy does, with a state of one's own."""
    start = built(RECONSTRUCT, NDARRAY, (0,), "b", TUPLE3, CALL)[2:-1]
    return built(start, b"(", 1, shape, dtype(code), False, data, b"t", BUILD)


def test_an_array_put_together_by_hand(tmp_path: Path) -> None:
    assert load(tmp_path, filled((2,), "i2", "\x01\x00\x02\x00")).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("shape", "code", "data", "text"),
    [
        ((3,), "i2", "\1\0\2\0", "an array of shape (3,) and dtype int16 with another amount of data"),
        ((2**40,), "i2", "", "an array of shape (1099511627776,) and dtype int16 with another amount of data"),
        ((-1, -2), "i2", "\1\0\2\0", "an array without dtype or shape"),
        ((2.0,), "i2", "\1\0\2\0", "an array without dtype or shape"),
        (4, "i1", "\1\0\2\0", "an array without dtype or shape"),
        ((1,), "O", "\1\0\2\0\1\0\2\0", "an array of shape (1,) and dtype object with another amount of data"),
        ((1,), "i8", [1], "an array of shape (1,) and dtype int64 with another amount of data"),
        ((10**9,), "U0", "", "an array of shape (1000000000,) and dtype <U0 with another amount of data"),
        ((10**9, 0), "i2", "", "an array too large to be empty"),
        ((1,), "V8", "\0" * 8, "an array of other values than numbers, strings and objects"),
        ((1,), "i4,i4", "\0" * 8, "an array of other values than numbers, strings and objects"),
        ((1,), "M8[s]", "\0" * 8, "an array of other values than numbers, strings and objects"),
    ],
)
def test_arrays_whose_data_are_not_theirs(tmp_path: Path, shape: Any, code: str, data: Any, text: str) -> None:
    refused(tmp_path, filled(shape, code, data), text)


def test_a_dtype_cannot_say_that_numbers_are_addresses(tmp_path: Path) -> None:
    flags_of_numbers = (3, "|", None, None, None, 8, 8, 0)
    hostile = built(dtype("O8"), flags_of_numbers, BUILD)
    start = built(RECONSTRUCT, NDARRAY, (0,), "b", TUPLE3, CALL)[2:-1]
    content = built(start, b"(", 1, (1,), hostile[2:-1], False, "\1" * 8, b"t", BUILD)
    refused(tmp_path, content, "an array of shape (1,) and dtype object with another amount of data")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (built(NDARRAY, (2**34,), b"\x85", CALL), ""),
        (built(NDARRAY, (), b"\x81"), ""),
        (built(RECONSTRUCT, NDARRAY, (2**34,), "b", TUPLE3, CALL, b"0N"), ""),
        (built(RECONSTRUCT, DTYPE, (0,), "b", TUPLE3, CALL), "an array of another class than numpy.ndarray"),
        (built(SCALAR, dtype("f8"), b"\x85", CALL), "an array of shape (1,) and dtype float64 with another amount"),
        (built(SCALAR, dtype("f8"), "abc", TUPLE2, CALL), "an array of shape (1,) and dtype float64 with another"),
        (built(BUFFER, b"(", b"C\x04abcd", dtype("O"), (4,), "C", b"t", CALL), "an array of shape (4,) and dtype obj"),
        (built(BUFFER, b"(", b"]", dtype("O"), (0,), "C", b"t", CALL), "objects in a buffer"),
        (built(b"c__builtin__\nbytes\n", 2**34, b"\x85", CALL), "bytes made from something else"),
        (built(BUFFER, b"(", b"C\x04abcd", dtype("i1"), (4,), 7, b"t", CALL), ""),
        (built(b"c_codecs\nencode\n", "abc", "zlib", TUPLE2, CALL), "bytes in an encoding that pickles do not use"),
        (built(dtype("f8"), (3, "?"), BUILD), "a byte order that does not exist"),
        (built(dtype("f8"), 5, BUILD), "'int' object is not subscriptable"),
    ],
)  # fmt: skip
def test_calls_that_no_array_makes(tmp_path: Path, content: bytes, text: str) -> None:
    if content.endswith(b"0N."):  # made and dropped: an array of any size is the empty one
        assert load(tmp_path, content) is None
    else:
        refused(tmp_path, content, text)


@pytest.mark.parametrize("state", [{"__doc__": "x"}, (None, {"__call__": 1, "_function": 1})])
def test_what_a_pickle_changes_stays_in_it(tmp_path: Path, state: Any) -> None:
    for reference in (RECONSTRUCT, NDARRAY, DTYPE, SCALAR, BUFFER):
        with suppress(SkeletonFormatError):
            load(tmp_path, built(reference, state, BUILD))
    assert load(tmp_path, filled((2,), "i2", "\x01\x00\x02\x00")).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "cannot mmap an empty file"),
        (b"\x80\x04", "it ends too early"),
        (b"\x80\x04N", "it ends too early"),
        (b"I12", "it ends too early"),
        (b"cos\nsystem", "it ends too early"),
        (b"\x80\x04\x95" + struct.pack("<Q", 2**40) + b"N.", "it ends too early"),
        (b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"N.", "it ends too early"),
        (b"\x80\x04B" + struct.pack("<I", 2**31) + b"N.", "it ends too early"),
        (b"\x80\x04\x8b" + struct.pack("<i", -1) + b"N.", "it ends too early"),
        (b"\x80\x02Nr" + struct.pack("<I", 2**31) + b".", "an index beyond what it stores"),
        (b"Np4000000000\n.", "an index beyond what it stores"),
        (b"Np" + b"9" * 5000 + b"\n.", "Exceeds the limit"),
        (b"\x80\x04\x82\x01.", "opcode 0x82 at byte 2"),
        (b"\x80\x04\xfe.", "opcode 0xfe at byte 2"),
        (b"\x80\x02U\x01\xffh\x09.", "Memo value not found at index 9"),
        (b"\x80\x02]}s.", ""),
        (b"\x80\x04\x97.", ""),
        (b"P1\n.", ""),
    ],
)
def test_damaged_pickles(tmp_path: Path, content: bytes, text: str) -> None:
    refused(tmp_path, content, text)
