"""What EADM drops by a margin as an operation of torch."""

from typing import TypeAlias

import torch
from torch import Tensor

_Three: TypeAlias = tuple[Tensor, Tensor, Tensor]


def _drop(x: Tensor, margin: float, lambda_: float, correction: int) -> _Three:
    from skelcontrast.kernels.eadm import triton_drop

    return triton_drop(x, margin, lambda_, correction)


drop_operator = torch.library.custom_op("skelcontrast::drop_by_margin", _drop, mutates_args=())


@drop_operator.register_fake
def _(x: Tensor, *_: object) -> _Three:
    samples, _channels, frames, joints = x.shape
    spatial = x.new_empty(samples, 1, 1, joints, dtype=torch.bool)
    temporal = x.new_empty(samples, 1, frames, 1, dtype=torch.bool)
    return spatial, temporal, x.new_empty(samples, 1, frames, joints)


def drop_by_margin(x: Tensor, margin: float, lambda_: float, correction: int) -> _Three:
    """Return which joints of x (N, C, T, V), channels-last, stay, which frames, and what x is to be multiplied with.

    Shapes are (N, 1, 1, V) and (N, 1, T, 1), bool, and (N, 1, T, V) in the dtype of x. Every sample counts for itself.
    """
    if not torch.compiler.is_compiling():
        return _drop(x, margin, lambda_, correction)
    spatial, temporal, factor = drop_operator(x.detach(), margin, lambda_, correction)
    return spatial, temporal, factor
