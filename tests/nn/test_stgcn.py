"""The encoder against a plain ST-GCN written block by block, on every layout, with bodies in and out."""

import copy
import math
import re
import warnings
from typing import Any, Literal

import pytest
import torch
from tests.reference import nn as reference
from tests.reference.stgcn import perturbed
from torch import Tensor, nn

from skelcontrast import skeleton
from skelcontrast.nn import STGCN, STGCNBlock
from skelcontrast.skeleton import COCO_17, NTU_RGBD_25, SkeletonLayout, adjacency

LAYOUTS = [getattr(skeleton, name) for name in skeleton.__all__ if isinstance(getattr(skeleton, name), SkeletonLayout)]


def small(layout: SkeletonLayout = NTU_RGBD_25, **options: Any) -> STGCN:
    """Build a shallow encoder with one block of each kind: first, equal, wider, strided."""
    return STGCN(layout, **{"channels": (4, 4, 6, 8), "strides": (1, 1, 1, 2), **options})


@pytest.mark.parametrize("bodies", ["present", "all"])
@pytest.mark.parametrize(
    ("layout", "shape", "options"),
    [
        (NTU_RGBD_25, (2, 3, 13, 25, 2), {}),
        (COCO_17, (3, 2, 8, 17, 1), {"in_channels": 2, "strategy": "distance", "max_hop": 2}),
        (COCO_17, (1, 3, 9, 17, 3), {"strategy": "uniform"}),
        (NTU_RGBD_25, (1, 3, 11, 25, 2), {"channels": (4, 8, 8), "strides": (2, 3, 1)}),
    ],
)
def test_agrees_with_a_plain_stgcn(
    layout: SkeletonLayout, shape: tuple[int, ...], options: dict[str, Any], bodies: Literal["present", "all"]
) -> None:
    encoder = perturbed(small(layout, bodies=bodies, **options)).double()
    x = torch.randn(shape, dtype=torch.float64)
    x[0, ..., -1] = 0
    graph = adjacency(layout, **{key: options[key] for key in ("strategy", "max_hop") if key in options})
    strides = options.get("strides", (1, 1, 1, 2))
    state = encoder.state_dict()
    expected = reference.stgcn_feature_map(
        reference.array(x),
        reference.batch_norm(state, "data_bn"),
        reference.stgcn_blocks(state, len(strides)),
        reference.array(graph),
        strides,
    )
    feature_map = encoder.feature_map(x)
    torch.testing.assert_close(feature_map, torch.from_numpy(expected), rtol=1e-9, atol=1e-9)
    present = encoder.present_bodies(x)
    assert present.tolist() == [[n > 0 or m < shape[-1] - 1 for m in range(shape[-1])] for n in range(shape[0])]
    pooled = torch.from_numpy(reference.pool(expected, present.numpy(), bodies))
    torch.testing.assert_close(encoder(x), pooled, rtol=1e-9, atol=1e-9)


def test_paper_encoder_has_the_papers_size() -> None:
    encoder = STGCN(NTU_RGBD_25)
    assert sum(parameter.numel() for parameter in encoder.parameters()) == 821_380
    assert encoder.out_features == 256
    assert encoder.feature_map(torch.zeros(1, 3, 50, 25, 2)).shape == (2, 256, 13, 25)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
@pytest.mark.parametrize("coordinates", [2, 3])
def test_every_layout_and_coordinates(layout: SkeletonLayout, coordinates: int) -> None:
    encoder = small(layout, in_channels=coordinates)
    x = torch.randn(2, coordinates, 6, layout.num_joints, 2)
    features = encoder(x)
    assert features.shape == (2, 8)
    features.square().sum().backward()
    assert all(
        parameter.grad is not None and torch.isfinite(parameter.grad).all() for parameter in encoder.parameters()
    )


def test_there_are_seven_layouts() -> None:
    assert len(LAYOUTS) == 7


@pytest.mark.parametrize("bodies", [1, 2, 3])
def test_order_of_bodies_and_samples_does_not_matter(bodies: int) -> None:
    encoder = perturbed(small())
    x = torch.randn(3, 3, 7, 25, bodies)
    torch.testing.assert_close(encoder(x.flip(4)), encoder(x))
    torch.testing.assert_close(encoder(x.flip(0)), encoder(x).flip(0))
    assert encoder.feature_map(x).shape == (3 * bodies, 8, 4, 25)
    first = encoder.feature_map(x[:1, ..., :1])
    torch.testing.assert_close(encoder.feature_map(x)[:1], first)


def test_absent_bodies_count_only_when_all_are_asked_for() -> None:
    x = torch.randn(4, 3, 7, 25, 2)
    x[:2, ..., 1] = 0
    present, everyone = perturbed(small()), small(bodies="all").eval()
    everyone.load_state_dict(present.state_dict())
    alone = present(x[..., :1])
    torch.testing.assert_close(present(x)[:2], alone[:2])
    assert not torch.allclose(everyone(x)[:2], alone[:2])
    torch.testing.assert_close(present(x)[2:], everyone(x)[2:])
    torch.testing.assert_close(everyone(x[..., :1]), alone)


def test_a_sample_without_any_body_is_the_mean_of_all() -> None:
    encoder = perturbed(small())
    x = torch.randn(2, 3, 7, 25, 2)
    x[1] = 0
    assert encoder.present_bodies(x).tolist() == [[True, True], [False, False]]
    empty = encoder.feature_map(torch.zeros(1, 3, 7, 25, 1)).mean((2, 3))
    torch.testing.assert_close(encoder(x)[1:], empty)
    encoder.train()
    encoder(x).sum().backward()
    assert all(value.grad is not None and torch.isfinite(value.grad).all() for value in encoder.parameters())


def test_one_value_anywhere_makes_a_body_present() -> None:
    x = torch.zeros(1, 3, 7, 25, 3)
    x[0, 2, 6, 24, 1] = -1e-20
    assert STGCN(NTU_RGBD_25, channels=(4,), strides=(1,)).present_bodies(x).tolist() == [[False, True, False]]


@pytest.mark.parametrize("frames", [1, 2, 13, 37, 50])
@pytest.mark.parametrize("strides", [(1, 1), (2, 1), (1, 3), (2, 2)])
def test_frames_after_strides(frames: int, strides: tuple[int, int]) -> None:
    encoder = STGCN(NTU_RGBD_25, channels=(4, 8), strides=strides).eval()
    wanted = math.ceil(math.ceil(frames / strides[0]) / strides[1])
    assert encoder.feature_map(torch.randn(2, 3, frames, 25, 1)).shape == (2, 8, wanted, 25)


@pytest.mark.parametrize("bodies", ["present", "all"])
def test_forward_is_the_pooled_feature_map(bodies: Literal["present", "all"]) -> None:
    encoder = perturbed(small(bodies=bodies))
    x = torch.randn(3, 3, 7, 25, 2)
    x[1, ..., 1] = 0
    assert torch.equal(encoder(x), encoder.pool(encoder.feature_map(x), encoder.present_bodies(x)))


def test_training_mode_drops_out_from_the_second_block_on() -> None:
    x = torch.randn(2, 3, 7, 25, 1)
    one = STGCN(NTU_RGBD_25, channels=(4,), strides=(1,), dropout=0.9)
    assert torch.equal(one(x), one(x))
    two = STGCN(NTU_RGBD_25, channels=(4, 4), strides=(1, 1), dropout=0.5)
    assert not torch.equal(two(x), two(x))
    none = STGCN(NTU_RGBD_25, channels=(4, 4), strides=(1, 1), dropout=0.0)
    assert torch.equal(none(x), none(x))
    rates = [module.p for module in STGCN(NTU_RGBD_25).modules() if isinstance(module, nn.Dropout)]
    assert rates == [0.0] + [0.5] * 9


def test_an_empty_batch() -> None:
    assert STGCN(NTU_RGBD_25).eval()(torch.zeros(0, 3, 50, 25, 2)).shape == (0, 256)


def test_the_first_batch_norm_can_be_replaced() -> None:
    encoder = STGCN(NTU_RGBD_25, channels=(4,), strides=(1,))
    encoder.data_bn = nn.BatchNorm1d(75, affine=False)
    assert encoder(torch.randn(2, 3, 5, 25, 1)).isfinite().all()


def test_on_the_meta_device_and_traced() -> None:
    with torch.device("meta"):
        encoder = STGCN(NTU_RGBD_25, channels=(4, 64), strides=(1, 2))
        assert encoder(torch.empty(2, 3, 13, 25, 2)).shape == (2, 64)
    encoder, x = STGCN(NTU_RGBD_25, channels=(4,), strides=(1,)).eval(), torch.randn(2, 3, 5, 25, 2)
    x[1, ..., 1] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer versions of torch advise against tracing
        traced = torch.jit.trace(encoder, x)
    torch.testing.assert_close(traced(x.flip(0)), encoder(x.flip(0)))


def test_repr_says_what_no_part_says() -> None:
    assert "layout='NTU_RGBD_25', bodies='all'" in repr(STGCN(NTU_RGBD_25, channels=(4,), strides=(1,), bodies="all"))


def test_input_is_left_alone() -> None:
    x = torch.randn(2, 3, 7, 25, 2)
    before = x.clone()
    small()(x)
    assert torch.equal(x, before)


def test_state_round_trip_and_copies() -> None:
    encoder, other = perturbed(small()), small().eval()
    x = torch.randn(2, 3, 7, 25, 2)
    other.load_state_dict(encoder.state_dict())
    assert torch.equal(other(x), encoder(x))
    assert torch.equal(copy.deepcopy(encoder)(x), encoder(x))
    assert not any("adjacency" in name for name in encoder.state_dict())


@pytest.mark.parametrize("bodies", ["present", "all"])
def test_bfloat16_under_autocast(bodies: Literal["present", "all"]) -> None:
    encoder = perturbed(small(bodies=bodies))
    x = torch.randn(2, 3, 7, 25, 2)
    x[0, ..., 1] = 0
    expected = encoder(x)
    with torch.autocast("cpu", torch.bfloat16):
        features = encoder(x)
    torch.testing.assert_close(features.float(), expected, rtol=0.05, atol=0.05)


def test_blocks_that_list_no_parameters() -> None:
    """As those of a replica that `torch.nn.DataParallel` makes."""
    encoder, x = perturbed(small()), torch.randn(2, 3, 7, 25, 2)
    expected = encoder(x)
    for module in encoder.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            delattr(module, name)
            module.__dict__[name] = weight.detach()
    assert not list(encoder.parameters())
    torch.testing.assert_close(encoder(x), expected)


def test_another_dtype_than_the_weights_needs_autocast_and_float64_has_none() -> None:
    encoder, x = perturbed(small()), torch.randn(2, 3, 7, 25, 2)
    must = "STGCN: `x` must be torch.float32 as its weights, got torch."
    for dtype in (torch.bfloat16, torch.float64):
        with pytest.raises(TypeError, match=re.escape(f"{must}{str(dtype)[6:]}.")):
            encoder(x.to(dtype))
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(encoder(x.bfloat16()).float(), encoder(x).float(), rtol=0.05, atol=0.05)
        with pytest.raises(TypeError, match=re.escape(f"{must}float64.")):
            encoder(x.double())


def test_gradient_of_the_features_in_the_input() -> None:
    encoder = perturbed(STGCN(COCO_17, in_channels=2, channels=(2, 3), strides=(1, 2))).double()
    x = torch.randn(2, 2, 3, 17, 2, dtype=torch.float64)
    x[0, ..., 1] = 0
    present = encoder.present_bodies(x)
    # An absent body is pooled out, so nothing can flow back to it.
    (gradient,) = torch.autograd.grad(encoder(x.requires_grad_()).sum(), x)
    assert (gradient[0, ..., 1] == 0).all()
    assert (gradient[0, ..., 0] != 0).any()
    part = x[..., :1].detach().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: encoder.pool(encoder.feature_map(x), present[:, :1]), part, fast_mode=True
    )


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"in_channels": 0}, ValueError, "STGCN: `in_channels` must be at least 1, got 0."),
        ({"bodies": "first"}, ValueError, "STGCN: `bodies` must be one of 'present', 'all', got 'first'."),
        ({"channels": (), "strides": ()}, ValueError, "STGCN: `channels` must name at least one block, got an empty"),
        ({"channels": (4, 8)}, ValueError, "STGCN: `strides` must have one entry per block (2), got 4. Give both"),
        ({"channels": (4, 4, 6, 0)}, ValueError, "GraphConv: `out_channels` must be at least 1, got 0."),
        ({"strides": (1, 1, 1, 0)}, ValueError, "STGCNBlock: `stride` must be at least 1, got 0."),
        ({"dropout": 1.0}, ValueError, "STGCN: `dropout` must lie in [0, 1), got 1."),
        (
            {"channels": (4,), "strides": (1,), "dropout": -0.1},
            ValueError,
            "STGCN: `dropout` must lie in [0, 1), got -0.1.",
        ),
        ({"strategy": "ring"}, ValueError, "`strategy` must be one of 'uniform', 'distance', 'spatial', got 'ring'."),
        ({"max_hop": 0}, ValueError, "`max_hop` must be at least 1, got 0."),
        ({"channels": 64}, TypeError, "STGCN: `channels` must be a sequence, one entry per block, got 64."),
        ({"strides": 1}, TypeError, "STGCN: `strides` must be a sequence, one entry per block, got 1."),
        ({"layout": "ntu"}, TypeError, "`layout` must be a SkeletonLayout, got 'ntu'."),
    ],
)
def test_errors_of_the_constructor(options: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=re.escape(message)):
        small(**options)


HINT = "This encoder was built for layout"


@pytest.mark.parametrize(
    ("x", "kind", "message"),
    [
        (
            torch.zeros(2, 3, 7, 20, 2),
            ValueError,
            f"`x` must have shape (N, 3, T, 25, M), got (2, 3, 7, 20, 2). {HINT}",
        ),
        (
            torch.zeros(2, 2, 7, 25, 2),
            ValueError,
            f"`x` must have shape (N, 3, T, 25, M), got (2, 2, 7, 25, 2). {HINT}",
        ),
        (torch.zeros(2, 3, 7, 25), ValueError, f"`x` must have shape (N, 3, T, 25, M), got (2, 3, 7, 25). {HINT}"),
        (torch.zeros(2, 3, 7, 25, 2).int(), TypeError, "`x` must be floating point, got torch.int32."),
        (
            torch.zeros(2, 3, 7, 25, 2).double(),
            TypeError,
            "`x` must be torch.float32 as its weights, got torch.float64. Call `x.to(torch.float32)` first.",
        ),
        (
            torch.zeros(2, 3, 0, 25, 2),
            ValueError,
            "`x` must have at least one frame and one body, got (2, 3, 0, 25, 2).",
        ),
        (
            torch.zeros(2, 3, 7, 25, 0),
            ValueError,
            "`x` must have at least one frame and one body, got (2, 3, 7, 25, 0).",
        ),
        ([0.0], TypeError, "`x` must be a torch.Tensor, got list."),
    ],
)
def test_errors_of_the_input(x: Tensor, kind: type[Exception], message: str) -> None:
    encoder = small()
    for call in (encoder, encoder.feature_map):
        with pytest.raises(kind, match=re.escape(f"STGCN: {message}")):
            call(x)


def test_errors_of_pooling() -> None:
    encoder = small()
    message = "STGCN.pool: `feature_map` must have shape (4, D, T, V), got (3, 8, 4, 25)."
    with pytest.raises(ValueError, match=re.escape(message)):
        encoder.pool(torch.zeros(3, 8, 4, 25), torch.ones(2, 2).bool())
    with pytest.raises(ValueError, match=re.escape("STGCN.pool: `present` must have shape (N, M), got (4,).")):
        encoder.pool(torch.zeros(4, 8, 4, 25), torch.ones(4).bool())
    message = "STGCN.present_bodies: `x` must have shape (N, C, T, V, M), got (2, 3, 7)."
    with pytest.raises(ValueError, match=re.escape(message)):
        encoder.present_bodies(torch.zeros(2, 3, 7))


GRAPH = adjacency(COCO_17)


@pytest.mark.parametrize(
    ("sizes", "options", "residual"),
    [
        ((4, 4), {}, nn.Identity),
        ((4, 8), {}, nn.Sequential),
        ((4, 4), {"stride": 2}, nn.Sequential),
        ((4, 8), {"residual": False}, type(None)),
        ((4, 4), {"kernel_size": 1}, nn.Identity),
    ],
)
def test_block_shapes_and_residuals(sizes: tuple[int, int], options: dict[str, Any], residual: type) -> None:
    block = STGCNBlock(*sizes, GRAPH, **options)
    assert isinstance(block.residual, residual)
    out = block(torch.randn(2, 4, 7, 17))
    assert out.shape == (2, sizes[1], math.ceil(7 / options.get("stride", 1)), 17)
    assert out.min() >= 0


def test_block_without_temporal_path_is_its_residual() -> None:
    block = STGCNBlock(4, 4, GRAPH).eval()
    nn.init.zeros_(block.tcn.get_submodule("3").get_parameter("weight"))
    x = torch.randn(2, 4, 7, 17)
    torch.testing.assert_close(block(x), x.relu())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stride": 0}, "`stride` must be at least 1, got 0."),
        ({"kernel_size": 4}, "`kernel_size` must be odd, got 4."),
        ({"kernel_size": 0}, "`kernel_size` must be at least 1, got 0."),
        ({"dropout": 1.0}, "`dropout` must lie in [0, 1), got 1."),
    ],
)
def test_errors_of_the_block(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"STGCNBlock: {message}")):
        STGCNBlock(4, 4, GRAPH, **options)
