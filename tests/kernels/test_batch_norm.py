"""Batch norm, dropout, residual and ReLU in one pass: in Triton's interpreter without a GPU, on the device with one."""

import copy
import importlib.util
import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from tests.compiling import needs_compiler
from tests.kernels.modules import DEVICE, Shape, a_norm, features
from torch import Tensor, nn

from skelcontrast.nn import STGCN, STGCNBlock, TemporalConv, _batch_norm
from skelcontrast.nn._batch_norm import convolved, fused, normalized
from skelcontrast.nn._dropout import Dropout
from skelcontrast.nn._norm_operators import normalize_twin, statistics_operator
from skelcontrast.nn.stgcn import changes_in_turn
from skelcontrast.skeleton import NTU_RGBD_25, adjacency

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs Triton")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def assert_like_torch(
    x: Tensor, residual: Tensor | None, norm: nn.BatchNorm2d, *, relu: bool, tolerance: float
) -> None:
    """Compare values, every gradient and the running statistics with torch in float64."""
    twin = copy.deepcopy(norm).double()
    wide = [None if value is None else value.detach().double().requires_grad_() for value in (x, residual)]
    found = fused(norm, x, 0.0, residual, relu=relu)  # type: ignore[arg-type]  # statistics are tracked here
    assert wide[0] is not None
    expected = twin(wide[0])
    expected = expected if wide[1] is None else expected + wide[1]
    near = expected.abs() < 1e-5  # where rounding decides what ReLU does: of millions of values, with some
    expected = expected.relu() if relu else expected
    upstream = torch.randn_like(expected).masked_fill(near, 0).to(found.dtype)
    inputs = [(x, wide[0]), (residual, wide[1]), *zip(norm.parameters(), twin.parameters(), strict=True)]
    pairs = [(one, two) for one, two in inputs if one is not None and two is not None]
    gradients = zip(
        torch.autograd.grad(found, [one for one, _ in pairs], upstream),
        torch.autograd.grad(expected, [two for _, two in pairs], upstream.double()),
        strict=True,
    )
    assert found.is_contiguous(memory_format=torch.channels_last)
    for one, two in itertools.chain([(found, expected)], gradients):
        assert one.dtype in (found.dtype, norm.weight.dtype)
        error = (one.double() - two).norm() / two.norm()
        assert error < tolerance, error  # a NaN fails too
    for name, buffer in norm.named_buffers():
        torch.testing.assert_close(buffer.double(), twin.get_buffer(name).double(), rtol=tolerance, atol=tolerance)


# Odd samples, frames and joints; fewer channels than one draw of dropout, no power of two, more than a tile has.
@pytest.mark.parametrize("shape", [(1, 3, 13, 17), (3, 16, 37, 25), (2, 24, 13, 20), (127, 8, 2, 1), (1, 300, 2, 5)])
@pytest.mark.parametrize(("add", "relu"), [(False, True), (True, True), (False, False), (True, False)])
def test_agrees_with_torch(shape: Shape, add: bool, relu: bool) -> None:
    residual = features(shape) if add else None
    assert_like_torch(features(shape), residual, a_norm(shape[1]), relu=relu, tolerance=1e-5)


def test_batches_are_counted_where_somebody_counts() -> None:
    norm = a_norm(3)
    for _ in range(3):
        fused(norm, features((2, 3, 4, 5)), 0.0, None, relu=True)  # type: ignore[arg-type]  # statistics are tracked here
    assert norm.get_buffer("num_batches_tracked").item() == 3
    norm.num_batches_tracked = None
    before = norm.get_buffer("running_mean").clone()
    fused(norm, features((2, 3, 4, 5)), 0.0, None, relu=True)  # type: ignore[arg-type]  # statistics are tracked here
    assert not torch.equal(norm.get_buffer("running_mean"), before)


@pytest.mark.parametrize("mean", [-1000.0, 100.0])
def test_channels_far_from_zero(mean: float) -> None:
    assert_like_torch(features((2, 8, 13, 25), mean=mean), None, a_norm(8), relu=True, tolerance=1e-3)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 1e-2), (torch.float16, 1e-3)])
@pytest.mark.parametrize("narrow_weights", [True, False])
def test_narrow_numbers(dtype: torch.dtype, tolerance: float, narrow_weights: bool) -> None:
    shape = (2, 24, 13, 25)
    norm = a_norm(24, dtype if narrow_weights else torch.float32)
    assert_like_torch(features(shape, dtype), features(shape, dtype), norm, relu=True, tolerance=tolerance)


def test_a_constant_channel_and_what_is_no_number() -> None:
    x = features((2, 3, 4, 5)).detach()
    x[:, 1] = 7
    out = fused(a_norm(3), x, 0.0, None, relu=False)  # type: ignore[arg-type]  # statistics are tracked here
    assert len(out[:, 1].unique()) == 1
    x[0, 2, 0, 0] = torch.nan
    out = fused(a_norm(3), x, 0.0, None, relu=True)  # type: ignore[arg-type]  # statistics are tracked here
    assert out[:, 2].isnan().all()
    assert out[:, :2].isfinite().all()


@pytest.mark.parametrize(("p", "channels"), [(0.1, 16), (0.5, 20), (0.9, 16)])
def test_dropout_drops_a_share_of_every_channel_and_scales_the_rest(p: float, channels: int) -> None:
    x = features((4, channels, 25, 25))
    norm = a_norm(channels)
    nn.init.constant_(norm.bias, 100.0)  # so that nothing else is zero
    whole = fused(norm, x, 0.0, None, relu=True)  # type: ignore[arg-type]  # statistics are tracked here
    one, two = (fused(norm, x, p, None, relu=True) for _ in range(2))  # type: ignore[arg-type]
    kept = one != 0
    torch.testing.assert_close(one[kept], whole[kept] / (1 - p), rtol=1e-4, atol=0)
    share = kept.float().mean((0, 2, 3))  # of 2,500 elements: four standard deviations
    torch.testing.assert_close(share, torch.full_like(share, 1 - p), rtol=0, atol=0.04)
    both = (kept & (two != 0)).float().mean().item()
    assert both == pytest.approx((1 - p) ** 2, abs=0.015), "two draws are not independent"
    beside = (kept[:, 1:] & kept[:, :-1]).float().mean().item()
    assert beside == pytest.approx((1 - p) ** 2, abs=0.015), "neighbouring channels are not independent"
    (gradient,) = torch.autograd.grad(one.sum(), [norm.bias])
    torch.testing.assert_close(gradient, kept.sum((0, 2, 3)) / (1 - p), rtol=1e-4, atol=0)


def test_dropout_of_nearly_all_is_finite() -> None:
    x = features((4, 16, 25, 25))
    out = fused(a_norm(16), x, 1 - 1e-9, None, relu=False)  # type: ignore[arg-type]  # statistics are tracked here
    assert out.isfinite().all()
    assert (out != 0).float().mean() < 0.01


def test_dropout_gradients_are_those_of_the_mask_that_was_drawn() -> None:
    x, residual, norm = features((3, 8, 5, 7)), features((3, 8, 5, 7)), a_norm(8)
    state = copy.deepcopy(norm.state_dict())
    out = fused(norm, x, 0.5, residual, relu=True)  # type: ignore[arg-type]  # statistics are tracked here
    upstream = torch.randn_like(out)
    inputs = [x, residual, *norm.parameters()]
    found = torch.autograd.grad(out, inputs, upstream)
    norm.load_state_dict(state)
    plain = norm(x)
    kept = ((out - (2 * plain + residual).relu()).abs() < 1e-4).float()
    expected = (2 * kept * plain + residual).relu()
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)
    for one, two in zip(found, torch.autograd.grad(expected, inputs, upstream), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-3)


def build(dropout: float = 0.0) -> STGCN:
    return STGCN(NTU_RGBD_25, channels=(8, 16, 16), strides=(1, 2, 1), dropout=dropout).to(DEVICE)


@needs_compiler
@pytest.mark.slow
@pytest.mark.usefixtures("on_kernels")
def test_the_encoder_learns_alike_and_compiles() -> None:
    torch.manual_seed(1)  # with which no value lies so near to zero that rounding decides what ReLU does
    encoder, x = build(), torch.randn(2, 3, 7, 25, 2, device=DEVICE)
    twins = [copy.deepcopy(encoder) for _ in range(2)]
    torch.compiler.reset()
    compiled = torch.compile(twins[0], backend="aot_eager", fullgraph=True)
    outs = [encoder(x), compiled(x), twins[1].double()(x.double())]
    for out in outs:
        out.square().sum().backward()
    torch.testing.assert_close(outs[0].double(), outs[2], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(outs[1], outs[0], rtol=1e-4, atol=1e-4)
    expected = dict(twins[1].named_parameters())
    for model in (encoder, twins[0]):
        for name, parameter in model.named_parameters():
            wanted = expected[name].grad
            assert parameter.grad is not None
            assert wanted is not None
            if parameter.ndim > 1:  # biases before a batch norm have a gradient of zero, up to rounding
                assert (parameter.grad - wanted).norm() < 1e-4 * wanted.norm(), name
        for name, buffer in model.named_buffers():
            torch.testing.assert_close(buffer.double(), twins[1].get_buffer(name).double(), rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("on_kernels")
@pytest.mark.parametrize(
    "make", [partial(TemporalConv, 8, 16, kernel_size=3, stride=2), partial(nn.Conv2d, 8, 16, 1, (2, 1))]
)
def test_a_bias_that_is_left_out_moves_the_running_mean(make: Callable[[], nn.Conv2d]) -> None:
    conv, norm, x = make().to(DEVICE), a_norm(16), features((2, 8, 13, 25))
    assert conv.bias is not None
    nn.init.constant_(conv.bias, 3.0)
    plain = copy.deepcopy(norm)
    expected = plain(conv(x)).relu()
    found = convolved(conv, norm, x)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    for name, buffer in norm.named_buffers():
        torch.testing.assert_close(buffer, plain.get_buffer(name), rtol=1e-5, atol=1e-5)
    of_x, of_weight, of_bias = torch.autograd.grad(found.square().sum(), [x, conv.weight, conv.bias])
    wanted = torch.autograd.grad(expected.square().sum(), [x, conv.weight])
    assert torch.equal(of_bias, torch.zeros_like(of_bias))
    for one, two in zip((of_x, of_weight), wanted, strict=True):
        assert (one - two).norm() < 1e-4 * two.norm()
    torch.testing.assert_close(convolved(conv, norm.eval(), x), plain.eval()(conv(x)).relu(), rtol=1e-4, atol=1e-4)


@needs_compiler
@pytest.mark.slow
@pytest.mark.usefixtures("on_kernels")
def test_the_encoder_with_dropout_compiles_under_autocast() -> None:
    encoder = build(dropout=0.5)
    torch.compiler.reset()
    with torch.autocast(DEVICE, torch.bfloat16):
        out = torch.compile(encoder, backend="aot_eager", fullgraph=True)(torch.randn(2, 3, 7, 25, 2, device=DEVICE))
    out.float().sum().backward()
    assert out.isfinite().all()
    assert all(parameter.grad is not None for parameter in encoder.parameters())


@pytest.mark.usefixtures("on_kernels")
def test_modules_that_somebody_listens_to_or_replaced_are_called(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Tensor] = []

    def called(_norm: nn.Module, x: Tensor, *_: object, **_options: object) -> Tensor:
        calls.append(x)
        return x

    monkeypatch.setattr(_batch_norm, "fused", called)
    x, residual = features((2, 4, 5, 7)).detach(), features((2, 4, 5, 7)).detach()
    norm, dropout, relu = nn.BatchNorm2d(4), Dropout(0.5), nn.ReLU()
    normalized(norm, x, dropout=dropout, residual=residual)
    normalized(norm, x, relu=relu)
    normalized(norm, x, relu=False)
    assert len(calls) == 3
    seen = []
    for module in (norm, dropout, relu):
        handle = module.register_forward_hook(lambda module, *_: seen.append(type(module)))
        normalized(norm, x, dropout=dropout, relu=relu)
        handle.remove()
    assert seen == [nn.BatchNorm2d, Dropout, nn.ReLU]
    conv = nn.Conv2d(4, 4, 1)
    convolved(conv, norm, x)
    handle = conv.register_forward_hook(lambda module, *_: seen.append(type(module)))
    convolved(conv, norm, x)
    handle.remove()
    assert seen.pop() is nn.Conv2d
    assert len(calls) == 5
    del calls[3:]
    for other in (nn.Identity(), nn.InstanceNorm2d(4), nn.BatchNorm2d(4).eval(), nn.BatchNorm2d(4, affine=False)):
        normalized(other, x)
    for options in ({"momentum": None}, {"track_running_stats": False}):
        normalized(nn.BatchNorm2d(4, **options), x)
    normalized(norm, x, dropout=nn.AlphaDropout(0.5))
    assert not normalized(norm, x, dropout=nn.Dropout(1.0)).any()
    normalized(norm, x, relu=nn.LeakyReLU())
    normalized(norm, x.contiguous())
    normalized(norm, x, residual=residual.contiguous())
    normalized(norm, x, residual=residual.half())
    normalized(norm, x.contiguous(), left_out=conv.bias)
    assert len(calls) == 3
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        normalized(norm, x[:1, :, :1, :1])


@pytest.mark.usefixtures("on_kernels")
@pytest.mark.parametrize(
    ("in_channels", "width", "frames", "without_cudnn"),
    [(1, 8, 6, False), (3, 1, 6, False), (3, 8, 1, False), (3, 8, 6, True)],
    ids=["a coordinate", "a channel", "a frame", "without cuDNN"],
)
def test_kernels_take_every_norm_of_an_encoder(
    in_channels: int, width: int, frames: int, without_cudnn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Passes side by side take turns at running statistics in kernels alone.
    encoder = STGCN(NTU_RGBD_25, in_channels=in_channels, channels=(8, width, 16), strides=(1, 1, 2), dropout=0.0)
    encoder, x = encoder.to(DEVICE), torch.randn(2, in_channels, frames, 25, 2, device=DEVICE)
    plain = copy.deepcopy(encoder).double()
    for module in plain.modules():
        if isinstance(module, TemporalConv):
            module.implementation = "direct"
    expected = plain(x.double())

    def forbidden(*_: object) -> None:
        raise AssertionError("torch normalised")

    conv2d = torch.conv2d
    if without_cudnn:  # where torch's convolutions write no other format
        monkeypatch.setattr(nn.functional, "conv2d", lambda *how: conv2d(*how).contiguous())
    monkeypatch.setattr(nn.modules.batchnorm._BatchNorm, "forward", forbidden)
    assert changes_in_turn(encoder, x)
    found = encoder(x)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)
    for name, buffer in encoder.named_buffers():
        torch.testing.assert_close(buffer.double(), plain.get_buffer(name).double(), rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("on_kernels")
@pytest.mark.parametrize("other", [nn.ReLU(), nn.BatchNorm2d(4), nn.Identity()], ids=["relu", "norm", "identity"])
def test_what_stands_in_the_place_of_a_convolution_is_called(other: nn.Module) -> None:
    x, norm, other = features((2, 4, 5, 7)).detach(), a_norm(4), copy.deepcopy(other).to(DEVICE)
    wanted = copy.deepcopy(nn.Sequential(other, norm)).double()(x.double()).relu()
    torch.testing.assert_close(convolved(other, norm, x).double(), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("on_kernels")
@pytest.mark.parametrize("other", [nn.ReLU(), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)], ids=["relu", "norm", "conv"])
@pytest.mark.parametrize("place", ["dropout", "relu"])
def test_what_stands_in_the_place_of_another_part_is_called(other: nn.Module, place: str) -> None:
    x, norm, other = features((2, 4, 5, 7)).detach(), a_norm(4), copy.deepcopy(other).to(DEVICE)
    wanted = copy.deepcopy(nn.Sequential(norm, other)).double()(x.double())
    found = normalized(norm, x, **{"relu": False, place: other})  # type: ignore[arg-type]  # a part or a truth value
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-5)


def test_backward_hooks_and_those_of_all_modules_are_heard(on_kernels: None) -> None:
    norm, x = nn.BatchNorm2d(4).to(DEVICE), features((2, 4, 3, 5))
    handle = norm.register_full_backward_pre_hook(lambda _, gradients: (torch.zeros_like(gradients[0]),))  # type: ignore[index]  # a tuple
    normalized(norm, x, relu=False).sum().backward()
    handle.remove()
    assert norm.bias.grad is not None
    assert not norm.bias.grad.any()
    seen = list[type[nn.Module]]()
    handle = nn.modules.module.register_module_forward_hook(lambda module, *_: seen.append(type(module)))
    normalized(norm, x, relu=nn.ReLU())
    handle.remove()
    assert seen == [nn.BatchNorm2d, nn.ReLU]


def test_a_second_derivative_raises(on_kernels: None) -> None:
    norm, x = nn.BatchNorm2d(4).to(DEVICE), features((2, 4, 3, 5))
    (gradient,) = torch.autograd.grad(normalized(norm, x).sum(), [x], create_graph=True)
    with pytest.raises(RuntimeError, match="differentiated twice"):
        gradient.square().sum().backward()


def test_nothing_of_it_is_taken_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_batch_norm, "fused", None)
    block = STGCNBlock(4, 4, adjacency(NTU_RGBD_25), dropout=0.5)
    x = torch.randn(2, 4, 5, 25).contiguous(memory_format=torch.channels_last)
    assert block(x).isfinite().all()


def test_operators_keep_torchs_rules() -> None:
    x = features((2, 4, 3, 5))
    per_channel = [torch.rand(4, device=DEVICE) for _ in range(4)]
    weight, bias = (value.requires_grad_() for value in per_channel[2:])
    seed = torch.tensor([3], device=DEVICE)
    for left_out, batches in ((None, torch.tensor(3, device=DEVICE)), (torch.rand(4, device=DEVICE), None)):
        torch.library.opcheck(statistics_operator, (x.detach(), None, *per_channel[:2], batches, left_out, 0.1, 1e-5))
    for residual in (None, features((2, 4, 3, 5))):
        left_out = None if residual is None else torch.rand(4, device=DEVICE, requires_grad=True)
        inputs = x, *per_channel[:2], weight, bias, residual, left_out, seed, 0.25, residual is None
        torch.library.opcheck(normalize_twin.operator, inputs)


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("layer", [(16, 50), (32, 25), (64, 13), (256, 13)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
def test_layers_of_the_paper_on_a_gpu(layer: tuple[int, int], dtype: torch.dtype, tolerance: float) -> None:
    channels, frames = layer
    shape = (64, channels, frames, 25)
    assert_like_torch(features(shape, dtype), features(shape, dtype), a_norm(channels), relu=True, tolerance=tolerance)


@pytest.mark.gpu
@needs_cuda
def test_on_a_gpu_the_encoder_takes_it_and_learns_like_the_plain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, x = build(), torch.randn(8, 3, 20, 25, 2, device="cuda")
    plain = copy.deepcopy(encoder)
    taken = _batch_norm.fused
    calls: list[Tensor] = []

    def watched(norm: Any, x: Tensor, p: float, residual: Tensor | None, **options: Any) -> Tensor:
        calls.append(x)
        return taken(norm, x, p, residual, **options)

    monkeypatch.setattr(_batch_norm, "fused", watched)
    encoder(x).square().sum().backward()
    assert len(calls) == 6  # of 7, for one is added to another
    monkeypatch.setattr(_batch_norm, "_is_on_gpu", lambda _: False)
    plain(x).square().sum().backward()
    for name, parameter in encoder.named_parameters():
        wanted = plain.get_parameter(name).grad
        assert parameter.grad is not None
        assert wanted is not None
        if parameter.ndim > 1:
            # ReLU of a value near zero is decided by rounding, and the gradient of a deep network by some of these.
            assert (parameter.grad - wanted).norm() < 0.02 * wanted.norm(), name
    for name, buffer in encoder.named_buffers():
        torch.testing.assert_close(buffer, plain.get_buffer(name), rtol=1e-4, atol=1e-4, msg=name)


@pytest.mark.gpu
@needs_cuda
def test_on_a_gpu_it_never_waits_and_every_replay_draws_another_mask() -> None:
    x, norm = features((4, 16, 13, 25)).detach(), a_norm(16)
    nn.init.constant_(norm.bias, 100.0)
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        fused(norm, x, 0.5, None, relu=True)  # type: ignore[arg-type]  # statistics are tracked here
    torch.cuda.synchronize()
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        out = fused(norm, x, 0.5, None, relu=True)  # type: ignore[arg-type]
    masks = []
    for _ in range(2):
        captured.replay()
        masks.append(out != 0)
    assert masks[0].float().mean().item() == pytest.approx(0.5, abs=0.02)
    assert (masks[0] & masks[1]).float().mean().item() == pytest.approx(0.25, abs=0.02)
