"""What dtype is computed with."""

import torch
from torch import Tensor


def is_full_precision(x: Tensor) -> bool:
    """Tell whether `x` is computed with in float32 or float64."""
    return x.dtype in (torch.float32, torch.float64) and not torch.is_autocast_enabled(x.device.type)


def autocast_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype that autocast computes with for `x`, or its own."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
