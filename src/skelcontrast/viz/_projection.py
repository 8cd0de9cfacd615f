"""From joint positions to places on paper."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor

from skelcontrast import _check
from skelcontrast.skeleton import SkeletonLayout
from skelcontrast.skeleton.layout import check_layout

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Up = Literal["y", "-y", "z"]


def project(owner: str, x: Tensor, view_degrees: tuple[float, float], up: Up) -> Tensor:
    """Turn positions (C, ...), C two or three, into places (3, ...): across, height, and depth behind the paper."""
    _check.choice(owner, "up", up, get_args(Up))
    if x.shape[0] not in {2, 3}:
        _check.fail(owner, "x", "have 2 or 3 coordinates", x.shape[0])
    x = x.detach().to("cpu", torch.float64)
    if x.shape[0] == 2:
        if up == "z":
            _check.fail(owner, "up", "be 'y' or '-y' for 2 coordinates", repr(up))
        return torch.stack([x[0], x[1] if up == "y" else -x[1], torch.zeros_like(x[0])])
    across, height, depth = {"y": (x[0], x[1], x[2]), "-y": (x[0], -x[1], x[2]), "z": (x[0], x[2], x[1])}[up]
    yaw, pitch = (math.radians(angle) for angle in view_degrees)
    across, depth = across * math.cos(yaw) + depth * math.sin(yaw), depth * math.cos(yaw) - across * math.sin(yaw)
    height, depth = (
        height * math.cos(pitch) + depth * math.sin(pitch),
        depth * math.cos(pitch) - height * math.sin(pitch),
    )
    return torch.stack([across, height, depth])


@dataclass(frozen=True)
class Box:
    """The room that one body needs on paper, whatever it does."""

    left: float
    right: float
    low: float
    high: float

    @classmethod
    def around(cls, owner: str, sequences: Sequence[Tensor], view_degrees: tuple[float, float], up: Up) -> "Box":
        """Measure the bodies of sequences (C, T, V, M), but for absent ones, all zero, and joints without a place."""
        found = []
        for x in sequences:
            places = project(owner, x, view_degrees, up)[:2]
            present = x.detach().cpu().ne(0).any(dim=0).any(dim=1)  # (T, M)
            found.append(places.permute(1, 3, 0, 2)[present].transpose(1, 2).reshape(-1, 2))
        points = torch.cat(found)
        points = points[points.isfinite().all(dim=1)]
        if not len(points):
            return cls(-1.0, 1.0, -1.0, 1.0)
        (left, low), (right, high) = points.amin(dim=0).tolist(), points.amax(dim=0).tolist()
        margin = 0.06 * max(right - left, high - low, 1e-6)
        return cls(left - margin, right + margin, low - margin, high + margin)

    @property
    def width(self) -> float:
        """Distance between two bodies side by side."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """Height of a strip of bodies."""
        return self.high - self.low

    def within(self, other: "Box", *, times: float) -> "Box":
        """Cut off what lies outside of another box widened about its middle, so that one giant leaves room to read."""
        across, along = (times - 1) / 2 * other.width, (times - 1) / 2 * other.height
        return Box(
            max(self.left, other.left - across),
            min(self.right, other.right + across),
            max(self.low, other.low - along),
            min(self.high, other.high + along),
        )

    def resized(self, width: float, height: float) -> "Box":
        """Return a box of another size about the same middle."""
        across, along = (width - self.width) / 2, (height - self.height) / 2
        return Box(self.left - across, self.right + across, self.low - along, self.high + along)

    def frame(self, axes: "Axes", count: int) -> None:
        """Make axes hold `count` bodies side by side, in equal aspect and without a frame."""
        axes.set_xlim(self.left, self.left + count * self.width)
        axes.set_ylim(self.low, self.high)
        axes.set_aspect("equal")
        axes.set_axis_off()


def check_sequence(owner: str, x: object, layout: SkeletonLayout) -> Tensor:
    """Check the layout, and one sequence (C, T, V, M) of at least one frame."""
    check_layout(owner, layout)
    sequence = _check.tensor(owner, "x", x)
    hint = "Pass one sequence, as in x[0]." if sequence.ndim == 5 else ""
    why = f"with the joints of layout '{layout.name}'"
    _check.shape(owner, "x", sequence, "C T V M", V=layout.num_joints, why=why, hint=hint)
    if not sequence.numel():
        _check.fail(owner, "x", "hold at least one frame and one body", _check.show(sequence.shape))
    return sequence


def spread(length: int, count: int) -> list[int]:
    """Return up to `count` frames, evenly spread from the first to the last."""
    count = min(count, length)
    return [round(place * (length - 1) / max(count - 1, 1)) for place in range(count)]
