"""Opening a prepared folder: sequences of one length, memory-mapped, with labels and protocols."""

import errno
import hashlib
import json
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from skelcontrast import _check, _progress
from skelcontrast._atomic import write_atomically
from skelcontrast.data._array import Array
from skelcontrast.data.dataset import SkeletonDataset
from skelcontrast.data.geometry import resample
from skelcontrast.data.preparation._npy import npy_header, open_npy
from skelcontrast.data.preparation.folder import Prepared

OWNER = "open_prepared"


def open_prepared(
    folder: Path | str,
    *,
    frames: int = 50,
    protocol: str | None = None,
    cache: Path | str | None = None,
    progress: bool = True,
) -> SkeletonDataset:
    r"""Open a folder that `prepare` made.

    The first time that a number of frames is asked for, all samples are resampled to it and written to a file, such as
    ``resampled-50-4f0c2b7de19a8653.npy`` for 50; that takes little memory, and the file appears whole or not at all.
    Then and from then on the file is mapped into memory and read where sequences are asked for. Its name holds a digest
    of the checksums in the report: a folder prepared anew from other files or with other options never reads the file
    of the one before.

    Args:
        folder: The prepared folder.
        frames: Number of frames T of every sequence, at least 1.
        protocol: Open the samples of this protocol only. Needed for a protocol that leaves samples out of both training
            and testing, as some splits of annotation pickles do; one that uses all samples is always among the
            `protocols` of the data set.
        cache: Folder for the resampled file, which must exist; the prepared one unless given. Use it where that one
            is read-only. It may serve several prepared folders.
        progress: Whether progress is shown while the file is written, on the standard error stream.

    Returns:
        A data set (N, C, T, V, M) over the memory-mapped file, float32 or float16 as it was prepared, with the labels,
        names, subjects and cameras that are known, and the data set's protocols.

    Raises:
        OSError: If a file cannot be opened or written; the message names it.
        SkeletonFormatError: If a file is broken or does not belong to the others.
        TypeError: If `frames` is not an integer.
        ValueError: If `frames` is below 1, `prepare` has not made this folder, or there is no such protocol.

    Example:
        A recording of one frame with one body, prepared and opened at 50 frames.

        >>> import tempfile
        >>> from skelcontrast.data.preparation.prepare import prepare
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / "raw").mkdir()
        >>> joints = ("0.5 -0.25 3.0 " + "0 " * 8 + "2\n") * 25
        >>> text = "1\n1\n72057594037944738 0 0 0 0 0 0 0 0 2\n25\n" + joints
        >>> _ = (folder / "raw" / "S001C002P003R002A013.skeleton").write_text(text)
        >>> _ = prepare("ntu60", folder / "raw", folder / "ntu60", progress=False)
        >>> open_prepared(folder / "ntu60")
        SkeletonDataset(1 sequences, C=3, T=50, V=25, M=2, 60 classes, 1 subjects, 1 cameras)
    """
    frames = _check.integer(OWNER, "frames", frames, 1)
    prepared = Prepared.read(Path(folder), owner=OWNER)
    rows, report = prepared.rows, prepared.report
    if protocol is not None:
        _check.choice(OWNER, "protocol", protocol, tuple(report.counts))
    data = _resampled(prepared, frames, Path(folder) if cache is None else Path(cache), shown=progress)
    parts = {name: [row.parts[place] for row in rows] for place, name in enumerate(report.counts)}
    everyone = SkeletonDataset(
        data,
        [row.label for row in rows],
        names=[row.name for row in rows],
        subjects=_known([row.subject for row in rows]),
        cameras=_known([row.camera for row in rows]),
        layout=report.layout,
        class_names=report.class_names,
        num_classes=report.num_classes,
        protocols={
            name: [part == "train" for part in its] for name, its in parts.items() if name == protocol or "" not in its
        },
    )
    if protocol is None or "" not in parts[protocol]:
        return everyone
    return everyone.subset([place for place, part in enumerate(parts[protocol]) if part])


def _known(numbers: list[int | None]) -> list[int] | None:
    known = [number for number in numbers if number is not None]
    return known if len(known) == len(numbers) else None


def _resampled(prepared: Prepared, frames: int, cache: Path, *, shown: bool) -> Array:
    """Return all samples at this number of frames, (N, C, T, V, M) memory-mapped; write them first if need be."""
    report = prepared.report
    digest = hashlib.sha256(json.dumps(report.checksums, sort_keys=True).encode()).hexdigest()
    path = cache / f"resampled-{frames}-{digest[:16]}.npy"
    shape = (report.samples, report.shape[1], frames, *report.shape[2:])

    def write(file: BinaryIO) -> None:
        file.write(npy_header(shape, np.dtype(report.dtype)))
        with _progress.progress(f"resample to {frames} frames", report.samples, shown=shown) as advance:
            for sequence in prepared.sequences():
                file.write(_resample(sequence, frames).tobytes())
                advance(1)

    if not path.exists():
        try:
            write_atomically(path, write)
        except OSError as error:
            where = "" if error.errno == errno.ENOSPC else "; `cache` may name another folder"
            raise OSError(error.errno, f"{error.strerror}{where}", str(path)) from error
    return open_npy(OWNER, path, shape, report.dtype)


def _resample(sequence: Array, frames: int) -> Array:
    """Return frames (T, C, V, M) as a sequence (C, `frames`, V, M) of the same kind of number."""
    x = torch.from_numpy(sequence.astype(np.float32)).permute(1, 0, 2, 3)[None]
    resampled: Array = resample(x, frames)[0].numpy().astype(sequence.dtype, order="C")
    return resampled
