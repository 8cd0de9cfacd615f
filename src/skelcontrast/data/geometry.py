"""Preparation of raw sequences: joints that were not seen, centring, resampling and aligned shoulders."""

from typing import Literal, TypeAlias, get_args

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from skelcontrast import _check
from skelcontrast.data._joints import SHOULDERS, at_origin
from skelcontrast.skeleton import SkeletonLayout
from skelcontrast.skeleton.layout import check_joints, check_layout

TurnedBy: TypeAlias = Literal["frame", "sequence"]


def fill_missing(x: Tensor, layout: SkeletonLayout) -> Tensor:
    """Fill in the places of joints that were not seen, marked by NaN.

    Between two frames in which it was seen a joint moves in a straight line; before the first and after the last it
    stays in place. A joint that is never seen in a sequence is put where the nearest seen one is, by the number of
    bones between them. A body of which nothing is ever seen becomes absent, all zeros.

    Args:
        x: Skeletons (N, C, T, V, M); a joint with NaN in any coordinate was not seen. For one sequence (C, T, V, M)
            pass `x[None]`.
        layout: The skeleton.

    Returns:
        Skeletons without NaN, (N, C, T, V, M), a new tensor.

    Raises:
        TypeError: If `x` is not a floating-point tensor or `layout` not a `SkeletonLayout`.
        ValueError: If `x` is not (N, C, T, V, M) with the joints of `layout` and at least one frame.

    Example:
        The tip of a rod is seen at 1 and, two frames later, at 3; its other end never.

        >>> import torch
        >>> from skelcontrast.skeleton import SkeletonLayout
        >>> rod = SkeletonLayout("rod", ("tip", "end"), ((1, 0),), centre=0, mirror=())
        >>> x = torch.tensor([[1.0, torch.nan], [torch.nan, torch.nan], [3.0, torch.nan]]).reshape(1, 1, 3, 2, 1)
        >>> fill_missing(x, rod).reshape(3, 2)
        tensor([[1., 1.],
                [2., 2.],
                [3., 3.]])
    """
    check_layout("fill_missing", layout)
    check_joints("fill_missing", x, layout)
    T, seen = x.shape[2], ~x.isnan().any(dim=1)  # (N, T, V, M)
    if T == 0:
        _check.fail("fill_missing", "x", "have at least one frame", _check.show(x.shape))
    frame = torch.arange(T, device=x.device)[:, None, None]
    before = torch.where(seen, frame, -1).cummax(dim=1).values
    after = torch.where(seen, frame, T).flip(1).cummin(dim=1).values.flip(1)
    # Outside of what was seen there is one side only; where nothing was seen, any frame will do for now.
    before, after = torch.where(before < 0, after, before) % T, torch.where(after == T, before, after) % T
    share = ((frame - before).to(x.dtype) / (after - before).clamp(min=1))[:, None]
    first, last = (x.gather(2, place[:, None].expand(x.shape)) for place in (before, after))
    filled = torch.where(seen[:, None], x, first + share * (last - first))

    ever = seen.any(dim=1)  # (N, V, M)
    hops = layout.hop_distance().to(x.device)[None, :, :, None] + layout.num_joints * ~ever[:, None]
    nearest = hops.argmin(dim=2)[:, None, None]  # a joint that was seen is its own nearest one
    filled = filled.gather(3, nearest.expand(x.shape))
    return torch.where(ever.any(dim=1)[:, None, None, None], filled, 0)


def centre(x: Tensor, layout: SkeletonLayout, *, joint: str | None = None) -> Tensor:
    """Put one joint of every body at the origin, in every frame.

    This takes away where a person stands and walks, and keeps how the body moves. An absent body, all zeros, stays
    all zeros.

    Args:
        x: Skeletons (N, C, T, V, M). For one sequence (C, T, V, M) pass `x[None]`.
        layout: The skeleton.
        joint: Name of the joint that is subtracted; the layout's `centre` unless given.

    Returns:
        Centred skeletons, (N, C, T, V, M), a new tensor.

    Raises:
        TypeError: If `x` is not a floating-point tensor or `layout` not a `SkeletonLayout`.
        ValueError: If `x` is not (N, C, T, V, M) with the joints of `layout`, or `joint` is not one of them.

    References:
        The preparation of the released AimCLR code, which subtracts joint 21 (20 counted from 0) of NTU RGB+D.

    Example:
        A "body" of three joints in one frame; its middle joint is the centre.

        >>> import torch
        >>> from skelcontrast.skeleton import SkeletonLayout
        >>> rod = SkeletonLayout("rod", ("top", "middle", "bottom"), ((0, 1), (2, 1)), centre=1, mirror=())
        >>> x = torch.tensor([5.0, 4.0, 2.0]).reshape(1, 1, 1, 3, 1)
        >>> centre(x, rod).flatten()
        tensor([ 1.,  0., -2.])
    """
    check_layout("centre", layout)
    check_joints("centre", x, layout)
    if joint is not None:
        _check.choice("centre", "joint", joint, layout.joints)
    origin = layout.centre if joint is None else layout.joints.index(joint)
    return at_origin(x, origin)


def resample(x: Tensor, frames: int) -> Tensor:
    """Stretch or shrink sequences in time to a number of frames, by linear interpolation.

    Frames are cells of equal length and values sit at their middles ("half-pixel centres"): frame t of the result
    reads the input at (t + 1/2) T / `frames` - 1/2, clamped to the first and last frame. With `frames` equal to T
    nothing changes. Shrinking does not smooth before it reads.

    Args:
        x: Skeletons (N, C, T, V, M). For one sequence (C, T, V, M) pass `x[None]`.
        frames: Number of frames of the result, at least 1.

    Returns:
        Skeletons (N, C, frames, V, M).

    Raises:
        TypeError: If `x` is not a floating-point tensor or `frames` not an integer.
        ValueError: If `x` is not (N, C, T, V, M) with at least one frame, or `frames` is below 1.

    References:
        The preparation of the released AimCLR code, to 50 frames; the paper (section 4.2) refers to CrosSCLR's.

    Example:
        Two frames become four; the outer ones are clamped.

        >>> import torch
        >>> resample(torch.tensor([0.0, 4.0]).reshape(1, 1, 2, 1, 1), 4).flatten()
        tensor([0., 1., 3., 4.])
    """
    _check.skeletons("resample", "x", x)
    frames = _check.integer("resample", "frames", frames, 1)
    _, C, T, V, M = x.shape
    if T == 0:
        _check.fail("resample", "x", "have at least one frame", _check.show(x.shape))
    signals = rearrange(x, "n c t v m -> n (c v m) t")
    stretched = F.interpolate(signals, size=frames, mode="linear", align_corners=False)
    return rearrange(stretched, "n (c v m) t -> n c t v m", c=C, v=V, m=M)


def align_shoulders(
    x: Tensor, layout: SkeletonLayout, *, softening: float = 0.0, turned_by: TurnedBy = "frame"
) -> Tensor:
    """Turn every body about the vertical, y, so that in every frame its shoulders lie along x, the left one at -x.

    This takes away which way a person faces. Centre first: the turn is about the origin. An absent body, and one whose
    shoulders are one above the other, is left as it is.

    Args:
        x: Skeletons (N, 3, T, V, M), y up. For one sequence (3, T, V, M) pass `x[None]`.
        layout: The skeleton, with joints named "left shoulder" and "right shoulder".
        softening: Length in metres, at least 0, that is added to the distance of the shoulders where the cosine of the
            angle is taken. 0 turns exactly. The released code has 1e-4, which leaves shoulders that already lie along
            x up to two degrees off.
        turned_by: What says to which side a body is turned: each ``"frame"`` by itself, or the ``"sequence"``: all its
            frames to one side, as the released code does. Shoulders that pass the x axis during the sequence are then
            turned away from it.

    Returns:
        Turned skeletons (N, 3, T, V, M), a new tensor.

    Raises:
        TypeError: If `x` is not a floating-point tensor, `layout` not a `SkeletonLayout` or `softening` not a number.
        ValueError: If `x` is not (N, 3, T, V, M) with the joints of `layout`, the layout has no shoulders by these
            names, `softening` is negative or `turned_by` unknown.

    References:
        The preparation of NTU RGB+D and PKU-MMD in the released AimCLR code, ``feeder/preprocess_ntu.py``: a softening
        of 1e-4, by the sequence, behind `centre` and `resample`.

    Example:
        The right shoulder is straight behind the left one; a quarter turn brings it to +x.

        >>> import torch
        >>> from skelcontrast.skeleton import SkeletonLayout
        >>> bar = SkeletonLayout("bar", ("left shoulder", "right shoulder"), ((1, 0),), centre=0, mirror=((0, 1),))
        >>> x = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.0, 0.4]]).reshape(1, 3, 1, 2, 1)
        >>> align_shoulders(x, bar).reshape(3, 2)
        tensor([[0.0000, 0.4000],
                [1.0000, 1.0000],
                [0.0000, 0.0000]])
    """
    owner = "align_shoulders"
    check_layout(owner, layout)
    check_joints(owner, x, layout)
    _check.skeletons(owner, "x", x, C=3)
    _check.interval(owner, "softening", softening, 0)
    _check.choice(owner, "turned_by", turned_by, get_args(TurnedBy))
    for side in SHOULDERS:
        if side not in layout.joints:
            _check.fail(owner, "layout", f"have a joint named '{side}'", f"none in '{layout.name}'")
    left, right = (x[:, :, :, layout.joints.index(side)] for side in SHOULDERS)
    across, _, along = (right - left).unbind(1)  # (N, T, M) each
    width = torch.hypot(across, along)
    softened = (width + softening).clamp(min=torch.finfo(x.dtype).tiny)
    cosine = torch.where(width > 0, across / softened, 1)[:, :, None]  # the same for all joints
    sign = along.sign()
    if turned_by == "sequence":
        sign = torch.where(along.sum(dim=1, keepdim=True) >= 0, 1, -1) * (width > 0)
    # sqrt(1 - cosine**2), multiplied out: the digits of small angles would be lost in the difference.
    sine = (sign * (along**2 + softening * (2 * width + softening)).sqrt() / softened)[:, :, None]
    turned = (x[:, 0] * cosine + x[:, 2] * sine, x[:, 1], x[:, 2] * cosine - x[:, 0] * sine)
    return torch.stack(turned, dim=1)
