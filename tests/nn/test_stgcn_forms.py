"""The encoder's fast forms against the operations of the released code, and how they lie in memory."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from tests.reference.stgcn import perturbed, released_stgcn
from torch import Tensor, nn

from skelcontrast.nn import STGCN, GraphConv, STGCNBlock, TemporalConv, _graph_conv_choice, _precision
from skelcontrast.skeleton import NTU_RGBD_25, adjacency


def assert_same_gradients(module: nn.Module, plain: Callable[[Tensor], Tensor], x: Tensor, *, tolerance: float) -> None:
    """Compare what a module returns, and the gradients in its parameters, with a plain form that uses these too."""
    found = []
    for form in (module, plain):
        module.zero_grad()
        out = form(x)
        out.square().sum().backward()
        found.append([out, *(parameter.grad for parameter in module.parameters())])
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("training", [True, False])
def test_agrees_with_the_operations_of_the_released_code(training: bool) -> None:
    encoder = STGCN(NTU_RGBD_25, channels=(16, 32, 64, 64), strides=(1, 2, 1, 1), dropout=0.0, bodies="all")
    encoder = perturbed(encoder).double().train(training)
    x = torch.randn(2, 3, 13, 25, 2, dtype=torch.float64)
    assert_same_gradients(encoder, partial(released_stgcn, encoder), x, tolerance=1e-8)


@pytest.mark.parametrize("residual", [True, False])
def test_whoever_listens_hears_what_a_plain_block_says(residual: bool) -> None:
    block = STGCNBlock(4, 4, adjacency(NTU_RGBD_25), residual=residual)
    x = torch.randn(2, 4, 5, 25)
    expected = block(x)
    heard: dict[nn.Module, Tensor] = {}
    for module in (block.tcn, block.tcn[3], block.tcn[4]):
        handle = module.register_forward_hook(lambda module, _, out: heard.update({module: out}))
        torch.testing.assert_close(block(x), expected)
        handle.remove()
        found = heard[module] + x if residual else heard[module]
        torch.testing.assert_close(found.relu(), expected)
        assert heard[module].min() < 0, "what was heard has gone through the ReLU since"


def test_a_residual_path_or_a_temporal_one_with_hooks_is_called() -> None:
    block = STGCNBlock(4, 8, adjacency(NTU_RGBD_25), stride=2)
    x, calls = torch.randn(2, 4, 5, 25, requires_grad=True), list[nn.Module]()
    expected = block(x)
    assert block.residual is not None
    for module in (block.tcn, block.residual):
        module.register_full_backward_hook(lambda module, *_: calls.append(module))
    block.tcn[1] = nn.ReLU()  # such hooks do not bear an operation in place
    out = block(x)
    torch.testing.assert_close(out, expected)
    out.sum().backward()
    assert set(calls) == {block.tcn, block.residual}


@pytest.mark.parametrize("change", ["a gate", "no dropout", "norms folded"])
def test_a_block_computes_with_the_parts_that_it_is_given(change: str) -> None:
    block = STGCNBlock(4, 8, adjacency(NTU_RGBD_25), stride=2).double()
    block(torch.randn(3, 4, 5, 25, dtype=torch.float64))  # moves the running statistics
    norm_in, relu, conv, norm_out, dropout = list(block.eval().tcn)
    temporal, residual = [norm_in, relu, conv, norm_out, dropout], list(block.get_submodule("residual").children())
    if change == "a gate":
        temporal[4] = nn.Sigmoid()  # which keeps what it returns for its gradient
    elif change == "no dropout":
        temporal.pop()
    else:
        temporal[2:4] = [folded(conv, norm_out), nn.Identity()]
        residual = [folded(*residual)]
    block.tcn, block.residual = nn.Sequential(*temporal), nn.Sequential(*residual)

    def plain(x: Tensor) -> Tensor:
        y, kept = block.gcn(x), x[:, :, ::2]
        for module in temporal:
            y = module(y)
        for module in residual:
            kept = module(kept)
        return torch.relu(y + kept)

    assert_same_gradients(block, plain, torch.randn(2, 4, 5, 25, dtype=torch.float64), tolerance=1e-10)


def folded(conv: nn.Module, norm: nn.Module) -> nn.Module:
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    return nn.utils.fuse_conv_bn_eval(conv, norm)


@pytest.mark.parametrize("tiles", [True, False])
@pytest.mark.parametrize("narrow", [True, False])
def test_memory_is_channels_last_from_end_to_end(monkeypatch: pytest.MonkeyPatch, narrow: bool, tiles: bool) -> None:
    monkeypatch.setattr(_graph_conv_choice, "TILES_IN_CPU", tiles)
    monkeypatch.setattr(_precision, "EMULATED_BY_CPU", frozenset())
    encoder = STGCN(NTU_RGBD_25, channels=(16, 32, 64, 64), strides=(1, 2, 1, 1))
    seen = []

    def look(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        seen.append(type(module))
        assert inputs[0].is_contiguous(memory_format=torch.channels_last)
        assert output.is_contiguous(memory_format=torch.channels_last)

    for module in encoder.blocks.modules():
        if not list(module.children()):
            module.register_forward_hook(look)
    with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
        assert encoder.feature_map(torch.randn(2, 3, 13, 25, 2)).is_contiguous(memory_format=torch.channels_last)
    assert {GraphConv, TemporalConv, nn.BatchNorm2d, nn.ReLU, nn.Conv2d} <= set(seen)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("emulated", [True, False])
def test_what_a_cpu_would_emulate_is_computed_in_float32(
    dtype: torch.dtype, emulated: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_precision, "EMULATED_BY_CPU", frozenset([dtype] if emulated else []))
    # With a block for each form: blocked, spectral, and torch's own products.
    encoder, seen = STGCN(NTU_RGBD_25, channels=(8, 64, 64), strides=(1, 2, 1), dropout=0.0), list[torch.dtype]()
    encoder.blocks[1].register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0].dtype))
    x = torch.randn(2, 3, 5, 25, 2)
    exact = encoder.feature_map(x)
    with torch.autocast("cpu", dtype):
        found = encoder.feature_map(x)
        found.float().sum().backward()  # under autocast too, where gradients are computed as values were
    assert found.dtype == dtype
    assert seen == [torch.float32, torch.float32 if emulated else dtype]
    assert torch.equal(found, exact.to(dtype)) is emulated
    assert all(parameter.grad is not None for parameter in encoder.blocks.parameters())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_weights_that_are_not_float32_are_left_to_autocast(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_precision, "EMULATED_BY_CPU", frozenset([torch.bfloat16]))
    encoder = STGCN(NTU_RGBD_25, channels=(4, 8), strides=(1, 2)).to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        assert encoder(torch.randn(2, 3, 5, 25, 2, dtype=dtype)).dtype == dtype


def test_bfloat16_autocast_is_close() -> None:
    encoder = perturbed(STGCN(NTU_RGBD_25, channels=(16, 32, 64, 64), strides=(1, 2, 1, 1)))
    x = torch.randn(2, 3, 13, 25, 2)
    expected = encoder(x)
    with torch.autocast("cpu", torch.bfloat16):
        found = encoder(x)
        found.float().sum().backward()
    assert found.dtype == torch.bfloat16
    assert (found.float() - expected).norm() < 0.02 * expected.norm()
    assert all(torch.isfinite(parameter.grad).all() for parameter in encoder.parameters() if parameter.grad is not None)


def test_a_strided_residual_of_few_channels_keeps_to_its_memory() -> None:
    """A strided 1x1 convolution in channels-last memory may not: see the comment in the block."""
    block = STGCNBlock(3, 5, adjacency(NTU_RGBD_25), stride=2)
    for _ in range(20):
        x = torch.randn(4, 3, 7, 25).to(memory_format=torch.channels_last).requires_grad_()
        block(x).sum().backward()
    assert isinstance(block.residual, nn.Sequential)
    projection = block.residual[0]
    assert isinstance(projection, nn.Conv2d)
    strided = nn.functional.conv2d(x.detach().contiguous(), projection.weight, projection.bias, (2, 1))
    torch.testing.assert_close(projection(x.detach()[:, :, ::2]), strided)
