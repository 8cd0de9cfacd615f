"""Sequences in motion, side by side."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from skelcontrast import _check
from skelcontrast.skeleton import SkeletonLayout
from skelcontrast.viz import _style
from skelcontrast.viz._projection import Box, Up, check_sequence
from skelcontrast.viz.skeletons import draw_skeleton

if TYPE_CHECKING:
    from matplotlib.animation import FuncAnimation

PANEL = 2.4  # inches


def animate_skeletons(
    sequences: Mapping[str, Tensor],
    layout: SkeletonLayout,
    *,
    frames: int = 60,
    frames_per_second: float = 15.0,
    columns: int | None = None,
    view_degrees: tuple[float, float] = (20.0, 8.0),
    up: Up = "y",
) -> "FuncAnimation":
    """Play sequences side by side, each from its beginning to its end, all at the same scale.

    Args:
        sequences: Sequences (C, T, V, M) by title, of two or three coordinates; each of its own length and number of
            bodies. Joints that are NaN are left out.
        layout: The skeleton; V must be its number of joints.
        frames: Most pictures of the animation, at least 1; fewer if no sequence has as many frames.
        frames_per_second: Pictures a second, positive.
        columns: Panels beside each other; if not given, such that the figure is about square.
        view_degrees: How far the camera is turned about the vertical and raised above the horizontal.
        up: Which coordinate points up: y, as in data from Kinect; -y, as in pixels; z.

    Returns:
        A Matplotlib animation; ``animation.save("clips.gif", writer="pillow", dpi=80)`` writes it, and
        ``animation.to_jshtml()`` is for a notebook.

    Raises:
        ImportError: If Matplotlib is not installed.
        TypeError: If `sequences` is no mapping, a sequence not a floating point tensor or `layout` no `SkeletonLayout`.
        ValueError: If the shape of a sequence does not fit the layout, there is none, or an option is out of range.

    Example:
        >>> import torch
        >>> from skelcontrast.augment import extreme
        >>> from skelcontrast.skeleton import NTU_RGBD_25
        >>> x = torch.rand(3, 50, 25, 1)
        >>> views = {"as it is": x, "extreme": extreme(NTU_RGBD_25)(x[None])[0]}
        >>> animation = animate_skeletons(views, NTU_RGBD_25, frames=2)
        >>> "<img" in animation.to_jshtml()
        True
    """
    owner = "animate_skeletons"
    _check_all(owner, sequences, layout)
    frames = _check.integer(owner, "frames", frames, 1)
    _check.interval(owner, "frames_per_second", frames_per_second, 0, open_low=True)
    columns = math.ceil(math.sqrt(len(sequences))) if columns is None else _check.integer(owner, "columns", columns, 1)
    columns = min(columns, len(sequences))
    boxes = [Box.around(owner, [x], view_degrees, up) for x in sequences.values()]
    width, height = max(box.width for box in boxes), max(box.height for box in boxes)
    rows = math.ceil(len(sequences) / columns)
    unit = PANEL / max(width, height)
    figure = _style.new_figure(owner, columns * width * unit + 0.2, rows * (height * unit + 0.35))
    from matplotlib.animation import FuncAnimation

    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels:
        axes.set_axis_off()
    for axes, name, box in zip(panels, sequences, boxes, strict=False):
        box.resized(width, height).frame(axes, 1)
        axes.set_title(name, fontsize=8, color=_style.INK)
    count = min(frames, max(x.shape[1] for x in sequences.values()))

    def draw(step: int) -> None:
        for axes, x in zip(panels, sequences.values(), strict=False):
            for part in list(axes.collections):
                part.remove()
            draw_skeleton(axes, x[:, step * x.shape[1] // count], layout, view_degrees=view_degrees, up=up)

    return FuncAnimation(figure, draw, frames=count, interval=1000 / frames_per_second)


def _check_all(owner: str, sequences: object, layout: SkeletonLayout) -> None:
    if not isinstance(sequences, Mapping):
        hint = "Give a single one a title: {'clip': x}."
        _check.fail(owner, "sequences", "map titles to sequences", type(sequences).__name__, hint=hint, kind=TypeError)
    if not sequences:
        _check.fail(owner, "sequences", "hold at least one sequence", "none")
    for x in sequences.values():
        check_sequence(owner, x, layout)
