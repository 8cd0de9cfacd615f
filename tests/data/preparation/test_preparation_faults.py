"""What can go wrong with a preparation: broken files, other settings, a folder that is there, a full disk."""

import errno
import json
import os
import pickle
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.reference.ntu_files import make_ntu_folder
from tests.reference.preparation import contents, interrupt, run
from tests.reference.raw_files import make_annotations, make_nw_ucla_folder, make_pku_folder

from skelcontrast.data import BrokenFilesError, PreparationReport, RawSample, prepare
from skelcontrast.data.preparation import _task as task
from skelcontrast.data.preparation._journal import Journal
from skelcontrast.skeleton import KINECT_V1_20, UTD_MHAD_20, SkeletonLayout


@pytest.fixture
def spoilt(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """Return a folder with 40 files, two of them (5 %) broken, and what is wrong with these."""
    paths = make_ntu_folder(tmp_path / "raw", count=40, frames=6)
    paths[3].write_text(paths[3].read_text()[:2000])
    lines = paths[11].read_text().splitlines()
    lines[5] = "nan" + lines[5][lines[5].index(" ") :]
    paths[11].write_text("\n".join(lines))
    return tmp_path / "raw", {paths[3].stem: "must", paths[11].stem: "line 6"}


def test_broken_files_are_an_error_that_names_them_and_nothing_is_written(
    spoilt: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    raw, broken = spoilt
    with pytest.raises(
        BrokenFilesError, match="prepare: `raw` must hold whole files only, got 2 broken of 40"
    ) as error:
        run(raw, tmp_path / "out")
    assert {one.name for one in error.value.broken} == set(broken)
    for name, words in broken.items():
        assert re.search(rf"^  {name}: read_ntu: .*{name}.*{words}", str(error.value), re.MULTILINE)
    assert "Leave them out with skip_bad=True (--skip-bad)." in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_broken_files_are_left_out_and_reported(spoilt: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    raw, broken = spoilt
    report = run(raw, tmp_path / "out", skip_bad=True)
    found = {one.name: one for one in report.skipped if one.kind == "broken"}
    assert set(found) == set(broken)
    for name, words in broken.items():
        assert words in found[name].reason
        assert found[name].file == f"{name}.skeleton"
        (raw / f"{name}.skeleton").unlink()
    run(raw, tmp_path / "without")
    assert contents(tmp_path / "out")[:2] == contents(tmp_path / "without")[:2]


def test_a_file_that_cannot_be_opened_is_broken_like_any_other(
    spoilt: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    raw, broken = spoilt
    nowhere = raw / "S001C001P001R001A060.skeleton"
    nowhere.unlink(missing_ok=True)
    nowhere.symlink_to(tmp_path / "nowhere")
    with pytest.raises(BrokenFilesError, match=rf"got 3 broken of 41[^\n]*\n  {nowhere.stem}: .*No such file"):
        run(raw, tmp_path / "out")
    report = run(raw, tmp_path / "out", skip_bad=True)
    assert {one.name for one in report.skipped if one.kind == "broken"} == {*broken, nowhere.stem}


def test_a_broken_recording_counts_once_and_a_label_beyond_it_is_one_clip(tmp_path: Path) -> None:
    raw = make_pku_folder(tmp_path / "raw", recordings=4)
    (raw / "Data" / "0002-M.txt").write_text("1 2 3\n")
    (raw / "Label" / "0003-L.txt").write_text("5,10,20,1\n5,900,910,1\n5,290,310,1\n")
    report = prepare("pku1", raw, tmp_path / "out", skip_bad=True, progress=False)
    reasons = {one.name: one.reason for one in report.skipped}
    assert set(reasons) == {"0002-M", "0003-L_002"}
    assert "line 1, must hold the 150 numbers of a frame" in reasons["0002-M"]
    assert f"`{raw / 'Data' / '0003-L.txt'}` must have the frames of its labels; it has 300" in reasons["0003-L_002"]
    assert report.samples == 6 + 6 + 2


def test_a_broken_sequence_of_a_pickle(tmp_path: Path) -> None:
    good = {"label": 0, "keypoint": np.ones((1, 4, 25, 3), np.float32), "total_frames": 4}
    wrong = {**good, "keypoint": np.full((1, 4, 25, 3), np.nan, np.float32)}
    flat = {**good, "keypoint": np.ones((1, 4, 25, 2), np.float32)}
    empty = {**good, "keypoint": np.zeros((1, 4, 25, 3), np.float32)}
    sequences = {"a": wrong, "b": good, "c": flat, "d": empty}
    annotations = [{"frame_dir": name, **sequence} for name, sequence in sequences.items()]
    (tmp_path / "poses.pkl").write_bytes(pickle.dumps(annotations))
    report = prepare("pickle", tmp_path / "poses.pkl", tmp_path / "out", skip_bad=True, progress=False)
    assert report.samples == 1
    assert {one.name: one.kind for one in report.skipped} == {"a": "broken", "c": "broken", "d": "no body"}
    reasons = {one.name: one.reason for one in report.skipped}
    assert "NaN or infinity in frame 0" in reasons["a"]
    assert reasons["c"].endswith("must hold 3 coordinates in each sequence, got 2 in c.")


def test_a_pickle_prepared_on_another_skeleton_is_another_preparation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_annotations(tmp_path / "poses.pkl", layout=KINECT_V1_20)
    renamed = replace(KINECT_V1_20, bones=UTD_MHAD_20.bones)  # its name alone would not tell

    def again(layout: SkeletonLayout) -> PreparationReport:
        return prepare("pickle", path, tmp_path / "out", layout=layout, centre="hip centre", progress=False)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Journal, "seal", stop)
        with pytest.raises(KeyboardInterrupt):
            again(KINECT_V1_20)
    with pytest.raises(ValueError, match=r"got `layout` = 'UTD_MHAD_20 \w{8}', and 'KINECT_V1_20 \w{8}' in "):
        again(UTD_MHAD_20)
    assert again(KINECT_V1_20) == again(KINECT_V1_20)
    for other in (UTD_MHAD_20, renamed):
        with pytest.raises(ValueError, match="It was prepared with other settings"):
            again(other)


def test_another_pickle_of_the_same_size_is_another_preparation(tmp_path: Path) -> None:
    for number in (1.0, 2.0):
        pose = {"frame_dir": "v", "label": 0, "keypoint": np.full((1, 4, 25, 3), number)}
        (tmp_path / "poses.pkl").write_bytes(pickle.dumps([pose]))
        if number == 1:
            prepare("pickle", tmp_path / "poses.pkl", tmp_path / "out", centre=None, progress=False)
    with pytest.raises(ValueError, match="It was prepared with other settings, or from other files"):
        prepare("pickle", tmp_path / "poses.pkl", tmp_path / "out", centre=None, progress=False)


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text")
def test_the_report_names_files_whose_names_are_no_text(spoilt: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    raw = tmp_path / os.fsdecode(b"caf\xe9")
    (raw / os.fsdecode(b"caf\xe9")).mkdir(parents=True)
    spoilt[0].rename(raw / os.fsdecode(b"caf\xe9") / "Gr\N{LATIN SMALL LETTER U WITH DIAERESIS}n")
    report = run(raw, tmp_path / "out", skip_bad=True)
    assert PreparationReport.read(tmp_path / "out" / "report.json") == report
    assert {os.fsencode(Path(one.file).parent) for one in report.skipped} == {b"caf\xe9/Gr\xc3\xbcn"}


@pytest.mark.skipif(os.name != "posix", reason="makes a link")
def test_a_link_to_nothing_is_refused_before_the_work(ntu_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=re.escape(f"prepare: `out` must not exist, got {tmp_path / 'out'}.")):
        run(ntu_folder, tmp_path / "out")
    assert not (tmp_path / "out.unfinished").exists()


def test_what_one_file_holds_stays_together() -> None:
    files = ["a"] * 20 + ["b"] * 10 + ["c"] * 30 + ["d"]
    recordings = [RawSample(str(number), 0, file) for number, file in enumerate(files)]
    assert [{one.file for one in some} for some in task.tasks(recordings)] == [{"a"}, {"b", "c"}, {"d"}]
    sequences = [RawSample(str(number), 0, "poses.pkl", place=number) for number in range(40)]
    assert [len(some) for some in task.tasks(sequences)] == [16, 16, 8]
    assert list(task.tasks([])) == []


def test_an_error_names_some_of_many(tmp_path: Path) -> None:
    for number in range(1, 31):
        path = tmp_path / "raw" / f"S001C001P001R001A{number:03}.skeleton"
        path.parent.mkdir(exist_ok=True)
        path.write_text("many\n")
    with pytest.raises(BrokenFilesError) as error:
        run(tmp_path / "raw", tmp_path / "out")
    lines = str(error.value).splitlines()
    assert (len(lines), lines[-1]) == (22, "  and 10 more")
    assert len(error.value.broken) == 30


def test_other_settings_do_not_go_on(ntu_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt(monkeypatch, ntu_folder, tmp_path / "out", after=1)
    text = (
        "prepare: `out` must be finished with the same settings after an interruption, got `bodies` = 'tracked', and "
    )
    with pytest.raises(ValueError, match=re.escape(f"{text}'file-order' in {tmp_path / 'out.unfinished'}. Go on with")):
        run(ntu_folder, tmp_path / "out", bodies="tracked")
    make_ntu_folder(tmp_path / "raw", count=3, frames=5)
    with pytest.raises(ValueError, match="got another raw folder than"):
        run(tmp_path / "raw", tmp_path / "out")
    run(ntu_folder, tmp_path / "out", skip_bad=True)


def test_a_folder_that_is_there_is_kept(ntu_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    report = run(ntu_folder, out)
    before = contents(out)
    (tmp_path / "out.unfinished").mkdir()  # as a process leaves it that is killed at its very end
    with monkeypatch.context() as patched:
        patched.setattr(task, "ordered", None)
        assert run(ntu_folder, out) == report
    assert not (tmp_path / "out.unfinished").exists()
    with pytest.raises(
        ValueError, match=re.escape(f"prepare: `out` must not exist, got {out}. It was prepared with oth")
    ):
        run(ntu_folder, out, dtype="float16")
    assert contents(out) == before
    (tmp_path / "mine").mkdir()
    with pytest.raises(ValueError, match=re.escape(f"prepare: `out` must not exist, got {tmp_path / 'mine'}.")):
        run(ntu_folder, tmp_path / "mine")


@pytest.mark.parametrize("name", ["positions.npy", "samples.csv"])
def test_a_folder_that_is_not_whole_is_not_finished(ntu_folder: Path, tmp_path: Path, name: str) -> None:
    run(ntu_folder, tmp_path / "out")
    path = tmp_path / "out" / name
    path.write_bytes(path.read_bytes()[:-1])
    text = f"prepare: `out` must be whole or not exist, got {tmp_path / 'out'}, whose {name} is "
    with pytest.raises(ValueError, match=re.escape(f"{text}not as it was written. Delete that folder, and prepare it")):
        run(ntu_folder, tmp_path / "out")
    path.unlink()
    with pytest.raises(ValueError, match=re.escape(f"{text}missing. Delete that folder")):
        run(ntu_folder, tmp_path / "out")


def test_a_folder_inside_the_raw_one_is_no_raw_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = make_nw_ucla_folder(tmp_path / "raw")  # whose files end in .json, like some of a preparation
    out = raw / "prepared"

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    def again() -> PreparationReport:
        return prepare("nw-ucla", raw, out, progress=False)

    with monkeypatch.context() as patched:
        patched.setattr(Journal, "seal", stop)
        with pytest.raises(KeyboardInterrupt):
            again()
    assert out.with_name("prepared.unfinished").is_dir()
    with monkeypatch.context() as patched:
        patched.setattr(Journal, "append", None)  # nothing is done twice
        report = again()
    assert report.skipped == ()
    assert again() == report


def test_a_finished_folder_without_the_broken_is_not_one_with_them(
    spoilt: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    raw, _ = spoilt
    run(raw, tmp_path / "out", skip_bad=True)
    with pytest.raises(BrokenFilesError, match="got 2 broken of 40"):
        run(raw, tmp_path / "out")


@pytest.mark.skipif(os.name != "posix", reason="locks a file")
def test_two_at_a_time_are_one_too_many(ntu_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt(monkeypatch, ntu_folder, tmp_path / "out", after=1)
    unfinished = tmp_path / "out.unfinished"
    text = "prepare: `out` must not be prepared by another process, got a lock on"
    with (
        Journal(unfinished, json.loads((unfinished / "settings.json").read_text())),
        pytest.raises(RuntimeError, match=text),
    ):
        run(ntu_folder, tmp_path / "out")


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let writing beyond a size fail, as on a full disk; the signal that comes with it is ignored by Python."""
    resource = pytest.importorskip("resource", reason="limits are those of POSIX")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_no_half_folder(ntu_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(ntu_folder, tmp_path / "undisturbed")
    out = tmp_path / "out"
    with pytest.raises(OSError, match=r"result/positions\.npy") as error, largest_file(100_000):
        run(ntu_folder, out)
    assert error.value.errno == errno.EFBIG
    assert not out.exists()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for owner, name, file in ((task, "write_table", "samples.csv"), (PreparationReport, "write", "report.json")):
        with monkeypatch.context() as patched:
            patched.setattr(owner, name, full)
            with pytest.raises(OSError, match=f"No space left on device: .*{file}"):
                run(ntu_folder, out)
        assert not out.exists()
    run(ntu_folder, out)
    assert contents(out) == contents(tmp_path / "undisturbed")
