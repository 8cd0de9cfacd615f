"""Skeletons: bones and colours where they belong, absent bodies left out, and a picture that is not empty."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from skelcontrast.skeleton import COCO_17, NTU_RGBD_25, SkeletonLayout
from skelcontrast.viz import _style, draw_skeleton, plot_skeleton

CROSS = SkeletonLayout("cross", ("head", "left", "right"), ((1, 0), (2, 0)), centre=0, mirror=((1, 2),))
JOINTS = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.5]])


def bones(axes: Any) -> dict[str, list[Any]]:
    """Return the drawn bones by colour, in the order of drawing."""
    lines = [part for part in axes.collections if hasattr(part, "get_segments")]
    return {
        to_hex(line.get_color()[0]): [segment.round(2).tolist() for segment in line.get_segments()]
        for line in lines
        if line.get_segments()
    }


def test_bones_have_the_colour_of_their_side_and_the_nearer_side_is_on_top() -> None:
    axes = Figure().add_subplot()
    draw_skeleton(axes, JOINTS, CROSS, view_degrees=(0, 0))
    found = bones(axes)
    assert found == {_style.RIGHT: [[[1, 0], [0, 1]]], _style.LEFT: [[[-1, 0], [0, 1]]]}
    assert list(found) == [_style.RIGHT, _style.LEFT]  # the right hand is further away


def test_the_nearer_side_is_on_top_also_where_a_joint_of_it_is_missing() -> None:
    layout = SkeletonLayout(
        "two arms", ("head", "left", "right", "left hand", "right hand"), ((1, 0), (2, 0), (3, 1), (4, 2)), centre=0,
        mirror=((1, 2), (3, 4)),
    )  # fmt: skip
    places = torch.tensor([[0.0, -1.0, 1.0, -2.0, 2.0], [1.0, 0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.5, 0.0, 0.5]])
    for missing in (3, 4):
        joints = places.clone()
        joints[:, missing] = torch.nan
        axes = Figure().add_subplot()
        draw_skeleton(axes, joints, layout, view_degrees=(0, 0))
        sides = [side for side in bones(axes) if side in (_style.LEFT, _style.RIGHT)]
        assert sides == [_style.RIGHT, _style.LEFT]


def test_shift_colour_and_absent_bodies() -> None:
    axes = Figure().add_subplot()
    bodies = torch.stack([JOINTS, torch.zeros(3, 3)], dim=2)
    draw_skeleton(axes, bodies, CROSS, view_degrees=(0, 0), shift=5, colour="#123456")
    assert list(bones(axes)) == ["#123456"]
    dots = [np.asarray(part.get_offsets()) for part in axes.collections if not hasattr(part, "get_segments")]
    assert sorted(np.concatenate(dots)[:, 0].tolist()) == [4, 5, 6]


def test_strip_shows_frames_in_order_with_two_bodies(tmp_path: Path) -> None:
    x = torch.rand(3, 20, 25, 2)
    figure = plot_skeleton(x, NTU_RGBD_25, frames=3, title="two people")
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == ["0", "10", "19"]
    assert axes.get_title(loc="left") == "two people"
    figure.savefig(tmp_path / "strip.png", dpi=50)
    assert (tmp_path / "strip.png").stat().st_size > 2000


def test_an_empty_frame_has_its_number_below_the_others() -> None:
    x = torch.rand(2, 3, 17, 1) * 100 + 500
    x[:, 1] = 0
    axes = plot_skeleton(x, COCO_17, up="-y").axes[0]
    left, right = axes.get_xlim()
    places = [text.get_position()[0] for text in axes.texts]
    assert left < places[0] < places[1] < places[2] < right


def test_joints_that_were_not_seen_are_left_out(tmp_path: Path) -> None:
    x = torch.rand(3, 4, 25, 1) + 5
    x[:, 1, 3], x[:, 2] = torch.nan, torch.nan
    figure = plot_skeleton(x, NTU_RGBD_25)
    (axes,) = figure.axes
    (left, right), places = axes.get_xlim(), [text.get_position()[0] for text in axes.texts]
    assert left < places[0] < places[1] < places[2] < places[3] < right
    figure.savefig(tmp_path / "strip.png", dpi=50)
    assert (tmp_path / "strip.png").stat().st_size > 2000


def test_pixels_point_down() -> None:
    x = torch.rand(2, 1, 17, 1) + 1
    axes = plot_skeleton(x, COCO_17, up="-y").axes[0]
    assert axes.get_ylim()[1] < 0


NOWHERE: Any = None  # the checks come before anything is drawn


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda: plot_skeleton(torch.rand(3, 5, 20, 1), NTU_RGBD_25),
            ValueError,
            "`x` must have shape (C, T, 25, M)",
        ),
        (
            lambda: plot_skeleton(torch.rand(3, 5, 25, 1), NTU_RGBD_25, frames=0),
            ValueError,
            "`frames` must be at",
        ),
        (
            lambda: draw_skeleton(NOWHERE, torch.rand(3, 4), CROSS),
            ValueError,
            "`joints` must have shape (C, 3, M)",
        ),
        (
            lambda: plot_skeleton(torch.rand(3, 5, 25, 1), NOWHERE),
            TypeError,
            "plot_skeleton: `layout` must be a SkeletonLayout, got None.",
        ),
        (
            lambda: draw_skeleton(NOWHERE, torch.rand(3, 4), NOWHERE),
            TypeError,
            "draw_skeleton: `layout` must be a SkeletonLayout, got None.",
        ),
        (lambda: draw_skeleton(NOWHERE, NOWHERE, CROSS), TypeError, "`joints` must be a torch.Tensor, got NoneType."),
    ],
)
def test_bad_calls(call: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=re.escape(message)):
        call()
