"""Convolution over frames, direct and in the frequency domain, against one frame at a time, with every gradient."""

import importlib
import itertools
import re
from typing import Any

import pytest
import torch
from tests.reference import nn as reference
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from skelcontrast import _cuda
from skelcontrast.nn import TemporalConv, _spectral, temporal_conv
from skelcontrast.nn.temporal_conv import TemporalConvImplementation

module = importlib.import_module("skelcontrast.nn.temporal_conv")  # the function hides it


def draw(
    samples: int, fan_in: int, fan_out: int, frames: int, joints: int, length: int, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor]:
    """Return x, weight and bias, all with gradients."""
    shapes = ((samples, fan_in, frames, joints), (fan_out, fan_in, length, 1), (fan_out,))
    x, weight, bias = (torch.randn(shape, dtype=torch.float64).to(dtype).requires_grad_() for shape in shapes)
    return x, weight, bias


@pytest.mark.parametrize("length", [1, 3, 9])
@pytest.mark.parametrize("frames", [1, 2, 7, 13, 14])
@pytest.mark.parametrize(("implementation", "stride"), [("direct", 1), ("direct", 2), ("direct", 3), ("spectral", 1)])
def test_agrees_with_the_oracle(
    length: int, frames: int, implementation: TemporalConvImplementation, stride: int
) -> None:
    x, weight, bias = draw(3, 2, 4, frames, 5, length)
    out = temporal_conv(x, weight, bias, stride=stride, implementation=implementation)
    arrays = reference.array(x), reference.array(weight)[..., 0], reference.array(bias)
    expected = torch.from_numpy(reference.temporal_conv(*arrays, stride))
    torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-10)
    without_bias = temporal_conv(x, weight, stride=stride, implementation=implementation)
    torch.testing.assert_close(without_bias, expected - bias.detach()[:, None, None], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("chunk", [1, 10**8])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
@pytest.mark.parametrize(("frames", "length"), [(13, 9), (6, 5), (3, 9)])
def test_spectral_has_the_values_gradients_and_memory_format_of_direct(
    frames: int,
    length: int,
    dtype: torch.dtype,
    tolerance: float,
    memory_format: torch.memory_format,
    chunk: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_spectral, "SCRATCH_BYTES", chunk)
    x, weight, bias = draw(5, 3, 4, frames, 7, length, dtype)
    x = x.detach().contiguous(memory_format=memory_format).requires_grad_()
    inputs = (x, weight, bias)
    found, expected = (temporal_conv(*inputs, implementation=how) for how in ("spectral", "direct"))
    assert found.is_contiguous(memory_format=memory_format)
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    upstream = torch.randn_like(expected)
    gradients = zip(
        torch.autograd.grad(found, inputs, upstream), torch.autograd.grad(expected, inputs, upstream), strict=True
    )
    for one, two in gradients:
        torch.testing.assert_close(one, two, rtol=tolerance, atol=tolerance)


def test_spectral_gradients_against_finite_differences() -> None:
    inputs = draw(2, 2, 3, 4, 2, 3)

    def run(*inputs: Tensor) -> Tensor:
        return temporal_conv(*inputs, implementation="spectral")

    assert torch.autograd.gradcheck(run, inputs)
    assert torch.autograd.gradcheck(run, inputs[:2])


def test_spectral_is_differentiable_once() -> None:
    x, weight = torch.randn(1, 2, 5, 3, requires_grad=True), torch.randn(2, 2, 3, 1, requires_grad=True)
    (gradient,) = torch.autograd.grad(temporal_conv(x, weight, implementation="spectral").sum(), [x], create_graph=True)
    with pytest.raises(RuntimeError, match="differentiated twice"):
        torch.autograd.grad(gradient.square().sum() + x.square().sum(), x)  # of which a part has a derivative


@pytest.mark.parametrize("implementation", ["direct", "spectral"])
def test_what_it_returns_can_be_written_over(implementation: TemporalConvImplementation) -> None:
    x, weight, bias = draw(2, 3, 4, 7, 5, 3)
    x = x.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    in_place = temporal_conv(x, weight, bias, implementation=implementation).relu_()
    arrays = reference.array(x), reference.array(weight)[..., 0], reference.array(bias)
    expected = torch.from_numpy(reference.temporal_conv(*arrays, 1)).relu()
    torch.testing.assert_close(in_place, expected, rtol=1e-10, atol=1e-10)
    (gradient,) = torch.autograd.grad(in_place.sum(), [bias])
    torch.testing.assert_close(gradient, (expected > 0).double().sum((0, 2, 3)))


@pytest.mark.parametrize("implementation", ["direct", "spectral"])
def test_dtype_under_autocast_and_an_empty_batch(implementation: TemporalConvImplementation) -> None:
    weight = torch.randn(4, 3, 5, 1)
    for shape in ((2, 3, 7, 5), (0, 3, 7, 5)):
        x = torch.randn(shape, requires_grad=True)
        with torch.autocast("cpu", torch.bfloat16):
            out = temporal_conv(x, weight, implementation=implementation)
            wide = temporal_conv(x.double(), weight.double(), implementation=implementation)
        assert (out.dtype, wide.dtype) == (torch.bfloat16, torch.float64)
        assert out.shape == (shape[0], 4, 7, 5)
        (gradient,) = torch.autograd.grad(out.sum(), [x])
        assert gradient.shape == shape


def test_spectral_brings_its_matrices_to_a_device_once() -> None:
    x, weight, _ = draw(2, 3, 4, 11, 5, 9, torch.float32)
    one, two = (_spectral._Plan(x, weight[..., 0]).basis for _ in range(2))
    assert one is two
    assert {matrix.dtype for matrix in one} == {torch.float32}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_graph_records_spectral() -> None:
    x, weight, bias = (value.detach().cuda() for value in draw(2, 3, 4, 11, 5, 9, torch.float32))
    expected = temporal_conv(x, weight, bias, implementation="spectral")
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = temporal_conv(x, weight, bias, implementation="spectral")
    graph.replay()
    torch.testing.assert_close(found, expected)


def test_spectral_is_no_less_exact_than_direct() -> None:
    """Fewer products round less: against float64, at the widest layer of the paper's encoder."""
    x, weight, bias = (value.detach() for value in draw(1, 256, 256, 13, 2, 9))
    exact = temporal_conv(x, weight, bias)
    errors = [
        (temporal_conv(x.float(), weight.float(), bias.float(), implementation=how) - exact).norm().item()
        for how in ("spectral", "direct")
    ]
    assert errors[0] < 2 * errors[1]
    assert errors[0] < 1e-6 * exact.norm().item()


def test_counts_of_products_are_those_of_the_matrices() -> None:
    for frames, length in itertools.product((1, 2, 7, 13, 50), (1, 3, 9)):
        basis = _spectral.spectral_basis(frames, length)
        products = _spectral.spectral_products(frames, length)
        assert basis.analysis.shape == (products, frames)
        assert basis.taps.shape == (products, length)
        assert basis.synthesis.shape == (frames, products)
    assert _spectral.spectral_products(13, 9) == 25


@pytest.mark.parametrize(
    ("shape", "length", "stride", "implementation"),
    [
        ((2, 64, 13, 5), 9, 1, "spectral"),
        ((2, 64, 13, 5), 9, 2, "direct"),
        ((2, 32, 13, 5), 9, 1, "direct"),
        ((2, 64, 2, 5), 9, 1, "spectral"),
        ((2, 64, 1, 5), 9, 1, "direct"),
        ((2, 64, 13, 5), 3, 1, "direct"),
    ],
)
def test_auto_takes_what_was_fastest(
    shape: tuple[int, int, int, int], length: int, stride: int, implementation: TemporalConvImplementation
) -> None:
    x, weight = torch.randn(shape), torch.randn(shape[1], shape[1], length, 1)
    found = temporal_conv(x, weight, stride=stride)
    assert torch.equal(found, temporal_conv(x, weight, stride=stride, implementation=implementation))
    other: TemporalConvImplementation = "direct" if implementation == "spectral" else "spectral"
    if stride == 1:
        assert not torch.equal(found, temporal_conv(x, weight, implementation=other))


def test_auto_is_direct_in_low_precision() -> None:
    x, weight = torch.randn(2, 64, 13, 5), torch.randn(64, 64, 9, 1)
    direct = temporal_conv(x.bfloat16(), weight.bfloat16(), implementation="direct")
    assert torch.equal(temporal_conv(x.bfloat16(), weight.bfloat16()), direct)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(temporal_conv(x, weight), direct)


@pytest.mark.parametrize(
    ("channels", "dtype", "stride", "capability", "implementation"),
    [
        ((64, 64), torch.float32, 1, (9, 0), "triton"),
        ((32, 32), torch.bfloat16, 2, (8, 0), "triton"),
        ((3, 16), torch.float32, 1, (12, 0), "triton"),
        ((3, 16), torch.float32, 1, (7, 5), "direct"),
        ((64, 65), torch.float32, 1, (9, 0), "direct"),
        ((65, 64), torch.float32, 1, (9, 0), "direct"),
        ((32, 32), torch.float64, 1, (9, 0), "direct"),
        ((32, 32), torch.float32, 9, (9, 0), "direct"),
    ],
)
def test_auto_on_cuda(
    channels: tuple[int, int],
    dtype: torch.dtype,
    stride: int,
    capability: tuple[int, int],
    implementation: TemporalConvImplementation,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "capability", lambda device: capability)
    fan_in, fan_out = channels
    with FakeTensorMode():
        x = torch.empty(2, fan_in, 13, 25, dtype=dtype, device="cuda")
        weight = torch.empty(fan_out, fan_in, 9, 1, dtype=dtype, device="cuda")
    monkeypatch.setattr(module, "HAS_TRITON", True)
    assert module._fastest(x, weight, stride) == implementation
    monkeypatch.setattr(module, "HAS_TRITON", False)
    assert module._fastest(x, weight, stride) == "direct"


def test_triton_is_refused_where_it_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight = torch.zeros(2, 3, 5, 4), torch.zeros(6, 3, 9, 1)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    message = "temporal_conv: `implementation` must not be 'triton' for tensors on cpu, got 'triton'. Pass 'auto'."
    with pytest.raises(ValueError, match=re.escape(message)):
        temporal_conv(x, weight, implementation="triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with pytest.raises(ValueError, match="must not be 'triton' for float64, got"):
        temporal_conv(x.double(), weight.double(), implementation="triton")
    monkeypatch.setattr(_cuda, "HAS_TRITON", False)
    message = "temporal_conv: `implementation='triton'` needs Triton. Run `pip install triton`, or pass 'auto'."
    with pytest.raises(ImportError, match=re.escape(message)):
        temporal_conv(x, weight, implementation="triton")


@pytest.mark.parametrize("implementation", ["direct", "spectral"])
def test_module_is_the_function(implementation: TemporalConvImplementation) -> None:
    layer = TemporalConv(3, 5, kernel_size=9, implementation=implementation)
    x = torch.randn(2, 3, 13, 4)
    expected = temporal_conv(x, layer.weight, layer.bias, implementation=implementation)
    assert torch.equal(layer(x), expected)
    assert isinstance(layer, torch.nn.Conv2d)
    plain = torch.nn.Conv2d(3, 5, (9, 1), padding=(4, 0))
    plain.load_state_dict(layer.state_dict())
    torch.testing.assert_close(plain(x), expected)


def test_repr() -> None:
    assert repr(TemporalConv(3, 5, stride=2)) == (
        "TemporalConv(3, 5, kernel_size=(9, 1), stride=(2, 1), padding=(4, 0))"
    )


ARGUMENTS: dict[str, Any] = {"x": torch.zeros(2, 3, 5, 4), "weight": torch.zeros(6, 3, 9, 1), "bias": torch.zeros(6)}


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"x": torch.zeros(2, 3, 5)}, ValueError, "`x` must have shape (N, C_in, T, V), got (2, 3, 5)."),
        ({"x": torch.zeros(2, 3, 5, 4).long()}, TypeError, "`x` must be floating point, got torch.int64."),
        (
            {"weight": torch.zeros(6, 4, 9, 1)},
            ValueError,
            "`weight` must have shape (C_out, 3, L, W), got (6, 4, 9, 1).",
        ),
        (
            {"weight": torch.zeros(6, 3, 8, 1)},
            ValueError,
            "`weight` must span an odd number of frames and one joint, got (8, 1).",
        ),
        (
            {"weight": torch.zeros(6, 3, 9, 3)},
            ValueError,
            "`weight` must span an odd number of frames and one joint, got (9, 3).",
        ),
        ({"weight": None}, TypeError, "`weight` must be a torch.Tensor, got NoneType."),
        ({"bias": torch.zeros(5)}, ValueError, "`bias` must have shape (6,), got (5,)."),
        ({"stride": 0}, ValueError, "`stride` must be at least 1, got 0."),
        (
            {"implementation": "x"},
            ValueError,
            "`implementation` must be one of 'auto', 'direct', 'spectral', 'triton', got 'x'.",
        ),
        (
            {"implementation": "spectral", "stride": 2},
            ValueError,
            "`stride` must be 1 with implementation='spectral', got 2.",
        ),
        (
            {"implementation": "triton", "stride": 9},
            ValueError,
            "`stride` must be at most 8 with implementation='triton', got 9.",
        ),
    ],
)
def test_errors_of_the_function(change: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=re.escape(f"temporal_conv: {message}")):
        temporal_conv(**{**ARGUMENTS, **change})


def test_errors_of_the_module() -> None:
    layer = TemporalConv(3, 5)
    message = "TemporalConv: `x` must have shape (N, 3, T, V) to match the layer, got (2, 4, 5, 6)."
    with pytest.raises(ValueError, match=re.escape(message)):
        layer(torch.zeros(2, 4, 5, 6))
    with pytest.raises(TypeError, match=re.escape("TemporalConv: `x` must be a torch.Tensor, got list.")):
        layer([1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel_size": 8}, "`kernel_size` must be odd, got 8."),
        ({"kernel_size": 0}, "`kernel_size` must be at least 1, got 0."),
        ({"stride": 0}, "`stride` must be at least 1, got 0."),
        ({"implementation": "x"}, "`implementation` must be one of 'auto', 'direct', 'spectral', 'triton', got 'x'."),
        ({"implementation": "spectral", "stride": 2}, "`stride` must be 1 with implementation='spectral', got 2."),
        ({"implementation": "triton", "stride": 9}, "`stride` must be at most 8 with implementation='triton', got 9."),
    ],
)
def test_errors_of_the_constructor(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"TemporalConv: {message}")):
        TemporalConv(3, 5, **options)


def test_spectral_where_tensors_have_no_values() -> None:
    """What estimates memory or plans a computation runs it so; what is kept between calls must not be of that kind."""
    x, weight, bias = (value.detach() for value in draw(1, 3, 4, 11, 2, 5))
    with FakeTensorMode(allow_non_fake_inputs=True) as fake:
        planned = temporal_conv(*map(fake.from_tensor, (x, weight, bias)), implementation="spectral")
        assert planned.shape == (1, 4, 11, 2)
    found = temporal_conv(x, weight, bias, implementation="spectral")
    assert torch.allclose(found, temporal_conv(x, weight, bias, implementation="direct"))
