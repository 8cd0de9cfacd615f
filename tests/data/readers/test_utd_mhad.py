"""The reader of UTD-MHAD: on files made here, on the real ones where they are, and on broken ones."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.reference import data as reference
from tests.reference import raw_files

from skelcontrast.data import SkeletonFormatError, UTDMHADName, read_utd_mhad, read_utd_mhad_clip
from skelcontrast.skeleton import UTD_MHAD_20

scipy_io = pytest.importorskip("scipy.io")


def write(folder: Path, name: str, skeleton: Any = None, variable: str = "d_skel") -> Path:
    if skeleton is None:
        skeleton = np.random.default_rng(0).normal(size=(20, 3, 9))
    path = folder / f"{name}_skeleton.mat"
    scipy_io.savemat(path, {variable: skeleton})
    return path


def test_files_become_a_dataset_in_the_order_of_action_subject_trial(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    contents = {
        name: rng.normal(size=(20, 3, length))
        for name, length in (("a10_s1_t1", 9), ("a2_s3_t2", 41), ("a2_s3_t1", 12), ("a2_s2_t1", 1))
    }
    for name, skeleton in contents.items():
        write(tmp_path, name, skeleton)
    (tmp_path / "readme.txt").write_text("passed over")
    dataset = read_utd_mhad(tmp_path, frames=12)

    assert dataset.names == ("a2_s2_t1", "a2_s3_t1", "a2_s3_t2", "a10_s1_t1")
    assert dataset.labels.tolist() == [1, 1, 1, 9]
    assert dataset.subjects is not None
    assert dataset.subjects.tolist() == [2, 3, 3, 1]
    assert dataset.layout is UTD_MHAD_20
    assert dataset.num_classes == 27
    assert dataset.class_names is not None
    assert dataset.class_names[1] == "swipe right"
    assert dataset.class_names[9] == "draw circle counter-clockwise"
    for sample in dataset:
        raw = contents[sample.name].transpose(1, 2, 0)[None, ..., None]
        expected = reference.resample(reference.centre(raw, joint=3), 12)
        torch.testing.assert_close(sample.x, torch.from_numpy(expected)[0].float())
    train, test = dataset.split("cross-subject")
    assert train.names == ("a2_s3_t1", "a2_s3_t2", "a10_s1_t1")
    assert test.names == ("a2_s2_t1",)


def test_the_real_data_set(shared_path: Callable[[str], Path]) -> None:
    dataset = read_utd_mhad(shared_path("data/utd_mhad"))
    assert dataset.shape == (861, 3, 50, 20, 1)
    train, test = dataset.split("cross-subject")
    assert (len(train), len(test)) == (431, 430)
    assert dataset.labels.bincount().tolist() == [32 - (action in {8, 23, 27}) for action in range(1, 28)]
    assert dataset.names[0] == "a1_s1_t1"
    x = dataset.tensor()
    assert torch.isfinite(x).all()
    assert not x[:, :, :, UTD_MHAD_20.joints.index("hip centre")].any()
    head, shoulder_centre = x[:, 1, :, 0].mean(), x[:, 1, :, 1].mean()
    assert 0.4 < head < 0.9, "metres, y up: heads are above the hips"
    assert 0.3 < shoulder_centre < 0.6


@pytest.mark.parametrize(
    ("name", "skeleton", "variable", "text"),
    [
        ("a1_s1_t1", None, "skel", "must hold the variable 'd_skel', got none of that name"),
        ("a1_s1_t1", np.zeros((25, 3, 9)), "d_skel", "must hold d_skel of shape (20, 3, frames), got (25, 3, 9)"),
        ("a1_s1_t1", np.zeros((20, 3)), "d_skel", "must hold d_skel of shape (20, 3, frames), got (20, 3)"),
        ("a1_s1_t1", np.zeros((20, 3, 0)), "d_skel", "must hold d_skel of shape (20, 3, frames), got "),
        ("a1_s1_t1", np.zeros((20, 3, 9), dtype=np.int16), "d_skel", "must hold d_skel in floating point, got int16"),
        ("a28_s1_t1", None, "d_skel", "must name an action from 1 to 27, a subject from 1 to 8 and a trial from 1"),
        ("a1_s9_t1", None, "d_skel", "must name an action from 1 to 27, a subject from 1 to 8 and a trial from 1"),
        ("a1_s1", None, "d_skel", "must be named a<action>_s<subject>_t<trial>_skeleton.mat, got 'a1_s1_skeleton.mat'"),
    ],
)
def test_wrong_files_are_named(tmp_path: Path, name: str, skeleton: Any, variable: str, text: str) -> None:
    write(tmp_path, "a1_s1_t2")
    path = write(tmp_path, name, skeleton, variable)
    with pytest.raises(ValueError, match=re.escape(f"read_utd_mhad: `{path}` {text}")):
        read_utd_mhad(tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_are_checked(tmp_path: Path, value: float) -> None:
    skeleton = np.zeros((20, 3, 9))
    skeleton[4, 1, 7] = value
    path = write(tmp_path, "a1_s1_t1", skeleton)
    text = f"`{path}` must hold finite numbers only, got NaN or infinity in frame 7"
    with pytest.raises(ValueError, match=re.escape(text)):
        read_utd_mhad(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not a matlab file" * 20, None], ids=["empty", "other", "truncated"])
def test_broken_files_are_named(tmp_path: Path, content: bytes | None) -> None:
    path = write(tmp_path, "a1_s1_t1")
    path.write_bytes(path.read_bytes()[:900] if content is None else content)
    with pytest.raises(ValueError, match=re.escape(f"read_utd_mhad: `{path}` must be a MATLAB v5 file, got an error")):
        read_utd_mhad(tmp_path)


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    text = f"read_utd_mhad: `folder` must hold files such as a1_s1_t1_skeleton.mat, got none in {tmp_path}"
    with pytest.raises(ValueError, match=re.escape(text)):
        read_utd_mhad(tmp_path)
    with pytest.raises(ValueError, match="read_utd_mhad: `frames` must be at least 1, got 0"):
        read_utd_mhad(tmp_path, frames=0)


def test_scipy_is_not_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "a1_s1_t1")
    for module in [name for name in sys.modules if name.split(".")[0] == "scipy"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "scipy", None)
    assert len(read_utd_mhad(tmp_path)) == 1


def test_one_sequence_as_it_is_in_its_file(tmp_path: Path) -> None:
    skeleton = np.random.default_rng(0).normal(size=(20, 3, 5))
    skeleton[:, :, 3] = 0
    clip = read_utd_mhad_clip(str(write(tmp_path, "a1_s1_t1", skeleton)))
    assert clip.layout is UTD_MHAD_20
    assert clip.tracking is None
    assert clip.body_ids.tolist() == [[0], [0], [0], [-1], [0]]
    assert clip.positions.dtype == np.float32
    assert np.array_equal(clip.positions[..., 0], skeleton.transpose(1, 2, 0).astype(np.float32))


def test_errors_of_one_sequence_name_its_file(tmp_path: Path) -> None:
    path = write(tmp_path, "a1_s1_t1", np.full((20, 3, 2), 1e39))
    text = f"read_utd_mhad_clip: `{path}` must hold finite numbers only, got NaN or infinity in frame 0."
    with pytest.raises(SkeletonFormatError, match=re.escape(text)):
        read_utd_mhad_clip(path)
    with pytest.raises(FileNotFoundError, match="a9_s1_t1"):
        read_utd_mhad_clip(tmp_path / "a9_s1_t1_skeleton.mat")


def test_a_generated_folder(tmp_path: Path) -> None:
    raw_files.make_utd_mhad_folder(tmp_path, actions=2, subjects=3)
    (tmp_path / "._a1_s1_t1_skeleton.mat").write_bytes(b"what macOS keeps beside a file")
    dataset = read_utd_mhad(tmp_path)
    assert dataset.shape == (6, 3, 50, 20, 1)
    assert dataset.labels.tolist() == [0, 0, 0, 1, 1, 1]


def test_subjects_with_odd_numbers_are_trained_on(tmp_path: Path) -> None:
    raw_files.make_utd_mhad_folder(tmp_path, actions=1, subjects=8)
    dataset = read_utd_mhad(tmp_path)
    for protocol in ("cross-subject", "xsub"):
        train, test = dataset.split(protocol)
        assert train.subjects is not None
        assert test.subjects is not None
        assert set(train.subjects.tolist()) == {1, 3, 5, 7}
        assert set(test.subjects.tolist()) == {2, 4, 6, 8}


def test_names() -> None:
    name = UTDMHADName.parse("a27_s8_t4_skeleton.mat")
    assert name == (27, 8, 4)
    assert name.label == 26
    assert UTDMHADName.parse("a1_s1_t1_skeleton") == UTDMHADName.parse("a1_s1_t1") == (1, 1, 1)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a1_s1_t1.mat", "must be named a<action>_s<subject>_t<trial>_skeleton.mat, got 'a1_s1_t1.mat'"),
        ("a1_s1_t" + "1" * 5000, "must be named a<action>_s<subject>_t<trial>_skeleton.mat, got 'a1_s1_t111"),
        ("a1_s0_t1", "must name an action from 1 to 27, a subject from 1 to 8 and a trial from 1, got 'a1_s0_t1'"),
        ("a0_s1_t1", "must name an action from 1 to 27, a subject from 1 to 8 and a trial from 1, got 'a0_s1_t1'"),
    ],
)
def test_wrong_names(name: str, text: str) -> None:
    with pytest.raises(SkeletonFormatError, match=re.escape(text)):
        UTDMHADName.parse(name)
