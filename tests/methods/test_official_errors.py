"""Every way in which the file of a released checkpoint can be wrong, and how it is said."""

import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.reference.official import crossclr_state, official_state

from skelcontrast.methods import load_official, load_official_encoder


def saved(folder: Path, content: object, **options: Any) -> Path:
    path = folder / "official.pt"
    torch.save(content, path, **options)
    return path


MUST = "load_official: `path` must hold the keys of the model that it describes, got {path} with "


@pytest.mark.parametrize(
    "key",
    [
        "encoder_k.A",
        "encoder_k.st_gcn_networks.2.residual.1.running_var",
        "encoder_q.edge_importance.3",
        "encoder_q.st_gcn_networks.0.gcn.conv.bias",
        "encoder_k.fc.2.weight",
        "encoder_q.fc.2.bias",
        "queue_ptr",
    ],
)
def test_missing_key_is_named(tmp_path: Path, key: str) -> None:
    state = official_state()
    del state[key]
    path = saved(tmp_path, state)
    with pytest.raises(ValueError, match=re.escape(f"{MUST.format(path=path)}missing: {key}.")):
        load_official(path)


@pytest.mark.parametrize(
    "key", ["encoder_q.A", "encoder_q.fc.0.weight", "encoder_q.fc.2.weight", "encoder_q.data_bn.weight", "queue"]
)
def test_missing_key_that_sizes_are_read_from_is_named(tmp_path: Path, key: str) -> None:
    state = official_state()
    del state[key]
    path = saved(tmp_path, state)
    with pytest.raises(
        ValueError, match=re.escape(f"must hold a pre-training state dict, got {path} with missing: {key}.")
    ):
        load_official(path)


@pytest.mark.parametrize("block", [0, 2, 4])
@pytest.mark.parametrize("part", ["", "tcn.2.weight"])
def test_missing_block_is_named(tmp_path: Path, block: int, part: str) -> None:
    prefix = f"encoder_q.st_gcn_networks.{block}.{part}"
    state = {name: value for name, value in official_state().items() if not name.startswith(prefix)}
    with pytest.raises(ValueError, match=rf"st_gcn_networks\.{block}\."):
        load_official(saved(tmp_path, state))


def test_left_over_keys_are_named(tmp_path: Path) -> None:
    state = official_state()
    state["encoder_q.st_gcn_networks.1.residual.0.bias"] = state["queue_motion"] = torch.zeros(2)
    path = saved(tmp_path, state)
    names = "encoder_q.st_gcn_networks.1.residual.0.bias, queue_motion"
    with pytest.raises(ValueError, match=re.escape(f"{MUST.format(path=path)}left over: {names}.")):
        load_official(path)


@pytest.mark.parametrize(
    ("key", "shape", "expected"),
    [
        ("encoder_k.fc.0.bias", (6,), (7,)),
        ("encoder_q.st_gcn_networks.1.gcn.conv.weight", (12, 5, 1, 1), (12, 4, 1, 1)),
        ("encoder_q.st_gcn_networks.1.gcn.conv.bias", (3, 4), (12,)),
        ("encoder_k.edge_importance.0", (3, 20, 20), (3, 25, 25)),
        ("encoder_k.A", (2, 25, 25), (3, 25, 25)),
        ("encoder_q.A", (2, 25, 25), (3, 25, 25)),
        ("encoder_k.data_bn.weight", (), (75,)),
        ("queue", (12, 5), (5, 5)),
        ("queue_ptr", (2,), (1,)),
    ],
)
def test_key_of_another_shape_is_named(
    tmp_path: Path, key: str, shape: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    state = official_state()
    state[key] = torch.zeros(shape)

    def show(shape: tuple[int, ...]) -> str:
        return str(shape)

    path = saved(tmp_path, state)
    message = f"{MUST.format(path=path)}of another shape: {key} {show(shape)} where {show(expected)} is expected"
    with pytest.raises(ValueError, match=re.escape(message)):
        load_official(path)


@pytest.mark.parametrize(
    ("key", "shape", "message"),
    [
        ("queue", (12,), "`queue` must have shape (D, K) in {path}, got (12,)."),
        ("encoder_q.A", (), "`encoder_q.A` must have shape (P, V, V) in {path}, got ()."),
        ("encoder_q.data_bn.weight", (), "`encoder_q.data_bn.weight` must have shape (V*C,) in {path}, got ()."),
        ("encoder_q.fc.0.weight", (7,), "`encoder_q.fc.0.weight` must have shape (H, D) in {path}, got (7,)."),
        (
            "encoder_q.st_gcn_networks.0.tcn.2.weight",
            (),
            "`encoder_q.st_gcn_networks.0.tcn.2.weight` must have shape (C, C, T, 1) in {path}, got ().",
        ),
        ("encoder_q.A", (3, 17, 17), "`path` must have [18, 20, 25] joints, got 17 in {path}."),
    ],
)
def test_sizes_that_cannot_be_read_are_named(tmp_path: Path, key: str, shape: tuple[int, ...], message: str) -> None:
    state = official_state()
    state[key] = torch.zeros(shape)
    path = saved(tmp_path, state)
    with pytest.raises(ValueError, match=re.escape(f"load_official: {message.format(path=path)}")):
        load_official(path)


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    state = official_state()
    del state["encoder_k.fc.0.bias"]
    state["extra"] = torch.zeros(1)
    state["queue_ptr"] = torch.zeros(2)
    with pytest.raises(
        ValueError, match=r"missing: encoder_k\.fc\.0\.bias; left over: extra; of another shape: queue_ptr"
    ):
        load_official(saved(tmp_path, state))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "encoder_q.fc.0.bias",
            float("nan"),
            "`path` must hold finite numbers, got NaN or infinity in encoder_q.fc.0.bias",
        ),
        ("queue_ptr", 12, "`queue_ptr` must lie in [0, 11], got 12."),
        ("queue_ptr", -1, "`queue_ptr` must lie in [0, 11], got -1."),
        (
            "encoder_q.A",
            0.5,
            "`path` must hold the spatial graph of layout 'NTU_RGBD_25', got another in encoder_q.A of",
        ),
        (
            "encoder_k.A",
            0.5,
            "`path` must hold the spatial graph of layout 'NTU_RGBD_25', got another in encoder_k.A of",
        ),
    ],
)
def test_values_are_checked(tmp_path: Path, key: str, value: float, message: str) -> None:
    state = official_state()
    state[key].fill_(value)
    with pytest.raises(ValueError, match=re.escape(f"load_official: {message}")):
        load_official(saved(tmp_path, state))


@pytest.mark.parametrize("old_format", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.0001, 0.001, 0.01, 0.3, 0.9, 0.999])
def test_truncated_file(tmp_path: Path, share: float, old_format: bool) -> None:
    path = saved(tmp_path, official_state(), _use_new_zipfile_serialization=not old_format)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    message = f"load_official: `path` must be a whole file of tensors, got {path}, which torch cannot read ("
    with pytest.raises(ValueError, match=re.escape(message)):
        load_official(path)


@pytest.mark.parametrize("content", [b"hello", b"x\n" * 100, b"PK\x03\x04" + bytes(50), bytes(range(256))])
def test_something_else(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "official.pt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(f"must be a whole file of tensors, got {path}, which torch cannot")):
        load_official(path)


class Hostile:
    """Pickles to a call of the shell."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("old_format", [False, True])
def test_hostile_pickle_is_refused(tmp_path: Path, old_format: bool) -> None:
    target = tmp_path / "touched"
    content = {**official_state(), "queue": Hostile(target)}
    path = saved(tmp_path, content, _use_new_zipfile_serialization=not old_format)
    with pytest.raises(ValueError, match=r"which asks for \w+\.system\. Loading it could run any code\."):
        load_official(path)
    assert not target.exists()


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (torch.zeros(3), "Tensor"),
        ({"state_dict": {}, "epoch": 3}, "dict"),
        ({0: torch.zeros(2)}, "dict"),
        ([1], "list"),
    ],
)
def test_not_a_state_dict(tmp_path: Path, content: object, kind: str) -> None:
    path = saved(tmp_path, content)
    message = f"load_official: `path` must hold a state dict of tensors, got {kind} in {path}."
    with pytest.raises(ValueError, match=re.escape(message)):
        load_official(path)


def test_linear_evaluation_checkpoint_is_told_apart(tmp_path: Path) -> None:
    state = official_state()
    path = saved(tmp_path, {name: value for name, value in state.items() if re.match(r"encoder_q\.(?!fc)", name)})
    names = "encoder_q.fc.0.weight, encoder_q.fc.2.weight, queue"
    hint = "Of other released files, `load_official_encoder` reads encoders."
    message = f"load_official: `path` must hold a pre-training state dict, got {path} with missing: {names}. {hint}"
    with pytest.raises(ValueError, match=re.escape(message)):
        load_official(path)


def test_no_file_and_no_method(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing"):
        load_official(tmp_path / "nothing.pt")
    message = "load_official: `method` must be one of 'aimclr', 'skeletonclr', got 'moco'."
    with pytest.raises(ValueError, match=re.escape(message)):
        load_official(tmp_path, method="moco")  # type: ignore[call-overload]  # the error is what is tested


def test_whole_model_of_crossclr_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = saved(tmp_path, crossclr_state())
    message = r"left over: encoder_k_bone\.A, .* Of other released files, `load_official_encoder` reads encoders\.$"
    with pytest.raises(ValueError, match=message):
        load_official(path)


def test_encoder_that_the_file_has_not(tmp_path: Path) -> None:
    path = saved(tmp_path, official_state())
    where = f"where {path} has 'encoder_k', 'encoder_q'."
    message = f"load_official_encoder: `name` must be an encoder of the file, got 'encoder_q_bone', {where}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        load_official_encoder(path, name="encoder_q_bone")
    path = saved(tmp_path, {"weight": torch.zeros(1)})
    with pytest.raises(ValueError, match=re.escape(f"got 'encoder_q', where {path} has none.")):
        load_official_encoder(path)


def test_what_is_wrong_with_one_encoder_is_named_and_others_do_not_matter(tmp_path: Path) -> None:
    name, must = "encoder_q_motion", "load_official_encoder: `path` must hold"
    state = crossclr_state()
    state[f"{name}.extra"] = state[f"{name}.edge_importance.0"]
    del state[f"{name}.edge_importance.0"]
    path = saved(tmp_path, state)
    load_official_encoder(path)
    got = f"{path} with missing: {name}.edge_importance.0; left over: {name}.extra."
    with pytest.raises(
        ValueError, match=f"^{re.escape(f'{must} the keys of the model that it describes, got {got}')}$"
    ):
        load_official_encoder(path, name=name)
    state = crossclr_state()
    del state[f"{name}.A"]
    path = saved(tmp_path, state)
    with pytest.raises(
        ValueError, match=f"^{re.escape(f'{must} a whole encoder, got {path} with missing: {name}.A.')}$"
    ):
        load_official_encoder(path, name=name)
    for key, value, what in (
        (f"{name}.A", 0.5, "the spatial graph"),
        (f"{name}.data_bn.bias", torch.nan, "finite numbers"),
    ):
        state = crossclr_state()
        state[key].fill_(value)
        path = saved(tmp_path, state)
        with pytest.raises(
            ValueError, match=rf"^{re.escape(f'{must} {what}')}.* {re.escape(key)} of {re.escape(str(path))}\.$"
        ):
            load_official_encoder(path, name=name)
        load_official_encoder(path)
