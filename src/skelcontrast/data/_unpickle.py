"""Reading a pickle of plain values without letting it import or call anything else."""

import codecs
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias, cast

import numpy as np

from skelcontrast import _check

Maker: TypeAlias = Callable[..., object]
_RECONSTRUCT, _SCALAR, _FROM_BUFFER = (
    cast("Maker", value.__reduce_ex__(protocol)[0])
    for value, protocol in ((np.zeros(1), 2), (np.float64(0), 2), (np.zeros(1), 5))
)  # what NumPy's own pickles call, under whichever name this version of NumPy has for it
ADMITTED: dict[tuple[str, str], Maker] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): codecs.encode,  # how protocols before 3 hold bytes
}
for _core in ("numpy.core", "numpy._core"):  # the second since NumPy 2
    ADMITTED[f"{_core}.multiarray", "_reconstruct"] = _RECONSTRUCT
    ADMITTED[f"{_core}.multiarray", "scalar"] = _SCALAR
    ADMITTED[f"{_core}.numeric", "_frombuffer"] = _FROM_BUFFER


class _RefusedError(Exception):
    """The pickle asked for something that is not admitted; holds its name."""


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Maker:
        if (module, name) not in ADMITTED:
            raise _RefusedError(f"{module}.{name}")
        return ADMITTED[module, name]


def load_plain(owner: str, path: Path) -> object:
    """Read a pickle of lists, tuples, dicts, strings, numbers, bytes and NumPy scalars and arrays.

    Args:
        owner: Public name that the user called.
        path: The file.

    Raises:
        ValueError: If the pickle refers to anything else, or is broken; the message names file and reference.
    """
    try:
        with path.open("rb") as file:
            # Python 2 wrote strings as bytes; latin1 reads names in ASCII and the arrays of that time.
            return _PlainUnpickler(file, encoding="latin1").load()
    except _RefusedError as refused:
        hint = "Unpickling it could run any code. Save names and labels as plain lists."
        must = "hold lists, tuples, strings, numbers and NumPy values only"
        message = f"{owner}: `{path}` must {must}, got a reference to '{refused}'. {hint}"
        raise ValueError(message) from None
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
        _check.fail(owner, str(path), "be a whole pickle file", f"an error on reading it: {error}")
