"""Thousands of damaged files: each gives what its reader promises, or a `SkeletonFormatError` that names the file.

With those of `test_fuzz_ntu.py` they are 25,500, all of them read in every run of the tests.
"""

import io
import json
import pickle
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.reference import mutations
from tests.reference.mutations import Rng, choose

from skelcontrast.data.clip import SkeletonClip, SkeletonFormatError
from skelcontrast.data.preparation.protocols import read_missing_skeletons
from skelcontrast.data.readers.annotations import read_annotations
from skelcontrast.data.readers.nw_ucla import read_nw_ucla
from skelcontrast.data.readers.official import read_official
from skelcontrast.data.readers.pku_mmd import read_pku_mmd, read_pku_mmd_labels, read_pku_mmd_split
from skelcontrast.data.readers.utd_mhad import read_utd_mhad_clip
from skelcontrast.skeleton import COCO_17

MOST_MEMORY = 1_000_000  # bytes that reading one may take: they have some kilobytes, up to 100 of JSON
ODD_VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 10**30, 10**400, 1e300, 0.5, "", "1", "0001-L", b"x", [], [[]], [1, [2]], {}, (), {"a": 1},
    [["1"] * 3] * 20, [[[True] * 3] * 20], [[[None] * 3] * 20], [[[10**400] * 3] * 20], [[[0.5, 10**400, 1]] * 20],
    [[[1e39] * 3] * 20], np.float64(np.nan), np.int64(-1), np.zeros(3), np.zeros((1, 2, 17)), np.zeros((1, 2, 25, 3)),
    np.full((1, 2, 17, 2), np.nan), np.full((1, 2, 17, 2), 1e300), np.zeros((1, 2, 17, 3), dtype=np.float16),
    np.zeros((1, 2, 17, 2), dtype=int), np.zeros((0, 2, 17, 2)), np.zeros((1, 0, 17, 2)), np.zeros((1, 2, 17, 2), "O"),
    np.array(["a", "b"]), np.array("v0"), [np.zeros((1, 2, 17, 2))] * 2,
)  # fmt: skip


def check_clip(clip: SkeletonClip) -> None:
    _, T, V, M = clip.positions.shape
    assert clip.layout.num_joints == V
    assert clip.positions.dtype == np.float32
    assert np.isfinite(clip.positions).all()
    assert clip.body_ids.shape == (T, M)
    assert not clip.positions.transpose(1, 3, 0, 2)[clip.body_ids == -1].any()


def check_labels(path: Path) -> None:
    for label in read_pku_mmd_labels(path):
        assert 1 <= label.action <= 51
        assert 0 <= label.start < label.end
        assert np.isfinite(label.confidence)


def check_split(path: Path) -> None:
    split = read_pku_mmd_split(path)
    assert split.training
    assert split.others
    names = (*split.training, *split.others)
    assert len(set(names)) == len(names)


def check_annotations(path: Path) -> None:
    found = read_annotations(path, layout=COCO_17)
    assert len(set(found.names)) == len(found.names) == len(found.clips) == len(found.labels)
    assert (found.labels >= 0).all()
    assert {name for split in found.splits.values() for name in split} <= set(found.names)
    for clip in found.clips:
        check_clip(clip)


def check_official(path: Path) -> None:
    found = read_official(path.parent)
    assert len(found) == 2
    assert found.tensor().isfinite().all()
    assert (found.labels >= 0).all()


def check_missing(path: Path) -> None:
    found = read_missing_skeletons(path)
    assert all(len(name) == len("S001C001P001R001A001") for name in found)


def with_odd_value(tree: Any, rng: Rng) -> Any:
    """Return a copy of nested dicts and lists in which one thing, anywhere, is something else, or gone, or twice."""
    if not isinstance(tree, dict | list) or not tree or rng.random() < 0.25:
        return choose(ODD_VALUES, rng)
    if isinstance(tree, dict):
        key = choose(list(tree), rng)
        if rng.random() < 0.1:
            return {other: value for other, value in tree.items() if other != key}
        return {**tree, key: with_odd_value(tree[key], rng)}
    index = int(rng.integers(len(tree)))
    if rng.random() < 0.2:
        return tree[:index] + choose(([], 2 * tree[index : index + 1]), rng) + tree[index + 1 :]
    return [*tree[:index], with_odd_value(tree[index], rng), *tree[index + 1 :]]


def pku_recording(rng: Rng) -> bytes:
    numbers = " ".join(f"{index / 100}" for index in range(-75, 75))
    text = f"{numbers}\n {'0.5 ' * 75}{'0 ' * 75}\n {numbers}\n"
    return mutations.mutate(text.encode(), rng, text=True)


def pku_labels(rng: Rng) -> bytes:
    return mutations.mutate(b"26,110,250,2\n7,410,520,1\n51,600,601,2\n", rng, text=True)


def pku_split(rng: Rng) -> bytes:
    text = b"Training videos: \n0002-L, 0002-M, 0003-L\nValidation videos: \nA10N08-L, A10N08-R\n"
    return mutations.mutate(text, rng, text=True)


def nw_ucla(rng: Rng) -> bytes:
    content = {"file_name": "a01", "skeletons": rng.normal(size=(2, 20, 3)).round(2).tolist(), "label": 1}
    if rng.random() < 0.5:
        return mutations.mutate(json.dumps(content, indent=choose((None, 1), rng)).encode(), rng, text=True)
    if rng.random() < 0.02:
        return b'{"skeletons": ' + b"[" * 100_000
    return json.dumps(with_odd_value(content, rng), default=plain).encode()


def plain(value: object) -> object:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else str(value)


def annotations(rng: Rng) -> bytes:
    keypoint = rng.normal(size=(1, 2, 17, 2)).astype(choose((np.float16, np.float32, np.float64), rng))
    entries = [{"frame_dir": f"v{i}", "label": i, "keypoint": keypoint, "total_frames": 2} for i in range(2)]
    content: Any = {"split": {"train": ["v0"], "val": ["v1"]}, "annotations": entries}
    protocol = int(rng.integers(6))
    if rng.random() < 0.4:
        return pickle.dumps(with_odd_value(content, rng), protocol=protocol)
    return mutations.mutate(pickle.dumps(content, protocol=protocol), rng, text=False)


def utd_mhad(rng: Rng) -> bytes:
    from scipy.io import savemat

    file, skeleton = io.BytesIO(), rng.normal(size=(20, 3, 2))
    if rng.random() < 0.2:
        odd = [value for value in ODD_VALUES if isinstance(value, np.ndarray | str) and np.size(value)]
        savemat(file, {"d_skel": choose((*odd, skeleton[:, :2], skeleton[:19], skeleton * 1j, skeleton * 1e300), rng)})
        return file.getvalue()
    savemat(file, {"d_skel": skeleton}, do_compression=rng.random() < 0.3)
    return mutations.mutate(file.getvalue(), rng, text=False)


def array_file(array: Any, rng: Rng) -> bytes:
    """Return an array as a `.npy` file that is damaged: most often in its header, which is text."""
    file = io.BytesIO()
    np.save(file, array)
    content = file.getvalue()
    if rng.random() < 0.4:
        return mutations.mutate(content, rng, text=False)
    return mutations.mutate(content[:128], rng, text=True) + content[128:]


def official_positions(rng: Rng) -> bytes:
    return array_file(rng.normal(size=(2, 3, 2, 25, 1)).astype(np.float32), rng)


def official_label_array(rng: Rng) -> bytes:
    return array_file(np.array([4, 0]), rng)


def official_labels(rng: Rng) -> bytes:
    content: Any = [["S001C002P003R001A005.skeleton", "S001C003P003R001A001.skeleton"], [4, 0]]
    protocol = int(rng.integers(6))
    if rng.random() < 0.4:
        return pickle.dumps(with_odd_value(content, rng), protocol=protocol)
    return mutations.mutate(pickle.dumps(content, protocol=protocol), rng, text=False)


def missing_skeletons(rng: Rng) -> bytes:
    names = "".join(f"S001C002P005R002A{action:03}\n" for action in range(1, 9))
    return mutations.mutate(f"Samples with missing skeletons:\n\n{names}".encode(), rng, text=True)


def refusal(check: Callable[[Path], None], path: Path) -> str | None:
    try:
        check(path)
    except SkeletonFormatError as error:
        return str(error)
    return None


KINDS: dict[str, tuple[Callable[[Rng], bytes], int, Callable[[Path], None]]] = {
    "recording.txt": (pku_recording, 2600, lambda path: check_clip(read_pku_mmd(path))),
    "labels.txt": (pku_labels, 2000, check_labels),
    "split.txt": (pku_split, 2000, check_split),
    "sequence.json": (nw_ucla, 2800, lambda path: check_clip(read_nw_ucla(path))),
    "annotations.pkl": (annotations, 3000, check_annotations),
    "skeleton.mat": (utd_mhad, 1600, lambda path: check_clip(read_utd_mhad_clip(path))),
    "train_position.npy": (official_positions, 1000, check_official),
    "train_label.npy": (official_label_array, 1000, check_official),
    "train_label.pkl": (official_labels, 1000, check_official),
    "missing.txt": (missing_skeletons, 1000, check_missing),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder in which what the authors' one needs beside its damaged file is whole."""
    np.save(tmp_path / "train_position.npy", np.zeros((2, 3, 2, 25, 1), dtype=np.float32))
    np.save(tmp_path / "train_label.npy", np.array([4, 0]))
    return tmp_path


# What Python 2 wrote as a header, such as 2L for 2, is read, with a warning.
@pytest.mark.filterwarnings("ignore:Reading `.npy` or `.npz` file required additional header parsing")
@pytest.mark.parametrize("name", KINDS)
def test_damaged_files(folder: Path, name: str) -> None:
    make, count, check = KINDS[name]
    rng = np.random.default_rng(2022)
    refused = 0
    path = folder / name  # stays there after another exception
    with path.open("wb", buffering=0) as file:  # a new file for each would take most of the time on some disks
        for _ in range(count):
            file.seek(0)
            file.write(make(rng))
            file.truncate()
            message = refusal(check, path)
            if message is not None:
                refused += 1
                assert f"`{path}`" in message
                assert len(message) < 500 + len(str(path))
    assert count // 2 < refused < count, "both whole and broken files come up"


@pytest.mark.filterwarnings("ignore:Reading `.npy` or `.npz` file required additional header parsing")
@pytest.mark.parametrize("name", KINDS)
def test_damaged_files_need_little_memory(folder: Path, name: str) -> None:
    make, _, check = KINDS[name]
    rng = np.random.default_rng(7)
    contents = [make(rng) for _ in range(300)]
    most = 0
    tracemalloc.start()
    try:
        for content in contents:
            (folder / name).write_bytes(content)
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            refusal(check, folder / name)
            most = max(most, tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()
    assert most < MOST_MEMORY
