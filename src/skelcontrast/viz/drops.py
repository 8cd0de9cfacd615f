"""What the drop layer takes away, on the skeleton."""

from typing import TYPE_CHECKING

from torch import Tensor

from skelcontrast import _check
from skelcontrast.skeleton import SkeletonLayout
from skelcontrast.viz import _style
from skelcontrast.viz._projection import Box, Up, check_sequence, project, spread
from skelcontrast.viz.skeletons import draw_skeleton, new_strip

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_drops(
    x: Tensor,
    masks: tuple[Tensor, Tensor],
    layout: SkeletonLayout,
    *,
    frames: int = 8,
    title: str = "",
    view_degrees: tuple[float, float] = (20.0, 8.0),
    up: Up = "y",
) -> "Figure":
    """Draw which joints and frames `EADM` drops of the features of a sequence, as a strip of frames.

    A ring is around each joint that is dropped, and bodies are grey in frames that are. Of the released form, which
    drops single elements, rings are as dense as the share of the channels that a joint loses in a frame.

    Args:
        x: The sequence (C, T, V, M) that the features were made of, with two or three coordinates.
        masks: What `EADM.masks` keeps of its feature map, a `DropMasks`: of M bodies, T' frames and V joints, so that
            each of the T' stands for about T / T' of the sequence.
        layout: The skeleton; V must be its number of joints.
        frames: Number of frames to draw, at least 1; all of them if the sequence has fewer.
        title: Text above the strip.
        view_degrees: How far the camera is turned about the vertical and raised above the horizontal.
        up: Which coordinate points up: y, as in data from Kinect; -y, as in pixels; z.

    Returns:
        A Matplotlib figure; ``figure.savefig("drops.png")`` writes it.

    Raises:
        ImportError: If Matplotlib is not installed.
        TypeError: If `x` is not a floating point tensor, `masks` not two tensors or `layout` not a `SkeletonLayout`.
        ValueError: If shapes do not fit the layout or each other, or an option is out of range.

    References:
        Guo et al., AAAI 2022, Section 3.3 and Algorithm 1.

    Example:
        >>> import torch
        >>> from skelcontrast.nn import EADM, STGCN
        >>> from skelcontrast.skeleton import NTU_RGBD_25
        >>> x = torch.rand(3, 50, 25, 1)
        >>> masks = EADM(drop_share=0.2).masks(STGCN(NTU_RGBD_25).feature_map(x[None]))
        >>> figure = plot_drops(x, masks, NTU_RGBD_25, title="a fifth of joints and frames")
        >>> figure.axes[0].get_title(loc="left")
        'a fifth of joints and frames'
    """
    owner = "plot_drops"
    x = check_sequence(owner, x, layout).detach()
    frames = _check.integer(owner, "frames", frames, 1)
    dropped = _dropped(owner, masks, joints=x.shape[2], bodies=x.shape[3])
    chosen = spread(x.shape[1], frames)
    box = Box.around(owner, [x], view_degrees, up)
    figure = new_strip(owner, box, len(chosen), text=0.5)
    from matplotlib.colors import to_rgba

    axes = figure.add_subplot()
    for place, frame in enumerate(chosen):
        shift = place * box.width
        for body, share in enumerate(dropped[:, frame * dropped.shape[1] // x.shape[1]]):
            joints = x[:, frame, :, body]
            if not joints.any():  # absent
                continue
            gone = bool((share == 1).all())
            colour = _style.GHOST if gone else None
            draw_skeleton(axes, joints, layout, view_degrees=view_degrees, up=up, shift=shift, colour=colour)
            if not gone:
                across, along, _ = project(owner, joints, view_degrees, up)
                ink = [to_rgba(_style.RING, alpha) for alpha in share.tolist()]
                axes.scatter(across + shift, along, s=60, facecolors="none", edgecolors=ink, linewidths=1.2, zorder=3)
    box.frame(axes, len(chosen))
    if title:
        _style.title(axes, title)
    figure.supxlabel("rings: joints that are dropped     grey: frames that are", fontsize=8.5, color=_style.MUTED)
    return figure


def _dropped(owner: str, masks: object, *, joints: int, bodies: int) -> Tensor:
    """Return the share of the channels that each joint loses in each frame (M, T', V), on the host."""
    if not isinstance(masks, tuple) or len(masks) != 2:
        hint = "Pass what `EADM.masks` returns."
        _check.fail(owner, "masks", "be a pair of masks", type(masks).__name__, hint=hint, kind=TypeError)
    spatial, temporal = (_check.tensor(owner, "masks", mask, floating=False) for mask in masks)
    _check.shape(owner, "masks[0]", spatial, "M C T V", C=1, T=1)
    width = 1 if temporal.shape[3:] == (1,) else spatial.shape[3]  # of whole frames, or of single elements
    _check.shape(owner, "masks[1]", temporal, "M C T V", M=len(spatial), V=width, why="to match `masks[0]`")
    hint = "Pass masks of this sequence alone, a row for each of its bodies."
    kept = ((spatial != 0) & (temporal != 0)).float().mean(dim=1)
    return 1 - _check.shape(owner, "masks", kept, "M T V", M=bodies, V=joints, why="to match `x`", hint=hint).cpu()
