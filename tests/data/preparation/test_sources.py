"""What raw folders hold: samples by the names of their files, and what is wrong with the others."""

import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from tests.reference import raw_files

from skelcontrast.data import PreparationReport, RawDataset, RawSample, SkeletonFormatError, list_raw, prepare
from skelcontrast.data.preparation.protocols import DatasetName
from skelcontrast.data.preparation.sources import split_pairs
from skelcontrast.skeleton import COCO_17, KINECT_V1_20, NTU_RGBD_25, UTD_MHAD_20


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def names(dataset: RawDataset) -> list[str]:
    return [sample.name for sample in dataset.samples]


def test_ntu_in_several_folders(tmp_path: Path) -> None:
    folder = touch(
        tmp_path,
        "s001_to_s017/S017C003P008R002A060.skeleton",
        "s001_to_s017/S001C002P003R001A001.skeleton",
        "s018_to_s032/S018C001P041R001A061.skeleton",
        "s018_to_s032/S018C001P041R001A002.skeleton",
        ".hidden/S001C001P001R001A001.skeleton",
        "._S001C001P001R001A001.skeleton",
        "readme.txt",
    )
    found = list_raw("ntu60", folder)
    assert names(found) == ["S001C002P003R001A001", "S017C003P008R002A060"]
    assert found.samples[1] == RawSample(
        "S017C003P008R002A060",
        59,
        "s001_to_s017/S017C003P008R002A060.skeleton",
        ("train", "train"),
        subject=8,
        camera=3,
        setup=17,
        replication=2,
    )
    assert (found.passed_over, found.left_out, found.protocols) == (2, (), ("xsub", "xview"))
    assert (found.layout, found.num_classes, found.bodies, found.origin) == (NTU_RGBD_25, 60, 2, "spine shoulder")
    assert repr(found) == f"RawDataset('ntu60', 2 samples, 0 left out, '{tmp_path}')"
    larger = list_raw("ntu120", folder)
    assert len(larger.samples) == 4
    assert larger.protocols == ("xsub", "xset")
    assert larger.samples[3].parts == ("test", "train")
    assert larger.passed_over == 0


@pytest.mark.skipif(os.name != "posix", reason="makes links")
def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    first = touch(tmp_path / "first", "S001C001P001R001A001.skeleton")
    touch(tmp_path / "second", "S018C001P041R001A061.skeleton")
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a").symlink_to(first)
    (tmp_path / "raw" / "b").symlink_to(tmp_path / "second")
    (first / "again").symlink_to(tmp_path / "second")
    (first / "round").symlink_to(tmp_path / "raw")
    found = list_raw("ntu120", tmp_path / "raw")
    files = [sample.file for sample in found.samples]
    assert files == ["a/S001C001P001R001A001.skeleton", "a/again/S018C001P041R001A061.skeleton"]
    assert found.left_out == ()


def test_names_that_say_nothing_and_names_that_come_twice_are_left_out(tmp_path: Path) -> None:
    folder = touch(
        tmp_path,
        "S001C001P001R001A001.skeleton",
        "S001C001P001R001A002.skeleton",
        "copy/S001C001P001R001A002.skeleton",
        "S001C001P001R001A000.skeleton",
        "walking.skeleton",
    )
    found = list_raw("ntu60", folder)
    assert names(found) == ["S001C001P001R001A001"]
    reasons = {one.file: one.reason for one in found.left_out}
    assert reasons["walking.skeleton"].endswith("must look like S001C002P003R002A013, got 'walking.skeleton'.")
    assert "must have numbers from 001" in reasons["S001C001P001R001A000.skeleton"]
    twice = "must be the only file of its name, got another in another folder."
    assert reasons["copy/S001C001P001R001A002.skeleton"] == f"`copy/S001C001P001R001A002.skeleton` {twice}"
    assert reasons["S001C001P001R001A002.skeleton"].endswith(twice)
    assert {one.kind for one in found.left_out} == {"broken"}


def test_pku_mmd(tmp_path: Path) -> None:
    raw_files.make_pku_folder(tmp_path, recordings=4)
    found = list_raw("pku1", tmp_path)
    assert len(found.samples) == 4 * 6
    first = found.samples[0]
    assert (first.name, first.file, first.span, first.camera) == ("0002-L_001", "Data/0002-L.txt", (8, 48), 1)
    assert found.protocols == ("xsub", "xview")
    assert found.published == (None, None)
    parts = {sample.file: sample.parts for sample in found.samples}
    assert parts == {
        "Data/0002-L.txt": ("train", "test"),
        "Data/0002-M.txt": ("train", "train"),
        "Data/0002-R.txt": ("train", "train"),
        "Data/0003-L.txt": ("test", "test"),
    }
    with pytest.raises(ValueError, match=r"list_raw: `raw` must hold recordings such as A10N08-L\.txt, got none below"):
        list_raw("pku2", tmp_path)


def test_pku_mmd_part_two_and_what_is_wrong_with_recordings(tmp_path: Path) -> None:
    raw_files.make_pku_folder(tmp_path, recordings=4)
    for folder in (tmp_path / "Data", tmp_path / "Label"):
        (folder / "0002-L.txt").rename(folder / "A01N02-L.txt")
        for other in ("0002-M", "0002-R", "0003-L"):
            (folder / f"{other}.txt").unlink()
    touch(tmp_path, "Data/A01N02-M.txt", "Label/A01N02-R.txt", "Data/A02N02-L.txt", "more/A02N02-L.txt")
    touch(tmp_path, "Label/A02N02-L.txt", "Data/A03N02-L.txt", "Label/A03N02-L.txt")
    (tmp_path / "Label" / "A03N02-L.txt").write_text("52,0,10,1\n")
    (tmp_path / "cross-subject.txt").rename(tmp_path / "cross_subject_v2.txt")
    (tmp_path / "cross-view.txt").unlink()
    found = list_raw("pku2", tmp_path)
    assert {sample.file for sample in found.samples} == {"Data/A01N02-L.txt"}
    assert found.protocols == ("xsub",)
    assert {sample.parts for sample in found.samples} == {("",)}, "the list does not name it"
    reasons = {one.name: one.reason for one in found.left_out}
    assert reasons["A01N02-M"] == "`A01N02-M` must have one file of labels, got none."
    assert reasons["A01N02-R"] == "`A01N02-R` must have one recording, got none."
    assert reasons["A02N02-L"] == "`A02N02-L` must have one recording, got Data/A02N02-L.txt and more/A02N02-L.txt."
    assert "line 1, must name an action from 1 to 51, got 52" in reasons["A03N02-L"]


def test_pku_mmd_needs_its_lists(tmp_path: Path) -> None:
    raw_files.make_pku_folder(tmp_path, recordings=4)
    touch(tmp_path, "Split/cross-view.txt")
    text = "must hold one list for 'xview', got cross-view.txt and Split/cross-view.txt"
    with pytest.raises(ValueError, match=re.escape(text)):
        list_raw("pku1", tmp_path)
    for path in (tmp_path / "cross-view.txt", tmp_path / "Split" / "cross-view.txt", tmp_path / "cross-subject.txt"):
        path.unlink()
    text = f"list_raw: `raw` must hold cross-subject.txt or cross-view.txt, got neither below {tmp_path}"
    with pytest.raises(ValueError, match=re.escape(text)):
        list_raw("pku1", tmp_path)


def test_nw_ucla(tmp_path: Path) -> None:
    raw_files.make_nw_ucla_folder(tmp_path)
    touch(tmp_path, "a07_s01_e00_v01.json")
    found = list_raw("nw-ucla", tmp_path)
    assert len(found.samples) == 10 * 2 * 3
    by_name = {sample.name: sample for sample in found.samples}
    sample = by_name["a08_s02_e00_v03"]
    assert (sample.label, sample.subject, sample.camera, sample.replication, sample.parts) == (6, 2, 3, 0, ("test",))
    assert by_name["a01_s01_e00_v02"].parts == ("train",)
    assert (found.layout, found.bodies, found.published) == (KINECT_V1_20, 1, ((1020, 464),))
    (left,) = found.left_out
    assert left.name == "a07_s01_e00_v01.json"


def test_utd_mhad(tmp_path: Path) -> None:
    touch(tmp_path, "a10_s3_t2_skeleton.mat", "a2_s4_t1_skeleton.mat", "a28_s1_t1_skeleton.mat")
    touch(tmp_path, "Inertial/a2_s4_t1_inertial.mat", "Depth/a2_s4_t1_depth.mat")
    found = list_raw("utd-mhad", tmp_path)
    assert names(found) == ["a10_s3_t2", "a2_s4_t1"]
    assert [sample.parts for sample in found.samples] == [("train",), ("test",)]
    assert [sample.label for sample in found.samples] == [9, 1]
    assert (found.layout, found.origin, found.num_classes) == (UTD_MHAD_20, "hip centre", 27)
    assert found.class_names is not None
    assert found.class_names[9].startswith("draw circle")
    assert [one.name for one in found.left_out] == ["a28_s1_t1_skeleton.mat"]
    assert found.passed_over == 2


def test_a_pickle(tmp_path: Path) -> None:
    path = raw_files.make_annotations(tmp_path / "poses.pkl", count=30)
    found = list_raw("pickle", path)
    assert len(found.samples) == 30
    last = found.samples[-1]
    assert (last.place, last.subject, last.camera, last.setup) == (29, 3, 2, 1)
    assert found.protocols == ("xsub", "xview")
    assert (found.coordinates, found.origin, found.num_classes) == (3, "spine shoulder", None)
    for sample in found.samples:
        assert sample.subject is not None
        assert sample.parts[0] == ("train" if sample.subject % 2 else "test")
    flat = list_raw("pickle", raw_files.make_annotations(tmp_path / "flat.pkl", layout=COCO_17), layout=COCO_17)
    assert (flat.coordinates, flat.origin, flat.layout) == (2, None, COCO_17)


def test_splits_of_a_pickle_may_leave_samples_out(tmp_path: Path) -> None:
    keypoint = np.ones((1, 5, 25, 3), np.float32)
    annotations = [{"frame_dir": name, "label": 0, "keypoint": keypoint, "total_frames": 5} for name in "abc"]
    split = {"train1": ["a"], "test1": ["b"], "extra": ["c"]}
    path = tmp_path / "poses.pkl"
    path.write_bytes(pickle.dumps({"split": split, "annotations": annotations}))
    found = list_raw("pickle", path)
    assert found.protocols == ("split1",)
    assert [sample.parts for sample in found.samples] == [("train",), ("test",), ("",)]
    assert [sample.subject for sample in found.samples] == [None] * 3


def test_splits_of_a_pickle_that_overlap_or_name_nobody(tmp_path: Path) -> None:
    keypoint = np.ones((1, 5, 25, 3), np.float32)
    annotations = [{"frame_dir": name, "label": 0, "keypoint": keypoint, "total_frames": 5} for name in "abcd"]
    path = tmp_path / "poses.pkl"
    split = {"xsub_train": ["a", "b", "gone"], "xsub_val": ["c", "far"], "extra": ["a", "c", "gone"]}
    path.write_bytes(pickle.dumps({"split": split, "annotations": annotations}))
    assert list_raw("pickle", path).absent == 2
    report = prepare("pickle", path, tmp_path / "out", progress=False)
    assert report.absent == PreparationReport.read(tmp_path / "out" / "report.json").absent == 2
    assert "absent: 2 names in the splits that no sequence has" in report.lines()
    split["xsub_val"] = ["c", "b", "a"]
    path.write_bytes(pickle.dumps({"split": split, "annotations": annotations}))
    must = "must name a sequence either in split 'xsub_train' or in 'xsub_val', got 2 in both, such as 'a'."
    with pytest.raises(SkeletonFormatError, match=re.escape(f"list_raw: `{path}` {must}")):
        list_raw("pickle", path)


def test_pairs_of_splits() -> None:
    pairs = split_pairs(["xsub_train", "xsub_val", "train", "test", "train2", "test2", "sub_train", "val_only"])
    assert pairs == {
        "xsub": ("xsub_train", "xsub_val"),
        "split": ("train", "test"),
        "split2": ("train2", "test2"),
    }


@pytest.mark.parametrize(
    ("dataset", "text"),
    [
        ("ntu60", "hold files such as S001C002P003R002A013.skeleton, got none below "),
        ("nw-ucla", "hold files such as a01_s01_e00_v01.json, got none below "),
        ("utd-mhad", "hold files such as a1_s1_t1_skeleton.mat, got none below "),
        ("pku1", "hold recordings such as 0002-L.txt, got none below "),
    ],
)
def test_an_empty_folder(tmp_path: Path, dataset: DatasetName, text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"list_raw: `raw` must {text}{tmp_path}")):
        list_raw(dataset, tmp_path)


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"list_raw: `dataset` must be one of 'ntu60', .* got 'kinetics'"):
        list_raw("kinetics", tmp_path)  # type: ignore[arg-type]  # on purpose
    with pytest.raises(ValueError, match=re.escape(f"`raw` must be a folder, got {tmp_path / 'no'}, which does not")):
        list_raw("ntu60", tmp_path / "no")
    with pytest.raises(ValueError, match=re.escape(f"`raw` must be a file, got {tmp_path}")):
        list_raw("pickle", tmp_path)
    text = "`dataset` must be 'pickle' for the options `layout` and `with_score`, got `layout` for 'ntu60'"
    with pytest.raises(ValueError, match=text):
        list_raw("ntu60", tmp_path, layout=NTU_RGBD_25)
    touch(tmp_path, "S001C001P001R001A061.skeleton")
    with pytest.raises(ValueError, match="but 1 files that belong to something else"):
        list_raw("ntu60", tmp_path)
    (tmp_path / "broken.pkl").write_bytes(b"\x80\x04")
    with pytest.raises(SkeletonFormatError, match="must be a whole pickle file"):
        list_raw("pickle", tmp_path / "broken.pkl")
