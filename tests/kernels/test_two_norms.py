"""Two batch norms that are added up in one pass: in Triton's interpreter without a GPU, on the device with one."""

import copy
import importlib.util
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.compiling import needs_compiler
from tests.kernels.modules import DEVICE, Shape, a_norm, features
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from skelcontrast.nn import STGCNBlock, _batch_norm
from skelcontrast.nn._batch_norm import Unnormalized, convolved, convolved_to_add, fused, settled
from skelcontrast.nn._norm_operators import normalize_two_twin
from skelcontrast.skeleton import NTU_RGBD_25, adjacency

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs Triton")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def difference(found: Tensor, expected: Tensor) -> float:
    error: float = ((found.double() - expected).norm() / expected.norm()).item()
    return error


def added_up(
    norms: tuple[nn.BatchNorm2d, nn.BatchNorm2d], x: Tensor, other: Tensor, p: float = 0.0, *, relu: bool = True
) -> Tensor:
    """Return both norms' sum by kernels."""
    first, second = norms
    residual = _batch_norm._with_statistics(second, other, None, None)  # type: ignore[arg-type]  # statistics are tracked here
    return fused(first, x, p, residual, relu=relu)  # type: ignore[arg-type]  # and here


def mask_of(shape: Shape, p: float, seed: int) -> Tensor:
    """Return what is kept of features, 1 or 0, by a batch norm that returns 1 wherever nothing is dropped."""
    norm, x = a_norm(shape[1]), features(shape).detach()
    nn.init.zeros_(norm.weight)
    nn.init.ones_(norm.bias)
    torch.manual_seed(seed)
    return (fused(norm, x, p, None, relu=False) != 0).double()  # type: ignore[arg-type]


def assert_like_torch(
    x: Tensor,
    other: Tensor,
    norms: tuple[nn.BatchNorm2d, nn.BatchNorm2d],
    *,
    p: float = 0.0,
    relu: bool = True,
    tolerance: float,
) -> None:
    """Compare values, every gradient and the running statistics with torch in float64."""
    samples, channels, frames, joints = x.shape
    scale = mask_of((samples, channels, frames, joints), p, 3) / (1 - p) if p else 1.0
    twins = tuple(copy.deepcopy(norm).double() for norm in norms)
    wide = [value.detach().double().requires_grad_() for value in (x, other)]
    torch.manual_seed(3)
    found = added_up(norms, x, other, p, relu=relu)
    expected = scale * twins[0](wide[0]) + twins[1](wide[1])
    near = expected.abs() < 1e-5  # where rounding decides what ReLU does: of millions of values, with some
    expected = expected.relu() if relu else expected
    upstream = torch.randn_like(expected).masked_fill(near, 0).to(found.dtype)
    one = [x, other, *(parameter for norm in norms for parameter in norm.parameters())]
    two = [*wide, *(parameter for norm in twins for parameter in norm.parameters())]
    gradients = torch.autograd.grad(found, one, upstream)
    wanted = torch.autograd.grad(expected, two, upstream.double())
    for a, b, of in zip((found, *gradients), (expected, *wanted), (x, *one), strict=True):
        assert a.dtype == of.dtype
        assert a.ndim == 1 or a.is_contiguous(memory_format=torch.channels_last)
        error = difference(a, b)
        assert error < tolerance, error  # a NaN fails too
    for norm, twin in zip(norms, twins, strict=True):
        for name, buffer in norm.named_buffers():
            torch.testing.assert_close(buffer.double(), twin.get_buffer(name).double(), rtol=tolerance, atol=tolerance)


# Odd samples, frames and joints; fewer channels than one draw of dropout, no power of two, more than a tile has.
@pytest.mark.parametrize("shape", [(1, 3, 13, 17), (3, 16, 37, 25), (2, 24, 13, 20), (127, 8, 2, 1), (1, 300, 2, 5)])
@pytest.mark.parametrize(("p", "relu"), [(0.0, True), (0.5, True), (0.0, False), (0.25, False)])
def test_agrees_with_torch(shape: Shape, p: float, relu: bool) -> None:
    norms = a_norm(shape[1]), a_norm(shape[1])
    assert_like_torch(features(shape), features(shape), norms, p=p, relu=relu, tolerance=1e-5)


@pytest.mark.parametrize(("mean", "tolerance"), [(-100.0, 1e-4), (1000.0, 1e-3)])
def test_channels_far_from_zero(mean: float, tolerance: float) -> None:
    shape = (2, 8, 13, 25)
    norms = a_norm(8), a_norm(8)
    assert_like_torch(features(shape, mean=mean), features(shape, mean=-mean), norms, tolerance=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 1e-2), (torch.float16, 1e-3)])
@pytest.mark.parametrize("narrow_weights", [True, False])
@pytest.mark.parametrize("p", [0.0, 0.5])
def test_narrow_numbers(dtype: torch.dtype, tolerance: float, narrow_weights: bool, p: float) -> None:
    shape = (2, 24, 13, 25)
    first, second = (a_norm(24, dtype if narrow_weights else torch.float32) for _ in range(2))
    assert_like_torch(features(shape, dtype), features(shape, dtype), (first, second), p=p, tolerance=tolerance)


def test_what_is_added_is_not_rounded_first() -> None:
    shape = (2, 16, 13, 25)
    x, other, norms = features(shape, torch.bfloat16), features(shape, torch.bfloat16), (a_norm(16), a_norm(16))
    expected = norms[0](x.double().float()) + norms[1](other.double().float())
    together = added_up(norms, x, other, relu=False)
    apart = fused(norms[0], x, 0.0, fused(norms[1], other, 0.0, None, relu=False), relu=False)  # type: ignore[arg-type]
    assert difference(together, expected.double()) < difference(apart, expected.double())


def test_what_is_no_number_stays_so() -> None:
    x, other = features((2, 3, 4, 5)).detach(), features((2, 3, 4, 5)).detach()
    other[0, 2, 0, 0] = torch.nan
    out = added_up((a_norm(3), a_norm(3)), x, other)
    assert out[:, 2].isnan().all()
    assert out[:, :2].isfinite().all()


def test_operators_keep_torchs_rules() -> None:
    numbers = [[torch.rand(4, device=DEVICE) for _ in range(5)] for _ in range(2)]
    for one in numbers:
        for parameter in one[2:]:
            parameter.requires_grad_()
    seed = torch.tensor([3], device=DEVICE)
    for there in ((True, True), (True, False), (False, False)):
        norms = [
            (features((2, 4, 3, 5)), *one[:4], one[4] if has else None) for one, has in zip(numbers, there, strict=True)
        ]
        torch.library.opcheck(normalize_two_twin.operator, (*norms[0], *norms[1], seed, 0.25, there[0]))


def a_block(dropout: float = 0.0) -> STGCNBlock:
    """Return a block whose residual path has a batch norm, with weights that are not the first ones."""
    block = STGCNBlock(8, 16, adjacency(NTU_RGBD_25), stride=2, kernel_size=3, dropout=dropout).to(DEVICE)
    for parameter in block.parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter)
    return block


@pytest.fixture
def counted(on_kernels: None, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which operation took which batch norm, in turn."""
    calls: list[str] = []

    def counting(name: str) -> Callable[..., Any]:
        operation = getattr(_batch_norm, name)

        def called(*inputs: object) -> Tensor:
            calls.append(name)
            out: Tensor = operation(*inputs)
            return out

        return called

    for name in ("normalize_twin", "normalize_two_twin"):
        monkeypatch.setattr(_batch_norm, name, counting(name))
    return calls


def test_a_block_adds_up_its_norms(counted: list[str]) -> None:
    torch.manual_seed(1)  # with which no value lies so near to zero that rounding decides what ReLU does
    block, x = a_block(), features((3, 8, 7, 25))
    plain, wide = copy.deepcopy(block).double(), x.detach().double().requires_grad_()
    out = block(x)
    assert counted == ["normalize_twin", "normalize_two_twin"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_batch_norm, "_is_on_gpu", lambda _: False)
        expected = plain(wide)
    upstream = torch.randn_like(out)
    out.backward(upstream)
    expected.backward(upstream.double())
    torch.testing.assert_close(out.double(), expected, rtol=1e-4, atol=1e-4)
    assert x.grad is not None
    assert wide.grad is not None
    assert difference(x.grad, wide.grad) < 1e-4
    for name, parameter in block.named_parameters():
        wanted = plain.get_parameter(name).grad
        assert parameter.grad is not None
        assert wanted is not None
        if name in {"tcn.2.bias", "residual.0.bias"}:
            assert not parameter.grad.any(), name  # left out
        elif name != "gcn.bias":  # whose gradient is zero, up to rounding
            assert difference(parameter.grad, wanted) < 1e-4, name
    for name, buffer in block.named_buffers():
        torch.testing.assert_close(buffer.double(), plain.get_buffer(name).double(), rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("on_kernels")
@pytest.mark.filterwarnings("ignore:.torch.cpu.amp.autocast:FutureWarning")  # of PyTorch 2.4's own call
def test_a_checkpoint_computes_it_again() -> None:
    block, x = a_block(dropout=0.5), features((3, 8, 7, 25))
    plain, found = copy.deepcopy(block), []
    for model in (block, plain):
        torch.manual_seed(5)
        out = checkpoint(model, x, use_reentrant=False) if model is block else model(x)
        loss = out.square().sum()
        found.append(torch.autograd.grad(loss, [x, *model.parameters()]))
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)
    assert block.get_buffer("residual.1.num_batches_tracked") == 2  # as of torch's own batch norm
    assert plain.get_buffer("residual.1.num_batches_tracked") == 1


@pytest.mark.usefixtures("on_kernels")
def test_the_norm_of_the_residual_moves_its_statistics_first(monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[Tensor] = []
    statistics = vars(_batch_norm)["batch_statistics"]

    def watched(x: Tensor, sums: Tensor | None, running_mean: Tensor, *others: Any) -> Any:
        moved.append(running_mean)
        return statistics(x, sums, running_mean, *others)

    monkeypatch.setattr(_batch_norm, "batch_statistics", watched)
    block = a_block()
    block(features((3, 8, 7, 25)))
    names = "tcn.0", "residual.1", "tcn.3"
    assert [id(mean) for mean in moved] == [id(block.get_buffer(f"{name}.running_mean")) for name in names]


@needs_compiler
@pytest.mark.slow
@pytest.mark.usefixtures("on_kernels")
def test_a_block_compiles_with_the_same_mask() -> None:
    block, x = a_block(dropout=0.5), features((3, 8, 7, 25))
    other = copy.deepcopy(block)
    torch.compiler.reset()
    found = []
    for model, call in ((block, block), (other, torch.compile(other, backend="aot_eager", fullgraph=True))):
        torch.manual_seed(5)
        out = call(x)
        found.append((out, *torch.autograd.grad(out.square().sum(), [x, *model.parameters()])))
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("where", ["tcn", "tcn.3", "tcn.4", "residual", "residual.0", "residual.1"])
def test_whoever_listens_gets_a_plain_residual(where: str, counted: list[str]) -> None:
    torch.manual_seed(1)
    block, x = a_block(), features((3, 8, 7, 25))
    expected = block(x)
    counted.clear()
    heard = []
    block.get_submodule(where).register_forward_hook(lambda _module, _inputs, out: heard.append(out))
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-4)
    assert len(heard) == 1
    # A convolution that somebody listens to is called, and its features are then as any other's.
    assert ("normalize_two_twin" in counted) is (where == "residual.0")


@pytest.mark.usefixtures("on_kernels")
def test_a_residual_that_does_not_fit_is_normalised_first() -> None:
    conv, norm, x = nn.Conv2d(4, 4, 1).to(DEVICE), a_norm(4), features((2, 4, 5, 7))
    assert conv.bias is not None
    plain = copy.deepcopy(norm)
    residual = convolved_to_add(conv, norm, x)
    assert isinstance(residual, Unnormalized)
    wanted = plain(conv(x))
    torch.testing.assert_close(settled(residual), wanted, rtol=1e-4, atol=1e-4)
    twice = convolved(nn.Identity(), a_norm(4).double(), x.double().contiguous(), residual=residual, relu=False)
    assert twice.dtype == torch.float64
    out = convolved(nn.Identity(), a_norm(4).eval(), torch.zeros_like(x), residual=residual, relu=False)
    torch.testing.assert_close((out - wanted).std((0, 2, 3)), torch.zeros(4, device=DEVICE), rtol=0, atol=1e-4)
    assert isinstance(convolved_to_add(conv, norm.eval(), x), Tensor)
    assert settled(None) is None


def test_a_second_derivative_raises() -> None:
    norms, x = (a_norm(4), a_norm(4)), features((2, 4, 3, 5))
    (gradient,) = torch.autograd.grad(added_up(norms, x, features((2, 4, 3, 5))).sum(), [x], create_graph=True)
    with pytest.raises(RuntimeError, match="differentiated twice"):
        gradient.square().sum().backward()


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("layer", [(32, 25), (64, 13), (256, 13)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
@pytest.mark.parametrize("p", [0.0, 0.5])
def test_layers_of_the_paper_on_a_gpu(layer: tuple[int, int], dtype: torch.dtype, tolerance: float, p: float) -> None:
    channels, frames = layer
    shape = (64, channels, frames, 25)
    norms = a_norm(channels), a_norm(channels)
    assert_like_torch(features(shape, dtype), features(shape, dtype), norms, p=p, tolerance=tolerance)
