"""Opening a prepared folder: lengths, protocols, the cached file, and folders whose files do not belong together."""

import json
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.reference import data as reference
from tests.reference.ntu_files import make_ntu_folder

from skelcontrast.data import (
    NTUName,
    PreparationReport,
    SkeletonFormatError,
    SkeletonLoader,
    Spread,
    inspect_prepared,
    open_prepared,
    prepare,
    read_utd_mhad,
)
from skelcontrast.data.preparation import prepared as module
from skelcontrast.skeleton import NTU_RGBD_25, SkeletonLayout


@pytest.fixture(scope="module")
def original(ntu_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("prepared") / "ntu60"
    prepare("ntu60", ntu_folder, out, progress=False)
    return out


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    shutil.copytree(original, tmp_path / "ntu60")
    return tmp_path / "ntu60"


def cached(folder: Path, frames: int) -> Path:
    """Return the one file of sequences that were resampled to this number of frames."""
    (path,) = folder.glob(f"resampled-{frames}-*.npy")
    return path


def test_sequences_are_resampled_and_named(folder: Path) -> None:
    clips = open_prepared(folder, frames=9)
    assert repr(clips).startswith("SkeletonDataset(57 sequences, C=3, T=9, V=25, M=2, 60 classes, ")
    assert clips.layout is NTU_RGBD_25
    parsed = [NTUName.parse(name) for name in clips.names]
    assert clips.labels.tolist() == [name.action - 1 for name in parsed]
    assert clips.subjects is not None
    assert clips.subjects.tolist() == [name.performer for name in parsed]
    assert clips.cameras is not None
    assert clips.cameras.tolist() == [name.camera for name in parsed]
    positions, rows = np.load(folder / "positions.npy"), (folder / "samples.csv").read_text().splitlines()[1:]
    start = 0
    for sample, row in zip(clips, rows, strict=True):
        frames = int(row.split(",")[6])
        raw = positions[start : start + frames].astype(np.float64).transpose(1, 0, 2, 3)
        expected = reference.resample(raw[None], 9)[0]
        torch.testing.assert_close(sample.x, torch.from_numpy(expected).float(), rtol=0, atol=1e-5)
        start += frames


def test_one_folder_serves_all_protocols_lengths_and_a_loader(folder: Path) -> None:
    report = PreparationReport.read(folder / "report.json")
    for frames in (6, 20):
        clips = open_prepared(folder, frames=frames)
        assert list(clips.protocols) == ["xsub", "xview"]
        for protocol, count in report.counts.items():
            train, test = clips.split(protocol)
            assert (len(train), len(test)) == count
            batch = next(iter(SkeletonLoader(train, 4)))
            assert batch.x.shape == (4, 3, frames, 25, 2)
    assert len(list(folder.glob("*.npy"))) == 3
    assert cached(folder, 6) != cached(folder, 20)
    again = pickle.loads(pickle.dumps(clips))
    assert torch.equal(again.tensor(), clips.tensor())


def test_the_file_is_made_once_and_whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = open_prepared(folder, frames=6).tensor()
    stamp = cached(folder, 6).stat().st_mtime_ns
    assert torch.equal(open_prepared(folder, frames=6).tensor(), first)
    assert cached(folder, 6).stat().st_mtime_ns == stamp
    assert np.array_equal(np.load(cached(folder, 6), allow_pickle=False), first.numpy())

    written = 0
    resample: Callable[..., object] = module._resample

    def stop(*arguments: object) -> object:
        nonlocal written
        written += 1
        if written == 20:
            raise KeyboardInterrupt
        return resample(*arguments)

    monkeypatch.setattr(module, "_resample", stop)
    with pytest.raises(KeyboardInterrupt):
        open_prepared(folder, frames=7)
    assert not list(folder.glob("*resampled-7*"))


def test_progress_is_shown_while_the_file_is_made(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    count = len(open_prepared(folder, frames=5, progress=False))
    assert capsys.readouterr() == ("", "")
    open_prepared(folder, frames=4)
    out, err = capsys.readouterr()
    assert out == ""
    assert "resample to 4 frames: " in err
    assert f"{count}/{count}" in err or f"{count} of {count}" in err  # without tqdm
    open_prepared(folder, frames=4)
    assert capsys.readouterr() == ("", "")


def test_float16_is_kept_in_half_and_comes_as_float32(ntu_folder: Path, tmp_path: Path, folder: Path) -> None:
    prepare("ntu60", ntu_folder, tmp_path / "half", dtype="float16", progress=False)
    half, full = open_prepared(tmp_path / "half", frames=9), open_prepared(folder, frames=9)
    assert half.nbytes * 2 == full.nbytes
    assert half.tensor().dtype == torch.float32
    torch.testing.assert_close(half.tensor(), full.tensor(), rtol=1e-3, atol=2e-3)


def test_another_folder_for_the_cache(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    open_prepared(folder, frames=6, cache=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == [cached(tmp_path / "cache", 6)]
    assert not list(folder.glob("resampled*"))
    text = f"; `cache` may name another folder: '{tmp_path / 'nowhere' / 'resampled-6-'}"
    with pytest.raises(FileNotFoundError, match=re.escape(text)):
        open_prepared(folder, frames=6, cache=tmp_path / "nowhere")


def test_a_cache_serves_several_folders_and_outlives_none(tmp_path: Path) -> None:
    """Nine samples of equal length; one that is no first, middle or last differs between two preparations."""
    raw, out, cache = tmp_path / "raw", tmp_path / "out", tmp_path / "cache"
    paths = make_ntu_folder(raw, count=9, frames=6)
    cache.mkdir()
    prepare("ntu60", raw, out, centre=None, progress=False)
    before = open_prepared(out, frames=6, cache=cache)
    changed = before.names[1]
    (path,) = (path for path in paths if path.stem == changed)
    lines = path.read_text().splitlines()
    lines[4] = " ".join(["9.5", *lines[4].split()[1:]])
    path.write_text("\n".join(lines))
    out.rename(tmp_path / "old")
    prepare("ntu60", raw, out, centre=None, progress=False)
    after = open_prepared(out, frames=6, cache=cache)
    assert after.shape == before.shape
    assert torch.equal(after.tensor(), open_prepared(out, frames=6).tensor())
    assert torch.equal(before.tensor(), open_prepared(tmp_path / "old", frames=6, cache=cache).tensor())
    assert not torch.equal(after[1].x, before[1].x)
    assert len(list(cache.iterdir())) == 2


def test_protocols_that_leave_samples_out(tmp_path: Path) -> None:
    keypoint = np.random.default_rng(0).normal(size=(1, 8, 25, 3)).astype(np.float32)
    names = ["a", "b", "c", "d"]
    annotations = [{"frame_dir": name, "label": 2, "keypoint": keypoint, "total_frames": 8} for name in names]
    split = {"train1": ["d", "a"], "test1": ["b"], "all_train": ["a", "b"], "all_test": ["c", "d"]}
    (tmp_path / "poses.pkl").write_bytes(pickle.dumps({"split": split, "annotations": annotations}))
    report = prepare("pickle", tmp_path / "poses.pkl", tmp_path / "out", progress=False)
    assert report.counts == {"all": (2, 2), "split1": (2, 1)}
    assert list(open_prepared(tmp_path / "out").protocols) == ["all"]
    clips = open_prepared(tmp_path / "out", protocol="split1")
    assert clips.names == ("a", "b", "d")
    train, test = clips.split("split1")
    assert (train.names, test.names) == (("a", "d"), ("b",))
    assert len(open_prepared(tmp_path / "out", protocol="all")) == 4
    assert clips.num_classes == 3
    assert clips.subjects is None


def test_a_layout_of_ones_own_comes_back(tmp_path: Path) -> None:
    arm = SkeletonLayout("arm", ("shoulder", "elbow", "wrist"), ((1, 0), (2, 1)), centre=0, mirror=())
    keypoint = np.random.default_rng(0).normal(size=(1, 8, 3, 3)).astype(np.float32)
    annotations = [{"frame_dir": "a", "label": 0, "keypoint": keypoint, "total_frames": 8}]
    (tmp_path / "poses.pkl").write_bytes(pickle.dumps({"split": {}, "annotations": annotations}))
    prepare("pickle", tmp_path / "poses.pkl", tmp_path / "out", layout=arm, progress=False)
    assert open_prepared(tmp_path / "out").layout == arm


def test_the_real_utd_mhad(shared_path: Callable[[str], Path], tmp_path: Path) -> None:
    raw = shared_path("data/utd_mhad")
    pytest.importorskip("scipy")
    report = prepare("utd-mhad", raw, tmp_path / "out", progress=False)
    assert (report.samples, report.skipped, report.counts["xsub"]) == (861, (), (431, 430))
    assert report.agrees("xsub")
    found, expected = open_prepared(tmp_path / "out"), read_utd_mhad(raw)
    order = [expected.names.index(name) for name in found.names]
    torch.testing.assert_close(found.tensor(), expected.take(order), rtol=0, atol=1e-5)
    assert torch.equal(found.labels, expected.labels[order])
    assert torch.equal(found.protocols["xsub"], expected.protocols["xsub"][order])
    assert found.class_names == expected.class_names


def test_files_that_do_not_belong_together(folder: Path, tmp_path: Path) -> None:
    def broken(text: str) -> None:
        with pytest.raises(SkeletonFormatError, match=re.escape(text)):
            open_prepared(folder, frames=6)

    open_prepared(folder, frames=6)
    resampled, positions, table = cached(folder, 6), folder / "positions.npy", folder / "samples.csv"
    good = {path: path.read_bytes() for path in (resampled, positions, table, folder / "report.json")}

    resampled.write_bytes(good[resampled][:-400])
    broken(f"open_prepared: `{resampled}` must be a whole .npy file of numbers, got an error on reading it")
    np.save(resampled, np.zeros((57, 3, 5, 25, 2), np.float32))
    broken(f"`{resampled}` must hold (57, 3, 6, 25, 2) of float32, got (57, 3, 5, 25, 2) of float32. It is not of")
    resampled.write_bytes(good[resampled])

    positions.write_bytes(good[positions][:-1])
    broken(f"`{positions}` must be a whole .npy file")
    positions.write_bytes(good[positions])

    rows = good[table].decode().splitlines(keepends=True)
    table.write_text("".join(rows[:-1]))
    broken(f"`{table}` must hold 57 samples with")
    table.write_text("".join(["nothing\n", *rows[1:]]))
    broken(f"`{table}`, line 1, must have the columns name,label,subject,camera,setup,replication,frames,recorded,")
    for old, new, text in (
        (r"^([^,]*),\d+", r"\1,x", "line 2, must have a number from 0 as label, got 'x'"),
        (r"(train|test)$", "val", "line 2, must have train, test or nothing for each protocol"),
        (r",[^,]*$", "", "line 2, must have 11 fields, got 10"),
    ):
        table.write_text("".join([rows[0], re.sub(old, new, rows[1].strip()) + "\n", *rows[2:]]))
        broken(f"`{table}`, {text}")
    table.write_bytes(good[table])

    content = json.loads(good[folder / "report.json"])
    for change in ({"format": 2}, {"shape": None}, {"skipped": [{"name": "a"}]}, {"surprise": 1}):
        (folder / "report.json").write_text(json.dumps({**content, **change}))
        broken(f"open_prepared: `{folder / 'report.json'}` must be a report of `prepare`, format 1, got an error")
    (folder / "report.json").write_text("{")
    broken("must be a report of `prepare`, format 1")
    (folder / "report.json").unlink()
    with pytest.raises(ValueError, match=re.escape(f"got '{folder}', which holds no report.json. `python")):
        open_prepared(folder)


def test_errors(folder: Path) -> None:
    with pytest.raises(ValueError, match="open_prepared: `frames` must be at least 1, got 0"):
        open_prepared(folder, frames=0)
    with pytest.raises(ValueError, match="open_prepared: `protocol` must be one of 'xsub', 'xview', got 'xset'"):
        open_prepared(folder, protocol="xset")


def test_a_folder_that_was_not_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(folder: Path, got: str) -> None:
        must = "`folder` must be a prepared folder, with report.json, samples.csv, positions.npy, got "
        with pytest.raises(ValueError, match=re.escape(f"open_prepared: {must}'{folder}', which {got}")):
            open_prepared(folder)

    prepares = "`python -m skelcontrast.data prepare DATASET RAW OUT` makes one."
    refused(tmp_path / "nowhere", f"does not exist. {prepares}")
    (tmp_path / "file").touch()
    refused(tmp_path / "file", f"is a file. {prepares}")
    refused(tmp_path, f"holds no report.json. {prepares}")
    (tmp_path / "report.json").touch()
    (tmp_path / "samples.csv").touch()
    refused(tmp_path, f"holds no positions.npy. {prepares}")
    (tmp_path / "out.unfinished").mkdir()
    refused(
        tmp_path / "out", "does not exist. Its preparation was interrupted: the same command again goes on where it"
    )
    monkeypatch.chdir(tmp_path)
    refused(Path(), "holds no positions.npy")


def test_inspection(folder: Path) -> None:
    found = inspect_prepared(folder)
    rows = [row.split(",") for row in (folder / "samples.csv").read_text().splitlines()[1:]]
    frames = sorted(int(row[6]) for row in rows)
    assert found.frames == Spread(frames[0], frames[28], frames[-1])
    assert found.recorded.most == max(int(row[7]) for row in rows)
    assert found.bodies == {count: sum(row[8] == str(count) for row in rows) for count in (1, 2)}
    assert found.classes == len({row[1] for row in rows})
    assert (found.zero_frames, found.non_finite_frames) == (0, 0)
    assert not found.changed
    positions = np.load(folder / "positions.npy")
    assert found.largest == np.abs(positions).max()
    positions[3] = 0
    positions[5, 1, 2, 0], positions[6, 0, 0, 1] = np.nan, np.inf
    np.save(folder / "positions.npy", positions)
    spoilt = inspect_prepared(folder)
    assert (spoilt.zero_frames, spoilt.non_finite_frames, spoilt.changed) == (1, 2, ("positions.npy",))
    lines = spoilt.lines()
    said = [line.split() for line in lines]
    assert ["frames", "without", "anybody", "1"] in said
    assert ["frames", "with", "NaN", "or", "infinity", "2"] in said
    assert said[-1] == ["checksums", "positions.npy", "CHANGED"]
    assert found.lines()[-1].split() == ["checksums", "as", "written"]
    assert ["frames", "of", "a", "sample", *map(str, (frames[0], frames[28], frames[-1]))] in said
    xsub = found.report.counts["xsub"]
    assert ["xsub", str(xsub.train), str(xsub.test), "40091", "16487", "differs"] in said
