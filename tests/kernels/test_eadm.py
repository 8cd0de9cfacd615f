"""What the drop layer's kernels decide, against torch and the oracle in float64."""

import importlib.util
from typing import Any, Literal

import pytest
import torch
from tests.compiling import needs_compiler
from tests.reference import nn as reference
from torch import Tensor

from skelcontrast.nn import EADM, simam_attention
from skelcontrast.nn import eadm as room
from skelcontrast.nn._eadm_operator import drop_by_margin, drop_operator

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs Triton")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
Shape = tuple[int, int, int, int]
FORMS = [
    {"temporal": temporal, "rescale": rescale, "correction": int(rescale == "batch")}
    for temporal in ("frame", "element")
    for rescale in ("sample", "batch")
]
# One frame, one joint, one value; 24 channels in blocks of 8; more rows than a tile; the paper's map.
SHAPES: list[Shape] = [(3, 8, 5, 7), (2, 24, 1, 25), (1, 16, 9, 1), (2, 8, 1, 1), (2, 8, 33, 20), (1, 256, 13, 25)]


def features(shape: Shape, dtype: torch.dtype = torch.float32) -> Tensor:
    """Draw a feature map in which some joints and frames stand out."""
    samples, _, frames, joints = shape
    x = torch.randn(shape).relu()
    x = x * (1 + 3 * torch.rand(samples, 1, 1, joints) ** 4) * (1 + 3 * torch.rand(samples, 1, frames, 1) ** 4)
    return x.to(DEVICE, dtype).contiguous(memory_format=torch.channels_last)


def attention_sums(x: Tensor, lambda_: float = 1e-4, correction: int = 0) -> Tensor:
    """Sum what the kernel found over blocks of channels: (N, T, V)."""
    from skelcontrast.kernels.eadm import triton_attention_sums

    return triton_attention_sums(x, lambda_, correction).sum(1).view(x.shape[0], *x.shape[2:])


def decided(x: Tensor, margin: float, **form: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Let kernels decide as `EADM` would that is told the same."""
    how = {"element": form.get("temporal") == "element", "batch": form.get("rescale") == "batch"}
    return drop_by_margin(x, margin, 1e-4, form.get("correction", 0), **how)


def margin_near(x: Tensor, margin: float, correction: int = 0) -> float:
    """Return a margin near another, in the widest gap between elements there: in it rounding decides nothing."""
    attention = simam_attention(x.double(), correction=correction)  # type: ignore[arg-type]  # 0 or 1
    ordered = attention.flatten().sort().values
    at = int((ordered < margin).sum())
    near = ordered[max(0, at - 20) : at + 20]
    gaps = near.diff()
    widest = int(gaps.argmax())
    return near[widest : widest + 2].mean().item() if gaps[widest] > 1e-6 else margin


def assert_decides_like_torch(x: Tensor, margin: float, **form: Any) -> Tensor:
    """Compare with the same values in float64, which no kernel takes; return the share of what stays.

    Of some million elements a few lie so near the margin that rounding decides.
    """
    if form.get("temporal") == "element":
        margin = margin_near(x, margin, form["correction"])
    spatial, temporal, factor = decided(x, margin, **form)
    masks = EADM(margin, **form).masks(x.double())
    assert torch.equal(spatial, masks.spatial)
    if form.get("temporal") == "element":
        clear = ~((simam_attention(x.double(), correction=form["correction"]) - margin).abs() < 1e-6)
        assert clear.double().mean() > 0.9999
        assert torch.equal(temporal & clear, masks.temporal & clear)
    else:
        assert torch.equal(temporal, masks.temporal)
    expected = torch.ones_like(x).double() * spatial * temporal
    for mask in (spatial, temporal):
        expected /= mask.double().mean((0, 1, 2, 3) if form.get("rescale") == "batch" else (1, 2, 3), keepdim=True)
    assert factor.dtype == x.dtype
    torch.testing.assert_close(factor.expand_as(x), expected.to(x.dtype))
    return (factor != 0).double().mean()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("lambda_", "correction"), [(1e-4, 0), (0.5, 1)])
def test_attention_agrees_with_torch(shape: Shape, lambda_: float, correction: int) -> None:
    x = features(shape)
    expected = simam_attention(x.double(), lambda_=lambda_, correction=correction)  # type: ignore[arg-type]  # 0 or 1
    torch.testing.assert_close(attention_sums(x, lambda_, correction).double(), expected.sum(1), rtol=1e-5, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_attention_of_narrow_numbers_is_that_of_the_same_values(dtype: torch.dtype) -> None:
    x = features((2, 16, 13, 25), dtype)
    torch.testing.assert_close(attention_sums(x).double(), simam_attention(x.double()).sum(1), rtol=1e-5, atol=0)


@pytest.mark.parametrize("scale", [0.0, 1e-20, 1e-6, 1e4, 1e15])
@pytest.mark.parametrize("mean", [0.0, 100.0])
def test_attention_of_values_far_from_one(scale: float, mean: float) -> None:
    x = (features((2, 8, 5, 7)) + mean) * scale
    torch.testing.assert_close(attention_sums(x).double(), simam_attention(x.double()).sum(1), rtol=1e-4, atol=0)


def test_one_value_that_stands_out() -> None:
    x = torch.full((1, 8, 13, 25), 7.0, device=DEVICE).contiguous(memory_format=torch.channels_last)
    expected = torch.full((13, 25), 8 * room.LOWEST_ATTENTION, device=DEVICE)
    torch.testing.assert_close(attention_sums(x)[0], expected)
    x[0, :, 3, 4] = 1e4
    found = attention_sums(x)[0]
    assert found[3, 4].item() == pytest.approx(8)
    torch.testing.assert_close(found[:3], expected[:3], rtol=1e-3, atol=0)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("margin", [0.64, 0.66, 0.7, 0.99])
@pytest.mark.parametrize("form", FORMS, ids=lambda form: "-".join(map(str, form.values())))
def test_decides_like_torch(shape: Shape, margin: float, form: dict[str, Any]) -> None:
    assert_decides_like_torch(features(shape), margin, **form)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("form", FORMS, ids=lambda form: "-".join(map(str, form.values())))
def test_decides_of_narrow_numbers(dtype: torch.dtype, form: dict[str, Any]) -> None:
    assert 0 < assert_decides_like_torch(features((3, 16, 13, 25), dtype), 0.66, **form) < 1


@pytest.mark.parametrize("form", FORMS, ids=lambda form: "-".join(map(str, form.values())))
def test_counts_of_more_samples_than_are_added_at_once(form: dict[str, Any]) -> None:
    assert 0 < assert_decides_like_torch(features((300, 8, 2, 3)), 0.66, **form) < 1


def test_no_margin_drops_no_frame() -> None:
    assert assert_decides_like_torch(features((3, 8, 5, 7)), 1.0) == 1


def test_attention_that_rounds_to_one_is_not_below_one() -> None:
    x = torch.zeros(2, 8, 13, 25, device=DEVICE).contiguous(memory_format=torch.channels_last)
    x[1, 3, 2, 1] = 1.0
    expected = x == 0
    assert torch.equal(EADM.preset("official", keep_margin=1.0).masks(x.contiguous()).temporal, expected)
    assert torch.equal(decided(x, 1.0, **FORMS[3])[1], expected)


@pytest.mark.parametrize("rescale", ["sample", "batch"])
def test_elements_of_what_would_drop_everything(rescale: str) -> None:
    x = features((3, 32, 2, 2))
    x[1] = torch.tensor([[1.0, -1.0], [1.0, -1.0]])  # attention sigmoid(3/4) throughout
    x[2] = torch.tensor([[0.0, 4.0], [0.0, 0.0]])  # here a joint stays, and elements do
    form = {"temporal": "element", "rescale": rescale, "correction": 0}
    together = [decided(x, 0.65, **form), decided(x[1:2], 0.65, **form)]
    stays = rescale == "sample"
    assert (together[0][0][1] == stays).all()
    assert (together[0][1][1] == stays).all()
    assert (together[0][2][1] == float(stays)).all()
    assert all((one == 1).all() for one in together[1])
    assert_decides_like_torch(x, 0.65, **form)


def test_what_would_drop_everything_keeps_everything_of_that_sample() -> None:
    x = features((3, 8, 2, 2))
    x[1] = torch.tensor([[1.0, -1.0], [1.0, -1.0]])  # attention sigmoid(3/4) throughout
    x[2] = torch.tensor([[0.0, 4.0], [0.0, 0.0]])
    spatial, temporal, factor = drop_by_margin(x, 0.65, 1e-4, 0)
    assert spatial[1:].flatten(1).tolist() == [[True, True], [True, False]]
    assert temporal[1:].flatten(1).tolist() == [[True, True], [False, True]]
    assert factor[1:].flatten(1).tolist() == [[1, 1, 1, 1], [0, 0, 4, 0]]


@pytest.mark.parametrize("temporal", ["frame", "element"])
def test_what_is_no_number_stays_in_its_sample(temporal: str) -> None:
    x = features((2, 8, 5, 7))
    expected = decided(x, 0.66, temporal=temporal)
    x[0, :, 1, 3] = torch.nan
    found = decided(x, 0.66, temporal=temporal)
    for one, two in zip(found, expected, strict=True):
        assert torch.equal(one[1], two[1])
        assert (one[0] == 1).all()  # as in torch, where it has no attention below the margin, so that all stay


@pytest.mark.parametrize("temporal", ["frame", "element"])
def test_what_is_no_number_has_no_attention_below_the_margin(temporal: str) -> None:
    x = features((3, 8, 5, 7))
    x[0, 2, 1, 3] = torch.nan
    assert_decides_like_torch(x, 0.66, temporal=temporal, rescale="batch", correction=1)


@pytest.mark.usefixtures("on_kernels")
@pytest.mark.parametrize("form", FORMS, ids=lambda form: "-".join(map(str, form.values())))
def test_the_layer_agrees_with_algorithm_1(form: dict[str, Any]) -> None:
    x = features((3, 8, 13, 25)).requires_grad_()
    margin = margin_near(x.detach(), 0.66, form["correction"])
    drop = EADM(margin, **form)
    out = drop(x)
    expected = torch.from_numpy(reference.eadm(reference.array(x.cpu()), margin, **form)).to(DEVICE)
    assert (expected == 0).any()
    assert out.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(out.double(), expected, rtol=1e-6, atol=1e-6)
    (gradient,) = torch.autograd.grad(out.sum(), x)
    kept = (drop.masks(x).spatial & drop.masks(x).temporal).expand_as(x)
    assert torch.equal(gradient != 0, kept)
    torch.testing.assert_close((x * gradient).double(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.usefixtures("on_kernels")
def test_everything_else_is_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = list[Tensor]()

    def watched(x: Tensor, *how: Any, **form: bool) -> tuple[Tensor, Tensor, Tensor]:
        taken.append(x)
        return drop_by_margin(x, *how, **form)

    monkeypatch.setattr(room, "drop_by_margin", watched)
    x = features((2, 8, 5, 7))
    EADM()(x)
    EADM.preset("official")(x)
    EADM(correction=1, when="training").masks(x)
    assert len(taken) == 3
    EADM(drop_share=0.1)(x)
    for other in (x.contiguous(), x[:, :4], x.double(), x[:0], x[:, :, :1, :1].expand(2, 8, 70, 70)):
        assert EADM()(other).shape == other.shape
    assert len(taken) == 3


def test_on_a_cpu_torch_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "drop_by_margin", None)
    assert EADM()(features((2, 8, 5, 7)).cpu()).isfinite().all()


@needs_compiler
@pytest.mark.usefixtures("on_kernels")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("form", FORMS, ids=lambda form: "-".join(map(str, form.values())))
def test_compiles_to_one_graph(dtype: torch.dtype, form: dict[str, Any]) -> None:
    x, drop = features((2, 8, 5, 7), dtype).requires_grad_(), EADM(0.66, **form)
    torch.compiler.reset()
    expected = drop(x)
    found = torch.compile(drop, backend="aot_eager", fullgraph=True)(x)
    assert torch.equal(found, expected)
    upstream = torch.randn_like(found)
    gradients = [torch.autograd.grad(out, x, upstream)[0] for out in (found, expected)]
    assert torch.equal(*gradients)
    masks = torch.compile(drop.masks, backend="aot_eager", fullgraph=True)(x)
    assert all(torch.equal(one, two) for one, two in zip(masks, drop.masks(x), strict=True))


@needs_compiler
@pytest.mark.usefixtures("on_kernels")
def test_of_elements_bits_alone_are_kept_for_the_gradient() -> None:
    kept = list[torch.Size]()

    def save(saved: Tensor) -> Tensor:
        kept.append(saved.shape)
        return saved

    x = features((2, 32, 5, 7)).requires_grad_()
    torch.compiler.reset()
    compiled = torch.compile(EADM.preset("official", keep_margin=0.66), backend="aot_eager_decomp_partition")
    with torch.autograd.graph.saved_tensors_hooks(save, lambda saved: saved):
        compiled(x)
    assert kept
    assert max(map(torch.Size.numel, kept)) == 2 * 5 * 7


@pytest.mark.parametrize("channels", [8, 32, 48])
@pytest.mark.parametrize("element", [False, True])
def test_operator_keeps_torchs_rules(element: bool, channels: int) -> None:
    x = features((2, channels, 5, 7), torch.bfloat16)
    torch.library.opcheck(drop_operator, (x, 0.66, 1e-4, 1, element, element))


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_map_of_the_paper_on_a_gpu(dtype: torch.dtype) -> None:
    x = features((64, 256, 13, 25), dtype)
    torch.testing.assert_close(attention_sums(x).double(), simam_attention(x.double()).sum(1), rtol=1e-5, atol=0)
    attention = simam_attention(x.double()).mean(1, keepdim=True)
    for which, mean in enumerate((attention.mean(2, keepdim=True), attention.mean(3, keepdim=True))):
        ordered = mean.flatten().sort().values
        widest = ordered.diff().argmax()  # in this gap rounding decides nothing
        margin = ordered[widest : widest + 2].mean().item()
        keep = mean < margin
        expected = keep | ~keep.any((2, 3), keepdim=True)
        assert torch.equal(drop_by_margin(x, margin, 1e-4, 0)[which], expected)


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rescale", ["sample", "batch"])
def test_elements_of_the_map_of_the_paper_on_a_gpu(rescale: str, dtype: torch.dtype) -> None:
    x = features((64, 256, 13, 25), dtype)
    assert 0 < assert_decides_like_torch(x, 0.7, temporal="element", rescale=rescale, correction=1) < 1


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("name", ["paper", "official"])
def test_on_a_gpu_it_can_be_recorded(name: Literal["paper", "official"]) -> None:
    x = features((4, 16, 13, 25), torch.bfloat16)
    drop = EADM.preset(name, keep_margin=margin_near(x, 0.66, int(name == "official")))
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        expected = drop(x)
    torch.cuda.synchronize()
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        out = drop(x)
    captured.replay()
    assert 0 < (out == 0).float().mean() < 1
    assert torch.equal(out, expected)
    torch.testing.assert_close(out.double(), drop(x.double()), rtol=1e-2, atol=0)


@pytest.mark.usefixtures("on_kernels")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("form", FORMS)
def test_a_trace_takes_torchs_operations(form: dict[str, Any]) -> None:
    drop, x = EADM(**form), features((2, 8, 5, 7))
    traced = torch.jit.trace(drop, features((2, 8, 5, 7)))
    torch.testing.assert_close(traced(x), drop(x))
