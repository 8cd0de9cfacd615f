"""What holds for every transform, whatever it does."""

import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, cast

import pytest
import torch
from tests.compiling import needs_compiler
from torch.autograd import forward_ad
from torch.utils._python_dispatch import TorchDispatchMode

from skelcontrast.augment import (
    AxisMask,
    Compose,
    GaussianBlur,
    GaussianNoise,
    Rotate,
    Shear,
    SpatialFlip,
    TemporalCrop,
    TemporalFlip,
    Transform,
    Views,
    extreme,
    normal,
)
from skelcontrast.skeleton import COCO_17

AnyTransform = Transform[Any]
SURE: list[AnyTransform] = [
    Shear(),
    TemporalCrop(2),
    SpatialFlip(COCO_17, p=1.0),
    Rotate(),
    AxisMask(p=1.0),
    TemporalFlip(p=1.0),
    GaussianNoise(p=1.0),
    GaussianBlur(p=1.0),
]
HALF: list[AnyTransform] = [
    Shear(p=0.5),
    SpatialFlip(COCO_17),
    Rotate(p=0.5),
    AxisMask(),
    TemporalFlip(),
    GaussianNoise(),
    GaussianBlur(),
    extreme(COCO_17),
    extreme(COCO_17, preset="official"),
    normal(),
]
NEVER: list[AnyTransform] = [
    Shear(p=0.0),
    Shear(amplitude=0.0),
    SpatialFlip(COCO_17, p=0.0),
    Rotate(p=0.0),
    AxisMask(p=0.0),
    TemporalFlip(p=0.0),
    GaussianNoise(p=0.0),
    GaussianNoise(std=0.0),
    GaussianBlur(p=0.0),
    GaussianBlur(p=0.0, normalize=False),
    Compose(SpatialFlip(COCO_17, p=0.0), GaussianNoise(p=0.0), GaussianBlur(p=0.0), AxisMask(p=0.0)),
]


def name(transform: AnyTransform) -> str:
    return repr(transform)[:60]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("transform", SURE + HALF, ids=name)
@pytest.mark.parametrize("C", [2, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_shape_dtype_and_input_are_kept(transform: AnyTransform, C: int, dtype: torch.dtype) -> None:
    x = torch.randn(5, C, 12, 17, 2).to(dtype)
    before = x.clone()
    y = transform(x)
    assert y.shape == x.shape
    assert y.dtype == dtype
    assert y.isfinite().all()
    assert not torch.equal(y, x)
    assert y.data_ptr() != x.data_ptr()
    torch.testing.assert_close(x, before, rtol=0, atol=0)


@pytest.mark.parametrize("transform", NEVER, ids=name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_transform_that_never_acts_is_the_identity_bit_by_bit(transform: AnyTransform, dtype: torch.dtype) -> None:
    x = torch.randn(5, 3, 12, 17, 2).to(dtype)
    y = transform(x)
    assert y is not x
    assert torch.equal(y, x)


@pytest.mark.parametrize("transform", SURE + HALF, ids=name)
def test_settings_are_fixed(transform: AnyTransform) -> None:
    field = dataclasses.fields(cast("Any", transform))[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(transform, field, getattr(transform, field))


@pytest.mark.parametrize("transform", SURE + HALF, ids=name)
def test_one_seed_gives_one_batch_and_only_the_generator_is_used(transform: AnyTransform) -> None:
    x = torch.randn(6, 3, 12, 17, 2)
    state = torch.get_rng_state()
    first = transform(x, seeded(1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(transform(x, seeded(1)), first)
    torch.manual_seed(5)
    default = transform(x)
    torch.manual_seed(5)
    assert torch.equal(transform(x), default)


@pytest.mark.parametrize("transform", HALF, ids=name)
def test_another_seed_gives_another_batch(transform: AnyTransform) -> None:
    x = torch.randn(6, 3, 12, 17, 2)
    assert not torch.equal(transform(x, seeded(1)), transform(x, seeded(2)))


@pytest.mark.parametrize("transform", SURE + HALF, ids=name)
def test_each_sample_has_its_own_draw(transform: AnyTransform) -> None:
    if isinstance(transform, SpatialFlip | TemporalFlip) and transform.p == 1.0:
        pytest.skip("nothing is left to draw")
    x = torch.randn(1, 3, 12, 17, 2).expand(16, -1, -1, -1, -1)
    y = transform(x, seeded(0))
    assert len({tuple(sample.flatten().tolist()) for sample in y}) > 1


@pytest.mark.parametrize("transform", SURE + HALF, ids=name)
def test_apply_is_pure_and_samples_do_not_touch_each_other(transform: AnyTransform) -> None:
    x = torch.randn(6, 3, 12, 17, 2, dtype=torch.float64)
    params = transform.sample(x)
    y = transform.apply(x, params)
    assert torch.equal(transform.apply(x, params), y)
    changed = x.clone()
    changed[2] = 100.0
    again = transform.apply(changed, params)
    others = [0, 1, 3, 4, 5]
    torch.testing.assert_close(again[others], y[others])


@pytest.mark.parametrize("transform", SURE + HALF, ids=name)
def test_autocast_changes_nothing(transform: AnyTransform) -> None:
    x = torch.randn(6, 3, 12, 17, 2)
    y = transform(x, seeded(2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        again = transform(x, seeded(2))
    assert again.dtype == torch.float32
    assert torch.equal(again, y)


@pytest.mark.parametrize("transform", SURE + HALF, ids=name)
def test_call_is_sample_then_apply(transform: AnyTransform) -> None:
    x = torch.randn(6, 3, 12, 17, 2)
    params = transform.sample(x, seeded(9))
    assert torch.equal(transform(x, seeded(9)), transform.apply(x, params))


@pytest.mark.parametrize("transform", SURE + HALF, ids=name)
def test_parameters_do_not_depend_on_the_values_or_the_dtype(transform: AnyTransform) -> None:
    x = torch.randn(6, 3, 12, 17, 2)
    wide = transform(x.double(), seeded(4))
    torch.testing.assert_close(transform(x, seeded(4)).double(), wide, rtol=1e-5, atol=1e-5)
    zero = transform.sample(torch.zeros_like(x), seeded(4))
    torch.testing.assert_close(transform.apply(x, zero), transform(x, seeded(4)), rtol=0, atol=0)


@pytest.mark.parametrize("transform", [t for t in SURE + HALF if "bodies='all'" not in repr(t)], ids=name)
def test_absent_bodies_stay_exactly_zero(transform: AnyTransform) -> None:
    x = torch.randn(6, 3, 12, 17, 2)
    x[:4, ..., 1] = 0
    y = transform(x)
    assert y[:4, ..., 1].eq(0).all()


@pytest.mark.parametrize("transform", SURE + HALF, ids=name)
def test_non_contiguous_input(transform: AnyTransform) -> None:
    x = torch.randn(2, 17, 12, 3, 6).permute(4, 3, 2, 1, 0)
    assert not x.is_contiguous()
    params = transform.sample(x)
    torch.testing.assert_close(transform.apply(x, params), transform.apply(x.contiguous(), params))


@pytest.mark.parametrize("transform", SURE + HALF, ids=name)
@pytest.mark.parametrize("shape", [(0, 3, 12, 17, 2), (3, 3, 1, 17, 2), (1, 3, 2, 17, 1)])
def test_empty_batches_and_single_frames(transform: AnyTransform, shape: tuple[int, ...]) -> None:
    y = transform(torch.randn(shape))
    assert y.shape == shape
    assert y.isfinite().all()


@pytest.mark.parametrize("transform", SURE + HALF, ids=name)
def test_no_value_is_looked_at_away_from_the_cpu(transform: AnyTransform) -> None:
    # Tensors on the meta device have no values: whatever needs one (item, nonzero, a mask as index) is an error there.
    x = torch.empty(6, 3, 12, 17, 2, device="meta")
    params = transform.sample(x)
    assert transform.apply(x, params).shape == x.shape


@pytest.mark.parametrize("transform", SURE + HALF, ids=name)
def test_draws_and_results_do_not_depend_on_torchs_defaults(transform: AnyTransform) -> None:
    x = torch.randn(6, 3, 12, 17, 2)
    expected = transform(x, seeded(0))
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            y = transform(x, seeded(0))
    finally:
        torch.set_default_dtype(before)
    assert torch.equal(y, expected)


class _Counted(TorchDispatchMode):
    """Count the operations that compute: on a GPU each is a kernel, and 128 clips do not fill one."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # its base is untyped
        self.computing = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        allocates = func.overloadpacket.__name__ in {"empty", "scalar_tensor"}
        self.computing += not (allocates or func.is_view or "view" in func.overloadpacket.__name__)
        return made


@pytest.mark.parametrize(("view", "most"), [(normal(), 7), (extreme(COCO_17), 47)], ids=["normal", "extreme"])
def test_a_view_is_few_operations_away_from_the_cpu(view: AnyTransform, most: int) -> None:
    x = torch.empty(6, 3, 12, 17, 2, device="meta")
    view(x)  # constants are made on first use
    with _Counted() as counted:
        view(x)
    assert counted.computing <= most


@needs_compiler
@pytest.mark.parametrize("transform", [*SURE, *HALF, Views(normal(), extreme(COCO_17), normal())], ids=name)
def test_compiles_to_one_graph(transform: AnyTransform | Views) -> None:
    x = torch.randn(6, 3, 12, 17, 2)
    x[::2, ..., 1] = 0  # absent bodies
    params = transform.sample(x, seeded(0))
    torch.compiler.reset()  # torch limits how often a function is compiled
    compiled = torch.compile(transform.apply, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, params), transform.apply(x, params), rtol=1e-5, atol=1e-5)


@needs_compiler
def test_draws_compile_too() -> None:
    x = torch.randn(6, 3, 12, 17, 2)
    compiled = cast("AnyTransform", torch.compile(extreme(COCO_17), backend="aot_eager", fullgraph=True))
    torch.manual_seed(0)
    first, second = compiled(x), compiled(x)
    assert first.isfinite().all()
    assert not torch.equal(first, second), "the graph holds on to its draws"
    assert all(compiled(x[:samples]).shape[0] == samples for samples in (4, 5))


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("view", [normal(), extreme(COCO_17), extreme(COCO_17, preset="official")], ids=name)
def test_compiled_on_a_gpu(view: AnyTransform) -> None:
    x = torch.randn(6, 3, 12, 17, 2, device="cuda")
    params = view.sample(x, torch.Generator("cuda").manual_seed(0))
    compiled = torch.compile(view.apply, fullgraph=True, dynamic=False)
    torch.testing.assert_close(compiled(x, params), view.apply(x, params), rtol=1e-4, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("transform", SURE + HALF, ids=name)
def test_on_a_gpu_without_waiting_for_it(
    transform: AnyTransform, without_waiting: Callable[[], AbstractContextManager[None]]
) -> None:
    x = torch.randn(6, 3, 12, 17, 2, device="cuda")
    generator = torch.Generator("cuda").manual_seed(0)
    transform(x, generator)  # tables of joints are copied on first use
    with without_waiting():
        params = transform.sample(x, generator)
        y = transform.apply(x, params)
    on_cpu = torch.utils._pytree.tree_map(lambda tensor: tensor.cpu(), params)
    torch.testing.assert_close(y.cpu(), transform.apply(x.cpu(), on_cpu), rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # torch's own use of it
def test_a_tangent_is_carried_forward() -> None:
    flip = SpatialFlip(COCO_17, p=1.0, mirror_axis=None)  # which does nothing but move joints
    x, tangent = torch.randn(2, 4, 3, 5, 17, 2).unbind(0)
    with forward_ad.dual_level():
        y = forward_ad.unpack_dual(flip(forward_ad.make_dual(x, tangent)))
    assert y.tangent is not None
    assert torch.equal(y.primal, flip(x))
    assert torch.equal(y.tangent, flip(tangent))


@pytest.mark.parametrize("transform", SURE + HALF, ids=name)
def test_gradient_flows_to_the_input(transform: AnyTransform) -> None:
    x = torch.randn(4, 3, 5, 17, 2, dtype=torch.float64, requires_grad=True)
    params = transform.sample(x)
    y = transform.apply(x, params)
    torch.testing.assert_close(y, transform.apply(x.detach(), params))
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert gradient.isfinite().all()
    assert gradient.ne(0).any()


@pytest.mark.parametrize("transform", SURE + HALF, ids=name)
@pytest.mark.parametrize(
    ("x", "kind", "text"),
    [
        (torch.zeros(3, 12, 17, 2), ValueError, r": `x` must have shape \(N, C, T, \w+, M\), got \(3, 12, 17, 2\)"),
        (torch.zeros(2, 3, 0, 17, 2), ValueError, r": `x` must have at least one frame, got \(2, 3, 0, 17, 2\)\."),
        (torch.zeros(2, 3, 12, 17, 2).long(), TypeError, r": `x` must be floating point, got torch\.int64\. Call `x"),
        ([[1.0]], TypeError, r": `x` must be a torch\.Tensor, got list\."),
    ],
)
def test_wrong_input(transform: AnyTransform, x: Any, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=rf"{type(transform).__name__}{text}"):
        transform.sample(x)
    with pytest.raises(kind, match=rf"{type(transform).__name__}{text}"):
        transform.apply(x, ())


@pytest.mark.parametrize("transform", SURE, ids=name)
def test_parameters_of_another_batch(transform: AnyTransform) -> None:
    params = transform.sample(torch.zeros(4, 3, 12, 17, 2))
    text = rf"{type(transform).__name__}: `params` must be for N = 6 samples, got 4\. They were drawn for a batch of"
    with pytest.raises(ValueError, match=text):
        transform.apply(torch.zeros(6, 3, 12, 17, 2), params)


def test_repr_is_the_settings() -> None:
    assert [repr(transform) for transform in SURE] == [
        "Shear(amplitude=0.5, p=1.0)",
        "TemporalCrop(padding_ratio=2)",
        "SpatialFlip(layout=SkeletonLayout(name='COCO_17', num_joints=17, num_bones=16), p=1.0, mirror_axis=0)",
        "Rotate(max_degrees=30.0, max_minor_degrees=1.0, signed=False, p=1.0)",
        "AxisMask(p=1.0)",
        "TemporalFlip(p=1.0)",
        "GaussianNoise(std=0.01, p=1.0, bodies='present')",
        "GaussianBlur(sigma=(0.1, 2.0), kernel_size=15, normalize=True, p=1.0)",
    ]


def test_transforms_are_frozen_and_compare_by_their_settings() -> None:
    with pytest.raises(AttributeError, match="cannot assign"):
        Shear().amplitude = 1.0  # type: ignore[misc]  # the error is the point
    assert Shear(0.3) == Shear(0.3)
    assert Shear(0.3) != Shear(0.4)
    assert extreme(COCO_17) == extreme(COCO_17)
