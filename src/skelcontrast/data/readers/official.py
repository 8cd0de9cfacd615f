"""Reader for the folders that the released AimCLR code makes and reads."""

import re
from pathlib import Path
from typing import NoReturn

import numpy as np

from skelcontrast import _check
from skelcontrast.data._array import Array
from skelcontrast.data.clip import SkeletonFormatError
from skelcontrast.data.dataset import SkeletonDataset
from skelcontrast.data.readers._reading import checked_label, different_names, map_npy
from skelcontrast.data.readers._unpickle import load_plain
from skelcontrast.skeleton import NTU_RGBD_25, SkeletonLayout
from skelcontrast.skeleton.layout import check_layout

OWNER = "read_official"
NTU_NAME = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})(\..*)?")
FLOATS = tuple(map(np.dtype, ("float16", "float32", "float64")))
CHECKED_AT_ONCE = 256  # sequences of a memory-mapped file that are in memory while their values are checked


def read_official(
    folder: Path | str, part: str = "train", *, layout: SkeletonLayout = NTU_RGBD_25, check_values: bool = True
) -> SkeletonDataset:
    """Open one part of a data set prepared by the released AimCLR code (NTU RGB+D 60 and 120, PKU-MMD).

    The sequences, ``{part}_position.npy``, stay in the file and are read where they are needed; use `tensor()` or
    `to(device)` of the result to have them in memory. Names and labels come from ``{part}_label.pkl``, a pair (names,
    labels); where there is none, labels come from ``{part}_label.npy``, and the names are ``train_0``, ``train_1``
    and so on. Where all names are of the form ``S001C002P003R004A005``, they give the subjects (P) and cameras (C).

    Nothing that a pickle asks for is imported or run: one that holds anything but lists, tuples, strings, numbers, and
    NumPy scalars and arrays is refused.

    Args:
        folder: The folder.
        part: ``"train"`` or ``"val"`` in the released code; any part that has both files.
        layout: The skeleton.
        check_values: Whether every number of the sequences is checked to be finite, which reads the file once, a part
            at a time. Switch it off for large files that are known to be good.

    Returns:
        A dataset (N, C, T, V, M) over the memory-mapped file.

    Raises:
        SkeletonFormatError: If a file is broken, holds NaN or infinity, has another number of joints than `layout`,
            the numbers of sequences, names and labels differ, names repeat, or the pickle refers to anything else
            than plain values. The message names the file.
        TypeError: If `layout` is not a `SkeletonLayout`.
        ValueError: If a file is missing.

    Example:
        A folder with two sequences of four frames.

        >>> import pickle, tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> np.save(folder / "train_position.npy", np.zeros((2, 3, 4, 25, 2), dtype=np.float32))
        >>> names = ["S001C002P003R001A005.skeleton", "S001C003P003R001A001.skeleton"]
        >>> _ = (folder / "train_label.pkl").write_bytes(pickle.dumps((names, [4, 0])))
        >>> read_official(folder)
        SkeletonDataset(2 sequences, C=3, T=4, V=25, M=2, 5 classes, 1 subjects, 2 cameras)
    """
    check_layout(OWNER, layout)
    data = _positions(Path(folder) / f"{part}_position.npy", layout)
    names, labels = _labels(Path(folder), part, len(data))
    if check_values:
        _check_finite(Path(folder) / f"{part}_position.npy", data)
    matches = [NTU_NAME.fullmatch(name) for name in names]
    fits = [match for match in matches if match is not None]
    from_names = len(fits) == len(names)
    return SkeletonDataset(
        data,
        labels,
        names=names,
        subjects=[int(match[3]) for match in fits] if from_names else None,
        cameras=[int(match[2]) for match in fits] if from_names else None,
        layout=layout,
    )


def _positions(path: Path, layout: SkeletonLayout) -> Array:
    data = _array(path)
    must = f"hold sequences (N, C, T, {layout.num_joints}, M) for layout '{layout.name}'"
    if data.ndim != 5 or data.shape[3] != layout.num_joints or 0 in data.shape:
        _refuse(path, must, _check.show(data.shape))
    if data.dtype not in FLOATS:
        _refuse(path, "hold float16, float32 or float64 in this machine's byte order", data.dtype)
    return data


def _labels(folder: Path, part: str, count: int) -> tuple[tuple[str, ...], list[int]]:
    path = folder / f"{part}_label.pkl"
    if path.is_file():
        pair = load_plain(OWNER, path)
        if not (isinstance(pair, tuple | list) and len(pair) == 2):
            got = f"{type(pair).__name__} of {len(pair)}" if isinstance(pair, tuple | list) else type(pair).__name__
            _refuse(path, "hold a pair (names, labels)", got)
        names, labels = _plain_list(path, "names", pair[0]), _plain_list(path, "labels", pair[1])
    else:
        path = folder / f"{part}_label.npy"
        if not path.is_file():
            _check.fail(OWNER, "folder", f"hold {part}_label.pkl or {part}_label.npy", f"neither in {folder}")
        array = _array(path)
        if array.ndim != 1:
            _refuse(path, "hold one label per sequence", _check.show(array.shape))
        labels = array.tolist()
        names = [f"{part}_{index}" for index in range(count)]
    for what, values in (("names", names), ("labels", labels)):
        if len(values) != count:
            must = f"hold one of its {what} for each of the {count} sequences of {part}_position.npy"
            _refuse(path, must, f"{len(values)} {what}")
    classes = [checked_label(OWNER, path, value, f"as label {place}") for place, value in enumerate(labels)]
    return different_names(OWNER, path, names, "list of names"), classes


def _plain_list(path: Path, what: str, values: object) -> list[object]:
    plain = values.tolist() if isinstance(values, np.ndarray) else values
    if not isinstance(plain, list | tuple):
        _refuse(path, f"hold its {what} in a list or an array", type(values).__name__)
    return list(plain)


def _array(path: Path) -> Array:
    if not path.is_file():
        _check.fail(OWNER, "folder", f"hold {path.name}", f"none in {path.parent}")
    return map_npy(OWNER, path)


def _refuse(path: Path, must: str, got: object) -> NoReturn:
    raise SkeletonFormatError(OWNER, path, must, got)


def _check_finite(path: Path, data: Array) -> None:
    for start in range(0, len(data), CHECKED_AT_ONCE):
        finite = np.isfinite(data[start : start + CHECKED_AT_ONCE]).all(axis=(1, 2, 3, 4))
        if not finite.all():
            sequence = start + int(np.argmin(finite))
            _refuse(path, "hold finite numbers only", f"NaN or infinity in sequence {sequence}")
