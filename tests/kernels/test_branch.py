"""Graph convolutions that add a residual's gradient: in Triton's interpreter without a GPU, on the device with one."""

import importlib.util
import sys
from typing import Any, TypeAlias

import pytest
import torch
from tests.compiling import needs_compiler
from tests.kernels.modules import plainly
from torch import Tensor, nn

from skelcontrast.nn import GraphConv, STGCNBlock, TemporalConv, _batch_norm, graph_conv
from skelcontrast.nn._conv_operators import branched_graph_conv, summed_graph_conv_twin
from skelcontrast.nn._norm_operators import batch_statistics
from skelcontrast.skeleton import NTU_RGBD_25, adjacency

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs Triton")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
CALLED_IN = sys.modules["skelcontrast.nn.graph_conv"]  # the package has a function of that name

Shape: TypeAlias = tuple[int, int, int, int, int, int]
Inputs: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor]
SMALL = (2, 5, 20, 3, 8, 3)


def draw(shape: Shape, dtype: torch.dtype = torch.float32, *, channels_last: bool = True) -> Inputs:
    """Return x, weight, bias and adjacency of size 1 or so, for (N, T, V, C_in, C_out, P)."""
    N, T, V, fan_in, fan_out, P = shape
    x, weight = torch.randn(N, fan_in, T, V), torch.randn(P, fan_out, fan_in) / fan_in**0.5
    bias, graph = torch.randn(P, fan_out), torch.randn(P, V, V) / V**0.5
    x = laid_out(x) if channels_last else x
    x, weight, bias, graph = (value.to(DEVICE, dtype).requires_grad_() for value in (x, weight, bias, graph))
    return x, weight, bias, graph


def laid_out(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def difference(found: Tensor, expected: Tensor) -> float:
    error: float = ((found.double() - expected).norm() / expected.norm()).item()
    return error


def gradients_of(inputs: Inputs, upstream: Tensor, added: Tensor, every: int) -> tuple[Tensor, ...]:
    """Return those of both outputs together, by kernels."""
    out, _, kept = branched_graph_conv(*inputs, every)
    return torch.autograd.grad([out, kept], inputs, [upstream, added])


def expected_of(inputs: Inputs, upstream: Tensor, added: Tensor, every: int) -> tuple[Tensor, ...]:
    """Return them by torch's operations in float64."""
    x, weight, bias, graph = wide = [value.detach().double().requires_grad_() for value in inputs]
    out = graph_conv(x, weight, bias, graph, order="project-first", implementation="torch")
    return torch.autograd.grad([out, x[:, :, ::every]], wide, [upstream.double(), added.double()])


def assert_adds(shape: Shape, every: int, dtype: torch.dtype, tolerance: float, *, channels_last: bool = True) -> None:
    """Compare values and gradients of both outputs with those in float64."""
    inputs = draw(shape, dtype, channels_last=channels_last)
    out, _, kept = branched_graph_conv(*inputs, every)
    assert torch.equal(kept, inputs[0][:, :, ::every])
    upstream, added = laid_out(torch.randn_like(out)), laid_out(torch.randn_like(kept))
    found, expected = (form(inputs, upstream, added, every) for form in (gradients_of, expected_of))
    assert found[0].stride() == inputs[0].stride()
    for one, two in zip(found, expected, strict=True):
        assert one.dtype == dtype
        error = difference(one, two)
        assert error < tolerance, error  # a NaN fails too


# Odd joints, frames and channels; several tiles in and out; strides that leave nothing over, or one frame alone.
@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize(
    ("shape", "every"),
    [((1, 13, 17, 3, 16, 1), 1), ((2, 37, 25, 16, 3, 3), 2), ((1, 2, 25, 40, 70, 3), 1), ((3, 7, 31, 5, 1, 4), 9)],
)
def test_agrees_with_the_plain_form(shape: Shape, every: int, channels_last: bool) -> None:
    assert_adds(shape, every, torch.float32, 1e-5, channels_last=channels_last)


@pytest.mark.parametrize("every", [1, 3])
def test_torch_adds_where_tiles_have_no_room(every: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skelcontrast.kernels.graph_conv._Case.adds", False)
    assert_adds((2, 13, 17, 16, 5, 2), every, torch.float32, 1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 2e-2), (torch.float16, 3e-3)])
@pytest.mark.parametrize("shape", [(1, 13, 25, 16, 24, 3), (1, 5, 25, 64, 256, 3)])  # the second is a wide layer
@pytest.mark.parametrize("every", [1, 2])
def test_narrow_numbers(shape: Shape, every: int, dtype: torch.dtype, tolerance: float) -> None:
    assert_adds(shape, every, dtype, tolerance)


@pytest.mark.parametrize("shape", [(1, 13, 25, 16, 16, 3), (1, 5, 25, 32, 128, 3)])
def test_the_sum_alone_is_rounded(shape: Shape) -> None:
    inputs = draw(shape, torch.bfloat16)
    out, _, kept = branched_graph_conv(*inputs, 1)
    upstream, added = laid_out(torch.randn_like(out)), laid_out(torch.randn_like(kept))
    together, *_ = gradients_of(inputs, upstream, added, 1)
    apart = torch.autograd.grad(out, inputs[0], upstream)[0] + added
    expected, *_ = expected_of(inputs, upstream, added, 1)
    assert difference(together, expected) < difference(apart, expected)


@pytest.mark.parametrize(("shape", "dtype"), [(SMALL, torch.float32), ((1, 5, 20, 32, 128, 3), torch.bfloat16)])
@pytest.mark.parametrize("every", [1, 2])
def test_what_is_added_may_lie_in_any_way(shape: Shape, dtype: torch.dtype, every: int) -> None:
    inputs = draw(shape, dtype)
    out, _, kept = branched_graph_conv(*inputs, every)
    upstream, ones = laid_out(torch.randn_like(out)), laid_out(torch.ones_like(kept))
    alike = ones, ones.contiguous(), ones[:1, :1, :1, :1].expand(kept.shape)
    first, *others = (gradients_of(inputs, upstream, added, every) for added in alike)
    for other in others:
        for one, two in zip(first, other, strict=True):
            assert torch.equal(one, two)


@pytest.mark.parametrize("every", [1, 2])
def test_either_output_may_have_no_gradient(every: int) -> None:
    inputs = draw(SMALL)
    out, sums, kept = branched_graph_conv(*inputs, every)
    plain, parts = summed_graph_conv_twin(*inputs, "triton")
    assert not sums.requires_grad
    assert torch.equal(sums, parts)
    upstream = torch.randn_like(out)
    found = torch.autograd.grad(out, inputs, upstream, retain_graph=True)
    for one, two in zip(found, torch.autograd.grad(plain, inputs, upstream), strict=True):
        assert torch.equal(one, two)
    added = torch.randn_like(kept)
    of_x, *others = torch.autograd.grad(kept, inputs, added, allow_unused=True)
    expected = torch.zeros_like(of_x)
    expected[:, :, ::every] = added
    assert torch.equal(of_x, expected)
    assert others == [None] * 3


def test_what_is_kept_may_be_read_twice_and_the_input_too() -> None:
    inputs = draw((2, 5, 20, 8, 8, 3))
    x, weight, bias, graph = wide = [value.detach().double().requires_grad_() for value in inputs]
    out, _, kept = branched_graph_conv(*inputs, 1)
    plain = graph_conv(x, weight, bias, graph, implementation="torch")
    found = torch.autograd.grad((out * kept * kept * inputs[0]).sum(), inputs)
    for one, two in zip(found, torch.autograd.grad((plain * x**3).sum(), wide), strict=True):
        assert difference(one, two) < 1e-5


@pytest.mark.parametrize("linear", [True, False])
def test_a_second_derivative_raises(linear: bool) -> None:
    inputs = draw(SMALL)
    out, _, kept = branched_graph_conv(*inputs, 1)
    loss = out.sum() + kept.sum() if linear else out.square().sum() + kept.square().sum()
    (gradient,) = torch.autograd.grad(loss, inputs[:1], create_graph=True)
    with pytest.raises(RuntimeError, match=r"^graph_conv cannot be differentiated twice"):
        gradient.square().sum().backward()


@pytest.mark.parametrize("every", [1, 2])
def test_operators_keep_torchs_rules(every: int) -> None:
    x, *others = (value.detach() for value in draw(SMALL))
    upstream = torch.randn(2, 8, 5, 20, device=DEVICE)
    added = x[:, :, ::every].clone()
    torch.library.opcheck(summed_graph_conv_twin.gradients_operator, (upstream, x, *others, "triton", added, every))


# Blocks: channels in and out, and stride. Their residual is the input, a 1x1 convolution, and one of fewer frames.
KINDS = [(8, 8, 1), (8, 16, 1), (8, 16, 2)]


def a_block(fan_in: int, fan_out: int, stride: int) -> STGCNBlock:
    """Return a block whose convolutions are kernels."""
    torch.manual_seed(1)  # with which no value lies so near to zero that rounding decides what ReLU does
    block = STGCNBlock(fan_in, fan_out, adjacency(NTU_RGBD_25), stride=stride, kernel_size=3).to(DEVICE)
    for module in block.modules():
        if isinstance(module, (GraphConv, TemporalConv)):
            module.implementation = "triton"
    return block


def features() -> Tensor:
    return laid_out(torch.randn(3, 8, 7, 25, device=DEVICE)).requires_grad_()


@pytest.fixture
def branches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let the interpreter take what a GPU would; note which of the frames each branch keeps."""
    kept: list[int] = []

    def noted(*inputs: Any) -> tuple[Tensor, ...]:
        kept.append(inputs[-1])
        return branched_graph_conv(*inputs)

    monkeypatch.setattr(_batch_norm, "_is_on_gpu", lambda x: x.dtype != torch.float64)
    monkeypatch.setattr(CALLED_IN, "branched_graph_conv", noted)
    return kept


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("read_elsewhere", [False, True])
def test_a_block_learns_like_the_plain_one(
    kind: tuple[int, int, int], read_elsewhere: bool, branches: list[int]
) -> None:
    block, x = a_block(*kind), features()
    plain, wide = plainly(block), x.detach().double().requires_grad_()
    found, expected = block(x), plain(wide)
    assert branches == [kind[2]]
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)
    upstream = torch.randn_like(found)
    losses = [(out * upstream.to(out.dtype)).sum() for out in (found, expected)]
    if read_elsewhere:
        losses = [loss + one.square().sum() for loss, one in zip(losses, (x, wide), strict=True)]
    names = ["gcn.weight", "gcn.edge_importance", "tcn.2.weight"]
    one = torch.autograd.grad(losses[0], [x, *(block.get_parameter(name) for name in names)])
    two = torch.autograd.grad(losses[1], [wide, *(plain.get_parameter(name) for name in names)])
    assert laid_out(one[0]) is one[0]
    for a, b in zip(one, two, strict=True):
        assert difference(a, b) < 1e-4


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_block_compiles_to_one_graph(kind: tuple[int, int, int], dynamic: bool, branches: list[int]) -> None:
    block, x = a_block(*kind), features()
    torch.compiler.reset()
    compiled = torch.compile(block, backend="aot_eager", fullgraph=True, dynamic=dynamic)
    found = []
    for call in (block, compiled):
        out = call(x)
        found.append(torch.autograd.grad(out.square().sum(), [x, block.gcn.weight]))
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)


def test_without_a_residual_of_which_all_is_known_nothing_branches(branches: list[int]) -> None:
    x = features()

    def unlike(block: STGCNBlock, x: Tensor) -> None:
        block(x)
        assert branches == []

    for module in ("gcn", "residual"):
        block = a_block(8, 8, 1)
        block.get_submodule(module).register_forward_hook(lambda *_: None)
        unlike(block, x)
    foreign = a_block(8, 8, 1)
    foreign.residual = nn.ReLU()
    unlike(foreign, x)
    unlike(a_block(8, 16, 2).eval(), x)
    plain = a_block(8, 8, 1)
    plain.gcn.implementation = "torch"
    unlike(plain, x)
    unlike(a_block(8, 8, 1), x.detach())
    with torch.no_grad():
        unlike(a_block(8, 8, 1), x)
    with torch.autocast(DEVICE, torch.bfloat16):
        unlike(a_block(8, 8, 1), x)  # the residual keeps its numbers
        a_block(8, 8, 1)(x.bfloat16())
    assert branches == [1]


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize(
    ("layer", "every"),
    [((16, 16, 50), 1), ((16, 32, 50), 2), ((32, 32, 25), 1), ((32, 64, 25), 2), ((64, 64, 13), 1), ((64, 256, 13), 1)],
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 2e-2)])
def test_layers_of_the_paper_on_a_gpu(
    layer: tuple[int, int, int], every: int, dtype: torch.dtype, tolerance: float
) -> None:
    fan_in, fan_out, frames = layer
    assert_adds((64, frames, 25, fan_in, fan_out, 3), every, dtype, tolerance)


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("kind", KINDS)
def test_on_a_gpu_a_block_branches_and_compiles(kind: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    block, x = a_block(*kind), features()
    torch.compiler.reset()
    expected, found = (
        torch.autograd.grad(call(x).square().sum(), [x, block.gcn.weight])
        for call in (block, torch.compile(block, fullgraph=True))
    )
    # ReLU of a value near zero is decided by rounding.
    for one, two in zip(found, expected, strict=True):
        assert (one - two).norm() < 0.02 * two.norm()
    monkeypatch.setattr(CALLED_IN, "branched_graph_conv", None)
    with pytest.raises(TypeError):
        block(x)


def test_statistics_behind_a_branch_compile_in_every_version_of_torch() -> None:
    inputs, mean_before, variance_before = draw(SMALL), *(torch.zeros(8, device=DEVICE) for _ in range(2))

    def normalized() -> Tensor:
        out, sums, kept = branched_graph_conv(*inputs, 1)
        mean, inverse = batch_statistics(out, sums, mean_before, variance_before, None, None, 0.1, 1e-5)
        centred = out - mean[:, None, None]
        return (centred * inverse[:, None, None]).square().sum() * kept.square().sum()

    torch.compiler.reset()
    compiled = torch.compile(normalized, backend="aot_eager", fullgraph=True)
    found, expected = (torch.autograd.grad(call(), inputs) for call in (compiled, normalized))
    for one, two in zip(found, expected, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4 * two.abs().max().item())
