"""The Triton twin of the convolution over frames: in Triton's interpreter without a GPU, on the device with one."""

import importlib.util

import pytest
import torch
from tests.compiling import needs_compiler
from torch import Tensor
from torch.nn import functional as F

from skelcontrast.nn import TemporalConv, temporal_conv
from skelcontrast.nn._conv_operators import temporal_conv_twin

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs Triton")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

Shape = tuple[int, int, int, int, int]


@pytest.fixture(autouse=True)
def _exact_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let float32 be float32, which torch's convolutions on CUDA are not unless told."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def draw(
    shape: Shape, length: int, dtype: torch.dtype = torch.float32, *, channels_last: bool = True
) -> tuple[Tensor, ...]:
    """Return x, weight and bias of size 1 or so, for (N, T, V, C_in, C_out)."""
    N, T, V, fan_in, fan_out = shape
    x = torch.randn(N, fan_in, T, V)
    x = x.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    values = (x, torch.randn(fan_out, fan_in, length, 1) / (fan_in * length) ** 0.5, torch.randn(fan_out))
    return tuple(value.to(DEVICE, dtype).requires_grad_() for value in values)


def assert_like_torch(inputs: tuple[Tensor, ...], stride: int, tolerance: float) -> None:
    """Compare values and every gradient with torch's convolution in float64."""
    x, weight, bias = inputs
    wide = [value.detach().double().requires_grad_() for value in inputs]
    found = temporal_conv(x, weight, bias, stride=stride, implementation="triton")
    expected = F.conv2d(wide[0], wide[1], wide[2], (stride, 1), (weight.shape[2] // 2, 0))
    upstream = torch.randn_like(expected).to(found.dtype)
    assert found.is_contiguous(memory_format=torch.contiguous_format if x.is_contiguous() else torch.channels_last)
    pairs = zip(
        (found, *torch.autograd.grad(found, inputs, upstream)),
        (expected, *torch.autograd.grad(expected, wide, upstream.double())),
        strict=True,
    )
    for name, (one, two) in zip(("values", "x", "weight", "bias"), pairs, strict=True):
        assert one.dtype == found.dtype
        assert one.shape == two.shape
        error = (one.double() - two).norm() / two.norm()
        assert error < tolerance, f"{name}: {error}"  # a NaN fails too


# Odd joints, frames and channels; fewer frames than taps; fewer channels than a tile, several tiles in and out.
@pytest.mark.parametrize(
    ("shape", "length", "stride"),
    [
        ((1, 13, 17, 3, 16), 9, 1),
        ((1, 13, 17, 16, 3), 3, 2),
        ((1, 37, 3, 24, 16), 9, 3),
        ((1, 37, 25, 16, 16), 9, 2),
        ((3, 37, 2, 16, 3), 3, 1),
        ((1, 13, 4, 65, 24), 3, 1),
        ((1, 13, 5, 24, 65), 9, 2),
        ((3, 13, 2, 65, 16), 1, 3),
        ((1, 1, 17, 24, 65), 9, 1),
        ((1, 1, 20, 65, 24), 3, 3),
        ((3, 1, 20, 3, 24), 9, 2),
        ((3, 2, 25, 3, 3), 1, 1),
        ((3, 13, 20, 16, 24), 1, 2),
    ],
)
def test_agrees_with_torch(shape: Shape, length: int, stride: int) -> None:
    assert_like_torch(draw(shape, length), stride, 1e-5)


@pytest.mark.parametrize("stride", [4, 5, 8])
def test_a_stride_as_long_as_the_reach_of_the_taps(stride: int) -> None:
    assert_like_torch(draw((1, 23, 3, 16, 3), 5), stride, 1e-5)


@pytest.mark.parametrize("stride", [1, 2])
def test_other_memory_formats(stride: int) -> None:
    assert_like_torch(draw((2, 13, 5, 3, 16), 9, channels_last=False), stride, 1e-5)
    x, weight, bias = draw((2, 13, 10, 32, 16), 9)
    strided = (x[:, ::2, :, 1::2], weight[:, ::2].contiguous(memory_format=torch.channels_last), bias)
    assert_like_torch(tuple(value.detach().requires_grad_() for value in strided), stride, 1e-5)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 1e-2), (torch.float16, 2e-3)])
def test_narrow_numbers(dtype: torch.dtype, tolerance: float, stride: int) -> None:
    assert_like_torch(draw((1, 13, 25, 16, 24), 9, dtype), stride, tolerance)


def test_gradients_follow_finite_differences() -> None:
    """The function is linear in x and in the weight, so that a step in each may be long."""
    inputs = draw((1, 7, 3, 3, 4), 3)
    steps = [torch.randn_like(value) for value in inputs]

    def loss(*inputs: Tensor) -> Tensor:
        return temporal_conv(*inputs, stride=2, implementation="triton").double().square().sum()

    gradients = torch.autograd.grad(loss(*inputs), inputs)
    for k, (step, gradient) in enumerate(zip(steps, gradients, strict=True)):
        ahead, behind = (
            loss(*(value + size * step if i == k else value for i, value in enumerate(inputs))) for size in (1.0, -1.0)
        )
        torch.testing.assert_close((gradient * step).sum().double(), (ahead - behind) / 2, rtol=1e-4, atol=1e-4)


def test_without_bias_and_under_autocast() -> None:
    x, weight, _ = draw((2, 5, 20, 3, 8), 9)
    expected = temporal_conv(x, weight, implementation="direct")
    torch.testing.assert_close(temporal_conv(x, weight, implementation="triton"), expected, rtol=1e-5, atol=1e-5)
    with torch.autocast(DEVICE, torch.bfloat16):
        narrow = temporal_conv(x, weight, implementation="triton")
    assert narrow.dtype == torch.bfloat16
    torch.testing.assert_close(narrow.float(), expected, rtol=0.05, atol=0.05)
    narrow.float().square().sum().backward()
    for value in (x, weight):
        assert value.grad is not None
        assert value.grad.dtype == torch.float32


def test_an_empty_batch() -> None:
    x, weight, bias = draw((0, 5, 4, 3, 8), 3)
    out = temporal_conv(x, weight, bias, stride=2, implementation="triton")
    assert out.shape == (0, 8, 3, 4)
    for gradient in torch.autograd.grad(out.sum(), [weight, bias]):
        assert not gradient.any()


def test_equal_inputs_give_equal_bits() -> None:
    inputs = draw((3, 37, 3, 16, 16), 3)
    first, second = (
        torch.autograd.grad(temporal_conv(*inputs, implementation="triton").square().sum(), inputs) for _ in range(2)
    )
    assert all(torch.equal(one, two) for one, two in zip(first, second, strict=True))


def test_module_is_the_function() -> None:
    layer = TemporalConv(3, 5, stride=2, implementation="triton").to(DEVICE)
    x = torch.randn(2, 3, 13, 4, device=DEVICE)
    torch.testing.assert_close(layer(x), F.conv2d(x, layer.weight, layer.bias, (2, 1), (4, 0)), rtol=1e-5, atol=1e-5)


def test_operator_keeps_torchs_rules() -> None:
    torch.library.opcheck(temporal_conv_twin.operator, (*draw((2, 5, 4, 3, 6), 3, channels_last=False), 2))


@needs_compiler
def test_compiles_to_one_graph() -> None:
    x, weight, bias = draw((2, 5, 4, 3, 6), 3)

    def run(x: Tensor) -> Tensor:
        return temporal_conv(x, weight, bias, stride=2, implementation="triton").relu()

    torch._dynamo.reset()
    compiled = torch.compile(run, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), run(x))
    for one, two in zip(
        *(torch.autograd.grad(call(x).square().sum(), [x, weight]) for call in (compiled, run)), strict=True
    ):
        torch.testing.assert_close(one, two)


LAYERS = [(16, 50, 1), (32, 50, 2), (32, 25, 1), (64, 25, 2), (64, 13, 1)]  # channels, frames and stride


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2), (torch.float16, 2e-3)])
def test_layers_of_the_paper_on_a_gpu(layer: tuple[int, int, int], dtype: torch.dtype, tolerance: float) -> None:
    channels, frames, stride = layer
    assert_like_torch(draw((64, frames, 25, channels, channels), 9, dtype), stride, tolerance)


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("layer", LAYERS)
def test_layers_of_the_paper_in_tf32_on_a_gpu(layer: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    channels, frames, stride = layer
    assert_like_torch(draw((64, frames, 25, channels, channels), 9), stride, 2e-3)


@pytest.mark.gpu
@needs_cuda
def test_auto_takes_the_kernels_on_a_gpu_and_compiles() -> None:
    x, weight, bias = draw((8, 50, 25, 32, 32), 9)
    found = temporal_conv(x, weight, bias, stride=2)
    assert torch.equal(found, temporal_conv(x, weight, bias, stride=2, implementation="triton"))
    torch._dynamo.reset()
    compiled = torch.compile(temporal_conv, fullgraph=True)
    with torch.autocast("cuda", torch.bfloat16):
        narrow = compiled(x, weight, bias, stride=2)
    torch.testing.assert_close(narrow.float(), found, rtol=0.05, atol=0.05)
    for value in torch.autograd.grad(narrow.float().square().sum(), [x, weight, bias]):
        assert value.dtype == torch.float32


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("stride", [1, 2])
def test_on_a_gpu_it_never_waits_and_can_be_captured(stride: int) -> None:
    inputs = draw((4, 13, 25, 16, 16), 9)

    def both(implementation: str) -> tuple[Tensor, ...]:
        out = temporal_conv(*inputs, stride=stride, implementation=implementation)  # type: ignore[arg-type]
        return (out, *torch.autograd.grad(out.square().sum(), inputs))

    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):  # compiles and warms up outside the capture
            both("triton")
    torch.cuda.synchronize()
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        found = both("triton")
    with torch.no_grad():
        inputs[0].normal_()
    captured.replay()
    for one, two in zip(found, both("direct"), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-3)
