"""Dropout whose mask is drawn 16 bits an element on a CPU."""

import torch
from torch import Tensor, nn

from skelcontrast.nn._recorded import is_recorded


class Dropout(nn.Dropout):
    """`torch.nn.Dropout`, in place, with a faster draw on a CPU.

    There torch draws a Bernoulli number per element, which takes longer than many a layer. Here an element takes 16 of
    the 64 bits of a random integer, and is kept unless they are below a threshold: p is taken to the nearest of 65536
    parts, never of all, as by the kernels for CUDA. Masks are not those that torch draws from the same seed. Where
    torch compiles, traces or transforms functions, it is left to draw in its own way.
    """

    def __init__(self, p: float) -> None:
        super().__init__(p, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Set elements of `x` to zero with probability p in training mode, and scale the others by 1 / (1 - p)."""
        if not self.training or not 0 < self.p < 1 or x.device.type != "cpu":
            return super().forward(x)
        if is_recorded() or torch._C._are_functorch_transforms_active():  # `vmap` may have a mask for each of a batch
            return super().forward(x)
        return x.mul_(_mask(x, min(65535, round(65536 * self.p))))


def _mask(x: Tensor, drop: int) -> Tensor:
    """Draw factors for `x`, laid out like a copy of it: 0 for `drop` of 65536, else what keeps the mean."""
    draws = x.new_empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
    kept = draws[: x.numel()].ge_(drop - 32768)  # ones and zeros, still in 16 bits
    scale = torch.tensor(65536 / (65536 - drop), dtype=x.dtype, device=x.device)
    narrow = x.element_size() == 2  # multiplied as the bits that they are: conversion takes longer than the draw
    mask = kept.mul_(scale.view(torch.int16)).view(x.dtype) if narrow else kept.to(x.dtype).mul_(scale)
    return mask.as_strided(x.shape, torch.empty_like(x, device="meta").stride())
