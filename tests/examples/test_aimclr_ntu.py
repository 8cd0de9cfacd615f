"""The training loop to copy: it resumes to the same bits, stops at NaN, and says what is wrong with its arguments."""

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.compiling import needs_compiler
from tests.examples.conftest import LoadExample

from skelcontrast import checkpoint, methods
from skelcontrast.data import SkeletonDataset
from skelcontrast.nn import STGCN, ProjectionHead
from skelcontrast.skeleton import NTU_RGBD_25

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "aimclr_ntu.py"
QUICK = [
    *("--dataset", "synthetic", "--frames", "8", "--width", "2", "--embedding", "16", "--batch-size", "64"),
    *("--lr", "0.02", "--schedule", "cosine", "--eval-every", "2"),
    *("--epochs", "4", "--extreme-from", "1", "--mine-from", "2"),
]
QUICK_BASELINE = [*QUICK[: QUICK.index("--extreme-from")], "--method", "skeletonclr"]  # which has no such stages
QUICK_ALL = [*QUICK, "--epochs", "1", "--extreme-from", "0", "--mine-from", "0"]  # all of the loss at once


def start(out: Path, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(SCRIPT), *QUICK, "--out", str(out), "--device", "cpu", *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> None:
    _, errors = process.communicate(timeout=300)
    if process.returncode:
        pytest.fail(errors.decode())


def log_of(out: Path) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in record.items() if name != "seconds"} for record in records]


def flat(value: object, prefix: str = "") -> dict[str, object]:
    if isinstance(value, dict):
        return {key: leaf for name, part in value.items() for key, leaf in flat(part, f"{prefix}/{name}").items()}
    if isinstance(value, list | tuple):
        return {key: leaf for i, part in enumerate(value) for key, leaf in flat(part, f"{prefix}/{i}").items()}
    return {prefix: value}


@pytest.mark.slow
def test_killed_and_resumed_ends_with_the_same_bits(tmp_path: Path) -> None:
    whole = start(tmp_path / "whole")
    broken, kills = tmp_path / "broken", 0
    clock = random.Random(0)  # noqa: S311  a moment to kill at, no secret
    process = start(broken)
    while process.poll() is None and kills < 3:
        done = len(log_of(broken)) if (broken / "log.jsonl").exists() else 0
        if done > kills:  # somewhere in the epoch behind a new checkpoint
            time.sleep(clock.uniform(0, 0.5))
            process.send_signal(signal.SIGKILL)
            process.communicate()
            kills += 1
            process = start(broken, "--resume")
        time.sleep(0.02)
    finish(process)
    finish(whole)

    assert kills >= 1
    assert log_of(broken) == log_of(tmp_path / "whole")
    assert (broken / "result.json").read_text() == (tmp_path / "whole" / "result.json").read_text()
    expected, actual = (flat(checkpoint.load(out / "last.pt")) for out in (tmp_path / "whole", broken))
    assert expected.keys() == actual.keys()
    tensors = 0
    for name, value in expected.items():
        if isinstance(value, torch.Tensor):
            tensors += 1
            assert torch.equal(value, torch.as_tensor(actual[name])), name
        elif not name.endswith("/seconds"):
            assert value == actual[name], name
    assert tensors > 300  # both sides, the bank and its pointer, the optimiser
    assert not list(broken.glob(".*.tmp"))


@pytest.mark.parametrize(
    "more",
    [
        (*QUICK_BASELINE, "--epochs", "1", "--stream", "bone"),
        (*QUICK_ALL, "--preset", "official", "--stream", "motion"),
        (*QUICK_ALL, "--bf16", "--queue-size", "64"),
    ],
    ids=["skeletonclr-bone", "official-motion", "bf16"],
)
def test_variants_run(example: LoadExample, more: tuple[str, ...], tmp_path: Path) -> None:
    result = example("aimclr_ntu").main([*more, "--out", str(tmp_path)])
    (record,) = log_of(tmp_path)
    assert result["knn"] == record["knn"]
    assert 1 / 16 < result["linear"] <= 1  # better than one class for all
    if "official" not in more:  # whose features differ by rounding after an epoch; the probe standardises them
        assert 1 / 16 < result["knn"] <= 1
    terms = {"total", "info_nce"} if "skeletonclr" in more else {"total", "nnm", "d3m"}
    health = {"alignment", "uniformity", "effective_rank", "least_spread", "neighbor_precision", "own_key_share"}
    dropped = set() if "skeletonclr" in more else {"dropped_joints", "dropped_frames"}
    assert record.keys() == {"epoch", "lr", "knn", *terms, *health, *dropped}
    if "skeletonclr" not in more:
        assert record["total"] == pytest.approx(record["nnm"] + record["d3m"], rel=1e-5)


def test_not_a_number_stops_with_the_step_and_keeps_the_last_checkpoint(
    example: LoadExample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = example("aimclr_ntu")
    monkeypatch.setattr(loop, "learning_rate_factor", lambda args, epoch: 1.0 if epoch == 0 else 1e30)
    with pytest.raises(
        FloatingPointError, match=r"finite terms, got total (nan|inf) in step \d+ of \d+ of epoch 2\. A"
    ):
        loop.main([*QUICK, "--out", str(tmp_path)])
    assert len(checkpoint.load(tmp_path / "last.pt")["records"]) == 1
    assert len(log_of(tmp_path)) == 1


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("method", ["aimclr", "skeletonclr"])
def test_what_fast_compiles_is_one_graph_of_the_same_numbers(
    example: LoadExample, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, encoder = example("aimclr_ntu"), STGCN(NTU_RGBD_25, channels=(4,), strides=(1,), dropout=0.0)
    kind = methods.AimCLR if method == "aimclr" else methods.SkeletonCLR
    model = kind(encoder, ProjectionHead(4, 4), queue_size=16).double()
    args = loop.parse([*(QUICK if method == "aimclr" else QUICK_BASELINE), "--stream", "bone"])
    views = loop.build_views(args, NTU_RGBD_25, extreme=method == "aimclr")
    clips = torch.randn(4, 3, 12, 25, 1, dtype=torch.float64)
    drawn = views.sample(clips, torch.Generator().manual_seed(0))
    torch.compiler.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    found = []
    for args.fast in (False, True):
        model.zero_grad()
        if args.fast:
            model.compile(fullgraph=True, dynamic=False)
        keys, loss = loop.build_compare(model, views, NTU_RGBD_25, args, args.mine_from)(clips, drawn)
        loss.total.backward()
        terms = [term.detach() for term in loss if term is not None]
        found.append([keys, *terms, *(parameter.grad for parameter in model.query_parameters())])
    torch.testing.assert_close(found[1], found[0])


@pytest.mark.slow
def test_fast_records_every_stage_once_and_keeps_the_plain_state(
    example: LoadExample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As far as that goes without a device: what is compiled and what is captured are called as they are."""
    loop, compiled, captured = example("aimclr_ntu"), list[dict[str, bool]](), list[torch.nn.Module]()

    def as_it_is(function: Callable[..., object], **how: bool) -> Callable[..., object]:
        compiled.append(how)
        return function

    def not_captured(step: Any, x: torch.Tensor, module: torch.nn.Module) -> Any:
        captured.append(module)
        return step

    arguments = [*QUICK, "--device", "cpu", "--epochs", "4", "--batch-size", "128", "--eval-every", "4"]
    loop.main([*arguments, "--out", str(tmp_path / "plain")])
    parse = loop.parse
    monkeypatch.setattr(loop, "parse", lambda argv: argparse.Namespace(**{**vars(parse(argv)), "fast": True}))
    monkeypatch.setattr(torch, "compile", as_it_is)
    monkeypatch.setattr(loop, "CapturedStep", not_captured)
    loop.main([*arguments, "--out", str(tmp_path / "fast")])
    assert {tuple(how.items()) for how in compiled} == {(("fullgraph", True), ("dynamic", False))}
    assert len(captured) == 3, "contrast alone, with the extreme view, with mining"
    plain, fast = (log_of(tmp_path / name) for name in ("plain", "fast"))
    assert [record["total"] for record in fast] == pytest.approx([record["total"] for record in plain], rel=1e-3)
    states = [checkpoint.load(tmp_path / name / "last.pt")["model"] for name in ("plain", "fast")]
    assert states[0].keys() == states[1].keys()


def test_bad_arguments_are_named(example: LoadExample, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loop = example("aimclr_ntu")
    with pytest.raises(SystemExit):
        loop.main(["--fast", "--device", "cpu", "--out", str(tmp_path)])
    assert "--fast needs a CUDA device, got --device cpu" in capsys.readouterr().err
    (tmp_path / "settings.json").touch()  # also of one that is in its first epoch
    with pytest.raises(SystemExit):
        loop.main([*QUICK, "--out", str(tmp_path)])
    assert "holds a run: pass --resume to go on with it, or another --out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dataset", "utd-mhad"], "--dataset utd-mhad needs --data FOLDER"),
        (["--dataset", "synthetic", "--data", "x"], "--dataset synthetic reads no --data"),
        (["--dataset", "official-npy", "--data", "x", "--protocol", "xview"], "has no --protocol to choose"),
        (["--epochs", "0", "--schedule", "cosine"], "--epochs must be at least 1, got 0"),
        (["--eval-every", "0"], "--eval-every must be at least 1, got 0"),
        (["--warmup", "-3"], "--warmup must be at least 0, got -3"),  # its rates would be negative
        (["--no-drop", "--keep-margin", "0.8"], "--keep-margin does nothing with --no-drop"),
        (["--method", "skeletonclr", "--no-drop"], "--no-drop does nothing with --method skeletonclr"),
        (["--method", "skeletonclr", "--positives", "mean"], "--positives does nothing with --method skeletonclr"),
        (["--method", "skeletonclr", "--mine-from", "9"], "--mine-from does nothing with --method skeletonclr"),
        (["--schedule", "cosine", "--lr-drop", "9"], "--lr-drop does nothing with --schedule cosine"),
        (["--origin", "head"], "--origin does nothing with --dataset synthetic"),
        (["--data", "x", "--origin", "head"], "--origin does nothing with --dataset prepared"),
        (
            ["--dataset", "official-npy", "--data", "x", "--frames", "9"],
            "--frames does nothing with --dataset official",
        ),
    ],
)
def test_options_that_do_not_fit_are_named(
    example: LoadExample, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        example("aimclr_ntu").parse([*options, "--out", "nowhere"])
    assert message in capsys.readouterr().err


def test_a_device_that_is_not_there_is_named(
    example: LoadExample, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="2"):
        example("aimclr_ntu").parse(["--device", "cuda:1", "--out", "nowhere"])
    assert "--device cuda:1 needs a CUDA device, and torch finds none here" in capsys.readouterr().err


def test_options_that_do_nothing_may_be_given_as_they_are_by_default(example: LoadExample) -> None:
    loop = example("aimclr_ntu")
    assert loop.parse(["--no-drop", "--keep-margin", "0.7", "--out", "nowhere"]).no_drop
    assert loop.parse(["--keep-margin", "0.8", "--lr-drop", "9", "--out", "nowhere"]).lr_drop == 9
    for (name, _), idle in loop.IDLE.items():
        assert {name, *idle} <= vars(loop.parse(["--out", "nowhere"])).keys()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--protocol", "xview"], "`protocol` must be a protocol of this dataset ('cross-subject', 'cross-view')"),
        (["--data", "nowhere"], "nowhere', which does not exist. `python -m skelcontrast.data prepare"),
        (["--data", "file"], "file', which is a file. `python -m skelcontrast.data prepare"),
        (["--data", "folder"], "folder', which holds no report.json."),
        (["--dataset", "utd-mhad", "--data", "folder"], "`folder` must hold files such as a1_s1_t1_skeleton.mat"),
        (["--dataset", "official-npy", "--data", "folder"], "folder/train_position.npy` must be a whole .npy file"),
        (["--batch-size", "100000"], "`batch_size` must"),
        (["--queue-size", "3"], "`keys` must hold at most 3 keys, the size of the queue, got 128."),
        (["--out", "file"], "File exists: 'file'"),
    ],
)
def test_wrong_input_is_named_in_one_line_before_anything_is_written(
    example: LoadExample,
    options: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    for file in ("file", "folder/train_position.npy", "folder/train_label.pkl"):
        Path(file).write_text("no clips")
    frames = () if "official-npy" in options else ("--frames", "4")
    with pytest.raises(SystemExit, match="2"):
        example("aimclr_ntu").main(["--width", "1", *frames, "--out", "run", *options])
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert message in said
    assert said.count("\n") == 1
    assert not Path("run").exists()


@pytest.mark.parametrize("fault", [ValueError("cannot reshape"), RuntimeError("CUDA error"), KeyError("clips")])
def test_faults_of_the_program_keep_their_traceback(
    example: LoadExample, fault: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def faulty(_args: argparse.Namespace) -> None:
        raise fault

    loop = example("aimclr_ntu")
    monkeypatch.setattr(loop, "load_data", faulty)
    with pytest.raises(type(fault), match=str(fault.args[0])):
        loop.main([*QUICK, "--out", str(tmp_path)])


def test_a_damaged_checkpoint_is_named_in_one_line(
    example: LoadExample, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loop, more = example("aimclr_ntu"), ["--out", str(tmp_path)]
    (tmp_path / "settings.json").write_text(json.dumps(vars(loop.parse([*QUICK, *more])), default=str))
    (tmp_path / "last.pt").write_text("no checkpoint")
    with pytest.raises(SystemExit, match="2"):
        loop.main([*QUICK, *more, "--resume"])
    assert re.match(r"error: resume: `path` must .*last\.pt.*\n\Z", capsys.readouterr().err)


def test_resuming_with_other_settings_names_them_and_leaves_the_record(
    example: LoadExample, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loop, record, more = example("aimclr_ntu"), tmp_path / "settings.json", ["--out", str(tmp_path), "--resume"]
    record.write_text(json.dumps(vars(loop.parse([*QUICK, "--out", str(tmp_path)])), default=str))
    before = record.read_text()
    loop.check_resumed(loop.parse([*QUICK, *more, "--lr", "0.5"]))  # nothing is trained yet
    (tmp_path / "last.pt").touch()
    with pytest.raises(SystemExit, match="2"):
        loop.main([*QUICK, *more, "--lr", "0.5", "--stream", "bone", "--epochs", "9", "--eval-every", "1"])
    said = capsys.readouterr().err
    assert "`settings` must be those in" in said
    named = {"stream bone where joint is stored", "lr 0.5 where 0.02 is stored", "epochs 9 where 4 is stored"}
    assert all(one in said for one in named)
    assert "eval_every" not in said
    assert record.read_text() == before
    free = ["--eval-every", "1", "--keep", "2", "--workers", "1", "--device", "cpu", "--resident"]
    loop.check_resumed(loop.parse([*QUICK, *more, *free]))


def test_more_epochs_are_another_run_only_under_a_cosine(example: LoadExample, tmp_path: Path) -> None:
    loop = example("aimclr_ntu")
    steps = [*QUICK, "--schedule", "step", "--out", str(tmp_path)]
    (tmp_path / "settings.json").write_text(json.dumps(vars(loop.parse(steps)), default=str))
    (tmp_path / "last.pt").touch()
    loop.check_resumed(loop.parse([*steps, "--epochs", "9", "--resume"]))


def test_the_path_of_the_data_is_kept_whole(example: LoadExample, tmp_path: Path) -> None:
    args = example("aimclr_ntu").parse(["--data", "here", "--out", str(tmp_path)])
    assert (args.data, args.protocol) == (Path("here").absolute(), "xsub")


def test_without_tqdm_there_is_no_bar(example: LoadExample, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    for name in ("aimclr_ntu", "crossclr_ntu", "aimclr_processes", "demo", "evaluate", "reproduce", "supervised"):
        example(name)
    assert list(example("aimclr_ntu").progress([1, 2], "epoch")) == [1, 2]


def test_the_bank_is_as_asked_for_or_the_papers_or_half_of_the_data(example: LoadExample) -> None:
    loop = example("aimclr_ntu")
    train, _ = loop.load_data(loop.parse(QUICK))
    assert loop.build_model(loop.parse(QUICK), train).bank.size == len(train) // 2
    with pytest.warns(UserWarning, match=f"`wanted`, 400, is larger than the number of .* {len(train)}: the bank will"):
        assert loop.build_model(loop.parse([*QUICK, "--queue-size", "400"]), train).bank.size == 400
    for clips, size in ((32767, 16383), (32768, 32768), (37646, 32768)):  # the last: NTU-60, cross-view
        many = SkeletonDataset(torch.zeros(clips, 3, 1, 25, 1), [0] * clips, names=[str(clip) for clip in range(clips)])
        assert loop.build_model(loop.parse(QUICK), many).bank.size == size
    assert loop.build_model(loop.parse([*QUICK, "--queue-size", "7"]), many).bank.size == 7


@pytest.mark.parametrize("method", ["aimclr", "skeletonclr"])
def test_the_official_preset_starts_as_the_released_code(example: LoadExample, method: str) -> None:
    loop = example("aimclr_ntu")
    arguments = [*(QUICK if method == "aimclr" else QUICK_BASELINE), "--width", "4", "--preset"]
    train, _ = loop.load_data(loop.parse(QUICK))
    torch.manual_seed(0)
    moco = loop.build_model(loop.parse([*arguments, "official"]), train).moco
    sides = moco.query_encoder, moco.key_encoder.module
    first, second = (side.get_parameter("blocks.9.tcn.2.weight") for side in sides)
    for weight in (first, second):
        assert weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert (first - second).std().item() == pytest.approx(0.02 * 2**0.5, rel=0.05)  # unrelated draws
    assert moco.query_head.layers[0].bias.eq(0).all()
    assert sides[1].get_parameter("data_bn.weight").ne(1).all()
    moco = loop.build_model(loop.parse([*arguments, "paper"]), train).moco
    assert all(map(torch.equal, moco.query_encoder.parameters(), moco.key_encoder.parameters()))


def test_it_is_short_enough_to_be_read_from_top_to_bottom() -> None:
    assert len(SCRIPT.read_text().splitlines()) <= 310


def test_it_can_be_copied_alone(tmp_path: Path) -> None:
    alone = shutil.copy(SCRIPT, tmp_path)
    run = subprocess.run([sys.executable, alone, "--help"], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
