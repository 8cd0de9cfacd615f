"""Constants of more than one augmentation."""

import torch
from torch import Tensor

from skelcontrast._shared import shared


@shared
def count(size: int, device: torch.device, step: int = 1) -> Tensor:
    """Return 0, `step`, 2 `step`, ..., `size` numbers (size,), int64."""
    return step * torch.arange(size, device=device)
