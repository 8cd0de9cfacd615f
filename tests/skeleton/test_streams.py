from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from tests.compiling import needs_compiler
from tests.reference import skeleton as oracle

from skelcontrast.skeleton import COCO_17, NTU_RGBD_25, SkeletonLayout, Stream, to_stream

STREAMS: list[Stream] = ["joint", "bone", "motion"]


def expected(x: torch.Tensor, stream: Stream, layout: SkeletonLayout) -> np.ndarray[Any, Any]:
    if stream == "bone":
        return oracle.bone(x.double().numpy(), layout.bones)
    return oracle.motion(x.double().numpy()) if stream == "motion" else x.double().numpy()


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((4, 3, 50, 25, 2), NTU_RGBD_25),
        ((2, 2, 7, 17, 1), COCO_17),
        ((1, 3, 1, 17, 3), COCO_17),
        ((0, 3, 4, 17, 1), COCO_17),
    ],
)
def test_equals_oracle(stream: Stream, shape: tuple[int, ...], layout: SkeletonLayout) -> None:
    x = torch.randn(shape, dtype=torch.float64)
    np.testing.assert_array_equal(to_stream(x, stream, layout).numpy(), expected(x, stream, layout))


@needs_compiler
@pytest.mark.parametrize("stream", STREAMS)
def test_compiles_to_one_graph(stream: Stream) -> None:
    x = torch.randn(2, 3, 4, 17, 1)
    compiled = torch.compile(to_stream, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(x, stream, COCO_17), to_stream(x, stream, COCO_17))


def test_equals_released_streams(golden: Callable[[str], Mapping[str, Any]]) -> None:
    streams = golden("streams.npz")
    x = torch.from_numpy(streams["joint"])
    for stream in STREAMS:
        np.testing.assert_array_equal(to_stream(x, stream, NTU_RGBD_25).numpy(), streams[stream], err_msg=stream)


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_dtype_layout_and_input_are_kept(stream: Stream, dtype: torch.dtype) -> None:
    x = torch.randn(2, 2, 17, 5, 3).to(dtype).permute(0, 4, 3, 2, 1)  # not contiguous
    before = x.clone()
    y = to_stream(x, stream, COCO_17)
    assert y.dtype == dtype
    assert y.shape == x.shape
    torch.testing.assert_close(y, to_stream(x.contiguous(), stream, COCO_17), rtol=0, atol=0)
    torch.testing.assert_close(x, before, rtol=0, atol=0)


@pytest.mark.parametrize("stream", STREAMS)
def test_gradient(stream: Stream) -> None:
    x = torch.randn(1, 2, 3, 17, 1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda value: to_stream(value, stream, COCO_17), (x,))


def test_root_and_last_frame_are_zero() -> None:
    x = torch.randn(2, 3, 6, 25, 2)
    assert to_stream(x, "bone", NTU_RGBD_25)[:, :, :, 20].eq(0).all()
    assert to_stream(x, "motion", NTU_RGBD_25)[:, :, -1].eq(0).all()


def test_absent_bodies_stay_absent() -> None:
    x = torch.randn(2, 3, 6, 25, 2)
    x[..., 1] = 0
    for stream in STREAMS:
        assert to_stream(x, stream, NTU_RGBD_25)[..., 1].eq(0).all()


@pytest.mark.parametrize(
    ("x", "stream", "layout", "kind", "text"),
    [
        (
            torch.zeros(2, 3, 5, 20, 1),
            "bone",
            NTU_RGBD_25,
            ValueError,
            (
                r"to_stream: `x` must have shape \(N, C, T, 25, M\), got \(2, 3, 5, 20, 1\)\. "
                r"Layout 'NTU_RGBD_25' has 25 joints, `x` has 20\."
            ),
        ),
        (
            torch.zeros(3, 5, 25, 1),
            "joint",
            NTU_RGBD_25,
            ValueError,
            r"shape \(N, C, T, 25, M\), got \(3, 5, 25, 1\)\.$",
        ),
        (torch.zeros(1, 3, 5, 25, 1), "bones", NTU_RGBD_25, ValueError, r"to_stream: `stream` must be one of 'joint',"),
        (torch.zeros(1, 3, 5, 25, 1).long(), "joint", NTU_RGBD_25, TypeError, r"`x` must be floating point, got torch"),
        (np.zeros((1, 3, 5, 25, 1)), "joint", NTU_RGBD_25, TypeError, r"`x` must be a torch\.Tensor, got ndarray\."),
        (torch.zeros(1, 3, 5, 25, 1), "joint", "ntu", TypeError, r"to_stream: `layout` must be a SkeletonLayout, got"),
    ],
)
def test_errors(x: Any, stream: Any, layout: Any, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        to_stream(x, stream, layout)
