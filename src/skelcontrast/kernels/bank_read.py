"""The bank read for CUDA: a running softmax, the attended mean and the nearest keys in one pass over the bank."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from skelcontrast._cuda import capability
from skelcontrast.kernels._bank_read import finish, read_bank
from skelcontrast.kernels._device import ceil_div, multiprocessors, on_device_of, padded, power_of_two, tf32_in_products

_LOG2_E = math.log2(math.e)
_PARTS_BY_D = 16384
"""Numbers of one query that `finish` holds at once: parts of the bank, times D."""


class _Tiles(NamedTuple):
    """How a read is laid out."""

    rows: int
    """Queries of a program."""
    keys: int
    """Keys of a tile."""
    warps: int
    """Warps of a program."""
    precision: str
    """Arithmetic of the matrix products: float32 in three products of tf32, or one of tf32."""
    width: int
    """D rounded up to a power of 2."""
    parts: int
    """Parts of the bank, a program each per tile of queries."""
    tiles: int
    """Tiles of keys in a part."""


def triton_read(
    views: Tensor, positive: Tensor, bank: Tensor, temperature: float, k: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Read the bank for stacked views (G, N, D) in float32, see `skelcontrast.losses.bank_read`."""
    G, N, D = views.shape
    log_partition, attended = views.new_empty(G, N), views.new_empty(G, N, D)
    rows = _launch(views, positive, bank, _LOG2_E / temperature, k, log_partition, attended)
    return log_partition, attended, rows


def triton_rows(views: Tensor, bank: Tensor, k: int) -> Tensor:
    """Return the k nearest rows of the bank for stacked views (G, N, D) in float32, as (G, N, k)."""
    return _launch(views, views[0], bank, 1.0, k, None, None)


def _launch(
    views: Tensor,
    positive: Tensor,
    bank: Tensor,
    scale: float,
    k: int,
    log_partition: Tensor | None,
    attended: Tensor | None,
) -> Tensor:
    """Run both kernels; without places for log-partition and attended mean they look for the nearest keys alone."""
    G, N, D = views.shape
    R, K = G * N, bank.shape[0]
    nearest = views.new_zeros(G, N, k, dtype=torch.int64)
    if R == 0:
        return nearest
    views, positive, bank = views.contiguous(), positive.contiguous(), bank.contiguous()
    tiles = _lay_out(R, K, D, bank)
    attend, slots = attended is not None, power_of_two(k) if k else 0
    # What is kept of a query and a part of the bank; what a call does not need is never read or written.
    of_parts = (
        views.new_empty(R, tiles.parts),  # the highest logit
        views.new_empty(R, tiles.parts),  # the sum of powers
        views.new_empty(R, tiles.parts, D) if attend else views,  # the sum of weighted keys
        views.new_empty(R, tiles.parts, max(slots, 1)),  # the highest maxima of tiles
        views.new_empty(R, tiles.parts, max(slots, 1), dtype=torch.int32),  # and those tiles
    )
    shared = {"PARTS": tiles.parts, "SLOTS": slots, "ATTEND": attend, "KEYS": tiles.keys, "WIDTH": tiles.width}
    with on_device_of(bank):
        read_bank[(ceil_div(R, tiles.rows), tiles.parts)](
            views,
            bank,
            *of_parts,
            R,
            K,
            D,
            scale,
            tiles.tiles,
            **shared,
            ROWS=tiles.rows,
            PRECISION=tiles.precision,
            num_warps=tiles.warps,
            num_stages=2,
            enable_fp_fusion=True,
        )
        results = (log_partition, attended) if attend else of_parts[:2]
        finish[(R,)](
            views,
            positive,
            bank,
            *of_parts,
            *results,
            nearest,
            N,
            K,
            D,
            scale,
            k,
            **shared,
            PARTS_UP=power_of_two(tiles.parts),
            num_warps=4,
            enable_fp_fusion=True,
        )
    return nearest


def _lay_out(R: int, K: int, D: int, bank: Tensor) -> _Tiles:
    """Choose tiles, and parts of the bank enough to keep every multiprocessor busy.

    On capability 9.0 those that were fastest on an H200; elsewhere tiles that compile for 8.0 with next to no spilled
    registers, in less than 99 KiB of shared memory.
    """
    width = padded(D)
    narrower = max(1, width // 128)
    on = capability(bank.device) if bank.is_cuda else (8, 0)
    tf32 = tf32_in_products() and on >= (8, 0)  # devices before that do not have it, nor the room for its tiles
    if on == (9, 0) and R > 64:
        rows, keys, warps, per_multiprocessor = 128, 64, 8, 1
    else:
        rows, keys, warps, per_multiprocessor = (64, 64, 4, 2) if tf32 else (32, 64, 8, 2)
    rows, keys = max(16, rows // narrower), max(16, keys // narrower)
    programs = per_multiprocessor * multiprocessors(bank.device)
    parts = max(1, min(programs // ceil_div(R, rows), _PARTS_BY_D // width, ceil_div(K, keys)))
    tiles = ceil_div(ceil_div(K, keys), parts)
    precision = "tf32" if tf32 else "tf32x3"
    return _Tiles(rows, keys, warps, precision, width, ceil_div(ceil_div(K, keys), tiles), tiles)
