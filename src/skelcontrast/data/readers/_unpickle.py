"""Reading a pickle of plain values without letting it import or call anything else.

Nothing that a pickle refers to is looked up: the few names that NumPy's own pickles need lead to functions of this
file, which make arrays of plain numbers, strings and objects from bytes whose count was checked.
"""

import math
import mmap
import pickle
import pickletools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from skelcontrast.data._array import Array
from skelcontrast.data.clip import SkeletonFormatError

PLAIN_DTYPE = re.compile(r"[biufSUO]\d{0,5}")
LARGEST_EMPTY = 2**20  # places that an array without elements may have along its other axes


class _RefusedError(Exception):
    """The pickle asked for something that is not admitted; holds its name."""


class _Dtype:
    """Stands for a `numpy.dtype`, whose own state could say that numbers are addresses of objects."""

    __slots__ = ("dtype",)

    def __init__(self, code: object, *_: object) -> None:
        if not (isinstance(code, str) and PLAIN_DTYPE.fullmatch(code)):
            raise ValueError("an array of other values than numbers, strings and objects")
        self.dtype: np.dtype[Any] = np.dtype(code)

    def __setstate__(self, state: tuple[object, ...]) -> None:
        order = state[1]  # of (version, byte order, ...); the rest follows from the code
        if order not in ("<", ">", "|", "="):
            raise ValueError("a byte order that does not exist")
        self.dtype = self.dtype.newbyteorder(order)


class _Array(np.ndarray[Any, np.dtype[Any]]):
    """An array that a pickle fills."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:  # any value of a pickle  # noqa: ANN401
        version, shape, dtype, fortran, data = state
        if isinstance(data, str):
            data = data.encode("latin1")
        plain = _checked(shape, dtype, data)
        super().__setstate__((version, shape, plain, fortran, data))


def _checked(shape: Any, dtype: Any, data: Any) -> np.dtype[Any]:  # any values of a pickle  # noqa: ANN401
    """Return the dtype if the data are as many as the shape says."""
    if not (isinstance(dtype, _Dtype) and isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)):
        raise ValueError("an array without dtype or shape")
    plain = dtype.dtype
    held = list if plain.kind == "O" else bytes | bytearray
    size = 1 if plain.kind == "O" else plain.itemsize
    if not isinstance(data, held) or size == 0 or math.prod(shape) * size != len(data):
        raise ValueError(f"an array of shape {shape} and dtype {plain} with another amount of data")
    if len(data) == 0 and math.prod(n or 1 for n in shape) > LARGEST_EMPTY:
        raise ValueError("an array too large to be empty")
    return plain


_NDARRAY = object()


def _reconstruct(kind: object, *_: object) -> Array:
    if kind is not _NDARRAY:
        raise ValueError("an array of another class than numpy.ndarray")
    return _Array(0, dtype=np.uint8)


def _scalar(dtype: object, data: object = b"") -> object:
    data = data.encode("latin1") if isinstance(data, str) else data
    return _from_buffer(data, dtype, (1,), "C")[0]


def _from_buffer(data: Any, dtype: object, shape: tuple[int, ...], order: Any) -> Array:  # noqa: ANN401
    plain = _checked(shape, dtype, data)
    if plain.kind == "O":
        raise ValueError("objects in a buffer")
    return np.ndarray(shape, plain, buffer=data, order=order)


def _encode(text: object, encoding: object = None) -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ValueError("bytes in an encoding that pickles do not use")
    return text.encode("latin1")


def _no_bytes(*arguments: object) -> bytes:
    if arguments:
        raise ValueError("bytes made from something else")
    return b""


class _Call:
    """A function that a pickle may call; made for each reference, so that changing it changes nothing else."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., object]) -> None:
        self._function = function

    def __call__(self, *arguments: object) -> object:
        return self._function(*arguments)


ADMITTED: dict[tuple[str, str], Callable[..., object]] = {
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,  # how protocols before 3 hold bytes
    ("__builtin__", "bytes"): _no_bytes,  # and how they hold none
}
for _core in ("numpy.core", "numpy._core"):  # the second since NumPy 2
    ADMITTED[f"{_core}.multiarray", "_reconstruct"] = _reconstruct
    ADMITTED[f"{_core}.multiarray", "scalar"] = _scalar
    ADMITTED[f"{_core}.numeric", "_frombuffer"] = _from_buffer


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        if (module, name) == ("numpy", "ndarray"):
            return _NDARRAY
        if (module, name) not in ADMITTED:
            raise _RefusedError(f"{module}.{name}")
        return _Call(ADMITTED[module, name])


def load_plain(owner: str, path: Path) -> object:
    """Read a pickle of lists, tuples, dicts, strings, numbers, bytes and NumPy scalars and arrays.

    Args:
        owner: Public name that the user called.
        path: The file.

    Raises:
        OSError: If the file cannot be opened.
        SkeletonFormatError: If the pickle refers to anything else, or is broken; the message names file and reference.
    """
    try:
        with path.open("rb") as file:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                _check_counts(data)
            # Python 2 wrote strings as bytes; latin1 reads names in ASCII and the arrays of that time.
            return _PlainUnpickler(file, encoding="latin1").load()
    except _RefusedError as refused:
        hint = "Unpickling it could run any code. Save names and labels as plain lists."
        must = "hold lists, tuples, strings, numbers and NumPy values only"
        raise SkeletonFormatError(owner, path, must, f"a reference to '{refused}'", hint=hint) from None
    except (
        pickle.UnpicklingError, EOFError, ValueError, TypeError, IndexError, KeyError, AttributeError, OverflowError,
    ) as error:  # fmt: skip
        got = f"an error on reading it: {error}"
        raise SkeletonFormatError(owner, path, "be a whole pickle file", got) from None


_SIZES = {ord(opcode.code): 0 if opcode.arg is None else opcode.arg.n for opcode in pickletools.opcodes}
_COUNTS = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}  # bytes that hold how many bytes follow
_TWO_LINES = b"ci"  # references in text: a module, then a name
_FRAME, _PUT, _STOP = 0x95, ord("p"), ord(".")
_STORES = b"pqr"  # put a value under an index: in text, in one byte, in four
_EXTENSIONS = b"\x82\x83\x84"  # classes by number, registered by whoever runs


def _plain_step(code: int) -> int:
    """Return the bytes from an opcode to the next where its argument has one size and needs no look; else 0."""
    size = _SIZES.get(code, -1)  # below 0 where the argument itself says how long it is
    return 0 if size < 0 or code in (_FRAME, _STOP, *_STORES, *_EXTENSIONS) else 1 + size


_PLAIN_STEPS = [_plain_step(code) for code in range(256)]


def _check_counts(data: mmap.mmap) -> None:
    """Walk over a pickle without reading it, and raise ValueError where a count in it is more than it can be.

    The unpickler sets memory aside for whatever length or index a damaged file names, before it finds out.
    """
    position = steps = 0
    end = len(data)
    while position < end:
        code = data[position]
        if code == _STOP:
            return
        position += _PLAIN_STEPS[code] or _behind(data, code, position + 1, steps) - position
        steps += 1
    raise ValueError("it ends too early")


def _behind(data: mmap.mmap, code: int, start: int, steps: int) -> int:
    """Return where the opcode behind this one begins; `start` is where its argument does."""
    size = _SIZES.get(code)
    if size is None or code in _EXTENSIONS:
        raise ValueError(f"opcode {code:#04x} at byte {start - 1}")
    if size in _COUNTS:
        counted = start + _COUNTS[size]
        return counted + int.from_bytes(data[start:counted], "little")
    if size == pickletools.UP_TO_NEWLINE:
        end = start
        for _ in range(2 if code in _TWO_LINES else 1):
            end = data.find(b"\n", end) + 1 or len(data) + 1
    else:
        end = start + size
    if code == _FRAME and end + int.from_bytes(data[start:end], "little") > len(data):
        raise ValueError("it ends too early")
    if code in _STORES and _index(code, data[start:end]) > steps:
        raise ValueError("an index beyond what it stores")
    return end


def _index(code: int, argument: bytes) -> int:
    return int(argument) if code == _PUT else int.from_bytes(argument, "little")
