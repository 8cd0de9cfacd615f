"""Dropout drawn 16 bits an element does what torch's own does."""

import pytest
import torch
from torch import nn

from skelcontrast.nn._dropout import Dropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_drops_a_share_and_scales_the_rest(p: float, dtype: torch.dtype) -> None:
    x = torch.full((200, 500), 3.0, dtype=dtype)
    out = Dropout(p)(x)
    assert out is x
    kept = out != 0
    assert kept.double().mean().item() == pytest.approx(1 - p, abs=0.01)  # five standard deviations at most
    torch.testing.assert_close(out[kept], torch.full_like(out[kept], 3 / (1 - p)), rtol=1e-2, atol=0)
    torch.testing.assert_close(kept.double().mean(0), torch.full((500,), 1 - p, dtype=torch.float64), rtol=0, atol=0.2)


def test_elements_are_drawn_independently() -> None:
    kept = (Dropout(0.5)(torch.ones(100_000, 16)) != 0).double()  # of the four that share an integer, and beyond
    correlation = torch.corrcoef(kept.T) - torch.eye(16, dtype=torch.float64)
    assert correlation.abs().max() < 0.02  # six standard deviations


def test_a_seed_repeats_the_mask_and_the_next_is_another() -> None:
    masks = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        masks.append(Dropout(0.5)(torch.ones(7, 9)))
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_takes_any_shape_and_strides(dtype: torch.dtype) -> None:
    whole = torch.full((3, 5, 7), 2.0, dtype=dtype)
    for x in (whole.clone()[:, ::2], whole.clone().mT, whole[0, 0, :0].clone(), whole[0, 0, 0].clone()):
        shape, strides = x.shape, x.stride()
        out = Dropout(0.5)(x)
        assert (out.shape, out.stride()) == (shape, strides)
        assert set(out.flatten().tolist()) <= {0.0, 4.0}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradient_is_the_mask(dtype: torch.dtype) -> None:
    x = torch.ones(50, 50, dtype=dtype, requires_grad=True)
    out = Dropout(0.5)(x * 2)
    out.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, out.detach())


def test_keeps_the_memory_format() -> None:
    x = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    assert Dropout(0.5)(x).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("p", "training"), [(0.5, False), (0.0, True)])
def test_does_nothing_in_evaluation_and_at_zero(p: float, training: bool) -> None:
    x = torch.randn(4, 5)
    assert torch.equal(Dropout(p).train(training)(x.clone()), x)


def test_is_torchs_dropout_in_all_else() -> None:
    layer = Dropout(0.25)
    assert isinstance(layer, nn.Dropout)
    assert repr(layer) == "Dropout(p=0.25, inplace=True)"
    assert not layer.state_dict()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_vmap_draws_a_mask_for_each_or_the_same(dtype: torch.dtype) -> None:
    x = torch.ones(2, 8, 8, dtype=dtype)
    layer = Dropout(0.5)
    first, second = torch.func.vmap(lambda one: layer(one * 1), randomness="different")(x)
    assert not torch.equal(first, second)
    first, second = torch.func.vmap(lambda one: layer(one * 1), randomness="same")(x)
    assert torch.equal(first, second)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_draws_where_the_features_are(dtype: torch.dtype) -> None:
    x = torch.ones(64, dtype=dtype)
    with torch.device("meta"):
        out = Dropout(0.5)(x)
    assert set(out.tolist()) == {0.0, 2.0}


def test_keeps_the_mean_where_the_nearest_part_is_not_p() -> None:
    out = Dropout(1 - 2e-5)(torch.ones(2**22))  # which is taken as 65535 of 65536 parts
    assert set(out.tolist()) == {0.0, 65536.0}


def test_drops_all_at_one() -> None:
    assert not Dropout(1.0)(torch.ones(2**20)).any()  # of which 65535 of 65536 parts would leave 16


@pytest.mark.filterwarnings("ignore:.torch.jit.trace")
def test_a_trace_takes_other_batches() -> None:
    traced = torch.jit.trace(lambda x: Dropout(0.5)(x * 1), (torch.ones(3, 4),), check_trace=False)
    assert traced(torch.ones(50, 4)).shape == (50, 4)
