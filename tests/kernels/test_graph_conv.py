"""The Triton twin of the graph convolution: in Triton's interpreter without a GPU, on the device with one."""

import importlib.util
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from skelcontrast.nn import STGCN, GraphConv, graph_conv
from skelcontrast.skeleton import NTU_RGBD_25, adjacency

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs Triton")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

Shape = tuple[int, int, int, int, int, int]


def draw(shape: Shape, dtype: torch.dtype, *, channels_last: bool = True) -> tuple[Tensor, ...]:
    """Return x, weight, bias and adjacency of size 1 or so, for (N, T, V, C_in, C_out, P)."""
    N, T, V, fan_in, fan_out, P = shape
    x = torch.randn(N, fan_in, T, V)
    x = x.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    weight, graph = torch.randn(P, fan_out, fan_in) / fan_in**0.5, torch.randn(P, V, V) / V**0.5
    values = (x, weight, torch.randn(P, fan_out), graph)
    return tuple(value.to(DEVICE, dtype).requires_grad_() for value in values)


def assert_like_the_plain_form(inputs: tuple[Tensor, ...], tolerance: float) -> None:
    """Compare values and every gradient with the released order in float64."""
    x, weight, bias, graph = inputs
    wide = [value.detach().double().requires_grad_() for value in inputs]
    found = graph_conv(x, weight, bias, graph, implementation="triton")
    expected = graph_conv(wide[0], wide[1], wide[2], wide[3], order="project-first", implementation="torch")
    upstream = torch.randn_like(expected).to(found.dtype)
    memory_format = torch.contiguous_format if x.is_contiguous() else torch.channels_last
    assert found.is_contiguous(memory_format=memory_format)
    pairs = zip(
        (found, *torch.autograd.grad(found, inputs, upstream)),
        (expected, *torch.autograd.grad(expected, wide, upstream.double())),
        strict=True,
    )
    for name, (one, two) in zip(("values", "x", "weight", "bias", "adjacency"), pairs, strict=True):
        assert one.dtype == found.dtype
        error = (one.double() - two).norm() / two.norm()
        assert error < tolerance, f"{name}: {error}"  # a NaN fails too


# Odd joints, frames and channels; fewer channels than a tile, several tiles in and out; one to four partitions.
@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize(
    "shape",
    [(1, 13, 17, 3, 16, 1), (2, 37, 25, 16, 3, 3), (1, 13, 20, 24, 24, 2), (1, 2, 25, 40, 70, 3), (3, 1, 31, 5, 1, 4)],
)
def test_agrees_with_the_plain_form(shape: Shape, channels_last: bool) -> None:
    assert_like_the_plain_form(draw(shape, torch.float32, channels_last=channels_last), 1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 2e-2), (torch.float16, 3e-3)])
def test_narrow_numbers(dtype: torch.dtype, tolerance: float) -> None:
    assert_like_the_plain_form(draw((1, 13, 25, 16, 24, 3), dtype), tolerance)


# From 32 channels to four times as many in 16 bits one large product does the work, from torch 2.8 on.
WIDE = [(2, 13, 25, 64, 256, 3), (1, 37, 17, 40, 170, 2), (3, 13, 20, 33, 132, 1), (1, 2, 31, 96, 384, 4)]


@pytest.fixture
def wide_layers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note which functions for wide layers are called, where there are any."""
    from skelcontrast.kernels import graph_conv as kernels
    from skelcontrast.kernels import graph_conv_wide

    if not graph_conv_wide._SUMS_IN_FLOAT32:
        pytest.skip("needs torch 2.8")
    called: list[str] = []

    def noted(name: str, function: Callable[..., object]) -> Callable[..., object]:
        def call(*inputs: Tensor) -> object:
            called.append(name)
            return function(*inputs)

        return call

    for name in ("wide_graph_conv", "wide_gradients"):
        monkeypatch.setattr(kernels, name, noted(name, getattr(kernels, name)))
    return called


@pytest.mark.parametrize(
    ("shape", "dtype", "tolerance"),
    [*((shape, torch.bfloat16, 2e-2) for shape in WIDE), (WIDE[1], torch.float16, 3e-3)],
)
def test_wide_layers(shape: Shape, dtype: torch.dtype, tolerance: float, wide_layers: list[str]) -> None:
    assert_like_the_plain_form(draw(shape, dtype), tolerance)
    assert wide_layers == ["wide_graph_conv", "wide_gradients"]


def test_what_is_not_wide(wide_layers: list[str]) -> None:
    narrower, inner, dtype, lying = (1, 2, 25, 64, 255, 3), (1, 2, 25, 31, 124, 3), (1, 2, 25, 32, 128, 3), WIDE[2]
    assert_like_the_plain_form(draw(narrower, torch.bfloat16), 2e-2)
    assert_like_the_plain_form(draw(inner, torch.bfloat16), 2e-2)
    assert_like_the_plain_form(draw(dtype, torch.float32), 1e-5)
    assert_like_the_plain_form(draw(lying, torch.bfloat16, channels_last=False), 2e-2)
    assert wide_layers == []


def test_a_wide_layer_sums_gradients_in_float32(wide_layers: list[str]) -> None:
    x, weight, bias, _ = draw((2, 13, 25, 32, 128, 2), torch.bfloat16)
    graph = torch.stack([torch.eye(25), torch.eye(25).roll(1, 0)]).to(DEVICE)  # gathers without rounding
    inputs = x, weight.detach().float().requires_grad_(), bias.detach().float().requires_grad_(), graph.requires_grad_()
    wide = [value.detach().double().requires_grad_() for value in inputs]
    with torch.autocast(DEVICE, torch.bfloat16):
        found = graph_conv(*inputs, implementation="triton")
    expected = graph_conv(wide[0], wide[1], wide[2], wide[3], implementation="torch")
    upstream = torch.randn_like(found)
    gradients = torch.autograd.grad(found, inputs[1:], upstream)
    pairs = zip(gradients, torch.autograd.grad(expected, wide[1:], upstream.double()), strict=True)
    for (one, two), tolerance in zip(
        pairs, (1e-5, 1e-5, 1e-2), strict=True
    ):  # what goes back to be gathered is rounded
        assert one.dtype == torch.float32
        assert one.is_contiguous()
        assert (one.double() - two).norm() < tolerance * two.norm()
    assert wide_layers == ["wide_graph_conv", "wide_gradients"]


def test_a_wide_layer_takes_a_gradient_that_lies_otherwise(wide_layers: list[str]) -> None:
    inputs = draw((1, 2, 20, 32, 128, 3), torch.bfloat16)
    found = graph_conv(*inputs, implementation="triton")
    ones = torch.ones_like(found)
    upstreams = ones, ones[:1, :1, :1, :1].expand(found.shape), ones.contiguous()
    first, *others = (torch.autograd.grad(found, inputs, upstream, retain_graph=True) for upstream in upstreams)
    for other in others:
        torch.testing.assert_close(other, first, rtol=0, atol=0)
    assert wide_layers == ["wide_graph_conv", *["wide_gradients"] * 3]


def test_without_bias_and_under_autocast() -> None:
    x, weight, _, graph = draw((2, 5, 20, 3, 8, 3), torch.float32)
    expected = graph_conv(x, weight, None, graph, order="dense")
    torch.testing.assert_close(graph_conv(x, weight, None, graph, implementation="triton"), expected)
    with torch.autocast(DEVICE, torch.bfloat16):
        narrow = graph_conv(x, weight, None, graph, implementation="triton")
    assert narrow.dtype == torch.bfloat16
    torch.testing.assert_close(narrow.float(), expected, rtol=0.05, atol=0.05)
    narrow.float().square().sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == torch.float32


def test_module_learns_alike() -> None:
    x = torch.randn(2, 3, 13, 25, device=DEVICE)
    gradients = []
    for implementation in ("triton", "torch"):
        torch.manual_seed(1)
        layer = GraphConv(3, 16, adjacency(NTU_RGBD_25), implementation=implementation).to(DEVICE)
        layer(x).square().sum().backward()
        gradients.append([parameter.grad for parameter in layer.parameters()])
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-3)


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("layer", [(3, 16, 50), (16, 32, 50), (32, 32, 25), (64, 64, 13), (64, 256, 13)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 2e-2)])
def test_layers_of_the_paper_on_a_gpu(layer: tuple[int, int, int], dtype: torch.dtype, tolerance: float) -> None:
    fan_in, fan_out, frames = layer
    assert_like_the_plain_form(draw((64, frames, 25, fan_in, fan_out, 3), dtype), tolerance)


@pytest.mark.gpu
@needs_cuda
def test_the_encoder_on_a_gpu_takes_the_kernels_and_compiles() -> None:
    encoder = STGCN(NTU_RGBD_25, dropout=0.0).cuda()
    x = torch.randn(8, 3, 50, 25, 2, device="cuda")
    found = encoder(x)
    compiled = torch.compile(encoder, fullgraph=True)
    torch.testing.assert_close(compiled(x), found, rtol=1e-3, atol=1e-3)
    for module in encoder.modules():
        if isinstance(module, GraphConv):
            module.implementation = "torch"
    torch.testing.assert_close(encoder(x), found, rtol=1e-3, atol=1e-3)


@pytest.mark.gpu
@needs_cuda
def test_a_wide_layer_on_a_gpu_gives_the_same_again_and_can_be_captured(wide_layers: list[str]) -> None:
    inputs = draw((64, 13, 25, 64, 256, 3), torch.bfloat16)
    upstream = torch.randn(64, 256, 13, 25, dtype=torch.bfloat16, device="cuda")
    upstream = upstream.contiguous(memory_format=torch.channels_last)

    def call() -> tuple[Tensor, ...]:
        out = graph_conv(*inputs, implementation="triton")
        return out, *torch.autograd.grad(out, inputs, upstream)

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        first, second = call(), call()
    torch.cuda.synchronize()
    for one, two in zip(first, second, strict=True):
        assert torch.equal(one, two)
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        replayed = call()
    with torch.no_grad():
        inputs[0].normal_()
    captured.replay()
    for one, two in zip(replayed, call(), strict=True):
        assert (one.double() - two.double()).norm() < 1e-3 * two.double().norm()
    assert wide_layers


@pytest.mark.gpu
@needs_cuda
def test_on_a_gpu_it_never_waits_and_can_be_captured() -> None:
    x, weight, bias, graph = draw((4, 13, 25, 16, 16, 3), torch.float32)
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):  # compiles and warms up outside the capture
            torch.autograd.grad(graph_conv(x, weight, bias, graph, implementation="triton").sum(), [x, weight])
    torch.cuda.synchronize()
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        out = graph_conv(x, weight, bias, graph, implementation="triton")
        gradients = torch.autograd.grad(out.square().sum(), [x, weight])
    with torch.no_grad():
        x.normal_()
    captured.replay()
    expected = graph_conv(x, weight, bias, graph, implementation="torch")
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)
    for one, two in zip(gradients, torch.autograd.grad(expected.square().sum(), [x, weight]), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-2)
