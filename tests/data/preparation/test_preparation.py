"""Raw folders become prepared ones: every number against plain loops, every format, every option."""

import csv
import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.reference import data as reference
from tests.reference import raw_files
from tests.reference.ntu import read_arrays
from tests.reference.ntu_files import write_ntu

from skelcontrast.data import (
    NTUName,
    PreparationReport,
    SkeletonClip,
    align_shoulders,
    centre,
    choose_bodies,
    open_prepared,
    prepare,
    read_ntu,
    resample,
)
from skelcontrast.skeleton import COCO_17, NTU_RGBD_25

Golden = Callable[[str], Mapping[str, Any]]


def table(out: Path) -> list[dict[str, str]]:
    with (out / "samples.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def sequences(out: Path) -> dict[str, Any]:
    """Return each sample's frames (T, C, V, M), cut out by the table."""
    positions, found, start = np.load(out / "positions.npy"), {}, 0
    for row in table(out):
        found[row["name"]] = positions[start : start + int(row["frames"])]
        start += int(row["frames"])
    assert start == len(positions)
    return found


def test_every_number_is_that_of_the_loops(ntu_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "ntu60"
    report = prepare("ntu60", ntu_folder, out, progress=False)
    found = sequences(out)
    rows = {row["name"]: row for row in table(out)}
    empty = []
    for path in sorted(ntu_folder.iterdir()):
        positions, _, _ = read_arrays(path)
        bodies = np.zeros((*positions.shape[:3], 2))
        for slot in range(min(2, positions.shape[3])):
            bodies[..., slot] = positions[..., slot]
        kept = [t for t in range(bodies.shape[1]) if bodies[:, t].any()]
        if not kept:
            empty.append(path.stem)
            continue
        expected = reference.centre(bodies[None][:, :, kept], NTU_RGBD_25.centre)[0].transpose(1, 0, 2, 3)
        np.testing.assert_allclose(found[path.stem], expected, rtol=0, atol=1e-6)
        name, row = NTUName.parse(path.name), rows[path.stem]
        assert [int(row[field]) for field in ("subject", "camera", "setup", "replication", "label")] == [
            name.performer,
            name.camera,
            name.setup,
            name.replication,
            name.action - 1,
        ]
        assert int(row["recorded"]) == positions.shape[1]
        assert int(row["bodies"]) == 1 + bool(bodies[..., 1].any())
        assert row["xview"] == ("train" if name.camera in {2, 3} else "test")
    assert len(empty) == 3
    assert [one.name for one in report.skipped] == empty
    assert {one.kind for one in report.skipped} == {"no body"}
    assert list(found) == sorted(found)
    assert report.samples == len(found) == 57


def test_the_report_says_what_was_done(ntu_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "ntu120"
    report = prepare("ntu120", ntu_folder, out, bodies="tracked", progress=False)
    assert PreparationReport.read(out / "report.json") == report
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ntu120"]
    assert sorted(path.name for path in out.iterdir()) == ["positions.npy", "report.json", "samples.csv"]
    assert report.shape == np.load(out / "positions.npy").shape
    rows = table(out)
    for protocol, count in report.counts.items():
        parts = [row[protocol] for row in rows]
        assert count == (parts.count("train"), parts.count("test"))
    assert report.published["xset"] == (54468, 59477)
    assert report.agrees("xset") is False
    content = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert content["settings"]["bodies"] == "tracked"
    assert content["settings"]["centre"] == "spine shoulder"
    assert len(content["checksums"]["positions.npy"]) == 64
    lines = report.lines()
    assert lines[0].startswith("ntu120: 57 samples, ")
    assert lines[1] == "left out: 0 broken, 3 no body, 0 listed"
    assert lines[3].endswith("; published: 54468, 59477 (differs)")


FORMATS: dict[str, tuple[str, Callable[[Path], Path], dict[str, Any], tuple[int, int, int], str]] = {
    "pku1": ("pku1", lambda path: raw_files.make_pku_folder(path, recordings=4), {}, (3, 25, 2), "xsub"),
    "nw-ucla": ("nw-ucla", raw_files.make_nw_ucla_folder, {}, (3, 20, 1), "xview"),
    "utd-mhad": ("utd-mhad", raw_files.make_utd_mhad_folder, {}, (3, 20, 1), "xsub"),
    "pickle": ("pickle", raw_files.make_annotations, {}, (3, 25, 2), "xview"),
    "2-D pickle": (
        "pickle",
        lambda path: raw_files.make_annotations(path, layout=COCO_17),
        {"layout": COCO_17},
        (2, 17, 2),
        "xsub",
    ),
    "2-D pickle with scores": (
        "pickle",
        lambda path: raw_files.make_annotations(path, layout=COCO_17),
        {"layout": COCO_17, "with_score": True, "dtype": "float16"},
        (3, 17, 2),
        "xsub",
    ),
}


@pytest.mark.parametrize("case", list(FORMATS))
def test_each_format_goes_from_raw_files_to_two_parts(case: str, tmp_path: Path) -> None:
    dataset, make, options, (C, V, M), protocol = FORMATS[case]
    if dataset == "utd-mhad":
        pytest.importorskip("scipy")
    raw = make(tmp_path / "raw")
    report = prepare(dataset, raw, tmp_path / "out", progress=False, **options)  # type: ignore[arg-type]  # a name
    clips = open_prepared(tmp_path / "out", frames=20)
    assert clips.shape == (report.samples, C, 20, V, M)
    train, test = clips.split(protocol)
    assert (len(train), len(test)) == report.counts[protocol]
    assert set(train.names) | set(test.names) == set(clips.names)
    x = clips.tensor()
    assert torch.isfinite(x).all()
    assert clips.layout is not None
    present = (x != 0).any(dim=1).any(dim=2)  # (N, T, M)
    assert present.any(dim=1)[:, 0].all()
    joint = report.settings["centre"]
    if joint is None:
        assert x.abs().max() > 100, "pixels stay where they are"
    else:
        assert not x[:, :, :, clips.layout.joints.index(joint)].any()


def test_pku_mmd_is_cut_by_its_labels(tmp_path: Path) -> None:
    raw_files.make_pku_folder(tmp_path / "raw", recordings=4)
    rows = np.loadtxt(tmp_path / "raw" / "Data" / "0002-L.txt").reshape(-1, 2, 25, 3)
    prepare("pku1", tmp_path / "raw", tmp_path / "out", centre=None, progress=False)
    found = sequences(tmp_path / "out")
    labels = (tmp_path / "raw" / "Label" / "0002-L.txt").read_text().split()
    assert sum(name.startswith("0002-L") for name in found) == len(labels)
    for number, label in enumerate(labels, 1):
        _, start, end, _ = (int(value) for value in label.split(","))
        expected = rows[start:end].transpose(0, 3, 2, 1)
        np.testing.assert_allclose(found[f"0002-L_{number:03}"], expected, rtol=0, atol=1e-6)


def test_the_released_preparation(golden: Golden, tmp_path: Path) -> None:
    numbers = golden("preprocess.npz")
    for clip in range(3):
        raw = numbers[f"raw{clip}"]
        ids = np.where(raw.any(axis=(0, 2)), [7, 8], -1)
        (tmp_path / "raw").mkdir(exist_ok=True)
        write_ntu(tmp_path / "raw" / f"S001C001P001R001A{clip + 1:03}.skeleton", SkeletonClip(raw, ids, NTU_RGBD_25))
    prepare("ntu60", tmp_path / "raw", tmp_path / "out", progress=False)
    resized = open_prepared(tmp_path / "out", frames=50)
    prepare("ntu60", tmp_path / "raw", tmp_path / "turned", frames=50, shoulders="official", progress=False)
    turned = open_prepared(tmp_path / "turned", frames=50)
    for clip in range(3):
        for found, name in ((resized, "centred_resized"), (turned, "shoulder_parallel")):
            expected = torch.from_numpy(numbers[f"{name}{clip}"])
            torch.testing.assert_close(found[clip].x, expected, rtol=0, atol=1e-5)


def test_options(ntu_folder: Path, tmp_path: Path) -> None:
    name = sorted(ntu_folder.iterdir())[10]
    raw = choose_bodies(read_ntu(name), count=3, policy="tracked")
    x = torch.from_numpy(raw)[None]
    expected = {
        "plain": x,
        "centred": centre(x, NTU_RGBD_25, joint="spine base"),
        "short": resample(centre(x, NTU_RGBD_25), 7),
        "parallel": align_shoulders(centre(x, NTU_RGBD_25), NTU_RGBD_25),
        "official": align_shoulders(
            resample(centre(x, NTU_RGBD_25), 7), NTU_RGBD_25, softening=1e-4, turned_by="sequence"
        ),
    }
    options: dict[str, dict[str, Any]] = {
        "plain": {"centre": None},
        "centred": {"centre": "spine base", "dtype": "float16"},
        "short": {"frames": 7},
        "parallel": {"shoulders": "parallel"},
        "official": {"frames": 7, "shoulders": "official"},
    }
    raw_one = tmp_path / "raw"
    raw_one.mkdir()
    (raw_one / name.name).write_bytes(name.read_bytes())
    for case, given in options.items():
        out = tmp_path / case
        prepare("ntu60", raw_one, out, bodies="tracked", body_count=3, empty_frames="keep", progress=False, **given)
        (found,) = sequences(out).values()
        assert found.dtype == given.get("dtype", "float32")
        atol = 2e-3 if found.dtype == np.float16 else 0
        np.testing.assert_allclose(found, expected[case][0].permute(1, 0, 2, 3).numpy(), rtol=0, atol=atol)


def test_frames_without_anybody_are_dropped_or_kept(tmp_path: Path) -> None:
    positions = np.random.default_rng(0).normal(size=(3, 6, 25, 1)).astype(np.float32)
    ids = np.full((6, 1), 5)
    positions[:, [0, 3]], ids[[0, 3]] = 0, -1
    (tmp_path / "raw").mkdir()
    write_ntu(tmp_path / "raw" / "S001C001P001R001A001.skeleton", SkeletonClip(positions, ids, NTU_RGBD_25))
    for empty_frames, frames in (("drop", 4), ("keep", 6)):
        out = tmp_path / empty_frames
        prepare("ntu60", tmp_path / "raw", out, empty_frames=empty_frames, progress=False)  # type: ignore[arg-type]
        (row,) = table(out)
        assert (row["frames"], row["recorded"]) == (str(frames), "6")


def test_a_frame_with_the_second_body_alone_is_kept(tmp_path: Path) -> None:
    positions = np.random.default_rng(0).normal(size=(3, 3, 25, 2)).astype(np.float32)
    ids = np.array([[5, 9], [5, -1], [-1, 9]])
    positions[:, 1, :, 1] = positions[:, 2, :, 0] = 0
    (tmp_path / "raw").mkdir()
    write_ntu(tmp_path / "raw" / "S001C001P001R001A001.skeleton", SkeletonClip(positions, ids, NTU_RGBD_25))
    prepare("ntu60", tmp_path / "raw", tmp_path / "out", bodies="tracked", centre=None, progress=False)
    (found,) = sequences(tmp_path / "out").values()
    present = found.any(axis=(1, 2))
    assert sorted(present.tolist()) == [[False, True], [True, False], [True, True]]


def test_the_list_of_missing_skeletons(ntu_folder: Path, tmp_path: Path) -> None:
    names = sorted(path.stem for path in ntu_folder.iterdir())
    (tmp_path / "list.txt").write_text("Missing:\n" + "\n".join([*names[:2], "S017C003P001R001A060"]))
    report = prepare("ntu60", ntu_folder, tmp_path / "out", missing=tmp_path / "list.txt", progress=False)
    listed = [one for one in report.skipped if one.kind == "listed"]
    assert [one.name for one in listed] == names[:2]
    assert listed[0].reason == "on the list of samples with missing skeletons"
    assert not {row["name"] for row in table(tmp_path / "out")} & set(names[:2])


def test_a_float16_that_overflows_is_broken(tmp_path: Path) -> None:
    positions = np.ones((3, 2, 25, 1), np.float32) * np.array([0, 7e4], np.float32)[None, :, None, None]
    (tmp_path / "raw").mkdir()
    path = tmp_path / "raw" / "S001C001P001R001A001.skeleton"
    write_ntu(path, SkeletonClip(positions, np.zeros((2, 1), np.int64), NTU_RGBD_25))
    with pytest.raises(ValueError, match=re.escape("must hold positions that fit float16, got up to 70000")):
        prepare("ntu60", tmp_path / "raw", tmp_path / "out", dtype="float16", centre=None, progress=False)


def test_positions_that_are_too_far_apart_to_be_centred_are_broken(tmp_path: Path) -> None:
    positions = np.full((3, 1, 25, 1), 3e38, np.float32)
    positions[:, :, 20] *= -1
    (tmp_path / "raw").mkdir()
    path = tmp_path / "raw" / "S001C001P001R001A001.skeleton"
    write_ntu(path, SkeletonClip(positions, np.zeros((1, 1), np.int64), NTU_RGBD_25))
    with pytest.raises(ValueError, match=re.escape("must hold positions that fit float32, got up to inf")):
        prepare("ntu60", tmp_path / "raw", tmp_path / "out", progress=False)


def test_any_number_of_workers_writes_the_same_bytes(ntu_folder: Path, tmp_path: Path) -> None:
    def check(first: str, other: str, **options: Any) -> None:
        prepare("ntu60", ntu_folder, tmp_path / other, progress=False, **options)
        for name in ("positions.npy", "samples.csv", "report.json"):
            assert (tmp_path / first / name).read_bytes() == (tmp_path / other / name).read_bytes()

    prepare("ntu60", ntu_folder, tmp_path / "1", progress=False)
    check("1", "2", workers=2)
    check("1", "3", workers=3)
    prepare("ntu60", ntu_folder, tmp_path / "turned", frames=8, shoulders="official", progress=False)
    check("turned", "turned by 2", workers=2, frames=8, shoulders="official")


def test_the_file_is_what_numpy_writes(ntu_folder: Path, tmp_path: Path) -> None:
    prepare("ntu60", ntu_folder, tmp_path / "out", progress=False)
    written = np.load(tmp_path / "out" / "positions.npy", mmap_mode="r", allow_pickle=False)
    assert written.offset == 128
    assert written.flags.c_contiguous
    np.save(tmp_path / "same.npy", written)
    assert (tmp_path / "same.npy").stat().st_size == (tmp_path / "out" / "positions.npy").stat().st_size


def test_progress_is_shown_with_and_without_a_bar(
    ntu_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tqdm")
    prepare("ntu60", ntu_folder, tmp_path / "bar")
    assert "prepare ntu60: 100%" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "tqdm", None)
    prepare("ntu60", ntu_folder, tmp_path / "lines")
    assert capsys.readouterr().err.splitlines()[-1] == "prepare ntu60: 60 of 60"
