"""Released checkpoints: the authors' numbers, and a plain forward from their keys."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from tests.reference import nn as reference
from tests.reference.official import CHANNELS, STRIDES, WIDTH, crossclr_state, official_state
from torch import Tensor
from torch.nn import functional as F

from skelcontrast.methods import AimCLR, SkeletonCLR, load_official, load_official_encoder
from skelcontrast.nn import STGCN, normal_init_
from skelcontrast.skeleton import KINECT_V1_20, NTU_RGBD_25, OPENPOSE_18, SkeletonLayout

Golden = Callable[[str], Mapping[str, Any]]
SharedPath = Callable[[str], Path]


def saved(folder: Path, content: object, **options: Any) -> Path:
    path = folder / "official.pt"
    torch.save(content, path, **options)
    return path


def plain_features(state: Mapping[str, Tensor], side: str, x: Tensor) -> Tensor:
    """Return the features (N, D) that one encoder of a released file has of x; absent bodies are averaged in."""
    feature_map = reference.stgcn_feature_map(
        reference.array(x),
        reference.batch_norm(state, f"{side}.data_bn"),
        reference.official_blocks(state, side, len(CHANNELS)),
        reference.array(state[f"{side}.A"]),
        STRIDES,
    )
    return torch.from_numpy(feature_map.mean((2, 3)).reshape(len(x), x.shape[4], -1).mean(1))


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
    features = plain_features(state, side, x)
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


def test_encoder_alone_is_that_of_the_whole_model(shared_path: SharedPath) -> None:
    path = shared_path("golden/official_aimclr.pt")
    expected, found = load_official(path).encoder, load_official_encoder(path)
    assert repr(found) == repr(expected)
    assert found.training
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], value, rtol=0, atol=0)


@pytest.mark.parametrize("name", [f"encoder_{side}{stream}" for side in "qk" for stream in ("", "_motion", "_bone")])
def test_each_encoder_of_crossclr(tmp_path: Path, name: str) -> None:
    state = crossclr_state()
    encoder = load_official_encoder(saved(tmp_path, state), name=name).double().eval()
    x = torch.randn(2, 3, 7, 25, 1, dtype=torch.float64)
    torch.testing.assert_close(encoder(x), plain_features(state, name, x), rtol=1e-8, atol=1e-8)


def test_encoder_of_linear_evaluation(tmp_path: Path) -> None:
    state = official_state()
    inside = {name: value for name, value in state.items() if re.match(r"encoder_q\.(?!fc)", name)}
    head = {"encoder_q.fc.weight": torch.randn(60, 8), "encoder_q.fc.bias": torch.randn(60)}
    encoder = load_official_encoder(
        saved(tmp_path, {f"module.{name}": value for name, value in (inside | head).items()})
    )
    expected = load_official(saved(tmp_path, state)).encoder.state_dict()
    for name, value in encoder.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=0)
