"""What `prepare` refuses: options that are none, options for other data, raw folders with nobody in them."""

import re
from pathlib import Path
from typing import Any

import pytest
from tests.reference import raw_files

from skelcontrast.data import prepare
from skelcontrast.skeleton import COCO_17, SkeletonLayout


def test_errors(ntu_folder: Path, tmp_path: Path) -> None:
    def fails(kind: type[Exception], text: str, **options: Any) -> None:
        with pytest.raises(kind, match=re.escape(text)):
            prepare("ntu60", ntu_folder, tmp_path / "out", progress=False, **options)
        assert not list(tmp_path.iterdir())

    fails(ValueError, "prepare: `bodies` must be one of 'file-order', 'tracked', got 'best'", bodies="best")
    fails(ValueError, "prepare: `shoulders` must be one of 'as-recorded', ", shoulders=True)
    fails(ValueError, "prepare: `empty_frames` must be one of 'drop', 'keep', got 'x'", empty_frames="x")
    fails(ValueError, "prepare: `dtype` must be one of 'float32', 'float16', got 'float64'", dtype="float64")
    fails(ValueError, "prepare: `workers` must be at least 1, got 0", workers=0)
    fails(TypeError, "prepare: `frames` must be an integer, got 50.0", frames=50.0)
    fails(ValueError, "prepare: `body_count` must be at least 1, got 0", body_count=0)
    fails(ValueError, "prepare: `centre` must be one of 'usual', 'spine base', ", centre="nose")
    fails(ValueError, "`dataset` must be 'pickle' for the options `layout` and `with_score`", with_score=True)
    everything = tmp_path.parent / "everything.txt"
    everything.write_text("\n".join(path.stem for path in ntu_folder.iterdir()))
    fails(ValueError, "`missing` must leave samples to prepare, got a list with all 60", missing=everything)


def test_errors_of_pickles(tmp_path: Path) -> None:
    path = raw_files.make_annotations(tmp_path / "poses.pkl", layout=COCO_17)

    def fails(text: str, layout: SkeletonLayout = COCO_17, **options: Any) -> None:
        with pytest.raises(ValueError, match=re.escape(text)):
            prepare("pickle", path, tmp_path / "out", layout=layout, progress=False, **options)

    joints, bones = (*COCO_17.joints, "tail"), (*COCO_17.bones, (17, 11))
    tailed = SkeletonLayout("tailed", joints, bones, centre=0, mirror=())
    fails("`centre` must be None with scores", with_score=True, centre="nose")
    fails("`shoulders` must be 'as-recorded' for data without shoulders in space, got 2 coord", shoulders="parallel")
    fails("`missing` must be given for NTU RGB+D only, got a list for 'pickle'", missing=path)
    fails("must hold whole files only, got 20 broken of 20 samples", layout=tailed)


def test_a_folder_without_anybody_in_it_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "S001C001P001R001A001.skeleton").write_text("0\n")
    must = "prepare: `raw` must hold samples with somebody in them, got none"
    with pytest.raises(ValueError, match=rf"{must} \(1 no body\)\."):
        prepare("ntu60", tmp_path / "raw", tmp_path / "out", progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]
    (tmp_path / "raw" / "S001C001P001R001A002.skeleton").write_text("x\n")
    with pytest.raises(ValueError, match=rf"{must} \(1 broken, 1 no body\)\."):
        prepare("ntu60", tmp_path / "raw", tmp_path / "out", skip_bad=True, progress=False)


def test_a_folder_whose_recordings_are_all_broken_names_them(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "0002-L.txt").write_text("0.5 " * 150)
    (tmp_path / "raw" / "cross-subject.txt").write_text("Training videos:\n0002-L\nValidation videos:\n0003-L\n")
    for skip_bad, text in (
        (False, "`0002-L` must have one file of labels, got none"),
        (True, "`raw` must hold samples with somebody in them"),
    ):
        with pytest.raises(ValueError, match=re.escape(text)):
            prepare("pku1", tmp_path / "raw", tmp_path / "out", skip_bad=skip_bad, progress=False)
        assert [path.name for path in tmp_path.iterdir()] == ["raw"]
