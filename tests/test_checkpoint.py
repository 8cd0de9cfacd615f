"""Checkpoints: round trips bit for bit, all or nothing, hostile and damaged files, and the messages of bad calls."""

import copy
import os
import pickle
import random
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from skelcontrast import checkpoint


class Net(nn.Module):
    """A network with every kind of state: parameters, running statistics, a pointer, dropout that draws."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.layer = nn.Linear(3, width)
        self.norm = nn.BatchNorm1d(width)
        self.drop = nn.Dropout(0.5)
        self.register_buffer("pointer", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.drop(self.norm(self.layer(x)))
        return y


class Training:
    """A small run whose every number depends on everything that a checkpoint must hold."""

    def __init__(self, optimizer: str, schedule: str, *, seed: int) -> None:
        torch.manual_seed(seed)
        self.model = Net()
        self.optimizer: torch.optim.Optimizer = OPTIMIZERS[optimizer](self.model.parameters())
        self.schedule: Any = SCHEDULES[schedule](self.optimizer)
        self.generator = torch.Generator().manual_seed(seed)

    def step(self) -> float:
        x = torch.randn(8, 3, generator=self.generator) * random.random() + float(np.random.rand())  # noqa: NPY002, S311
        loss = self.model(x).square().sum()
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        self.optimizer.step()
        self.schedule.step()
        return float(loss.detach())

    def parts(self) -> dict[str, Any]:
        names = ("model", "optimizer", "schedule", "generator")
        return {name: getattr(self, name) for name in names}


OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.01, momentum=0.9, weight_decay=1e-4),
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=0.01, amsgrad=True),
    "adamw": lambda parameters: torch.optim.AdamW([{"params": [p]} for p in parameters], lr=0.01),
}
SCHEDULES: dict[str, Callable[[torch.optim.Optimizer], Any]] = {
    "milestones": lambda optimizer: torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 4]),
    "warm-up": lambda optimizer: torch.optim.lr_scheduler.SequentialLR(
        optimizer,
        [
            torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=3),
            torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10),
        ],
        [3],
    ),
    "lambda": lambda optimizer: torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.9**epoch),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "last.pt"


@pytest.mark.filterwarnings("ignore:.*lr_scheduler.step:UserWarning", "ignore:The epoch parameter:UserWarning")
@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
@pytest.mark.parametrize("schedule", list(SCHEDULES))
def test_a_resumed_run_ends_with_the_same_bits(path: Path, optimizer: str, schedule: str) -> None:
    run = Training(optimizer, schedule, seed=1)
    for _ in range(3):
        run.step()
    checkpoint.save(path, {**run.parts(), "epoch": 3})
    expected = [run.step() for _ in range(4)]

    other = Training(optimizer, schedule, seed=2)
    other.step()
    assert checkpoint.resume(path, other.parts()) == {"epoch": 3}
    assert [other.step() for _ in range(4)] == expected
    for key, value in run.model.state_dict().items():
        assert torch.equal(value, other.model.state_dict()[key])
    assert run.schedule.get_last_lr() == other.schedule.get_last_lr()


def test_plain_data_comes_back_as_it_was(path: Path) -> None:
    plain: dict[str, Any] = {
        "none": None,
        "flags": [True, False],
        "numbers": (1, 2.5, float("inf")),
        "text": "é",
        "nested": {"a": [{"b": (1, (2,))}], 3: "three"},
        "tensor": torch.arange(3, dtype=torch.int16),
    }
    checkpoint.save(path, {**plain, "numpy": np.float64(0.1)}, rng=False)
    found = checkpoint.load(path)
    assert torch.equal(found.pop("tensor"), plain.pop("tensor"))
    numpy = found.pop("numpy")
    assert found == plain
    assert numpy == 0.1
    assert type(numpy) is float


def test_load_gives_state_dicts_that_torch_takes(path: Path) -> None:
    model = Net()
    checkpoint.save(path, {"model": model, "draws": torch.Generator().manual_seed(5)})
    found = checkpoint.load(path, map_location="cpu")
    assert isinstance(found["model"], OrderedDict)
    assert found["model"]._metadata == model.state_dict()._metadata  # type: ignore[attr-defined]  # torch's own
    Net().load_state_dict(found["model"], strict=True)
    assert torch.equal(found["draws"], torch.Generator().manual_seed(5).get_state())


def test_load_puts_tensors_where_it_is_told(path: Path) -> None:
    checkpoint.save(path, {"model": Net()})
    found = checkpoint.load(path, map_location="meta")
    assert {tensor.device.type for tensor in found["model"].values()} == {"meta"}


def test_resume_with_rng_false_leaves_the_generators(path: Path) -> None:
    checkpoint.save(path, {"epoch": 1})
    torch.rand(3)
    before = torch.get_rng_state()
    checkpoint.resume(path, {}, rng=False)
    assert torch.equal(torch.get_rng_state(), before)


def test_saving_draws_nothing(path: Path) -> None:
    before = torch.get_rng_state(), random.getstate()
    checkpoint.save(path, {"epoch": 1})
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]


def test_a_newer_checkpoint_takes_the_place_of_the_older(path: Path) -> None:
    for epoch in range(3):
        checkpoint.save(str(path), {"epoch": epoch})
    assert checkpoint.load(str(path)) == {"epoch": 2}
    assert [entry.name for entry in path.parent.iterdir()] == ["last.pt"]


def state_of(targets: Mapping[str, Any]) -> str:
    """Write every state out, tensors included, to compare before and after."""
    states = {
        name: part.get_state() if isinstance(part, torch.Generator) else part.state_dict()
        for name, part in targets.items()
    }
    return repr([states, torch.get_rng_state().tolist(), random.getstate()])


def misfit_cases() -> list[Any]:
    wide, deep, double = Net(5), nn.Sequential(Net()), Net().double()
    renamed = Net()
    renamed.extra = nn.Parameter(torch.zeros(1))
    del renamed.pointer
    sgd = OPTIMIZERS["sgd"]
    return [
        ({"model": wide}, 'model["layer.weight"] must have shape (5, 3), got (4, 3)'),
        ({"model": double}, 'model["layer.weight"] must have dtype torch.float64, got torch.float32'),
        ({"model": renamed}, 'model["extra"] is missing; model["pointer"] is left over'),
        ({"model": deep}, "; and 8 more"),
        ({"encoder": Net()}, 'it holds no state "encoder"'),
        ({"model": OPTIMIZERS["sgd"](Net().parameters())}, '"model" must be a SGD, got a module'),
        ({"optimizer": OPTIMIZERS["adam"](Net().parameters())}, '"optimizer" must be a Adam, got a SGD'),
        ({"optimizer": sgd(nn.Linear(3, 4).parameters())}, "must have parameter groups of sizes [2], got [4]"),
        (
            {"optimizer": sgd(wide.parameters())},
            'optimizer["state"][0]["momentum_buffer"] must have shape (5, 3), got (4, 3)',
        ),
        (
            {"schedule": SCHEDULES["warm-up"](sgd(Net().parameters()))},
            '"schedule" must be a SequentialLR, got a Mul',
        ),
        ({"generator": Net()}, '"generator" must be a module, got a cpu generator'),
        ({"schedule": None}, 'it holds "schedule", which is not among the targets'),
    ]


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step:UserWarning")
@pytest.mark.parametrize(("change", "message"), misfit_cases())
def test_nothing_is_loaded_where_anything_does_not_fit(path: Path, change: dict[str, Any], message: str) -> None:
    run = Training("sgd", "milestones", seed=1)
    run.step()
    checkpoint.save(path, {**run.parts(), "epoch": 3})
    other = Training("sgd", "milestones", seed=2)
    targets = {name: part for name, part in {**other.parts(), **change}.items() if part is not None}
    before = state_of(targets)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        checkpoint.resume(path, targets)
    assert str(caught.value).startswith(f"resume: `path` must fit `targets`, got {path}, where ")
    assert state_of(targets) == before


class Meter:
    """A state of the user's own, which refuses negative totals."""

    def __init__(self, total: float) -> None:
        self.total = total

    def state_dict(self) -> dict[str, Any]:
        return {"total": self.total}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.total = state_dict["total"]
        if self.total < 0:
            raise ArithmeticError(self.total)


def test_an_object_that_refuses_its_state_undoes_the_others(path: Path) -> None:
    checkpoint.save(path, {"model": Net(), "good": Meter(5), "bad": Meter(-1)})
    targets = {"model": Net(), "good": Meter(1), "bad": Meter(2)}
    before = state_of(targets)
    with pytest.raises(ArithmeticError):
        checkpoint.resume(path, targets)
    assert state_of(targets) == before


class Versioned(nn.Linear):
    """A module that refuses the extra state of another version."""

    def __init__(self, version: int) -> None:
        super().__init__(2, 2)
        self.version = version

    def get_extra_state(self) -> dict[str, int]:
        return {"version": self.version}

    def set_extra_state(self, state: dict[str, int]) -> None:
        if state["version"] != self.version:
            raise ArithmeticError(state)


def test_a_module_that_refuses_its_extra_state_undoes_the_others(path: Path) -> None:
    run, other = Training("sgd", "milestones", seed=1), Training("sgd", "milestones", seed=2)
    run.step()
    checkpoint.save(path, {**run.parts(), "versioned": Versioned(1)})
    targets = {**other.parts(), "versioned": Versioned(2)}
    before = state_of(targets)
    with pytest.raises(ArithmeticError):
        checkpoint.resume(path, targets)
    assert state_of(targets) == before


def test_a_state_of_the_users_own_is_restored(path: Path) -> None:
    checkpoint.save(path, {"meter": Meter(5)})
    meter = Meter(0)
    checkpoint.resume(path, {"meter": meter})
    assert meter.total == 5


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (
            {"where": Path()},
            '`state["where"]` must be a state or plain data (None, numbers, strings',
        ),
        ({"a": {"b": [1, Fraction(1)]}}, "`state[\"a\"]['b'][1]` must be a state or plain data"),
        ({"x": np.zeros(2)}, "got ndarray. Use torch.from_numpy."),
        ({"m": Meter(Fraction(1))}, "`state[\"m\"].state_dict()['total']` must be a state or plain data"),  # type: ignore[arg-type]  # on purpose
        ({"b": b"1"}, "got bytes. Convert it"),  # these two are refused by the readers of older torch
        ({"z": 1j}, "got complex. Convert it"),
        ({3: 1}, "`state` must have strings as names, got 3."),
        ([1], "`state` must be a mapping from names, got list."),
    ],
)
def test_unwritable_state_leaves_the_older_file(path: Path, state: Any, message: str) -> None:
    checkpoint.save(path, {"epoch": 1})
    with pytest.raises(TypeError, match=re.escape(message)) as caught:
        checkpoint.save(path, state)
    assert str(caught.value).startswith("save: ")
    assert checkpoint.load(path) == {"epoch": 1}
    assert len(list(path.parent.iterdir())) == 1


def test_a_file_that_the_disk_does_not_take_is_an_error_of_the_system(path: Path) -> None:
    resource = pytest.importorskip("resource")
    checkpoint.save(path, {"epoch": 1})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            checkpoint.save(path, {"epoch": 2, "weight": torch.zeros(2**16)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert checkpoint.load(path) == {"epoch": 1}
    assert list(path.parent.iterdir()) == [path]


def test_missing_folder_and_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=re.escape(f"must lie in an existing folder, got {tmp_path}/no/x.pt")):
        checkpoint.save(tmp_path / "no" / "x.pt", {})
    message = re.escape(f"load: `path` must name an existing checkpoint, got {tmp_path}/x.pt.")
    with pytest.raises(FileNotFoundError, match=message):
        checkpoint.load(tmp_path / "x.pt")


def test_every_truncation_is_refused(path: Path) -> None:
    checkpoint.save(path, {"model": Net(), "epoch": 3})
    whole = path.read_bytes()
    for size in [0, 1, 3, 4, 100, len(whole) // 2, len(whole) - 100, len(whole) - 1]:
        path.write_bytes(whole[:size])
        message = f"load: `path` must be a whole checkpoint, got {path}, which breaks off after {size} bytes."
        with pytest.raises(RuntimeError, match=re.escape(message)):
            checkpoint.load(path)


def test_a_flipped_bit_is_seen_before_anything_is_loaded(path: Path) -> None:
    model = Net()
    checkpoint.save(path, {"model": model})
    with zipfile.ZipFile(path) as archive:
        weight = model.layer.weight.detach().numpy().tobytes()
        part = next(name for name in archive.namelist() if archive.read(name) == weight)
    data = bytearray(path.read_bytes())
    data[data.index(weight) + 5] ^= 1
    path.write_bytes(data)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(RuntimeError, match=re.escape(f"{path}, which is damaged in its part {part}.")):
        checkpoint.resume(path, {"model": model})
    for key, value in before.items():
        assert torch.equal(model.state_dict()[key], value)


def test_a_flipped_bit_in_any_byte_of_the_directory_is_harmless_or_named(path: Path, tmp_path: Path) -> None:
    checkpoint.save(path, {"x": torch.arange(3.0)}, rng=False)
    whole, spoilt = path.read_bytes(), tmp_path / "spoilt.pt"
    for place in range(whole.index(b"PK\x01\x02"), len(whole)):
        data = bytearray(whole)
        data[place] ^= 1 << place % 8
        spoilt.write_bytes(data)
        said = ""
        try:
            found = checkpoint.load(spoilt)
        except (RuntimeError, ValueError) as error:
            said = str(error)
        if said:
            assert said.startswith("load: `path` must be a"), place
            assert str(spoilt) in said, place
        else:
            assert found["x"].tolist() == [0, 1, 2], place


def test_a_part_marked_as_a_folder_is_damaged(path: Path) -> None:
    checkpoint.save(path, {"x": torch.arange(3.0)}, rng=False)
    data = bytearray(path.read_bytes())
    entry = data.rindex(b"PK\x01\x02", 0, data.index(b"/data/0", data.index(b"PK\x01\x02")))
    data[entry + 38] |= 0x10
    path.write_bytes(data)
    with pytest.raises(
        RuntimeError, match=rf"a whole checkpoint, got {path}, which is damaged in its part archive/data/0\."
    ):
        checkpoint.load(path)


class Hostile:
    """Pickled, it asks the reader to make a folder."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


def test_a_hostile_file_is_refused_unrun(path: Path, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    torch.save({"format": checkpoint.FORMAT, "version": 1, "states": Hostile(marker)}, path)
    message = rf"load: `path` must hold tensors and plain data only, got {re.escape(str(path))}, which asks for posix"
    with pytest.raises(RuntimeError, match=message):
        checkpoint.load(path)
    path.write_bytes(pickle.dumps(Hostile(marker)))
    with pytest.raises(ValueError, match=r"must be a file written by checkpoint.save, got .*last.pt, which is none"):
        checkpoint.load(path)
    assert not marker.exists()


def test_files_of_other_programs(path: Path) -> None:
    for content in (Net().state_dict(), [1, 2]):
        torch.save(content, path)
        with pytest.raises(ValueError, match=r"written by checkpoint.save, got .*last.pt, which does not say so. Read"):
            checkpoint.load(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme", "hello")
    with pytest.raises(ValueError, match=r"written by checkpoint.save, got .*last.pt, which torch cannot read \("):
        checkpoint.load(path)
    torch.save({"format": checkpoint.FORMAT}, path)
    with pytest.raises(ValueError, match=r"written by checkpoint.save, got .*last.pt, which does not say so"):
        checkpoint.load(path)
    torch.save({"format": checkpoint.FORMAT, "version": 2}, path)
    with pytest.raises(ValueError, match=r"`path` must have format version 1, got .*last.pt of 2. A later version"):
        checkpoint.load(path)


def test_swapped_arguments(path: Path) -> None:
    state: Any = {"epoch": 3}
    swapped: Any = path
    for owner, call in (
        ("save", lambda: checkpoint.save(state, swapped)),
        ("load", lambda: checkpoint.load(state)),
        ("resume", lambda: checkpoint.resume(state, swapped)),
    ):
        message = f"{owner}: `path` must be a str or a path, got dict. The path comes first."
        with pytest.raises(TypeError, match=re.escape(message)):
            call()


def test_bad_targets_and_absent_generators(path: Path) -> None:
    checkpoint.save(path, {"epoch": 3}, rng=False)
    message = '`targets["epoch"]` must have `state_dict` and `load_state_dict`, or be a torch.Generator, got int.'
    with pytest.raises(TypeError, match=re.escape(message)):
        checkpoint.resume(path, {"model": nn.Linear(1, 1), "epoch": 3})
    targets: Any
    for targets, message in (
        ([nn.Linear(1, 1)], "resume: `targets` must be a mapping from names, got list."),
        ({"model": nn.Linear(1, 1), 3: nn.Linear(1, 1)}, "resume: `targets` must have strings as names, got 3."),
    ):
        with pytest.raises(TypeError, match=re.escape(message)):
            checkpoint.resume(path, targets)
    message = (
        f"`path` must hold the random generators, got {path}, saved without. Pass rng=False to resume without them."
    )
    with pytest.raises(RuntimeError, match=re.escape(message)):
        checkpoint.resume(path, {})
    assert checkpoint.resume(path, {}, rng=False) == {"epoch": 3}
