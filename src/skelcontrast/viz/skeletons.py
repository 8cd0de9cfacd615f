"""Skeletons on paper: one frame on axes of one's own, or a sequence as a strip."""

from typing import TYPE_CHECKING

from torch import Tensor

from skelcontrast import _check
from skelcontrast.skeleton import SkeletonLayout
from skelcontrast.skeleton.layout import check_layout
from skelcontrast.viz import _style
from skelcontrast.viz._projection import Box, Up, check_sequence, project, spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEADS = ("head", "nose")


def draw_skeleton(
    axes: "Axes",
    joints: Tensor,
    layout: SkeletonLayout,
    *,
    view_degrees: tuple[float, float] = (20.0, 8.0),
    up: Up = "y",
    shift: float = 0.0,
    colour: str | None = None,
    scale: float = 1.0,
) -> None:
    """Draw the bodies of one frame onto axes: the left side blue, the right side orange, the trunk grey.

    The projection is orthographic. Bodies whose coordinates are all zero are absent and not drawn.

    Args:
        axes: Matplotlib axes; limits and aspect are left as they are.
        joints: Joint positions (C, V, M) or, of one body, (C, V); two or three coordinates.
        layout: The skeleton; V must be its number of joints.
        view_degrees: How far the camera is turned about the vertical and raised above the horizontal. Of no effect on
            two coordinates.
        up: Which coordinate points up: y, as in data from Kinect; -y, as in pixels; z.
        shift: Added to the horizontal places, to draw several bodies side by side.
        colour: One colour for everything, in place of those of the sides.
        scale: Factor on the width of bones and the size of joints.

    Raises:
        ImportError: If Matplotlib is not installed.
        TypeError: If `joints` is not a floating point tensor or `layout` not a `SkeletonLayout`.
        ValueError: If its shape does not fit the layout.

    Example:
        >>> import torch
        >>> from matplotlib.figure import Figure
        >>> from skelcontrast.skeleton import SkeletonLayout
        >>> arm = SkeletonLayout("arm", ("shoulder", "elbow", "wrist"), ((1, 0), (2, 1)), centre=0, mirror=())
        >>> axes = Figure().add_subplot()
        >>> draw_skeleton(axes, torch.tensor([[0.0, 0.3, 0.3], [0.0, 0.0, 0.3]]), arm)
        >>> [bone.round(1).tolist() for bone in axes.collections[0].get_segments()]
        [[[0.3, 0.0], [0.0, 0.0]], [[0.3, 0.3], [0.3, 0.0]]]
    """
    owner = "draw_skeleton"
    check_layout(owner, layout)
    _check.tensor(owner, "joints", joints)
    bodies = joints[:, :, None] if joints.ndim == 2 else joints
    _check.shape(owner, "joints", bodies, "C V M", V=layout.num_joints, why=f"with the joints of '{layout.name}'")
    _style.require(owner, "matplotlib")
    from matplotlib.collections import LineCollection

    side_of = _sides(layout)
    places = project(owner, bodies, view_degrees, up)
    for across, height, depth in places[:, :, (bodies != 0).any(dim=0).any(dim=0).cpu()].unbind(2):
        points = list(zip((across + shift).tolist(), height.tolist(), strict=True))
        # The side that is further away comes first, so that the nearer one covers it.
        depths = {side: depth[[other == side for other in side_of]] for side in set(side_of)}
        mean_depth = {side: own.nanmean().nan_to_num().item() for side, own in depths.items()}
        for side in sorted(mean_depth, key=lambda side: -mean_depth[side]):
            ink = colour or side
            bones = [[points[child], points[parent]] for child, parent in layout.bones if side_of[child] == side]
            axes.add_collection(LineCollection(bones, colors=ink, linewidths=1.8 * scale, capstyle="round", zorder=2))
            own = [joint for joint, other in enumerate(side_of) if other == side]
            sizes = [(24.0 if layout.joints[joint] in HEADS else 5.0) * scale**2 for joint in own]
            dots = [points[joint] for joint in own]
            axes.scatter([x for x, _ in dots], [y for _, y in dots], s=sizes, color=ink, linewidths=0, zorder=2)


def plot_skeleton(
    x: Tensor,
    layout: SkeletonLayout,
    *,
    frames: int = 8,
    title: str = "",
    view_degrees: tuple[float, float] = (20.0, 8.0),
    up: Up = "y",
) -> "Figure":
    """Draw a sequence as a strip of frames, evenly spread over time.

    Args:
        x: One sequence (C, T, V, M), of two or three coordinates; joints that are NaN are left out.
        layout: The skeleton; V must be its number of joints.
        frames: Number of frames to draw, at least 1; all of them if the sequence has fewer.
        title: Text above the strip.
        view_degrees: How far the camera is turned about the vertical and raised above the horizontal.
        up: Which coordinate points up: y, as in data from Kinect; -y, as in pixels; z.

    Returns:
        A Matplotlib figure; ``figure.savefig("sequence.png")`` writes it.

    Raises:
        ImportError: If Matplotlib is not installed.
        TypeError: If `x` is not a floating point tensor or `layout` not a `SkeletonLayout`.
        ValueError: If its shape does not fit the layout, or an option is out of range.

    Example:
        >>> import torch
        >>> from skelcontrast.skeleton import NTU_RGBD_25
        >>> figure = plot_skeleton(torch.rand(3, 50, 25, 2), NTU_RGBD_25, frames=4)
        >>> [text.get_text() for text in figure.axes[0].texts]  # the numbers of the frames
        ['0', '16', '33', '49']
    """
    owner = "plot_skeleton"
    check_sequence(owner, x, layout)
    frames = _check.integer(owner, "frames", frames, 1)
    chosen = spread(x.shape[1], frames)
    box = Box.around(owner, [x], view_degrees, up)
    figure = new_strip(owner, box, len(chosen), text=0.45 if title else 0.2)
    axes = figure.add_subplot()
    draw_strip(axes, x, layout, chosen, box, view_degrees=view_degrees, up=up)
    for place, frame in enumerate(chosen):
        body = Box.around(owner, [x[:, frame, None]], view_degrees, up) if x[:, frame].nan_to_num().any() else box
        middle = (body.left + body.right) / 2 + place * box.width
        axes.text(middle, box.low, str(frame), ha="center", va="top", fontsize=8, color=_style.MUTED)
    if title:
        _style.title(axes, title)
    return figure


def new_strip(owner: str, box: Box, frames: int, *, text: float) -> "Figure":
    """Return a figure with room for so many frames side by side, and for so many inches of text."""
    height = 2.4
    return _style.new_figure(owner, max(height * box.width / box.height * frames, 2.0), height + text)


def draw_strip(
    axes: "Axes",
    x: Tensor,
    layout: SkeletonLayout,
    frames: list[int],
    box: Box,
    *,
    view_degrees: tuple[float, float],
    up: Up,
    colour: str | None = None,
    scale: float = 1.0,
) -> None:
    """Draw some frames of a sequence side by side."""
    for place, frame in enumerate(frames):
        shift = place * box.width
        draw_skeleton(
            axes, x[:, frame], layout, view_degrees=view_degrees, up=up, shift=shift, colour=colour, scale=scale
        )
    box.frame(axes, len(frames))


def _sides(layout: SkeletonLayout) -> list[str]:
    """Return the colour of each joint, and of the bone from it to its parent."""
    colour = {joint: _style.LEFT for joint, _ in layout.mirror} | {joint: _style.RIGHT for _, joint in layout.mirror}
    return [colour.get(joint, _style.TRUNK) for joint in range(layout.num_joints)]
