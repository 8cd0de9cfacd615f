"""Released checkpoints: the authors' numbers, a plain forward from their keys, and every way a file can be wrong."""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from tests.reference import nn as reference
from torch import Tensor
from torch.nn import functional as F

from skelcontrast.methods import AimCLR, SkeletonCLR, load_official
from skelcontrast.nn import STGCN, normal_init_
from skelcontrast.skeleton import KINECT_V1_20, NTU_RGBD_25, OPENPOSE_18, SkeletonLayout, adjacency

Golden = Callable[[str], Mapping[str, Any]]
SharedPath = Callable[[str], Path]
State = dict[str, Tensor]
CHANNELS, STRIDES = (4, 4, 6, 6, 8), (1, 1, 1, 1, 2)
QUEUE_SIZE, WIDTH = 12, 5


def batch_norm(state: State, name: str, size: int) -> None:
    state[f"{name}.weight"] = torch.rand(size) + 0.5
    state[f"{name}.bias"] = torch.randn(size)
    state[f"{name}.running_mean"] = torch.randn(size)
    state[f"{name}.running_var"] = torch.rand(size) + 0.5
    state[f"{name}.num_batches_tracked"] = torch.tensor(7)


def official_state(layout: SkeletonLayout = NTU_RGBD_25, coordinates: int = 3) -> State:
    """Make a small state dict with the released code's names and shapes."""
    state: State = {"queue": F.normalize(torch.randn(WIDTH, QUEUE_SIZE), dim=0), "queue_ptr": torch.tensor([8])}
    joints = layout.num_joints
    for side in ("encoder_q", "encoder_k"):
        state[f"{side}.A"] = adjacency(layout)
        batch_norm(state, f"{side}.data_bn", coordinates * joints)
        fan_in = coordinates
        for i, fan_out in enumerate(CHANNELS):
            name = f"{side}.st_gcn_networks.{i}"
            state[f"{name}.gcn.conv.weight"] = torch.randn(3 * fan_out, fan_in, 1, 1)
            state[f"{name}.gcn.conv.bias"] = torch.randn(3 * fan_out)
            batch_norm(state, f"{name}.tcn.0", fan_out)
            state[f"{name}.tcn.2.weight"] = torch.randn(fan_out, fan_out, 9, 1) / 3
            state[f"{name}.tcn.2.bias"] = torch.randn(fan_out)
            batch_norm(state, f"{name}.tcn.3", fan_out)
            if i > 0 and (fan_in != fan_out or STRIDES[i] != 1):
                state[f"{name}.residual.0.weight"] = torch.randn(fan_out, fan_in, 1, 1)
                state[f"{name}.residual.0.bias"] = torch.randn(fan_out)
                batch_norm(state, f"{name}.residual.1", fan_out)
            state[f"{side}.edge_importance.{i}"] = torch.rand(3, joints, joints) + 0.5
            fan_in = fan_out
        state[f"{side}.fc.0.weight"], state[f"{side}.fc.0.bias"] = torch.randn(7, fan_in), torch.randn(7)
        state[f"{side}.fc.2.weight"], state[f"{side}.fc.2.bias"] = torch.randn(WIDTH, 7), torch.randn(WIDTH)
    return state


def saved(folder: Path, content: object, **options: Any) -> Path:
    path = folder / "official.pt"
    torch.save(content, path, **options)
    return path


def test_released_numbers(golden: Golden, shared_path: SharedPath) -> None:
    model = load_official(shared_path("golden/official_aimclr.pt")).eval()
    numbers = {name: torch.from_numpy(value) for name, value in golden("encoder.npz").items() if value.ndim}
    x = numbers["x"]
    encoder = model.encoder
    assert isinstance(encoder, STGCN)
    found = {
        "feature_map": encoder.feature_map(x),
        "features": encoder(x),
        "embedding": model.moco.query_head(encoder(x)),
    }
    assert model.drop is not None
    dropped = encoder.pool(model.drop(found["feature_map"]), encoder.present_bodies(x))
    found["embedding_dropped"] = model.moco.query_head(dropped)
    for name, value in found.items():
        torch.testing.assert_close(value, numbers[name], rtol=1e-5, atol=1e-5)
    views = model.embed(x, x, x)
    assert views.extreme is not None
    assert views.extreme_dropped is not None
    torch.testing.assert_close(views.query, F.normalize(numbers["embedding"], dim=1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(views.extreme, views.query)
    torch.testing.assert_close(
        views.extreme_dropped, F.normalize(numbers["embedding_dropped"], dim=1), rtol=1e-5, atol=1e-5
    )


def test_released_checkpoint_is_read_whole(shared_path: SharedPath) -> None:
    path = shared_path("golden/official_aimclr.pt")
    official = torch.load(path, weights_only=True)
    model = load_official(path)
    assert len(official) == 364
    # Both graphs are derived from the layout; the number of enqueued keys is ours.
    assert len(model.state_dict()) == 364 - 2 + 1
    numbers = [torch.sort(value.flatten().double()).values for value in official.values()]
    total = sum(float(values.sum()) for values in numbers) - 2 * float(official["encoder_q.A"].sum())
    state = model.state_dict()
    ours = sum(float(value.double().sum()) for name, value in state.items() if name != "bank.enqueued")
    assert ours == pytest.approx(total, rel=1e-9)
    assert sum(parameter.numel() for parameter in model.encoder.parameters()) == 821_380
    assert torch.equal(model.bank.keys, official["queue"].T)
    assert model.bank.enqueued.item() == model.bank.size == 256


@pytest.mark.parametrize("side", ["encoder_q", "encoder_k"])
@pytest.mark.parametrize(
    ("layout", "coordinates"),
    [(NTU_RGBD_25, 3), (KINECT_V1_20, 3), (OPENPOSE_18, 2)],
    ids=lambda value: str(value)[:30],
)
def test_computes_as_a_plain_forward_from_the_released_keys(
    tmp_path: Path, layout: SkeletonLayout, coordinates: int, side: str
) -> None:
    state = official_state(layout, coordinates)
    model = load_official(saved(tmp_path, state)).double().eval()
    x = torch.randn(2, coordinates, 7, layout.num_joints, 2, dtype=torch.float64)
    x[0, ..., 1] = 0
    feature_map = reference.stgcn_feature_map(
        reference.array(x),
        reference.batch_norm(state, f"{side}.data_bn"),
        reference.official_blocks(state, side, len(CHANNELS)),
        reference.array(state[f"{side}.A"]),
        STRIDES,
    )
    features = torch.from_numpy(feature_map.mean((2, 3)).reshape(2, 2, -1).mean(1))  # absent bodies averaged in
    hidden = (features @ state[f"{side}.fc.0.weight"].double().T + state[f"{side}.fc.0.bias"].double()).clamp(min=0)
    expected = hidden @ state[f"{side}.fc.2.weight"].double().T + state[f"{side}.fc.2.bias"].double()
    expected = expected / expected.norm(dim=1, keepdim=True)
    found = model.moco.query(x) if side == "encoder_q" else model.moco.key(x)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)


def test_bank_goes_on_where_the_file_ends(tmp_path: Path) -> None:
    state = official_state()
    model = load_official(saved(tmp_path, state))
    assert torch.equal(model.bank.keys, state["queue"].T)
    keys = torch.randn(6, WIDTH)
    model.enqueue(keys)
    assert torch.equal(model.bank.keys[8:], keys[:4])
    assert torch.equal(model.bank.keys[:2], keys[4:])
    assert model.bank.pointer.item() == 2


def test_model_is_the_official_preset_and_trains(tmp_path: Path) -> None:
    model = load_official(saved(tmp_path, official_state()))
    assert model.training
    assert model.positives == "mean"
    assert "temporal='element', rescale='batch', correction=1" in repr(model.drop)
    encoder = model.encoder
    assert isinstance(encoder, STGCN)
    assert (encoder.bodies, encoder.layout) == ("all", NTU_RGBD_25)
    assert all(parameter.requires_grad for parameter in model.query_parameters())
    views = model.embed(*torch.randn(3, 4, 3, 7, 25, 2))
    loss = model.loss(views, mine=True).total
    loss.backward()
    model.momentum_update()
    model.enqueue(views.key)
    assert torch.isfinite(loss)


def test_released_start_is_normal_init_on_the_whole_model(tmp_path: Path) -> None:
    model = load_official(saved(tmp_path, official_state()))
    normal_init_(model)
    for side in (model.moco.query_head, model.moco.key_head):
        weights = [value for name, value in side.named_parameters() if name.endswith("weight")]
        assert all(value.abs().max() < 0.1 for value in weights)
    assert not torch.equal(
        *(
            side.get_parameter(name)
            for side, name in (
                (model.moco.query_head, "layers.0.weight"),
                (model.moco.key_head, "module.layers.0.weight"),
            )
        )
    )


@pytest.mark.parametrize("method", ["aimclr", "skeletonclr"])
def test_both_methods_read_the_same_numbers(tmp_path: Path, method: Literal["aimclr", "skeletonclr"]) -> None:
    path = saved(tmp_path, official_state())
    model = load_official(path) if method == "aimclr" else load_official(path, method="skeletonclr")
    assert isinstance(model, AimCLR if method == "aimclr" else SkeletonCLR)
    expected = load_official(path).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())


def test_prefix_of_a_wrapped_model_and_the_old_file_format(tmp_path: Path) -> None:
    state = official_state()
    expected = load_official(saved(tmp_path, state)).state_dict()
    for content, options in (
        ({f"module.{name}": value for name, value in state.items()}, {}),
        (state, {"_use_new_zipfile_serialization": False}),
    ):
        found = load_official(str(saved(tmp_path, content, **options))).state_dict()
        assert all(torch.equal(value, expected[name]) for name, value in found.items())


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
    message = f"load_official: `path` must hold a pre-training state dict, got {path} with missing: {names}."
    with pytest.raises(ValueError, match=re.escape(message)):
        load_official(path)


def test_no_file_and_no_method(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing"):
        load_official(tmp_path / "nothing.pt")
    message = "load_official: `method` must be one of 'aimclr', 'skeletonclr', got 'moco'."
    with pytest.raises(ValueError, match=re.escape(message)):
        load_official(tmp_path, method="moco")  # type: ignore[call-overload]  # the error is what is tested
