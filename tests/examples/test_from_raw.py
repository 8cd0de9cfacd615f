"""Every data set goes from raw files to an evaluated encoder by two commands: prepare, and the training loop."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.examples.conftest import LoadExample
from tests.reference.ntu_files import make_ntu_folder
from tests.reference.raw_files import make_annotations, make_nw_ucla_folder, make_pku_folder, make_utd_mhad_folder

from skelcontrast.data.__main__ import main as data_command

TINY = ["--frames", "8", "--width", "2", "--embedding", "8", "--batch-size", "4", "--epochs", "2", "--mine-from", "1"]


def ntu(folder: Path) -> Path:
    make_ntu_folder(folder, count=48, frames=20, actions=2, subjects=4)
    return folder


def pku2(folder: Path) -> Path:
    """Give the recordings names as the second part of PKU-MMD has them: A02N08-L for 0002-L."""
    make_pku_folder(folder)
    for path in [*folder.glob("Data/*.txt"), *folder.glob("Label/*.txt")]:
        path.rename(path.with_name(re.sub(r"^00(\d\d)", r"A\1N08", path.name)))
    for path in folder.glob("cross-*.txt"):
        path.write_text(re.sub(r"\b00(\d\d)-", r"A\1N08-", path.read_text()))
    return folder


SETS: dict[str, tuple[Callable[[Path], Path], list[str]]] = {
    "ntu60": (ntu, ["xsub", "xview"]),
    "ntu120": (ntu, ["xsub", "xset"]),
    "pku1": (make_pku_folder, ["xsub", "xview"]),
    "pku2": (pku2, ["xsub", "xview"]),
    "nw-ucla": (make_nw_ucla_folder, ["xview"]),
    "utd-mhad": (make_utd_mhad_folder, ["xsub"]),
    "pickle": (make_annotations, ["xsub"]),
}


@pytest.mark.parametrize("name", SETS)
def test_raw_to_evaluation(name: str, example: LoadExample, tmp_path: Path) -> None:
    make, protocols = SETS[name]
    raw = make(tmp_path / "raw")
    assert data_command(["prepare", name, str(raw), str(tmp_path / "prepared"), "--quiet"]) == 0
    for protocol in protocols:
        where = ["--data", str(tmp_path / "prepared"), "--protocol", protocol, "--out", str(tmp_path / protocol)]
        result = example("aimclr_ntu").main([*where, *TINY, "--dropout", "0"])
        assert 0 <= result["knn"] <= 1
        assert json.loads((tmp_path / protocol / "result.json").read_text()) == result
        log = (tmp_path / protocol / "log.jsonl").read_text().splitlines()
        assert [json.loads(line)["epoch"] for line in log] == [1, 2]


def test_the_real_utd_mhad(example: LoadExample, tmp_path: Path, shared_path: Callable[[str], Path]) -> None:
    raw = shared_path("data/utd_mhad")
    assert data_command(["prepare", "utd-mhad", str(raw), str(tmp_path / "prepared"), "--quiet"]) == 0
    report = json.loads((tmp_path / "prepared" / "report.json").read_text())
    assert report["samples"] == 861
    arguments = ["--data", str(tmp_path / "prepared"), "--out", str(tmp_path / "run"), *TINY, "--batch-size", "64"]
    result = example("aimclr_ntu").main([*arguments, "--resident"])
    assert result["linear"] > 2 / 27, "better than chance, even so small"
