"""The study: every run that it plans is one that the training loop accepts, and its report adds up."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.examples.conftest import LoadExample


def test_every_planned_run_is_accepted(example: LoadExample, tmp_path: Path) -> None:
    study = example("study_utd_mhad")
    planned = [study.settings(tmp_path, tmp_path / "runs", name, seed) for name in study.EVERY for seed in (0, 1)]
    planned += [study.ablation(tmp_path, tmp_path / "runs", name) for name in study.ABLATIONS]
    planned += [
        study.variation(argparse.Namespace(data=tmp_path, out=tmp_path), "long", study.LONG, seed) for seed in (0, 1)
    ]
    parsed = [study.pretraining.parse(arguments) for arguments in planned]
    assert len({args.out for args in parsed}) == len(parsed)  # no two runs share a folder
    assert all(args.dropout == 0 for args in parsed[: 2 * len(study.EVERY)])


@pytest.mark.slow
def test_run_and_report(
    example: LoadExample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_path: Callable[[str], Path]
) -> None:
    data, out, to = shared_path("data/utd_mhad"), tmp_path / "runs", tmp_path / "report"
    study = example("study_utd_mhad")
    tiny = ["--frames", "8", "--epochs", "1", "--width", "2", "--batch-size", "128"]
    monkeypatch.setattr(study, "COMMON", [*study.COMMON, *tiny])
    monkeypatch.setattr(study, "SHORT", tiny)
    monkeypatch.setattr(study, "LONG", [*tiny, "--epochs", "2", "--mine-from", "2", "--keep", "1"])
    monkeypatch.setattr(study, "LONG_EPOCHS", ("1", "2"))
    monkeypatch.setattr(study, "SHEARS", ("0.5",))
    monkeypatch.setattr(study, "ABLATIONS", {"nothing": [], "dropout 0.5": ["--dropout", "0.5"]})
    where = ["--data", str(data), "--out", str(out), "--seeds", "0", "--streams", "joint", "motion"]
    study.main(["run", *where])
    study.main(["ablate", *where])
    study.main(["report", *where, "--to", str(to)])
    content = json.loads((to / "utd_mhad.json").read_text())
    found, stored = content["results"]["aimclr"]["joint"][0], json.loads((out / "aimclr-0" / "result.json").read_text())
    assert {name: found[name] for name in stored} == stored
    table = (to / "utd_mhad.md").read_text()
    assert f"| joint | AimCLR | {100 * content['results']['aimclr']['joint'][0]['knn']:.1f} |" in table
    settings = (to / "utd_mhad_settings.md").read_text()
    assert f"| dropout 0.5 | {content['ablations']['dropout 0.5']['knn']:.1%} |" in settings
    assert (to / "utd_mhad_motion.png").stat().st_size > 0
    study.main(["length", *where, "--to", str(to)])
    content = json.loads((to / "utd_mhad_length.json").read_text())
    table = (to / "utd_mhad_length.md").read_text()
    assert f"| shear of 0.5 | {content['exact_by_shear']['0.5'][0]:.1%} |" in table
    assert f"| seed 0 | {content['exact_by_epoch']['1'][0]:.1%} | {content['exact_by_epoch']['2'][0]:.1%} |" in table
    study.main(["run", *where])  # all is done: nothing runs again
    assert json.loads((out / "aimclr-0" / "result.json").read_text()) == stored
