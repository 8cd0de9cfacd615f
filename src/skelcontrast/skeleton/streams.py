"""The three streams of a skeleton sequence: joints, bones and motion."""

from typing import Literal, get_args

import torch
from torch import Tensor

from skelcontrast import _check
from skelcontrast._shared import joint_index
from skelcontrast.skeleton.layout import SkeletonLayout, check_joints, check_layout

Stream = Literal["joint", "bone", "motion"]
_STREAMS = get_args(Stream)  # here, because not every version of torch.compile follows the question


def to_stream(x: Tensor, stream: Stream, layout: SkeletonLayout) -> Tensor:
    """Turn joint positions into one of the three streams.

    - `"joint"`: the positions themselves.
    - `"bone"`: each joint minus its parent; zero at the root.
    - `"motion"`: the next frame minus this one; zero in the last frame.

    Every stream is linear in `x` and differentiable. Compute it after augmentation, as the paper's code does.

    Args:
        x: Joint positions (N, C, T, V, M), floating point; any C.
        stream: Which stream.
        layout: The skeleton; V must be its number of joints.

    Returns:
        Tensor of the shape, dtype and device of `x`; `x` itself for `"joint"`.

    Raises:
        TypeError: If `x` is not a floating-point tensor or `layout` not a `SkeletonLayout`.
        ValueError: If `stream` is unknown, or `x` has not five axes or not the joints of the layout.

    References:
        Guo et al.: Contrastive Learning from Extremely Augmented Skeleton Sequences for Self-supervised Action
        Recognition, AAAI 2022, section 4.2 (the three streams of 3s-AimCLR).

    Example:
        >>> from skelcontrast.skeleton import SkeletonLayout
        >>> arm = SkeletonLayout("arm", ("shoulder", "elbow", "wrist"), ((1, 0), (2, 1)), centre=0, mirror=())
        >>> x = torch.tensor([[0.0, 1.0, 3.0], [0.0, 2.0, 5.0]]).reshape(1, 1, 2, 3, 1)  # two frames
        >>> to_stream(x, "bone", arm).flatten()
        tensor([0., 1., 2., 0., 2., 3.])
        >>> to_stream(x, "motion", arm).flatten()
        tensor([0., 1., 2., 0., 0., 0.])
    """
    _check.choice("to_stream", "stream", stream, _STREAMS)
    check_joints("to_stream", x, check_layout("to_stream", layout))
    if stream == "bone":
        return x - x.index_select(3, joint_index(layout.parents, x.device))
    if stream == "motion":
        return torch.cat([x[:, :, 1:], x[:, :, -1:]], dim=2) - x
    return x
