"""Evaluation of finished runs: every protocol, fusion by name, and runs that cannot be evaluated."""

import json
from pathlib import Path
from types import ModuleType

import pytest
import torch
from tests.examples.conftest import LoadExample

from skelcontrast.data import SkeletonDataset, SyntheticActions
from skelcontrast.evaluation import retrieval
from skelcontrast.skeleton import UTD_MHAD_20

QUICK = (
    "--epochs",
    "1",
    "--lr",
    "0.01",
    "--width",
    "2",
    "--embedding",
    "8",
    "--batch-size",
    "16",
    "--frames",
    "8",
    "--dropout",
    "0",
)


@pytest.fixture
def script(example: LoadExample, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the script, on a few synthetic clips."""
    module = example("evaluate")
    clips = SyntheticActions(subjects=4, repetitions=1, camera_yaw_degrees=(0.0,), frames=8)
    monkeypatch.setattr(module.pretraining, "load_data", lambda args: clips.split("cross-subject"))
    return module


def run(script: ModuleType, folder: Path, *more: str) -> str:
    script.pretraining.main([*QUICK, "--queue-size", "16", "--out", str(folder), *more])
    return str(folder)


def test_every_protocol_of_one_stream(script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run(script, tmp_path / "bone", "--stream", "bone", "--keep", "1")
    result = json.loads((tmp_path / "bone" / "result.json").read_text())
    assert script.main([folder])["bone"]["top-1"] == result["linear"]  # what the run itself found
    found = script.main([folder, "--protocol", "knn", "--k", "1", "5"])["bone"]
    assert found["kNN 1"] == result["knn"]
    assert set(found) == {"kNN 1", "kNN 5"}
    assert script.main([folder, "--checkpoint", "epoch-1.pt", "--protocol", "knn", "--k", "1"])["bone"] == {
        "kNN 1": result["knn"]
    }
    (one,) = script.load_run(Path(folder), name="last.pt", data=None, device="cpu")
    recall = retrieval(*script.features(one), k=1).recall[1]  # not kNN's, which may choose otherwise among equals
    assert script.main([folder, "--protocol", "retrieval", "--k", "1"])["bone"]["recall at 1"] == recall
    assert 0 < script.main([folder, "--protocol", "person"])["bone"]["same person"] < 1
    for protocol, options in (("exact", []), ("finetune", ["--epochs", "1"]), ("semi", ["--epochs", "1"])):
        values = script.main([folder, "--protocol", protocol, *options])["bone"]
        assert values["low"] <= values["top-1"] <= values["high"]
    untrained = script.main([folder, "--untrained", "--protocol", "exact"])
    assert untrained != script.main([folder, "--protocol", "exact"])
    assert "bone    top-1" in capsys.readouterr().out


def test_raw_is_the_released_linear_protocol(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "joint"
    run(script, folder)
    (one,) = script.load_run(folder)
    known, new = script.features(one)
    released = script.evaluation.linear_probe(known, new)
    assert torch.equal(script.measure(one, "linear", raw=True).scores.logits, released.logits)
    assert not torch.equal(script.measure(one, "linear").scores.logits, released.logits)
    assert script.main([str(folder), "--raw"])["joint"]["top-1"] == released.accuracy


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ("--raw --protocol knn", "--raw is for --protocol linear, got knn"),
        ("--share 0.1 --protocol knn", None),  # the default changes nothing
        ("--share 0.2 --protocol finetune", "--share is for --protocol semi, got finetune"),
        ("--epochs 9", "--epochs is for --protocol finetune or semi, got linear"),
        ("--frozen --protocol exact", "--frozen is for --protocol finetune or semi, got exact"),
        ("--k 3 --protocol person", "--k is for --protocol knn or retrieval, got person"),
        ("--classes --protocol knn", "--classes is for --protocol linear or exact or finetune or semi, got knn"),
    ],
)
def test_options_that_a_protocol_does_not_read_are_refused(
    script: ModuleType, capsys: pytest.CaptureFixture[str], options: str, error: str | None
) -> None:
    given = ["run", *options.split()]
    if error is None:
        assert script.parse(given).share == 0.1
        return
    with pytest.raises(SystemExit, match="2"):
        script.parse(given)
    assert error in capsys.readouterr().err


def test_batch_norm_takes_the_statistics_of_the_clips_that_it_is_shown(script: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / "joint"
    run(script, folder)
    (one,) = script.load_run(folder)
    script.reestimate_batch_norm(one, "plain")
    seen: list[torch.Tensor] = []
    handle = one.encoder.data_bn.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        one.encoder(one.train.take(torch.arange(len(one.train))))
    handle.remove()
    assert not one.encoder.training
    mean = one.encoder.data_bn.running_mean.clone()
    torch.testing.assert_close(mean, seen[0].mean(dim=(0, 2)), atol=1e-5, rtol=1e-4)
    script.reestimate_batch_norm(one, "extreme")
    assert not torch.allclose(one.encoder.data_bn.running_mean, mean, atol=1e-3)


@pytest.mark.parametrize("rows", [1, 3, 1024])
def test_the_nearest_of_all_other_clips_decides_who_is_there(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr(script, "ROWS", rows)
    features = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
    clips = SkeletonDataset(torch.zeros(4, 3, 2, 20, 1), [0, 0, 0, 0], names=list("abcd"), subjects=[1, 1, 2, 3])
    assert script.same_person(features, clips) == 0.5
    unknown = SkeletonDataset(torch.zeros(4, 3, 2, 20, 1), [0, 0, 0, 0], names=list("abcd"))
    with pytest.raises(SystemExit, match="needs data that says who is seen"):
        script.same_person(features, unknown)


def test_streams_are_fused_and_written(script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [run(script, tmp_path / stream, "--stream", stream) for stream in ("joint", "motion")]
    where = tmp_path / "found.json"
    more = ["--device", "cpu", "--json", str(where), "--classes", "--confusion", str(tmp_path / "confusion.png")]
    found = script.main([*folders, "--protocol", "exact", *more])
    written = json.loads(where.read_text())
    assert {name: written[name] for name in found} == found
    assert {name: value for name, value in written.items() if name not in found} == {
        "runs": folders,
        "protocol": "exact",
        "checkpoint": "last.pt",
        "untrained": False,
        "batch_norm": None,
        "data": None,
        "dataset": "synthetic",
        "data_protocol": "cross-subject",
        "device": "cpu",
        "seed": 0,
        "k": [1, 5, 20],
        "share": 0.1,
        "epochs": 30,
        "lr": 0.02,
        "frozen": False,
        "raw": False,
    }
    assert set(found) == {"joint", "motion", "fused"}
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("  ") for line in lines) == 16  # a line per class
    assert (tmp_path / "confusion.png").stat().st_size > 0
    assert set(script.main([*folders, "--protocol", "knn"])) == {"joint", "motion"}  # nothing to fuse


def test_a_run_is_evaluated_on_another_device_and_data_set(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run(script, tmp_path / "run", "--device", "cpu")
    settings = tmp_path / "run" / "settings.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "device": "cuda:7"}))
    assert script.load_run(tmp_path / "run")[0].args.device == script.pretraining.parse(["--resume"]).device
    assert script.main([folder, "--device", "cpu", "--protocol", "knn"])
    (other,) = script.load_run(tmp_path / "run", dataset="utd-mhad", data=tmp_path, device="cpu")
    assert (other.args.protocol, other.args.origin) == ("xsub", "hip centre")
    with pytest.raises(SystemExit, match="was trained on synthetic clips: say with --dataset what --data holds"):
        script.main([folder, "--data", str(tmp_path)])
    with pytest.raises(SystemExit, match="--dataset utd-mhad needs --data FOLDER"):
        script.main([folder, "--dataset", "utd-mhad"])
    with pytest.raises(SystemExit):
        script.main([folder, "--dataset", "ntu"])
    assert "argument --dataset: invalid choice: 'ntu'" in capsys.readouterr().err


def test_a_run_is_evaluated_on_a_data_set_of_another_size(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The size of the bank follows from the training clips unless it is given; the encoder does not depend on it."""
    script.pretraining.main([*QUICK, "--out", str(tmp_path)])
    (trained,) = script.load_run(tmp_path)
    more = SyntheticActions(subjects=8, repetitions=1, camera_yaw_degrees=(0.0,), frames=8).split("cross-subject")
    monkeypatch.setattr(script.pretraining, "load_data", lambda args: more)
    (transferred,) = script.load_run(tmp_path)
    assert len(transferred.train) > len(trained.train)
    expected = trained.encoder.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in transferred.encoder.state_dict().items())


def test_a_cross_stream_run_holds_its_streams(
    script: ModuleType, example: LoadExample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cross = example("crossclr_ntu")
    monkeypatch.setattr(cross, "pretraining", script.pretraining)
    cross.main([*QUICK, "--queue-size", "16", "--streams", "joint", "bone", "--out", str(tmp_path)])
    result = json.loads((tmp_path / "result.json").read_text())
    found = script.main([str(tmp_path)])
    assert {stream: values["top-1"] for stream, values in found.items()} == {
        "joint": result["linear_joint"],
        "bone": result["linear_bone"],
        "fused": result["linear_fused"],
    }


def test_runs_that_cannot_be_evaluated(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run(script, tmp_path / "run")
    with pytest.raises(SystemExit, match=r"has no checkpoint epoch-7.pt; there are: last.pt\."):
        script.main([folder, "--checkpoint", "epoch-7.pt"])
    with pytest.raises(SystemExit, match=r"two of the runs hold the stream 'joint'; give one of each\."):
        script.main([folder, folder, "--protocol", "knn"])
    missing = str(tmp_path / "missing" / "found.json")
    for options, message in (
        (["--protocol", "knn", "--k", "500"], "error: knn_accuracy: `k` must lie in [1, "),
        (["--protocol", "knn", "--json", missing], "error: write_json_lines: `path` must lie in an existing folder"),
    ):
        capsys.readouterr()
        with pytest.raises(SystemExit, match="2"):
            script.main([folder, *options])
        assert message in capsys.readouterr().err
    (tmp_path / "run" / "settings.json").rename(tmp_path / "settings.json")
    with pytest.raises(SystemExit, match=r"has no settings.json, so it is not the folder of a run\."):
        script.main([folder])
    with pytest.raises(SystemExit, match=r"nowhere does not exist\."):
        script.main([str(tmp_path / "nowhere")])
    (tmp_path / "settings.json").rename(tmp_path / "run" / "settings.json")
    smaller = SyntheticActions(subjects=2, repetitions=1, frames=8).take(list(range(32)))[:, :, :, :20]
    other = script.SkeletonDataset(
        smaller, [0] * 32, names=[str(i) for i in range(32)], layout=UTD_MHAD_20, subjects=[0] * 16 + [1] * 16
    )
    monkeypatch.setattr(script.pretraining, "load_data", lambda args: other.cross_subject([0]))
    with pytest.raises(SystemExit, match=r"last.pt does not fit an encoder for data of the skeleton UTD"):
        script.main([folder])
