"""A batch's statistics, summed up by what writes the features: in Triton's interpreter without a GPU, else on it."""

import copy
import importlib.util
from collections.abc import Callable
from typing import TypeAlias

import pytest
import torch
from tests.compiling import needs_compiler
from tests.kernels.modules import plainly
from torch import Tensor, nn

from skelcontrast.nn import GraphConv, STGCNBlock, TemporalConv, _batch_norm
from skelcontrast.nn._conv_operators import summed_graph_conv_twin, summed_temporal_conv_twin
from skelcontrast.nn._norm_operators import batch_statistics
from skelcontrast.nn.temporal_conv import convolve_frames_and_sum
from skelcontrast.skeleton import NTU_RGBD_25, adjacency

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs Triton")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

Shape: TypeAlias = tuple[int, int, int, int, int]
Summed: TypeAlias = Callable[[Shape, torch.dtype, float], tuple[Tensor, Tensor | None]]
EPS, MOMENTUM = 1e-3, 0.3


def features(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape).to(DEVICE, dtype).contiguous(memory_format=torch.channels_last)


def over_the_graph(shape: Shape, dtype: torch.dtype, mean: float) -> tuple[Tensor, Tensor | None]:
    """Convolve over a graph, for (N, T, V, C_in, C_out), so that every channel has this mean or near it."""
    N, T, V, fan_in, fan_out = shape
    graph = torch.rand(3, V, V)
    layer = GraphConv(fan_in, fan_out, graph / graph.sum(1, keepdim=True), implementation="triton").to(DEVICE)
    assert layer.bias is not None
    nn.init.constant_(layer.bias, mean / 3)
    return layer._forward_and_sum(features((N, fan_in, T, V), dtype))


def over_frames(shape: Shape, dtype: torch.dtype, mean: float, stride: int = 1) -> tuple[Tensor, Tensor | None]:
    """Convolve over frames, likewise."""
    N, T, V, fan_in, fan_out = shape
    layer = TemporalConv(fan_in, fan_out, stride=stride).to(DEVICE)
    bias = torch.full((fan_out,), mean, device=DEVICE)
    return convolve_frames_and_sum(features((N, fan_in, T, V), dtype), layer.weight, bias, stride, "triton")


def over_every_second_frame(shape: Shape, dtype: torch.dtype, mean: float) -> tuple[Tensor, Tensor | None]:
    return over_frames(shape, dtype, mean, stride=2)


def assert_like_torch(out: Tensor, sums: Tensor | None, left_out: Tensor | None = None) -> None:
    """Compare statistics and running ones with those of the features as they are stored, in float64.

    A mean in float32 is known to its last bit, which is a share of a deviation, and so is the deviation about it.
    """
    channels, wide = out.shape[1], out.double()
    before = torch.randn(channels, device=DEVICE), torch.rand(channels, device=DEVICE) + 0.5
    moved, batches = (before[0].clone(), before[1].clone()), torch.tensor(2, device=DEVICE)
    mean, inverse = batch_statistics(out, sums, *moved, batches, left_out, MOMENTUM, EPS)
    variance, expected = torch.var_mean(wide, (0, 2, 3), correction=0)
    shifted = expected if left_out is None else expected + left_out
    unbiased = wide.var((0, 2, 3))
    bit = torch.finfo(torch.float32).eps * expected.abs().max().item()
    known = 1e-5 + bit * (variance + EPS).rsqrt().max().item()
    torch.testing.assert_close(mean.double(), expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(inverse.double(), (variance + EPS).rsqrt(), rtol=known, atol=0)
    running = before[0].double().lerp(shifted, MOMENTUM)
    torch.testing.assert_close(moved[0].double(), running, rtol=1e-6, atol=1e-6 + 2 * bit)
    torch.testing.assert_close(moved[1].double(), before[1].double().lerp(unbiased, MOMENTUM), rtol=2 * known, atol=0)
    assert batches.item() == 3


SUMMED = [over_the_graph, over_frames, over_every_second_frame]


# Odd joints, frames and channels; rows that fill no tile, one tile, and one more than whole tiles; several blocks out.
@pytest.mark.parametrize("mean", [0.0, -1000.0])
@pytest.mark.parametrize("shape", [(1, 1, 3, 3, 3), (2, 13, 17, 16, 16), (3, 37, 25, 3, 24), (1, 5, 4, 24, 70)])
@pytest.mark.parametrize("summed", SUMMED)
def test_sums_are_those_of_what_is_written(summed: Summed, shape: Shape, mean: float) -> None:
    out, sums = summed(shape, torch.float32, mean)
    assert sums is not None
    assert sums[:, 0].sum(0).tolist() == [out[:, 0].numel()] * shape[4]
    assert_like_torch(out, sums)


@pytest.mark.parametrize("mean", [0.0, 1000.0])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("summed", SUMMED)
def test_of_narrow_numbers_they_are_those_of_rounded_ones(summed: Summed, dtype: torch.dtype, mean: float) -> None:
    out, sums = summed((3, 37, 17, 16, 24), dtype, mean)
    assert out.dtype == dtype
    assert sums is not None
    assert_like_torch(out, sums)


@pytest.mark.parametrize("shape", [(1, 3, 13, 17), (3, 16, 37, 25), (1, 300, 2, 5), (1, 8, 1, 2)])
@pytest.mark.parametrize("mean", [0.0, 1000.0])
def test_features_that_nobody_has_summed_up(shape: tuple[int, ...], mean: float) -> None:
    assert_like_torch(features(shape) + mean, None, torch.randn(shape[1], device=DEVICE))


@pytest.mark.parametrize("parts", [1, 2, 511, 512, 513, 1100])
def test_any_number_of_parts_is_merged(parts: int) -> None:
    x = features((parts, 5, 2, 3)) + 1000 * torch.arange(5, device=DEVICE)[:, None, None]
    wide = x.permute(0, 2, 3, 1).reshape(-1, 5).double()
    cut = torch.cat(
        [torch.ones(parts, dtype=torch.int64), torch.randint(parts, (5 * parts,)).bincount(minlength=parts)]
    )
    sizes = (cut[:parts] + cut[parts:]).tolist()  # one row at least in each
    sums = torch.stack(
        [torch.stack([_count(rows), rows.mean(0), rows.var(0, correction=0) * len(rows)]) for rows in wide.split(sizes)]
    )
    assert_like_torch(x, sums.float(), torch.randn(5, device=DEVICE))


def _count(rows: Tensor) -> Tensor:
    return torch.full_like(rows[0], len(rows))


@pytest.mark.parametrize("summed", SUMMED)
def test_a_constant_channel_has_no_deviation_and_equal_inputs_give_equal_bits(summed: Summed) -> None:
    torch.manual_seed(0)
    out, sums = summed((2, 13, 17, 16, 16), torch.float32, 7.0)
    torch.manual_seed(0)
    again = summed((2, 13, 17, 16, 16), torch.float32, 7.0)[1]
    assert sums is not None
    assert again is not None
    assert torch.equal(sums, again)
    layer = TemporalConv(3, 16).to(DEVICE)
    weight, bias = torch.zeros_like(layer.weight), torch.full((16,), 7.0, device=DEVICE)
    out, sums = convolve_frames_and_sum(features((2, 3, 13, 17)), weight, bias, 1, "triton")
    mean, inverse = batch_statistics(out, sums, bias.clone(), bias.clone(), None, None, MOMENTUM, EPS)
    torch.testing.assert_close(mean, bias, rtol=1e-6, atol=0)
    torch.testing.assert_close(inverse, torch.full_like(mean, EPS**-0.5), rtol=1e-5, atol=0)


def a_block(stride: int = 1) -> STGCNBlock:
    """Return a block whose convolutions are kernels, with biases that move means far."""
    block = STGCNBlock(8, 8 * stride, adjacency(NTU_RGBD_25), stride=stride).to(DEVICE)
    for module in block.modules():
        if isinstance(module, (GraphConv, TemporalConv)):
            module.implementation = "triton"
            assert module.bias is not None
            nn.init.constant_(module.bias, 3.0)
    return block


def weights(block: STGCNBlock) -> list[Tensor]:
    """Return those of its convolutions."""
    return [block.gcn.weight, block.get_parameter("tcn.2.weight")]


def forbidden(*_: object, **_options: object) -> None:
    raise AssertionError("features were read again")


@pytest.fixture
def _on_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the interpreter take what a GPU would."""
    monkeypatch.setattr(_batch_norm, "_is_on_gpu", lambda x: x.dtype != torch.float64)


@pytest.mark.usefixtures("_on_kernels")
@pytest.mark.parametrize("stride", [1, 2])
def test_a_block_learns_like_the_plain_one_and_reads_nothing_again(
    stride: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(1)  # with which no value lies so near to zero that rounding decides what ReLU does
    block, x = a_block(stride), features((3, 8, 13, 25)).requires_grad_()
    plain, wide = plainly(block), x.detach().double().requires_grad_()
    if stride == 1:  # else there is a residual convolution, which is not ours
        from skelcontrast.kernels import batch_norm

        monkeypatch.setattr(batch_norm, "batch_statistics", forbidden)
    found, expected = block(x), plain(wide)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)
    upstream = torch.randn_like(found)
    pairs = zip(
        torch.autograd.grad(found, [x, *weights(block)], upstream),
        torch.autograd.grad(expected, [wide, *weights(plain)], upstream.double()),
        strict=True,
    )
    for one, two in pairs:
        assert (one - two).norm() < 1e-4 * two.norm()
    for name, buffer in block.named_buffers():
        torch.testing.assert_close(buffer.double(), plain.get_buffer(name).double(), rtol=1e-5, atol=1e-5, msg=name)


@pytest.mark.usefixtures("_on_kernels")
def test_whoever_listens_or_evaluates_gets_no_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    block, x, seen = a_block(), features((2, 8, 5, 25)), list[type[nn.Module]]()
    expected = block(x)
    monkeypatch.setattr(GraphConv, "_forward_and_sum", forbidden)
    monkeypatch.setattr(_batch_norm, "convolve_frames_and_sum", forbidden)
    for module in (block.gcn, block.tcn[2]):
        module.register_forward_hook(lambda module, *_: seen.append(type(module)))
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-4)
    assert seen == [GraphConv, TemporalConv]
    assert a_block().eval()(x).isfinite().all()


def assert_learnt_alike(one: STGCNBlock, two: STGCNBlock, tolerance: float) -> None:
    """Compare gradients, but for those of biases before a batch norm, which are zero up to rounding; and statistics."""
    for name, parameter in one.named_parameters():
        wanted = two.get_parameter(name).grad
        assert parameter.grad is not None
        assert wanted is not None
        if not name.endswith("bias"):
            assert (parameter.grad - wanted).norm() < tolerance * wanted.norm(), name
    for name, buffer in one.named_buffers():
        torch.testing.assert_close(buffer, two.get_buffer(name), rtol=1e-4, atol=1e-4, msg=name)


@needs_compiler
@pytest.mark.slow
@pytest.mark.usefixtures("_on_kernels")
@pytest.mark.parametrize("dynamic", [False, True])
def test_a_block_compiles_to_one_graph(dynamic: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nn.functional, "batch_norm", forbidden)  # whatever the sizes are, kernels normalise
    torch.manual_seed(1)  # with which no value lies so near to zero that rounding decides what ReLU does
    block = a_block()
    twin = copy.deepcopy(block)
    torch.compiler.reset()
    compiled = torch.compile(twin, backend="aot_eager", fullgraph=True, dynamic=dynamic)
    for samples in (3, 5) if dynamic else (3,):
        x = features((samples, 8, 13, 25))
        for call in (block, compiled):
            call(x).square().sum().backward()
    assert_learnt_alike(twin, block, 1e-4)


def test_operators_keep_torchs_rules() -> None:
    x, weight, bias, graph = (
        torch.randn(shape, device=DEVICE, requires_grad=True) for shape in [(2, 3, 4, 5), (2, 6, 3), (2, 6), (2, 5, 5)]
    )
    torch.library.opcheck(summed_graph_conv_twin.operator, (x, weight, bias, graph, "triton"))
    taps = torch.randn(6, 3, 3, 1, device=DEVICE, requires_grad=True)
    torch.library.opcheck(summed_temporal_conv_twin.operator, (x, taps, None, 2))


def test_sums_have_no_gradient_and_a_second_derivative_raises() -> None:
    x, weight = features((2, 3, 4, 5)).requires_grad_(), torch.randn(6, 3, 3, 1, device=DEVICE)
    out, sums = summed_temporal_conv_twin(x, weight, None, 1)
    assert not sums.requires_grad
    (gradient,) = torch.autograd.grad(out.square().sum(), [x], create_graph=True)
    with pytest.raises(RuntimeError, match=r"^temporal_conv cannot be differentiated twice"):
        gradient.sum().backward()


class Stop(torch.autograd.Function):
    """Lets features through, but no gradient."""

    @staticmethod
    def forward(_ctx: object, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(_ctx: object, _upstream: Tensor) -> None:
        return None


@pytest.mark.parametrize("call", [summed_temporal_conv_twin, summed_temporal_conv_twin.operator])
def test_where_no_gradient_comes_none_goes_on(call: Callable[..., tuple[Tensor, Tensor]]) -> None:
    x = features((2, 3, 4, 5)).requires_grad_()
    out, _ = call(x, torch.randn(6, 3, 3, 1, device=DEVICE), None, 1)
    (Stop.apply(out).sum() + x.sum()).backward()  # type: ignore[no-untyped-call]  # torch's
    assert x.grad is not None
    assert (x.grad == 1).all()


LAYERS = [(16, 16, 50), (16, 32, 50), (32, 32, 25), (64, 64, 13), (64, 256, 13)]  # channels in and out, and frames


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("summed", SUMMED)
def test_layers_of_the_paper_on_a_gpu(summed: Summed, layer: tuple[int, int, int], dtype: torch.dtype) -> None:
    fan_in, fan_out, frames = layer
    out, sums = summed((64, frames, 25, fan_in, fan_out), dtype, 100.0)
    assert sums is not None
    assert_like_torch(out, sums)


@pytest.mark.gpu
@needs_cuda
def test_on_a_gpu_a_block_in_training_takes_them_and_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    from skelcontrast.kernels import batch_norm

    monkeypatch.setattr(batch_norm, "batch_statistics", forbidden)
    block, x = a_block(), features((4, 8, 13, 25))
    twin = copy.deepcopy(block)
    torch.compiler.reset()
    compiled = torch.compile(twin, fullgraph=True)
    for call in (block, compiled):
        call(x).square().sum().backward()
    # ReLU of a value near zero is decided by rounding.
    assert_learnt_alike(twin, block, 0.02)
