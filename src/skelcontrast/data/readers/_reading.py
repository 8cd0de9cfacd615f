"""What the readers of files share: text, mapped arrays, short words about values, and checked clips."""

from collections.abc import Iterable
from pathlib import Path
from tokenize import TokenError

import numpy as np

from skelcontrast.data._array import Array
from skelcontrast.data.clip import NOBODY, SkeletonClip, SkeletonFormatError
from skelcontrast.skeleton import SkeletonLayout

SHOWN = 40  # characters of a text that an error repeats
LARGEST_LABEL = 10**6


def read_ascii(owner: str, path: Path) -> str:
    """Return a text file of plain characters, its lines divided by single line feeds."""
    content = path.read_bytes()
    if not content.isascii() or b"\0" in content:
        position = next(index for index, byte in enumerate(content) if byte == 0 or byte > 127)
        line = content.count(b"\n", 0, position) + 1
        got = f"the byte 0x{content[position]:02x}"
        raise SkeletonFormatError(owner, path, "be plain text (ASCII)", got, line=line)
    return content.decode("ascii").replace("\r\n", "\n")


def map_npy(owner: str, path: Path) -> Array:
    """Map the array in a `.npy` file into memory, read-only, once the file is found to be as long as it says.

    `open_memmap` knows no pickles: an array of objects is refused like any other broken file.
    """
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except (
        ValueError, EOFError, OverflowError, TokenError, MemoryError, RecursionError,  # four for headers beyond measure
    ) as error:  # fmt: skip
        got = f"an error on reading it: {str(error) or type(error).__name__}"
        raise SkeletonFormatError(owner, path, "be a whole .npy file of numbers", got) from None


def checked_label(owner: str, path: Path, value: object, where: str) -> int:
    """Return a class, an integer from 0."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 0 <= value < LARGEST_LABEL:
        got = brief(int(value) if isinstance(value, np.integer) else value)
        raise SkeletonFormatError(owner, path, f"hold a class from 0 {where}", got)
    return int(value)


def different_names(owner: str, path: Path, names: Iterable[object], where: str) -> tuple[str, ...]:
    """Return names, each a string and none twice."""
    seen: dict[str, None] = {}
    for name in names:
        if not isinstance(name, str):
            raise SkeletonFormatError(owner, path, f"hold names in its {where}", brief(name))
        if name in seen:
            raise SkeletonFormatError(owner, path, f"name each sequence once in its {where}", f"{brief(name)} twice")
        seen[name] = None
    return tuple(seen)


def brief(value: object) -> str:
    """Write a value from a file for an error message: short, whatever the value is."""
    if isinstance(value, str | bytes):
        return repr(value[:SHOWN]) + ("..." if len(value) > SHOWN else "")
    if value is None or isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < 10**18):
        return repr(value)
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} and shape {value.shape}"
    return f"a value of type {type(value).__name__}"  # a list may hold itself, a number have a million digits


def finite_float32(owner: str, path: Path, positions: Array, *, lines: bool = False, where: str = "") -> Array:
    """Return positions (C, T, V, M) as a new float32 array if all of them are finite there.

    Args:
        owner: Public name of the reader.
        path: The file.
        positions: The positions, of any kind of number.
        lines: Whether every frame is a line of the file, which the error then names.
        where: Words behind the frame that is named in the error.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        narrow = np.asarray(positions).astype(np.float32, order="C")
    finite = np.isfinite(narrow).all(axis=(0, 2, 3))
    if not finite.all():
        frame = int(np.argmin(finite))
        got = f"NaN or infinity in frame {frame}{where}"
        raise SkeletonFormatError(owner, path, "hold finite numbers only", got, line=frame + 1 if lines else None)
    return narrow


def clip_of(positions: Array, layout: SkeletonLayout) -> SkeletonClip:
    """Return a clip of checked positions (C, T, V, M) from a file in which a body keeps its slot and may be absent."""
    present = positions.any(axis=(0, 2))
    return SkeletonClip(positions, np.where(present, np.arange(positions.shape[3]), NOBODY), layout)
