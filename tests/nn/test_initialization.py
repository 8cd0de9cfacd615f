"""The released initialisation."""

import re

import pytest
import torch
from torch import nn

from skelcontrast.methods import AimCLR
from skelcontrast.nn import STGCN, GraphConv, ProjectionHead, normal_init_
from skelcontrast.skeleton import NTU_RGBD_25


def test_every_layer_of_the_encoder() -> None:
    encoder = STGCN(NTU_RGBD_25, channels=(64, 64, 128), strides=(1, 1, 2))
    normal_init_(encoder)
    for module in encoder.modules():
        if isinstance(module, GraphConv):
            assert module.edge_importance is not None
            assert (module.edge_importance == 1).all()
        if isinstance(module, GraphConv | nn.Conv2d | nn.BatchNorm1d | nn.BatchNorm2d):
            assert module.bias is not None
            assert (module.bias == 0).all()
            centre = 1 if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) else 0
            assert module.weight.mean().item() == pytest.approx(centre, abs=0.01)
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.4)


@pytest.mark.parametrize("layer", [nn.Linear(200, 100), nn.Conv1d(50, 100, 3), nn.Conv2d(20, 100, (9, 1))])
def test_spread(layer: nn.Linear | nn.Conv1d | nn.Conv2d) -> None:
    normal_init_(layer, std=0.5)
    assert layer.weight.std().item() == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm])
def test_scales_of_every_batch_norm(kind: type[nn.BatchNorm1d]) -> None:
    norm = kind(400)
    nn.init.constant_(norm.bias, 1.0)
    normal_init_(norm)
    assert norm.weight.mean().item() == pytest.approx(1, abs=0.01)
    assert norm.weight.std().item() == pytest.approx(0.02, rel=0.2)
    assert (norm.bias == 0).all()


def test_layers_without_bias_or_scale() -> None:
    normal_init_(nn.Sequential(nn.Linear(3, 3, bias=False), nn.BatchNorm1d(3, affine=False), nn.ReLU()))


def test_a_whole_model_gets_two_sides_that_are_drawn_each_for_itself() -> None:
    encoder = STGCN(NTU_RGBD_25, channels=(64, 64), strides=(1, 1))
    model = AimCLR(encoder, ProjectionHead(64, 64), queue_size=8, preset="official")
    normal_init_(model)
    moco = model.moco
    drawn = 0
    for query, key in ((moco.query_encoder, moco.key_encoder.module), (moco.query_head, moco.key_head.module)):
        for (name, one), other in zip(query.named_parameters(), key.parameters(), strict=True):
            if name.endswith("weight") and one.ndim > 1:
                drawn += 1
                assert one.std().item() == pytest.approx(0.02, rel=0.1)
                assert other.std().item() == pytest.approx(0.02, rel=0.1)
                assert not torch.equal(one, other)
    assert drawn == 2 * 2 + 2  # two blocks of two convolutions, and the head


def test_generator_decides() -> None:
    one, two = nn.Linear(4, 4), nn.Linear(4, 4)
    state = torch.get_rng_state()
    for layer in (one, two):
        normal_init_(layer, generator=torch.Generator().manual_seed(5))
    assert torch.equal(one.weight, two.weight)
    assert torch.equal(torch.get_rng_state(), state)


def test_frozen_parameters_are_drawn_and_stay_frozen() -> None:
    layer = nn.Linear(4, 4).requires_grad_(requires_grad=False)
    before = layer.weight.clone()
    normal_init_(layer)
    assert not torch.equal(layer.weight, before)
    assert not layer.weight.requires_grad


@pytest.mark.parametrize("std", [0.0, -1.0])
def test_errors(std: float) -> None:
    with pytest.raises(ValueError, match=re.escape(f"normal_init_: `std` must lie in (0, inf), got {std:g}.")):
        normal_init_(nn.Linear(2, 2), std=std)
