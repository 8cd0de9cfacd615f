"""How features (N, C, T, V) lie in memory."""

import torch
from torch import Tensor


def memory_format_of(x: Tensor) -> torch.memory_format:
    """Return the format that results computed from `x` keep to: contiguous where it is, channels-last otherwise."""
    return torch.contiguous_format if x.is_contiguous() else torch.channels_last
