"""Preparation of raw sequences: centring and resampling, as in the paper's experiments."""

from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from skelcontrast import _check
from skelcontrast.skeleton import SkeletonLayout
from skelcontrast.skeleton.layout import check_joints, check_layout


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
    return x - x[:, :, :, origin, None]


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
    _check.integer("resample", "frames", frames, 1)
    _, C, T, V, M = x.shape
    if T == 0:
        _check.fail("resample", "x", "have at least one frame", _check.show(x.shape))
    signals = rearrange(x, "n c t v m -> n (c v m) t")
    stretched = F.interpolate(signals, size=frames, mode="linear", align_corners=False)
    return rearrange(stretched, "n (c v m) t -> n c t v m", c=C, v=V, m=M)
