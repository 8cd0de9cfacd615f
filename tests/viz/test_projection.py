"""Where joints come to lie on paper, and how much room a body needs."""

import math
import re
from typing import Any

import pytest
import torch

from skelcontrast.skeleton import SkeletonLayout
from skelcontrast.viz._projection import Box, check_sequence, project, spread

POINT = torch.tensor([1.0, 2.0, 4.0])
ARM = SkeletonLayout("arm", ("shoulder", "elbow", "wrist"), ((1, 0), (2, 1)), centre=0, mirror=())


@pytest.mark.parametrize(
    ("view", "up", "place"),
    [
        ((0, 0), "y", (1, 2, 4)),
        ((0, 0), "-y", (1, -2, 4)),
        ((0, 0), "z", (1, 4, 2)),
        ((90, 0), "y", (4, 2, -1)),  # seen from the side
        ((0, 90), "y", (1, 4, -2)),  # seen from above: what is far is up
    ],
)
def test_places_of_a_point(view: tuple[float, float], up: Any, place: tuple[float, ...]) -> None:
    assert project("f", POINT, view, up).tolist() == pytest.approx(place)


def test_views_keep_lengths() -> None:
    places = project("f", torch.randn(3, 10), (33.0, -12.0), "y")
    points = project("f", torch.randn(3, 10), (0.0, 0.0), "y")
    assert places.shape == points.shape
    turned = project("f", points, (33.0, -12.0), "y")
    torch.testing.assert_close(turned.norm(dim=0), points.norm(dim=0))


def test_two_coordinates_have_no_depth() -> None:
    assert project("f", POINT[:2], (20.0, 8.0), "y").tolist() == [1, 2, 0]
    assert project("f", POINT[:2], (20.0, 8.0), "-y").tolist() == [1, -2, 0]


@pytest.mark.parametrize(
    ("x", "up", "message"),
    [
        (POINT, "x", "f: `up` must be one of 'y', '-y', 'z', got 'x'."),
        (POINT[:2], "z", "f: `up` must be 'y' or '-y' for 2 coordinates, got 'z'."),
        (POINT[:1], "y", "f: `x` must have 2 or 3 coordinates, got 1."),
    ],
)
def test_bad_views(x: torch.Tensor, up: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        project("f", x, (0, 0), up)


def test_box_leaves_absent_bodies_out() -> None:
    x = torch.zeros(2, 1, 3, 2)
    x[:, 0, :, 0] = torch.tensor([[10.0, 11.0, 12.0], [5.0, 5.0, 6.0]])
    box = Box.around("f", [x], (0, 0), "y")
    assert (box.left, box.right, box.low, box.high) == pytest.approx((9.88, 12.12, 4.88, 6.12))
    assert (box.width, box.height) == pytest.approx((2.24, 1.24))


def test_box_without_a_body_and_of_a_single_point_has_some_size() -> None:
    assert Box.around("f", [torch.zeros(2, 1, 3, 1)], (0, 0), "y") == Box(-1, 1, -1, 1)
    assert Box.around("f", [torch.ones(2, 1, 3, 1)], (0, 0), "y").width > 0


def test_a_box_is_cut_to_another() -> None:
    assert Box(-100, 1, -2, 100).within(Box(-2, 2, 0, 2), times=2) == Box(-4, 1, -1, 3)


def test_frames_are_spread_from_first_to_last() -> None:
    assert spread(50, 4) == [0, 16, 33, 49]
    assert spread(3, 8) == [0, 1, 2]
    assert spread(9, 1) == [0]


@pytest.mark.parametrize(
    ("x", "kind", "message"),
    [
        ([0.0], TypeError, "f: `x` must be a torch.Tensor, got list."),
        (
            torch.zeros(1, 3, 5, 3, 1),
            ValueError,
            "of layout 'arm', got (1, 3, 5, 3, 1). Pass one sequence,",
        ),
        (
            torch.zeros(3, 5, 4, 1),
            ValueError,
            "f: `x` must have shape (C, T, 3, M) with the joints of layout 'arm'",
        ),
        (torch.zeros(3, 0, 3, 1), ValueError, "f: `x` must hold at least one frame and one body, got (3, 0, 3, 1)."),
    ],
)
def test_bad_sequences(x: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=re.escape(message)):
        check_sequence("f", x, ARM)


def test_yaw_is_in_degrees() -> None:
    across = project("f", torch.tensor([1.0, 0.0, 0.0]), (60.0, 0.0), "y")[0].item()
    assert across == pytest.approx(math.cos(math.pi / 3))
