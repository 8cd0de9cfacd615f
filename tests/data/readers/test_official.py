"""The reader of the authors' folders: labels in each form, what names tell, and pickles that ask for more."""

import io
import pickle
import re
import subprocess
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from skelcontrast.data import SkeletonFormatError, read_official
from skelcontrast.skeleton import NTU_RGBD_25, UTD_MHAD_20

NAMES = ["S001C002P003R001A005.skeleton", "S001C003P007R001A001.skeleton", "S002C001P003R002A003.skeleton"]
LABELS = [4, 0, 2]


def positions() -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(0).normal(size=(3, 3, 4, 25, 2)).astype(np.float32)


def write(
    folder: Path, labels: Any = (NAMES, LABELS), *, data: Any = None, part: str = "train", protocol: int = 4
) -> Path:
    np.save(folder / f"{part}_position.npy", positions() if data is None else data)
    path = folder / f"{part}_label.pkl"
    path.write_bytes(labels if isinstance(labels, bytes) else pickle.dumps(labels, protocol=protocol))
    return path


def test_a_folder_becomes_a_dataset_over_the_mapped_file(tmp_path: Path) -> None:
    write(tmp_path)
    dataset = read_official(tmp_path)
    assert dataset.names == tuple(NAMES)
    assert dataset.labels.tolist() == LABELS
    assert dataset.subjects is not None
    assert dataset.subjects.tolist() == [3, 7, 3]
    assert dataset.cameras is not None
    assert dataset.cameras.tolist() == [2, 3, 1]
    assert dataset.layout is NTU_RGBD_25
    assert isinstance(dataset._data, np.memmap)
    assert torch.equal(dataset.tensor(), torch.from_numpy(positions()))
    assert torch.equal(dataset.to("cpu").take([2]), torch.from_numpy(positions()[[2]]))
    train, test = dataset.cross_view([2, 3])
    assert (len(train), len(test)) == (2, 1)


def test_other_parts_and_layouts(tmp_path: Path) -> None:
    write(tmp_path, part="val", data=positions()[:, :, :, :20, :1])
    assert read_official(str(tmp_path), "val", layout=UTD_MHAD_20).shape == (3, 3, 4, 20, 1)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "labels",
    [
        (NAMES, LABELS),
        [tuple(NAMES), np.array(LABELS)],
        (np.array(NAMES), np.array(LABELS, dtype=np.int32)),
        (np.array(NAMES, dtype=object), [np.int64(label) for label in LABELS]),
    ],
    ids=["lists", "array of labels", "arrays", "objects and scalars"],
)
def test_every_plain_form_of_names_and_labels(tmp_path: Path, labels: Any, protocol: int) -> None:
    write(tmp_path, labels, protocol=protocol)
    dataset = read_official(tmp_path)
    assert dataset.names == tuple(NAMES)
    assert dataset.labels.tolist() == LABELS


def test_arrays_that_numpy_1_pickled(tmp_path: Path) -> None:
    stored = pickle.dumps((NAMES, np.array(LABELS)), protocol=2)
    write(tmp_path, stored.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert read_official(tmp_path).labels.tolist() == LABELS


def test_strings_that_python_2_pickled(tmp_path: Path) -> None:
    names = b"".join(b"S'%s'\na" % name.encode() for name in NAMES)
    write(tmp_path, b"((l" + names + b"(lI4\naI0\naI2\nat.")
    assert read_official(tmp_path).names == tuple(NAMES)


def test_labels_without_names(tmp_path: Path) -> None:
    write(tmp_path).unlink()
    np.save(tmp_path / "train_label.npy", np.array(LABELS))
    dataset = read_official(tmp_path)
    assert dataset.names == ("train_0", "train_1", "train_2")
    assert dataset.labels.tolist() == LABELS
    assert dataset.subjects is None
    assert dataset.cameras is None


def test_names_of_another_form_tell_nothing(tmp_path: Path) -> None:
    write(tmp_path, ([*NAMES[:2], "clip 3"], LABELS))
    assert read_official(tmp_path).subjects is None


class Runs:
    """Asks a careless reader to call something."""

    def __init__(self, call: Any, *arguments: Any) -> None:
        self.call = (call, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    ("content", "reference"),
    [
        (Runs(eval, "1 + 1"), "builtins.eval"),
        (Runs(subprocess.Popen, "true"), "subprocess.Popen"),
        ((NAMES, Runs(exec, "raise SystemExit")), "builtins.exec"),
        (OrderedDict(names=NAMES), "collections.OrderedDict"),
        (torch.Tensor, "torch.Tensor"),
        (np.load, "numpy.load"),
        (b"cnumpy\ncore.multiarray\n.", "numpy.core.multiarray"),
    ],
)
def test_a_pickle_that_wants_anything_else_is_refused(tmp_path: Path, content: Any, reference: str) -> None:
    path = write(tmp_path, content)
    text = (
        f"read_official: `{path}` must hold lists, tuples, strings, numbers and NumPy values only, "
        f"got a reference to '{reference}'."
    )
    with pytest.raises(ValueError, match=re.escape(text)):
        read_official(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", pickle.dumps((NAMES, LABELS))[:-20], b"\x80\x04.", b"hello", b"\x80\x04K\x01K\x02\x93."]
)
def test_a_broken_pickle_is_named(tmp_path: Path, content: bytes) -> None:
    path = write(tmp_path, content)
    with pytest.raises(
        ValueError, match=re.escape(f"read_official: `{path}` must be a whole pickle file, got an error")
    ):
        read_official(tmp_path)


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        (NAMES, "`{path}` must hold a pair (names, labels), got list of 3"),
        (7, "`{path}` must hold a pair (names, labels), got int"),
        (("abc", LABELS), "`{path}` must hold its names in a list or an array, got str"),
        ((NAMES, 1), "`{path}` must hold its labels in a list or an array, got int"),
        (
            (NAMES, LABELS[:2]),
            "`{path}` must hold one of its labels for each of the 3 sequences of train_position.npy, got 2 labels",
        ),
        (
            (NAMES[:1], LABELS),
            "`{path}` must hold one of its names for each of the 3 sequences of train_position.npy, got 1 names",
        ),
        ((NAMES, [0, 0.5, 2]), "`{path}` must hold a class from 0 as label 1, got 0.5"),
        ((NAMES, np.array([0, -1, 2])), "`{path}` must hold a class from 0 as label 1, got -1"),
        ((NAMES, [10**30, 1, 2]), "`{path}` must hold a class from 0 as label 0, got a value of type int"),
        (([1, 2, 3], LABELS), "`{path}` must hold names in its list of names, got 1"),
        (
            ([NAMES[0]] * 3, LABELS),
            "`{path}` must name each sequence once in its list of names, got '" + NAMES[0] + "' twice",
        ),
    ],
)
def test_wrong_labels_are_named(tmp_path: Path, labels: Any, text: str) -> None:
    path = write(tmp_path, labels)
    with pytest.raises(SkeletonFormatError, match=re.escape("read_official: " + text.format(path=path))):
        read_official(tmp_path)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (
            np.zeros((3, 3, 4, 20, 2)),
            "must hold sequences (N, C, T, 25, M) for layout 'NTU_RGBD_25', got (3, 3, 4, 20, 2)",
        ),
        (np.zeros((3, 3, 4, 25)), "must hold sequences (N, C, T, 25, M) for layout 'NTU_RGBD_25', got (3, 3, 4, 25)"),
        (
            np.zeros((3, 3, 4, 25, 2), dtype=np.int8),
            "must hold float16, float32 or float64 in this machine's byte order, got int8",
        ),
        (np.full((3, 3, 4, 25, 2), np.nan), "must hold finite numbers only, got NaN or infinity in sequence 0"),
    ],
)
def test_wrong_positions_are_named(tmp_path: Path, data: Any, text: str) -> None:
    write(tmp_path, data=data)
    with pytest.raises(
        SkeletonFormatError, match=re.escape(f"read_official: `{tmp_path / 'train_position.npy'}` {text}")
    ):
        read_official(tmp_path)


def test_values_are_checked_piece_by_piece_and_only_on_request(tmp_path: Path) -> None:
    data = np.zeros((600, 1, 1, 25, 1), dtype=np.float32)
    data[515, 0, 0, 3] = np.inf
    write(tmp_path, ([str(index) for index in range(600)], [0] * 600), data=data)
    with pytest.raises(ValueError, match="got NaN or infinity in sequence 515"):
        read_official(tmp_path)
    assert len(read_official(tmp_path, check_values=False)) == 600


def test_missing_and_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=re.escape(f"`folder` must hold train_position.npy, got none in {tmp_path}")):
        read_official(tmp_path)
    write(tmp_path).unlink()
    text = f"`folder` must hold train_label.pkl or train_label.npy, got neither in {tmp_path}"
    with pytest.raises(ValueError, match=re.escape(text)):
        read_official(tmp_path)
    np.save(tmp_path / "train_label.npy", np.array(3))
    with pytest.raises(ValueError, match=re.escape("train_label.npy` must hold one label per sequence, got ()")):
        read_official(tmp_path)
    np.save(tmp_path / "train_label.npy", np.array([{}, {}, {}]))
    with pytest.raises(
        ValueError, match=re.escape("train_label.npy` must be a whole .npy file of numbers, got an error")
    ):
        read_official(tmp_path)
    archive = io.BytesIO()
    np.savez(archive, positions())
    path = tmp_path / "train_position.npy"
    deep = [f"{{'descr': '<f4', 'shape': ({shape},)}}\n".encode() for shape in ("-" * 9000 + "1", "1" + "+1" * 4000)]
    headers = [b"\x93NUMPY\x02\0" + len(header).to_bytes(4, "little") + header for header in deep]
    for content in (
        path.read_bytes()[:-100], b"", b"hello", archive.getvalue(), b"\x93NUMPY\x01\0\x08\0{'descr'", *headers,
    ):  # fmt: skip
        path.write_bytes(content)
        with pytest.raises(ValueError, match=re.escape(f"`{path}` must be a whole .npy file of numbers, got an error")):
            read_official(tmp_path)
    with pytest.raises(TypeError, match="read_official: `layout` must be a SkeletonLayout, got 'ntu'"):
        read_official(tmp_path, layout="ntu")  # type: ignore[arg-type]  # on purpose
