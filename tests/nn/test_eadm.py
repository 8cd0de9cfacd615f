"""The drop layer against Algorithm 1 step by step, the released numbers, and what its masks promise."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.compiling import needs_compiler
from tests.reference import nn as reference
from torch import Tensor

from skelcontrast.nn import EADM, DropMasks, simam_attention

Golden = Callable[[str], Mapping[str, Any]]
SHAPES = [(1, 3, 13, 17), (3, 4, 7, 20), (2, 1, 1, 25), (3, 2, 5, 1)]


def features(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Draw a positive, uneven feature map: some joints and frames stand out, so that margins bite."""
    generator = torch.Generator().manual_seed(seed)
    samples, _, frames, joints = shape
    x = torch.randn(shape, generator=generator, dtype=torch.float64).relu()
    x = x * (1 + 3 * torch.rand(samples, 1, 1, joints, generator=generator, dtype=torch.float64) ** 4)
    x = x * (1 + 3 * torch.rand(samples, 1, frames, 1, generator=generator, dtype=torch.float64) ** 4)
    return x.to(dtype)


@pytest.mark.parametrize("correction", [0, 1])
@pytest.mark.parametrize("lambda_", [1e-4, 0.5])
@pytest.mark.parametrize("shape", SHAPES)
def test_attention_agrees_with_the_energy(shape: tuple[int, ...], lambda_: float, correction: Literal[0, 1]) -> None:
    x = features(*shape)
    expected = reference.simam_attention(reference.array(x), lambda_=lambda_, correction=correction)
    found = simam_attention(x, lambda_=lambda_, correction=correction)
    torch.testing.assert_close(found, torch.from_numpy(expected), rtol=1e-10, atol=1e-10)


def test_attention_stays_in_its_band() -> None:
    attention = simam_attention(features(4, 8, 13, 25) * 100)
    assert attention.min() >= torch.tensor(0.5, dtype=torch.float64).sigmoid()
    assert attention.max() < 1
    constant = simam_attention(torch.full((1, 2, 3, 4), 7.0))
    torch.testing.assert_close(constant, torch.full((1, 2, 3, 4), 0.6224593))


@pytest.mark.parametrize("scale", [30, 3000])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 1e-3), (torch.bfloat16, 5e-3)])
def test_attention_in_half_precision_is_that_of_the_same_values(
    scale: float, dtype: torch.dtype, tolerance: float
) -> None:
    x = (torch.randn(2, 4, 13, 25) * scale).to(dtype)
    attention = simam_attention(x)
    assert attention.dtype == dtype
    torch.testing.assert_close(attention.double(), simam_attention(x.double()), rtol=0, atol=tolerance)


def test_attention_of_a_single_value() -> None:
    assert simam_attention(torch.ones(1, 1, 1, 1), correction=1).item() == pytest.approx(0.6224593)


def test_attention_is_differentiable() -> None:
    assert torch.autograd.gradcheck(simam_attention, features(1, 2, 3, 4).requires_grad_())


@pytest.mark.parametrize("margin", ["0.66", "0.68", "0.7", "0.75", "0.9"])
def test_released_numbers(golden: Golden, margin: str) -> None:
    numbers = golden("eadm.npz")
    x = torch.from_numpy(numbers["x"])
    found = EADM.preset("official", keep_margin=float(margin))(x)
    expected = torch.from_numpy(numbers[f"out_{margin}"])
    assert torch.equal(found == 0, expected == 0)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_released_attention(golden: Golden) -> None:
    numbers = golden("eadm.npz")
    found = simam_attention(torch.from_numpy(numbers["x"]), correction=1)
    torch.testing.assert_close(found, torch.from_numpy(numbers["attention"]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rescale", ["sample", "batch"])
@pytest.mark.parametrize("temporal", ["frame", "element"])
@pytest.mark.parametrize(
    "choice", [{"keep_margin": 0.64}, {"keep_margin": 0.66}, {"keep_margin": 0.7}, {"drop_share": 0.3}]
)
@pytest.mark.parametrize(("shape", "lambda_"), [((3, 4, 13, 17), 1e-4), ((4, 2, 5, 20), 0.05)])
def test_agrees_with_algorithm_1(
    shape: tuple[int, ...],
    lambda_: float,
    choice: dict[str, float],
    temporal: Literal["frame", "element"],
    rescale: Literal["sample", "batch"],
) -> None:
    x = features(*shape)
    keep_margin, drop_share = choice.get("keep_margin"), choice.get("drop_share")
    found = EADM(keep_margin, drop_share=drop_share, temporal=temporal, rescale=rescale, lambda_=lambda_)(x)
    expected = reference.eadm(
        reference.array(x), keep_margin, drop_share=drop_share, temporal=temporal, rescale=rescale, lambda_=lambda_
    )
    assert (expected == 0).any()
    torch.testing.assert_close(found, torch.from_numpy(expected), rtol=1e-10, atol=1e-10)


def test_takes_samples_that_no_cache_holds() -> None:
    x = features(2, 64, 180, 25)
    found, expected = EADM(0.66)(x), reference.eadm(reference.array(x), 0.66)
    torch.testing.assert_close(found, torch.from_numpy(expected), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["paper", "official"])
def test_presets_agree_with_the_oracle(name: Literal["paper", "official"]) -> None:
    x = features(3, 4, 13, 25, seed=3)
    options: dict[str, Any] = {} if name == "paper" else {"temporal": "element", "rescale": "batch", "correction": 1}
    expected = reference.eadm(reference.array(x), 0.66, **options)
    found = EADM.preset(name, keep_margin=0.66)(x)
    torch.testing.assert_close(found, torch.from_numpy(expected), rtol=1e-10, atol=1e-10)


def test_paper_preset_is_the_default() -> None:
    assert repr(EADM.preset("paper")) == repr(EADM()) == repr(EADM(0.7))


@pytest.mark.parametrize("temporal", ["frame", "element"])
def test_a_sample_does_not_see_its_batch_mates(temporal: Literal["frame", "element"]) -> None:
    x = features(5, 4, 13, 25, dtype=torch.float32)
    x[3] = 1.0  # nothing stands out in this one
    drop = EADM(0.66, temporal=temporal)
    together, alone = drop(x), torch.cat([drop(sample[None]) for sample in x])
    torch.testing.assert_close(together, alone, rtol=1e-6, atol=1e-6)
    batch = EADM(0.66, temporal=temporal, rescale="batch")
    assert not torch.allclose(batch(x), torch.cat([batch(sample[None]) for sample in x]))


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 9), st.integers(1, 9)),
    margin=st.floats(0.6225, 1.0, exclude_min=True),
    temporal=st.sampled_from(["frame", "element"]),
    rescale=st.sampled_from(["sample", "batch"]),
    scale=st.sampled_from([0.0, 1e-6, 1.0, 1e4]),
)
def test_is_finite_and_the_kept_are_scaled_alike(
    shape: tuple[int, int, int, int],
    margin: float,
    temporal: Literal["frame", "element"],
    rescale: Literal["sample", "batch"],
    scale: float,
) -> None:
    x = scale * (1 + features(*shape, dtype=torch.float32))
    drop = EADM(margin, temporal=temporal, rescale=rescale)
    out, masks = drop(x), drop.masks(x)
    kept = (masks.spatial & masks.temporal).expand_as(x)
    assert torch.isfinite(out).all()
    assert (out[~kept] == 0).all()
    if scale:
        ratio = out[kept] / x[kept]
        assert (ratio >= 1 - 1e-6).all()
    if rescale == "sample":
        assert masks.spatial.flatten(1).any(1).all()
        assert masks.temporal.flatten(1).any(1).all()


@pytest.mark.parametrize("temporal", ["frame", "element"])
@pytest.mark.parametrize("rescale", ["sample", "batch"])
def test_what_would_drop_everything_keeps_everything(
    temporal: Literal["frame", "element"], rescale: Literal["sample", "batch"]
) -> None:
    x = torch.tensor([1.0, -1.0, 1.0, -1.0]).reshape(1, 1, 2, 2).expand(3, 2, 2, 2)  # attention sigmoid(3/4) throughout
    drop = EADM(0.65, temporal=temporal, rescale=rescale)
    torch.testing.assert_close(drop(x), x)
    assert [share.item() for share in drop.masks(x).dropped_shares()] == [0, 0]


def test_keeping_everything_is_decided_per_sample_or_per_batch() -> None:
    even = torch.tensor([1.0, -1.0, 1.0, -1.0]).reshape(1, 1, 2, 2)
    x = torch.cat([even, torch.tensor([0.0, 4.0, 0.0, 0.0]).reshape(1, 1, 2, 2)])
    spatial = EADM(0.65).masks(x).spatial.flatten(1)
    assert spatial.tolist() == [[True, True], [True, False]]
    together = EADM(0.65, rescale="batch")
    assert together.masks(x).spatial.flatten(1).tolist() == [[False, False], [True, False]]
    assert torch.isfinite(together(x)).all()
    assert (together(x)[0] == 0).all()


@pytest.mark.parametrize("temporal", ["frame", "element"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.29, 0.5, 0.57, 0.999, 1 - 1e-12])
@pytest.mark.parametrize("shape", [(3, 4, 50, 25), (2, 1, 100, 17), (1, 1, 1, 1)])
def test_share_drops_exact_counts(
    shape: tuple[int, int, int, int], share: float, temporal: Literal["frame", "element"]
) -> None:
    x = features(*shape)
    drop = EADM(drop_share=share, temporal=temporal)
    masks = drop.masks(x)
    frames = shape[2] if temporal == "frame" else shape[1] * shape[2] * shape[3]
    for mask, size in ((masks.spatial, shape[3]), (masks.temporal, frames)):
        # Of exact decimals: 0.29 of 100 is 29.
        wanted = min(round(share * 1000) * size // 1000, size - 1)
        assert (~mask).flatten(1).sum(1).tolist() == [wanted] * shape[0]
    assert torch.isfinite(drop(x)).all()


def test_share_takes_the_most_attended() -> None:
    x = features(2, 3, 8, 10)
    attention = simam_attention(x)
    masks = EADM(drop_share=0.25).masks(x)
    for mask, mean in ((masks.spatial, attention.mean((1, 2))), (masks.temporal, attention.mean((1, 3)))):
        for kept, value in zip(mask.flatten(1), mean, strict=True):
            assert value[~kept].min() > value[kept].max()


@pytest.mark.parametrize("temporal", ["frame", "element"])
def test_masks_and_their_shares(temporal: Literal["frame", "element"]) -> None:
    x = features(3, 4, 8, 10)
    masks = EADM(drop_share=0.25, temporal=temporal).masks(x)
    assert isinstance(masks, DropMasks)
    assert masks.spatial.shape == (3, 1, 1, 10)
    assert masks.temporal.shape == ((3, 1, 8, 1) if temporal == "frame" else (3, 4, 8, 10))
    assert masks.spatial.dtype == masks.temporal.dtype == torch.bool
    spatial, other = masks.dropped_shares()
    assert spatial.shape == other.shape == ()
    assert spatial.item() == pytest.approx(0.2)  # 2 of 10 joints
    assert other.item() == pytest.approx(0.25)


@pytest.mark.parametrize("options", [{}, {"temporal": "element", "rescale": "batch", "correction": 1}])
def test_gradient_flows_through_what_is_kept_alone(options: dict[str, Any]) -> None:
    x = features(3, 4, 8, 10).requires_grad_()
    drop = EADM(0.66, **options)
    masks = drop.masks(x)
    out = drop(x)
    (gradient,) = torch.autograd.grad(out.sum(), x)
    kept = (masks.spatial & masks.temporal).expand_as(x)
    assert 0 < kept.sum() < kept.numel()
    assert (gradient[~kept] == 0).all()
    scale = np.ones((3, 1, 1, 1))
    for mask in masks:
        part = mask.numpy().reshape(3, -1)
        kept_share = part.mean(axis=None if options else 1)
        scale = scale / np.reshape(kept_share, (-1, 1, 1, 1))
    expected = torch.from_numpy(scale).expand_as(x)[kept]
    torch.testing.assert_close(gradient[kept], expected, rtol=1e-12, atol=0)


def test_gradient_against_finite_differences() -> None:
    x = (1 + features(2, 2, 3, 4) + torch.rand(2, 2, 3, 4, dtype=torch.float64)).requires_grad_()  # no ties
    assert torch.autograd.gradcheck(EADM(0.66), x)
    assert torch.autograd.gradcheck(EADM(drop_share=0.3, temporal="element"), x)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["paper", "official"])
def test_half_precision_chooses_as_float32_does(dtype: torch.dtype, name: Literal["paper", "official"]) -> None:
    half = features(3, 4, 13, 25, dtype=dtype)
    drop = EADM.preset(name, keep_margin=0.66)
    out = drop(half)
    assert out.dtype == dtype
    assert all(torch.equal(a, b) for a, b in zip(drop.masks(half), drop.masks(half.float()), strict=True))
    torch.testing.assert_close(out.float(), drop(half.float()), rtol=0.02, atol=0.02)


def test_when_training() -> None:
    x = features(2, 3, 8, 10)
    always, training = EADM(0.66), EADM(0.66, when="training")
    assert torch.equal(training(x), always(x))
    always.eval()
    training.eval()
    assert training(x) is x
    assert not torch.equal(always(x), x)
    assert always.masks(x).spatial.equal(training.masks(x).spatial)


def test_input_is_left_alone_and_nothing_is_drawn_or_stored() -> None:
    x = features(2, 3, 8, 10)
    before, state = x.clone(), torch.get_rng_state()
    drop = EADM(0.66)
    assert torch.equal(drop(x), drop(x))
    assert torch.equal(x, before)
    assert torch.equal(torch.get_rng_state(), state)
    assert not drop.state_dict()


@pytest.mark.filterwarnings("ignore:.torch.jit.trace", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("options", [{"keep_margin": 0.66}, {"drop_share": 0.3}])
@pytest.mark.parametrize("temporal", ["frame", "element"])
def test_a_trace_takes_other_batches(options: dict[str, Any], temporal: Literal["frame", "element"]) -> None:
    drop = EADM(temporal=temporal, **options)
    traced = torch.jit.trace(drop, (features(3, 256, 13, 25, dtype=torch.float32),), check_trace=False)
    for samples in (1, 10):  # of which a CPU takes more than one at once, but not 10
        x = features(samples, 256, 13, 25, dtype=torch.float32)
        torch.testing.assert_close(traced(x), drop(x))


@needs_compiler
def test_compiles_with_one_margin_after_another() -> None:
    torch.compiler.reset()
    compiled = torch.compile(lambda drop, x: drop(x), fullgraph=True, backend="aot_eager")
    x = features(3, 4, 7, 20)
    for drop in (EADM(0.66), EADM(0.68, lambda_=1e-3), EADM(0.7, lambda_=1e-2)):
        torch.testing.assert_close(compiled(drop, x), drop(x))


def test_empty_batch() -> None:
    for name in ("paper", "official"):
        assert EADM.preset(name)(torch.zeros(0, 4, 5, 6)).shape == (0, 4, 5, 6)


def test_repr() -> None:
    assert repr(EADM(0.8)) == ("EADM(keep_margin=0.8, temporal='frame', rescale='sample', correction=0, when='always')")
    assert repr(EADM(drop_share=0.1, temporal="element", rescale="batch", correction=1, when="training")) == (
        "EADM(drop_share=0.1, temporal='element', rescale='batch', correction=1, when='training')"
    )


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        (
            {"keep_margin": 0.6224},
            ValueError,
            "`keep_margin` must lie in (0.622459, 1], got 0.6224. Attention is never",
        ),
        ({"keep_margin": 1.1}, ValueError, "`keep_margin` must lie in (0.622459, 1], got 1.1."),
        ({"keep_margin": float("nan")}, ValueError, "`keep_margin` must lie in (0.622459, 1], got nan."),
        ({"keep_margin": "0.7"}, TypeError, "`keep_margin` must be a number, got '0.7'."),
        ({"drop_share": 1.0}, ValueError, "`drop_share` must lie in [0, 1), got 1."),
        ({"drop_share": -0.1}, ValueError, "`drop_share` must lie in [0, 1), got -0.1."),
        (
            {"keep_margin": 0.7, "drop_share": 0.1},
            ValueError,
            "`drop_share` must be absent when `keep_margin` is given",
        ),
        ({"temporal": "joint"}, ValueError, "`temporal` must be one of 'frame', 'element', got 'joint'."),
        ({"rescale": "all"}, ValueError, "`rescale` must be one of 'sample', 'batch', got 'all'."),
        ({"when": "never"}, ValueError, "`when` must be one of 'always', 'training', got 'never'."),
        ({"lambda_": 0.0}, ValueError, "`lambda_` must lie in (0, inf), got 0."),
        ({"correction": 2}, ValueError, "`correction` must lie in [0, 1], got 2."),
    ],
)
def test_errors_of_the_constructor(options: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=re.escape(f"EADM: {message}")):
        EADM(**options)


def test_errors_of_input_and_preset() -> None:
    drop = EADM()
    with pytest.raises(ValueError, match=re.escape("EADM: `x` must have shape (N, C, T, V), got (2, 3, 4).")):
        drop(torch.zeros(2, 3, 4))
    with pytest.raises(TypeError, match=re.escape("EADM: `x` must be floating point, got torch.int64.")):
        drop.masks(torch.zeros(2, 3, 4, 5).long())
    with pytest.raises(ValueError, match=re.escape("EADM.preset: `name` must be one of 'paper', 'official', got 'x'.")):
        EADM.preset("x")  # type: ignore[arg-type]  # the error is what is tested


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"x": torch.zeros(2, 3)}, ValueError, "`x` must have shape (N, C, T, V), got (2, 3)."),
        ({"x": 1.0}, TypeError, "`x` must be a torch.Tensor, got float."),
        ({"lambda_": -1.0}, ValueError, "`lambda_` must lie in (0, inf), got -1."),
        ({"correction": 3}, ValueError, "`correction` must lie in [0, 1], got 3."),
    ],
)
def test_errors_of_the_attention(options: dict[str, Any], kind: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {"x": torch.zeros(1, 2, 3, 4), **options}
    with pytest.raises(kind, match=re.escape(f"simam_attention: {message}")):
        simam_attention(**arguments)
