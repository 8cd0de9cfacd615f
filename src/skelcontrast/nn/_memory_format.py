"""How features (N, C, T, V) lie in memory."""

import torch
from torch import Tensor


def memory_format_of(x: Tensor) -> torch.memory_format:
    """Return the format that results computed from `x` keep to: contiguous where it is, channels-last otherwise."""
    return torch.contiguous_format if x.is_contiguous() else torch.channels_last


def each(x: Tensor, every: int) -> Tensor:
    """Return each `every`-th frame. Channels come last, for the gradient of a slice is laid out as it was taken."""
    return x if every == 1 else x.permute(0, 2, 3, 1)[:, ::every].permute(0, 3, 1, 2)


def is_channels_last(x: Tensor) -> bool:
    """Tell whether features lie channels-last."""
    if torch.compiler.is_compiling():  # to which torch (2.4 to 2.11) says no where sizes are symbols, but not to this
        return x.permute(0, 2, 3, 1).is_contiguous()
    return x.is_contiguous(memory_format=torch.channels_last)
