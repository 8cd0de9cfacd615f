from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skelcontrast.augment import (
    AxisMaps,
    AxisMask,
    AxisTransform,
    Compose,
    GaussianBlur,
    GaussianNoise,
    Preset,
    Rotate,
    Shear,
    SpatialFlip,
    TemporalCrop,
    TemporalFlip,
    Transform,
    extreme,
)
from skelcontrast.skeleton import COCO_17, UTD_MHAD_20, SkeletonLayout

V_SHAPE = SkeletonLayout("v", ("middle", "left", "right"), ((1, 0), (2, 0)), 0, ((1, 2),))
AnyTransform = Transform[Any]


class ScaleParams(NamedTuple):
    factor: torch.Tensor


@dataclass(frozen=True)
class SquaredSize(Transform[ScaleParams]):
    """A user's transform that is no map on single axes."""

    def sample(self, x: torch.Tensor, generator: torch.Generator | None = None) -> ScaleParams:
        return ScaleParams(torch.rand(len(x), generator=generator))

    def apply(self, x: torch.Tensor, params: ScaleParams) -> torch.Tensor:
        return x * x * params.factor.to(x.dtype)[:, None, None, None, None]


EIGHT: list[AnyTransform] = [
    Shear(p=0.7),
    TemporalCrop(3),
    SpatialFlip(V_SHAPE),
    Rotate(max_degrees=90, p=0.7),
    AxisMask(),
    TemporalFlip(),
    GaussianNoise(std=0.5),
    GaussianBlur(),
]
shapes = st.tuples(st.integers(1, 6), st.integers(2, 3), st.integers(1, 9), st.just(3), st.integers(1, 3))


def one_by_one(compose: Compose, x: torch.Tensor, params: tuple[Any, ...]) -> torch.Tensor:
    for transform, drawn in zip(compose.transforms, params, strict=True):
        x = transform.apply(x, drawn)
    return x


def check_merging(compose: Compose, x: torch.Tensor, generator: torch.Generator) -> None:
    params = compose.sample(x, generator)
    torch.testing.assert_close(compose.apply(x, params), one_by_one(compose, x, params), rtol=1e-10, atol=1e-10)


@settings(deadline=None, max_examples=150)
@given(st.permutations([*EIGHT, SquaredSize()]), st.integers(1, 9), shapes, st.integers(0, 2**20))
def test_merged_equals_one_by_one_in_every_order_and_choice(
    order: list[AnyTransform], count: int, shape: tuple[int, ...], seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, dtype=torch.float64, generator=generator)
    x[0, ..., -1] = 0
    check_merging(Compose(*order[:count]), x, generator)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from(EIGHT), min_size=2, max_size=6), shapes, st.integers(0, 2**20))
def test_merged_equals_one_by_one_with_repeats(
    transforms: list[AnyTransform], shape: tuple[int, ...], seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    check_merging(Compose(*transforms), torch.randn(shape, dtype=torch.float64, generator=generator), generator)


@pytest.mark.parametrize("first", EIGHT, ids=lambda transform: type(transform).__name__)
@pytest.mark.parametrize("second", EIGHT, ids=lambda transform: type(transform).__name__)
def test_every_pair(first: AnyTransform, second: AnyTransform) -> None:
    generator = torch.Generator().manual_seed(0)
    check_merging(Compose(first, second), torch.randn(8, 3, 9, 3, 2, dtype=torch.float64), generator)


@pytest.mark.parametrize("preset", ["paper", "official"])
@pytest.mark.parametrize("layout", [COCO_17, UTD_MHAD_20], ids=lambda layout: layout.name)
@pytest.mark.parametrize(("N", "C", "T", "M"), [(1, 3, 13, 1), (5, 2, 37, 2), (16, 3, 37, 3), (7, 2, 13, 3)])
def test_extreme_view_in_odd_shapes(preset: Preset, layout: SkeletonLayout, N: int, C: int, T: int, M: int) -> None:
    x = torch.randn(N, C, T, layout.num_joints, M, dtype=torch.float64)
    x[0, ..., -1] = 0
    view = extreme(layout, preset=preset)
    for seed in range(4):
        check_merging(view, x, torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class Freeze(Transform[ScaleParams]):
    """A user's transform whose result is the memory of its input, one frame for all."""

    def sample(self, x: torch.Tensor, generator: torch.Generator | None = None) -> ScaleParams:
        return ScaleParams(torch.rand(len(x), generator=generator))

    def apply(self, x: torch.Tensor, params: ScaleParams) -> torch.Tensor:  # noqa: ARG002  (nothing to draw)
        return x[:, :, :1].expand_as(x)


@pytest.mark.parametrize("before", [[], [Shear()], [Freeze()], [Shear(), Freeze()]], ids=str)
@pytest.mark.parametrize("after", [GaussianNoise(p=1.0), GaussianBlur(p=1.0)], ids=str)
def test_only_memory_of_its_own_is_written_over(before: list[AnyTransform], after: AnyTransform) -> None:
    compose = Compose(*before, after)
    x = torch.randn(6, 3, 9, 3, 2, dtype=torch.float64)
    kept, params = x.clone(), compose.sample(x)
    torch.testing.assert_close(compose.apply(x, params), one_by_one(compose, x, params))
    assert torch.equal(x, kept)


def test_memory_in_another_order_is_written_over_rightly() -> None:
    compose = Compose(GaussianBlur(), GaussianNoise(p=1.0))
    x = torch.randn(6, 9, 3, 3, 2, dtype=torch.float64).transpose(1, 2)
    check_merging(compose, x, torch.Generator().manual_seed(0))


@dataclass(frozen=True)
class SomeSquared(SquaredSize):
    """A user's transform that says whom it changes, and fails if led through with others."""

    def apply(self, x: torch.Tensor, params: ScaleParams) -> torch.Tensor:
        assert params.factor.gt(0.5).all()
        return x * x

    def touched(self, params: ScaleParams) -> torch.Tensor:
        return params.factor > 0.5


def test_samples_are_led_only_through_what_touches_them() -> None:
    x = torch.randn(20, 3, 9, 3, 2)
    kept = x.clone()
    compose = Compose(SomeSquared())
    params = compose.sample(x)
    expected = torch.where(params[0].factor.view(-1, 1, 1, 1, 1) > 0.5, x * x, x)
    torch.testing.assert_close(compose.apply(x, params), expected, rtol=0, atol=0)
    assert torch.equal(x, kept)


def test_parameters_can_be_replayed_on_another_tensor() -> None:
    compose = Compose(*EIGHT)
    x, other = torch.randn(2, 5, 3, 9, 3, 2, dtype=torch.float64).unbind(0)
    params = compose.sample(x)
    assert [type(drawn).__name__ for drawn in params] == [f"{type(step).__name__}Params" for step in compose.transforms]
    torch.testing.assert_close(compose.apply(other, params), one_by_one(compose, other, params))


def test_draws_are_those_of_its_transforms_in_their_order() -> None:
    compose = Compose(*EIGHT)
    x = torch.randn(5, 3, 9, 3, 2)
    generator = torch.Generator().manual_seed(0)
    alone = [transform.sample(x, generator) for transform in compose.transforms]
    together = compose.sample(x, torch.Generator().manual_seed(0))
    torch.testing.assert_close(together, tuple(alone), rtol=0, atol=0)


def test_crops_and_flips_without_arithmetic_move_values_exactly() -> None:
    compose = Compose(TemporalCrop(2), SpatialFlip(V_SHAPE, mirror_axis=None), TemporalFlip())
    x = torch.randn(8, 3, 9, 3, 2)
    x[:, :, 0, 0] = float("nan")  # arithmetic would spread it
    y = compose(x)
    assert {*y[~y.isnan()].tolist()} <= {*x[~x.isnan()].tolist()}
    assert y.isnan().sum(dim=(1, 2, 3, 4)).max() <= 12


def test_nested_compositions_are_taken_apart() -> None:
    inner = Compose(Shear(), TemporalCrop())
    assert Compose(inner, TemporalFlip()) == Compose(Shear(), TemporalCrop(), TemporalFlip())
    assert Compose(inner, TemporalFlip()).transforms == (Shear(), TemporalCrop(), TemporalFlip())


def test_nothing_is_the_identity() -> None:
    x = torch.randn(2, 3, 4, 3, 1)
    assert torch.equal(Compose()(x), x)
    assert repr(Compose()) == "Compose()"


def test_repr_says_how_it_is_built() -> None:
    compose = Compose(Shear(0.3), AxisMask())
    assert repr(compose) == "Compose(Shear(amplitude=0.3, p=1.0), AxisMask(p=0.5))"


@dataclass(frozen=True)
class Scale(AxisTransform[ScaleParams]):
    """A user's map on one axis, in a dtype of its own."""

    dtype: torch.dtype

    def sample(self, x: torch.Tensor, generator: torch.Generator | None = None) -> ScaleParams:
        return ScaleParams(torch.rand(len(x), generator=generator))

    def maps(self, x: torch.Tensor, params: ScaleParams) -> AxisMaps:
        return AxisMaps(channel=torch.eye(x.shape[1], dtype=self.dtype) * params.factor.to(self.dtype)[:, None, None])


@pytest.mark.parametrize("made_in", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_maps_of_a_user_merge_in_every_dtype(dtype: torch.dtype, made_in: torch.dtype) -> None:
    x = torch.randn(6, 3, 9, 3, 2).to(dtype)
    for compose in (Compose(Scale(made_in), Shear(), Rotate()), Compose(Shear(), Scale(made_in))):
        params = compose.sample(x)
        y = compose.apply(x, params)
        assert y.dtype == dtype
        tolerance = 0.05 if torch.bfloat16 in (dtype, made_in) else 1e-5
        torch.testing.assert_close(y, one_by_one(compose, x, params), rtol=tolerance, atol=tolerance)


@dataclass(frozen=True)
class Double(AxisTransform[tuple[()]]):
    """A user's map that draws nothing."""

    def sample(self, x: torch.Tensor, generator: torch.Generator | None = None) -> tuple[()]:  # noqa: ARG002
        return ()

    def maps(self, x: torch.Tensor, params: tuple[()]) -> AxisMaps:  # noqa: ARG002
        return AxisMaps(channel=torch.full((len(x), x.shape[1]), 2.0))


def test_a_transform_may_draw_nothing() -> None:
    x = torch.randn(4, 3, 9, 3, 2)
    for transform in (Double(), Compose(Double()), Compose(TemporalFlip(p=0.0), Double())):
        torch.testing.assert_close(transform(x), 2 * x)


def test_every_built_in_linear_transform_merges() -> None:
    merging = [type(transform).__name__ for transform in EIGHT if isinstance(transform, AxisTransform)]
    assert len(merging) == 7


def test_errors() -> None:
    with pytest.raises(TypeError, match=r"Compose: `transforms` must be transforms, got <class .*Shear'>\. Was"):
        Compose(Shear)  # type: ignore[arg-type]  # on purpose
    with pytest.raises(TypeError, match=r"Compose: `transforms` must be transforms, got \[Shear.*\]\. Pass each by"):
        Compose([Shear()])  # type: ignore[arg-type]  # on purpose
    with pytest.raises(TypeError, match=r"Compose: `transforms` must be transforms, got 3\.$"):
        Compose(3)  # type: ignore[arg-type]  # on purpose
    compose = Compose(Shear(), TemporalCrop())
    x = torch.zeros(2, 3, 4, 3, 1)
    seed: Any = 0  # where a generator is wanted
    for draw in (compose, compose.sample):
        with pytest.raises(TypeError, match=r"Compose: `generator` must be a torch\.Generator or None, got 0\. Write"):
            draw(x, seed)
    with pytest.raises(TypeError, match=r"Shear: `generator` must be a torch\.Generator or None, got 0\."):
        Shear()(x, seed)
    with pytest.raises(ValueError, match=r"Compose: `params` must have 2 entries, one per transform, got 1\."):
        compose.apply(x, compose.sample(x)[:1])
    with pytest.raises(ValueError, match=r"Shear: `params` must be for N = 3 samples, got 2\."):
        compose.apply(torch.zeros(3, 3, 4, 3, 1), compose.sample(x))
    with pytest.raises(ValueError, match=r"TemporalCrop: `params` must be for N = 2 samples, got 3\."):
        compose.apply(x, (compose.sample(x)[0], compose.sample(torch.zeros(3, 3, 4, 3, 1))[1]))
