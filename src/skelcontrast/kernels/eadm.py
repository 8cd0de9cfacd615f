"""What EADM drops by a margin, decided on CUDA."""

import torch
from torch import Tensor

from skelcontrast.kernels._device import on_device_of, power_of_two, unset
from skelcontrast.kernels._eadm import attention_sums, drop_by_margin


def triton_drop(x: Tensor, margin: float, lambda_: float, correction: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return which joints stay, (N, 1, 1, V) bool, which frames, (N, 1, T, 1) bool, and the factor, (N, 1, T, V).

    Features (N, C, T, V) are channels-last, C a multiple of 8. The factor has their dtype.
    """
    samples, channels, frames, joints = x.shape
    sums = triton_attention_sums(x, lambda_, correction)
    spatial = torch.empty(samples, 1, 1, joints, dtype=torch.bool, device=x.device)
    temporal = torch.empty(samples, 1, frames, 1, dtype=torch.bool, device=x.device)
    factor = torch.empty(samples, 1, frames, joints, dtype=x.dtype, device=x.device)
    sizes = sums.shape[1], channels, frames, joints
    tile = {"TB": power_of_two(frames), "VB": power_of_two(joints)}
    with on_device_of(x):
        drop_by_margin[(samples,)](sums, spatial, temporal, factor, *sizes, margin, **tile)
    return spatial, temporal, factor


def triton_attention_sums(x: Tensor, lambda_: float, correction: int) -> Tensor:
    """Return SimAM's attention, summed over every block of channels, (N, blocks, T * V) float32; see `triton_drop`."""
    samples, channels, frames, joints = x.shape
    rows = frames * joints
    tile = _tile(channels, rows)
    blocks = channels // tile["CB"]
    sums = unset(x, samples, blocks, rows)
    with on_device_of(x):
        attention_sums[(samples, blocks)](x, sums, lambda_, 1 / max(rows - correction, 1), rows, channels, **tile)
    return sums


def _tile(channels: int, rows: int) -> dict[str, int]:
    """Return the tile that a program takes of a sample: all rows where there are up to 512, up to 32 channels."""
    block, height = min(channels & -channels, 32), min(power_of_two(rows), 512)
    return {"BM": height, "CB": block, "num_warps": max(1, height * block // 4096)}
