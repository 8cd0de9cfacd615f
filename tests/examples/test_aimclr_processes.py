"""Two processes train as one with their clips would, go on where they were broken off, and say what they cannot do."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from tests.examples.conftest import EXAMPLES, LoadExample
from torch.nn.utils import parameters_to_vector

from skelcontrast import checkpoint, methods
from skelcontrast.data import SkeletonLoader
from skelcontrast.skeleton import NTU_RGBD_25

QUICK = [
    *("--frames", "4", "--width", "1", "--dropout", "0.5", "--embedding", "8", "--queue-size", "96"),
    *("--batch-size", "64", "--lr", "0.02", "--momentum", "0.9", "--mine-from", "1", "--device", "cpu"),
]


def run(*arguments: str) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, str(EXAMPLES / "aimclr_processes.py"), *QUICK, *arguments], env=environment, check=True)


def in_one_process(script: ModuleType, out: Path) -> tuple[methods.AimCLR, list[float]]:
    """Train on the same clips in this process alone; also return the mean loss of each epoch."""
    args = script.pretraining.parse([*QUICK, "--epochs", "2", "--out", str(out)])
    torch.manual_seed(args.seed)
    clips, _ = script.pretraining.load_data(args)
    model = script.pretraining.build_model(args, clips)
    assert isinstance(model, methods.AimCLR)
    weights = model.query_parameters()
    optimizer = torch.optim.SGD(weights, lr=args.lr, momentum=0.9, weight_decay=1e-4)
    views = script.pretraining.build_views(args, NTU_RGBD_25)
    loaders = [SkeletonLoader(clips, args.batch_size // 2, seed=args.seed, rank=rank, world_size=2) for rank in (0, 1)]
    totals = []
    for epoch in range(args.epochs):
        generators = [torch.Generator().manual_seed(script.dropout_seed(args.seed, epoch, rank)) for rank in (0, 1)]
        states, total = [generator.get_state() for generator in generators], 0.0
        for batches in zip(*loaders, strict=True):
            model.momentum_update()
            optimizer.zero_grad()
            keys = []
            for rank, batch in enumerate(batches):
                torch.set_rng_state(states[rank])
                embedded = model.embed(*views(batch.x, batch.generator))
                states[rank] = torch.get_rng_state()
                loss = model.loss(embedded, mine=epoch >= args.mine_from).total / 2
                loss.backward()
                keys.append(embedded.key)
                total += loss.item() / len(loaders[0])
            optimizer.step()
            model.enqueue(torch.cat(keys))
        totals.append(total)
    return model, totals


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="torch was built without gloo")
def test_two_processes_broken_off_and_resumed_train_as_one(example: LoadExample, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run("--epochs", "1", "--out", str(out))
    run("--epochs", "2", "--out", str(out), "--resume")
    model, totals = in_one_process(example("aimclr_processes"), tmp_path / "alone")
    first, second = (json.loads(line) for line in (out / "log.jsonl").read_text().splitlines())
    assert first.keys() == {"epoch", "lr", "total", "info_nce", "d3m", "knn", "seconds"}
    assert second.keys() == {"epoch", "lr", "total", "nnm", "d3m", "knn", "seconds"}
    assert [first["total"], second["total"]] == pytest.approx(totals, rel=1e-5)
    saved = checkpoint.load(out / "last.pt")["model"]
    assert torch.equal(saved["bank.pointer"], model.bank.pointer)
    torch.testing.assert_close(saved["bank.keys"], model.bank.keys, rtol=0, atol=1e-5)
    trained = parameters_to_vector(saved[name] for name, _ in model.named_parameters())
    torch.testing.assert_close(trained, parameters_to_vector(model.parameters()).detach(), rtol=0, atol=1e-5)
    assert json.loads((out / "result.json").read_text()).keys() == {"knn", "linear"}


@pytest.mark.parametrize(
    ("processes", "arguments", "message"),
    [
        (None, [], "start it with torchrun, which says how many processes there are"),
        ("2", ["--batch-size", "31"], "--batch-size must be a multiple of the number of processes, 2, got 31"),
        ("2", ["--fast", "--device", "cuda:0"], "--fast is for aimclr_ntu.py only"),
    ],
)
def test_what_it_cannot_do(
    example: LoadExample,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    processes: str | None,
    arguments: list[str],
    message: str,
) -> None:
    script = example("aimclr_processes")
    monkeypatch.delenv("RANK", raising=False)
    if processes is not None:
        monkeypatch.setenv("RANK", "0")
        monkeypatch.setenv("WORLD_SIZE", processes)
    with pytest.raises(SystemExit):
        script.parse([*arguments, "--out", "nowhere"])
    assert message in capsys.readouterr().err


def test_resuming_with_other_settings_is_refused(
    example: LoadExample, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    script = example("aimclr_processes")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    given = [*QUICK, "--out", str(tmp_path)]
    (tmp_path / "settings.json").write_text(json.dumps(vars(script.parse(given)), default=str))
    (tmp_path / "last.pt").touch()
    with pytest.raises(SystemExit, match="2"):
        script.main([*given, "--resume", "--lr", "0.5"])
    assert "lr 0.5 where 0.02 is stored" in capsys.readouterr().err
