"""Dropout whose mask is drawn from uniform numbers on a CPU."""

import torch
from torch import Tensor, nn


class Dropout(nn.Dropout):
    """`torch.nn.Dropout`, in place, with a faster draw on a CPU.

    There torch draws a Bernoulli number per element, about 16 ns each where a uniform one took 4: an eighth of the
    whole encoder's time. Masks have the same distribution, but are not the ones that torch draws from the same seed.
    """

    def __init__(self, p: float) -> None:
        super().__init__(p, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Set elements of `x` to zero with probability p in training mode, and scale the others by 1 / (1 - p)."""
        if not self.training or self.p == 0 or x.device.type != "cpu":
            return super().forward(x)
        mask = torch.rand_like(x, dtype=torch.float32).ge_(self.p).mul_(1 / (1 - self.p))
        return x.mul_(mask.to(x.dtype))
