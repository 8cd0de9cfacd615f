"""The command: raw folders to prepared ones and what is in them, and errors of one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.reference import raw_files
from tests.reference.ntu_files import SWAP, make_ntu_folder

from skelcontrast.data import PreparationReport, prepare
from skelcontrast.data import __main__ as command_module
from skelcontrast.data.__main__ import main
from skelcontrast.data.preparation._pictures import _sequence
from skelcontrast.data.preparation.folder import Prepared
from skelcontrast.skeleton import COCO_17


def test_prepare_and_inspect(ntu_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "ntu60"
    options = ["--bodies", "tracked", "--frames", "8", "--dtype", "float16", "--centre", "spine base", "--quiet"]
    assert main(["prepare", "ntu60", str(ntu_folder), str(out), *options]) == 0
    said, noted = capsys.readouterr()
    assert said.splitlines()[0] == "ntu60: 57 samples, 456 frames of 2 x 25 joints in 3 coordinates, float16"
    assert said.splitlines()[-1] == f"written: {out}"
    assert noted == ""
    settings = PreparationReport.read(out / "report.json").settings
    assert (settings["bodies"], settings["frames"], settings["centre"]) == ("tracked", 8, "spine base")

    assert main(["inspect", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("ntu60: 57 samples")
    assert any(line.split() == ["frames", "of", "a", "sample", "8", "8", "8"] for line in lines)
    assert lines[-1].split() == ["checksums", "as", "written"]


def test_what_is_there_already_is_said(ntu_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["prepare", "ntu60", str(ntu_folder), str(tmp_path / "out"), "--quiet"]
    assert main(command) == 0
    first = capsys.readouterr().out.splitlines()
    assert main(command) == 0
    assert capsys.readouterr().out.splitlines() == [*first[:-1], f"was there already: {tmp_path / 'out'}"]


def test_control_c_is_no_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command_module, "prepare", interrupted)
    monkeypatch.setattr(command_module, "inspect_prepared", interrupted)
    assert main(["prepare", "ntu60", str(tmp_path), "out"]) == 130
    assert capsys.readouterr().err == "\ninterrupted; the same command goes on where it was\n"
    assert main(["inspect", str(tmp_path)]) == 130
    assert capsys.readouterr().err == "\ninterrupted\n"


def test_letters_that_the_output_has_not_are_no_traceback(ntu_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "骨"
    command = [sys.executable, "-m", "skelcontrast.data", "prepare", "ntu60", str(ntu_folder), str(out), "--quiet"]
    environment = {**os.environ, "PYTHONUTF8": "1", "PYTHONIOENCODING": "cp1252"}  # a file that Windows writes to
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, encoding="cp1252")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == rf"written: {tmp_path}{os.sep}\u9aa8"


@pytest.mark.parametrize("command", [["--help"], ["prepare", "--help"], ["inspect", "--help"]])
def test_help_names_defaults_that_mean_something(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(command)
    assert done.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "None" not in said
    assert "False" not in said
    if command[0] == "prepare":
        assert "(default: 1)" in said
        assert "ntu60, ntu120, pku1, pku2, nw-ucla, utd-mhad, pickle" in said


def test_a_pickle_by_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = raw_files.make_annotations(tmp_path / "poses.pkl", layout=COCO_17)
    out = tmp_path / "out"
    assert main(["prepare", "pickle", str(path), str(out), "--layout", "COCO_17", "--with-score", "--quiet"]) == 0
    assert PreparationReport.read(out / "report.json").shape[1:] == (3, 17, 2)
    assert "published" not in capsys.readouterr().out
    other = tmp_path / "plane"
    assert main(["prepare", "pickle", str(path), str(other), "--layout", "COCO_17", "--centre", "none", "--quiet"]) == 0
    assert PreparationReport.read(other / "report.json").settings["centre"] is None


def test_pictures(ntu_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    from PIL import Image

    out, pictures = tmp_path / "ntu60", tmp_path / "pictures"
    assert main(["prepare", "ntu60", str(ntu_folder), str(out), "--quiet"]) == 0
    assert main(["inspect", str(out), "--pictures", str(pictures), "--samples", "2"]) == 0
    written = [Path(line.removeprefix("written: ")) for line in capsys.readouterr().out.splitlines()[-3:]]
    assert sorted(written) == sorted(pictures.iterdir())
    assert [path.suffix for path in written] == [".png", ".png", ".gif"]
    with Image.open(written[-1]) as animation:
        assert animation.n_frames > 1  # type: ignore[attr-defined]  # of an animation
        before = animation.convert("RGB").tobytes()
        animation.seek(animation.n_frames - 1)  # type: ignore[attr-defined]
        assert animation.convert("RGB").tobytes() != before
    assert main(["inspect", str(out), "--pictures", str(pictures), "--samples", "0"]) == 2
    assert capsys.readouterr().err == "error: inspect: `samples` must be at least 1, got 0.\n"


def test_centred_bodies_are_drawn_beside_each_other(tmp_path: Path) -> None:
    raw = make_ntu_folder(tmp_path / "raw", count=8, frames=9)[SWAP].parent
    drawn = {}
    for centre in ("usual", None):
        prepare("ntu60", raw, tmp_path / str(centre), centre=centre, progress=False)
        prepared = Prepared.read(tmp_path / str(centre), owner="test")
        pair = next(index for index, row in enumerate(prepared.rows) if row.bodies == 2)
        drawn[centre] = _sequence(prepared, pair)
    x = drawn["usual"]
    neck, other = x[:, :, 20].unbind(dim=-1)
    assert ((neck - other)[0].abs() > 0.3).all(), "metres; centred they are both at the origin"
    assert not (neck - other)[1:].any()
    spread = drawn[None][:, :, 20, 0] - drawn[None][:, :, 20, 1]
    assert spread[2].abs().max() > 0, "where people stand is kept if it is known"


def test_bad_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = make_ntu_folder(tmp_path / "raw", count=5, frames=5)
    paths[0].write_text("1\n1\n")
    command = ["prepare", "ntu60", str(tmp_path / "raw"), str(tmp_path / "out"), "--quiet"]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: prepare: `raw` must hold whole files only, got 1 broken of 5 samples.")
    assert f"{paths[0].stem}: read_ntu: `{paths[0]}`, line 3, must" in error
    assert not (tmp_path / "out").exists()
    assert main([*command, "--skip-bad"]) == 0
    assert f"  broken: {paths[0].stem}: read_ntu: `{paths[0]}`, line 3, must" in capsys.readouterr().out


def test_of_many_bad_files_the_first_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = sorted(make_ntu_folder(tmp_path / "raw", count=26, frames=2))
    for path in paths[1:]:
        path.write_text("1\n1\n")
    out = tmp_path / "out"
    assert main(["prepare", "ntu60", str(tmp_path / "raw"), str(out), "--quiet", "--skip-bad"]) == 0
    said = capsys.readouterr().out.splitlines()
    named = [line.split(":")[1].strip() for line in said if line.startswith("  broken: ")]
    assert named == [path.stem for path in paths[1:21]]
    assert said[-2:] == [f"  and 5 more, in {out / 'report.json'}", f"written: {out}"]
    assert len(PreparationReport.read(out / "report.json").skipped) == 25


def test_errors_are_a_line_and_no_traceback(
    ntu_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command, text in (
        (["prepare", "ntu60", str(tmp_path / "no"), "out"], "list_raw: `raw` must be a folder, got "),
        (["prepare", "ntu60", str(ntu_folder), "out", "--missing", "no.txt"], "no.txt: No such file or directory\n"),
        (["inspect", str(tmp_path)], "inspect_prepared: `folder` must be a prepared folder, with report.json, "),
        (["prepare", "ntu60", str(tmp_path), "out", "--workers", "0"], "prepare: `workers` must be at least 1, got 0."),
    ):
        assert main(command) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: {text}")
        assert error.count("\n") == 1
    with pytest.raises(SystemExit) as refused:
        main(["prepare", "kinetics", "raw", "out"])
    assert refused.value.code == 2
    assert "invalid choice: 'kinetics'" in capsys.readouterr().err
