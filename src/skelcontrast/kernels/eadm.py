"""What EADM drops by a margin, decided on CUDA."""

from math import gcd

import torch
from torch import Tensor

from skelcontrast.kernels._device import on_device_of, power_of_two, unset
from skelcontrast.kernels._eadm import attention_sums, count_below, drop_by_margin


def triton_drop(
    x: Tensor, margin: float, lambda_: float, correction: int, *, element: bool = False, batch: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Return which joints stay, (N, 1, 1, V) bool, which frames, (N, 1, T, 1) bool, and the factor, (N, 1, T, V).

    Features (N, C, T, V) are channels-last, C a multiple of 8. The factor has their dtype. Every sample is scaled for
    itself, or a `batch` as a whole. Where an `element` is dropped, not a frame, second come words (N, C / c, T, V)
    int32, with a bit for each of c channels (`channels_of_word`).
    """
    samples, channels, frames, joints = x.shape
    spatial = torch.empty(samples, 1, 1, joints, dtype=torch.bool, device=x.device)
    if element:
        blocks = channels // channels_of_word(channels)
        temporal = torch.empty(samples, blocks, frames, joints, dtype=torch.int32, device=x.device)
    else:
        temporal = torch.empty(samples, 1, frames, 1, dtype=torch.bool, device=x.device)
    factor = torch.empty(samples, 1, frames, joints, dtype=x.dtype, device=x.device)
    sums = triton_attention_sums(x, lambda_, correction, temporal if element else None, margin)
    together = samples if batch else 1
    counts = torch.empty(samples if batch else 0, 2, dtype=torch.int64, device=x.device)
    all_others = together * (channels * frames * joints if element else frames)
    how = sums.shape[1], channels, frames, joints, margin
    tile = {"TB": power_of_two(frames), "VB": power_of_two(joints), "ELEMENT": element}
    with on_device_of(x):
        if batch:
            count_below[(samples,)](sums, temporal, counts, *how, **tile)
        outs = spatial, temporal, factor
        drop_by_margin[(samples,)](
            sums, counts, *outs, samples, together * joints, all_others, *how, **tile, BATCH=batch
        )
    return spatial, temporal, factor


def triton_attention_sums(
    x: Tensor, lambda_: float, correction: int, words: Tensor | None = None, margin: float = 1.0
) -> Tensor:
    """Return SimAM's attention, summed over every block of channels, (N, blocks, T * V) float32; see `triton_drop`.

    Fills words, if given, with what has less attention than the margin.
    """
    samples, channels, frames, joints = x.shape
    rows = frames * joints
    tile = _tile(channels, rows)
    blocks = channels // tile["CB"]
    sums = unset(x, samples, blocks, rows)
    how = lambda_, 1 / max(rows - correction, 1), 1 / margin, rows, channels
    with on_device_of(x):
        attention_sums[(samples, blocks)](x, sums, words, *how, **tile, ELEMENT=words is not None)
    return sums


def channels_of_word(channels: int) -> int:
    """Return how many channels, of a multiple of 8, a program takes, and a word has bits for: 8, 16 or 32."""
    return gcd(channels, 32)


def _tile(channels: int, rows: int) -> dict[str, int]:
    """Return the tile that a program takes of a sample: all rows where there are up to 512, up to 32 channels."""
    block, height = channels_of_word(channels), min(power_of_two(rows), 512)
    return {"BM": height, "CB": block, "num_warps": max(1, height * block // 4096)}
