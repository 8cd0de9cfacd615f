"""Joints that a preparation goes by, and the origin at one of them, for arrays and tensors alike."""

from typing import TYPE_CHECKING, TypeVar

from skelcontrast.data._array import Array

if TYPE_CHECKING:
    from torch import Tensor

Positions = TypeVar("Positions", Array, "Tensor")

SHOULDERS = ("left shoulder", "right shoulder")


def at_origin(x: Positions, joint: int) -> Positions:
    """Subtract one joint from all joints of its body, in every frame of positions (..., V, M)."""
    return x - x[..., joint, None, :]
