"""What EADM drops by a margin as an operation of torch."""

from typing import TypeAlias

import torch
from torch import Tensor

from skelcontrast._operator import operator

_Three: TypeAlias = tuple[Tensor, Tensor, Tensor]


def _drop(x: Tensor, margin: float, lambda_: float, correction: int, element: bool, batch: bool) -> _Three:
    from skelcontrast.kernels.eadm import triton_drop

    return triton_drop(x, margin, lambda_, correction, element=element, batch=batch)


def _unset(x: Tensor, _margin: float, _lambda: float, _correction: int, element: bool, _batch: bool) -> _Three:
    from skelcontrast.kernels.eadm import channels_of_word

    samples, channels, frames, joints = x.shape
    spatial = x.new_empty(samples, 1, 1, joints, dtype=torch.bool)
    if element:
        temporal = x.new_empty(samples, channels // channels_of_word(channels), frames, joints, dtype=torch.int32)
    else:
        temporal = x.new_empty(samples, 1, frames, 1, dtype=torch.bool)
    return spatial, temporal, x.new_empty(samples, 1, frames, joints)


drop_operator = operator("skelcontrast::drop_by_margin", _drop, _unset)


def drop_by_margin(
    x: Tensor, margin: float, lambda_: float, correction: int, *, element: bool = False, batch: bool = False
) -> _Three:
    """Return which joints of x (N, C, T, V), channels-last, stay, which frames, and what x is to be multiplied with.

    Shapes are (N, 1, 1, V) and (N, 1, T, 1), bool, and (N, 1, T, V) in the dtype of x. Every sample counts for itself,
    or a `batch` as a whole. Where an `element` is dropped, not a frame, the last two are (N, C, T, V), made by torch of
    one bit for an element: so its compiler multiplies with bits, and keeps these alone for the gradient.
    """
    if torch.compiler.is_compiling():
        spatial, temporal, factor = drop_operator(x.detach(), margin, lambda_, correction, element, batch)
    else:
        spatial, temporal, factor = _drop(x, margin, lambda_, correction, element, batch)
    if element:
        temporal = _of_words(temporal, x.shape[1])
        factor = torch.where(temporal, factor, 0.0)
    return spatial, temporal, factor


def _of_words(words: Tensor, channels: int) -> Tensor:
    """Return the bits of words (N, blocks, T, V), channels-last: (N, C, T, V) bool."""
    bit = torch.arange(channels // words.shape[1], dtype=words.dtype, device=words.device)
    bits = (words.permute(0, 2, 3, 1)[..., None] >> bit) & 1
    return bits.flatten(3).permute(0, 3, 1, 2) != 0
