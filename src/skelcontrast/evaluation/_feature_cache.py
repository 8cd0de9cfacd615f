"""Features on the disk, found again by what they were made from."""

import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
import torch
from torch import Tensor, nn

from skelcontrast._atomic import write_atomically
from skelcontrast.skeleton import SkeletonLayout, Stream

VERSION = 1  # part of every key: raise it when the meaning of a stored file changes
ROWS = 256  # sequences hashed at a time


def content_key(
    encoder: nn.Module, read: Callable[[Tensor], Tensor], rows: int, stream: Stream, layout: SkeletonLayout | None
) -> str:
    """Return a name for the features of this encoder, on these sequences, in this stream.

    What counts is content: the structure that the encoder prints, its state, all its buffers, and every number of the
    sequences. Names, labels, devices, paths and batch sizes do not.
    """
    digest = hashlib.sha256(f"{VERSION} {type(encoder).__qualname__} {encoder!r} {stream} {rows}".encode())
    if stream != "joint" and layout is not None:
        digest.update(repr(layout.parents).encode())
    for name, value in {**encoder.state_dict(), **dict(encoder.named_buffers())}.items():
        if isinstance(value, Tensor):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(_bytes(value))
        else:  # the extra state of a module
            digest.update(f"{name} {value!r}".encode())
    for start in range(0, rows, ROWS):
        x = read(torch.arange(start, min(start + ROWS, rows), device="cpu"))
        if start == 0:
            digest.update(f"{x.dtype} {tuple(x.shape[1:])}".encode())
        digest.update(_bytes(x))
    return digest.hexdigest()


def read_features(path: Path, rows: int) -> Tensor | None:
    """Return the features (rows, D) of a stored file; None if there is none or it is damaged."""
    try:
        # The archive holds and checks a checksum of each part. NumPy leaves open what it cannot read, so we open it.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            features = archive["features"]
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile):
        return None
    whole = features.ndim == 2 and len(features) == rows and features.dtype == np.float32
    return torch.from_numpy(features) if whole else None


def open_folder(folder: Path) -> None:
    """Make the folder, and a file in it for a moment: that it cannot be written to is known before the work."""
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryFile(dir=folder):
        pass


def write_features(path: Path, features: Tensor) -> None:
    """Store features, whole or not at all."""
    write_atomically(path, lambda file: np.savez(file, features=features.numpy()))


def _bytes(value: Tensor) -> memoryview:
    """Return the memory of a tensor, whatever its dtype; NumPy knows no bfloat16."""
    return value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
