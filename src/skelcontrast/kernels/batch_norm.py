"""Batch norm for CUDA, and what follows it in a block: dropout, residual and ReLU in the same pass."""

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from skelcontrast._side_by_side import in_turn
from skelcontrast.kernels._batch_norm import finish_sums, gradient_features, gradient_sums, normalize
from skelcontrast.kernels._device import ceil_div, multiprocessors, on_device_of, power_of_two, unset
from skelcontrast.kernels._statistics import batch_statistics, finish_statistics
from skelcontrast.kernels._two_norms import gradient_features_of_two, gradient_sums_of_two, normalize_two

_AT_ONCE = 512
"""Parts of statistics that are added up at once; more are in turns."""


def triton_statistics(
    x: Tensor,
    sums: Tensor | None,
    running_mean: Tensor,
    running_variance: Tensor,
    batches: Tensor | None,
    left_out: Tensor | None,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """Return mean and inverse standard deviation of every channel, float32; move the running ones and count the batch.

    What has written `x` may have summed it up, in parts (parts, 3, C), see `_statistics`. Running statistics are those
    of the features with the bias that was left out of them.
    """
    plan = _plan(x.shape, 8192, x.device)
    rows, channels = plan.rows, plan.channels
    mean, inverse = unset(x, channels), unset(x, channels)
    # What is not there is never read or written.
    moved = running_mean, running_variance, mean if batches is None else batches, mean if left_out is None else left_out
    there = {"COUNT": batches is not None, "BIAS": left_out is not None}
    with on_device_of(x):
        if sums is None or not len(sums):
            sums = unset(x, plan.parts, 3, channels)
            batch_statistics[plan.summed](x, sums, rows, channels, **plan.summed_tile)
        grid, tile = _finish(min(_AT_ONCE, len(sums)), channels)
        with in_turn(running_mean.data_ptr()):
            finish_statistics[grid](
                sums, mean, inverse, *moved, len(sums), rows, channels, momentum, eps, **tile, **there
            )
    return mean, inverse


def triton_normalize(
    x: Tensor,
    mean: Tensor,
    inverse: Tensor,
    weight: Tensor,
    bias: Tensor,
    residual: Tensor | None,
    seed: Tensor,
    dropout: float,
    relu: bool,
) -> Tensor:
    """Return ``relu(residual + dropout(weight * (x - mean) * inverse + bias))``; features are channels-last."""
    out = torch.empty_like(x)
    plan = _plan(x.shape, 8192, x.device)
    with on_device_of(x):
        normalize[plan.single](
            x,
            mean,
            inverse,
            weight,
            bias,
            x if residual is None else residual,
            seed,
            out,
            plan.rows,
            plan.channels,
            **plan.single_tile,
            **_behind(dropout, relu),
            ADD=residual is not None,
        )
    return out


def triton_gradients(
    upstream: Tensor,
    x: Tensor,
    out: Tensor,
    mean: Tensor,
    inverse: Tensor,
    weight: Tensor,
    bias: Tensor,
    left_out: Tensor | None,
    seed: Tensor,
    dropout: float,
    relu: bool,
    with_residual: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients in x (mean and deviation are those of x), weight, bias, the residual and what was left out.

    The last two are empty where there is no such thing.
    """
    plan = _plan(x.shape, 4096 if dropout else 8192, x.device)  # dropout's draws take registers
    rows, channels, parts = plan.rows, plan.channels, plan.parts
    grad_x, of_residual = torch.empty_like(x), torch.empty_like(x) if with_residual else x.new_empty(0)
    sums, of_weight, of_bias = unset(x, parts, 2 * channels), unset(x, channels), unset(x, channels)
    of_left_out = x.new_empty(0) if left_out is None else torch.empty_like(left_out)
    behind = {**_behind(dropout, relu), "ADD": with_residual}
    with on_device_of(x):
        gradient_sums[plan.summed](
            upstream,
            x,
            out,
            mean,
            inverse,
            weight,
            bias,
            seed,
            of_residual,
            sums,
            rows,
            channels,
            **plan.summed_tile,
            **behind,
        )
        finish_sums[plan.finish](
            sums, of_bias, of_weight, of_left_out, parts, channels, **plan.finish_tile, BIAS=left_out is not None
        )
        gradient_features[plan.single](
            of_residual if with_residual else upstream,
            x,
            mean,
            inverse,
            weight,
            bias,
            seed,
            of_bias,
            of_weight,
            grad_x,
            rows,
            channels,
            **plan.single_tile,
            **behind,
        )
    return grad_x, of_weight.to(weight.dtype), of_bias.to(bias.dtype), of_residual, of_left_out


def triton_normalize_two(
    x: Tensor,
    mean: Tensor,
    inverse: Tensor,
    weight: Tensor,
    bias: Tensor,
    other: Tensor,
    other_mean: Tensor,
    other_inverse: Tensor,
    other_weight: Tensor,
    other_bias: Tensor,
    seed: Tensor,
    dropout: float,
    relu: bool,
) -> Tensor:
    """Return what `triton_normalize` does, where the residual is `other` with a norm of its own still to be applied."""
    out = torch.empty_like(x)
    plan = _plan(x.shape, 8192, x.device)
    with on_device_of(x):
        normalize_two[plan.single](
            x,
            mean,
            inverse,
            weight,
            bias,
            other,
            other_mean,
            other_inverse,
            other_weight,
            other_bias,
            seed,
            out,
            plan.rows,
            plan.channels,
            **plan.single_tile,
            **_behind(dropout, relu),
        )
    return out


def triton_gradients_of_two(
    upstream: Tensor,
    x: Tensor,
    mean: Tensor,
    inverse: Tensor,
    weight: Tensor,
    bias: Tensor,
    other: Tensor,
    other_mean: Tensor,
    other_inverse: Tensor,
    other_weight: Tensor,
    other_bias: Tensor,
    seed: Tensor,
    dropout: float,
    relu: bool,
    left_out: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients in x, other, both weights, both biases and, where there is any, both that were left out.

    The last three are (2, C), float32.
    """
    plan = _plan(x.shape, 4096, x.device)
    rows, channels, parts = plan.rows, plan.channels, plan.parts
    grad_x, grad_other = torch.empty_like(x), torch.empty_like(x)
    sums, of_weight, of_bias = unset(x, parts, 4 * channels), unset(x, 2, channels), unset(x, 2, channels)
    of_left_out = unset(x, 2, channels if left_out else 0)
    inputs = upstream, x, mean, inverse, weight, bias, other, other_mean, other_inverse, other_weight, other_bias, seed
    behind = _behind(dropout, relu)
    finish = (ceil_div(2 * channels, plan.finish_tile["CB"]),)
    with on_device_of(x):
        gradient_sums_of_two[plan.summed](*inputs, sums, rows, channels, **plan.summed_tile, G=4, **behind)
        finish_sums[finish](
            sums, of_bias, of_weight, of_left_out, parts, 2 * channels, **plan.finish_tile, BIAS=left_out
        )
        gradient_features_of_two[plan.single](
            *inputs, of_bias, of_weight, grad_x, grad_other, rows, channels, **plan.single_tile, **behind, num_warps=8
        )
    return grad_x, grad_other, of_weight, of_bias, of_left_out


class _Plan(NamedTuple):
    """How the kernels are launched on features (N, C, T, V)."""

    rows: int
    channels: int
    parts: int
    """Programs that sum over tiles, a row of sums each."""
    single: tuple[int, int]
    """Grid where every tile has a program of its own."""
    single_tile: dict[str, int]
    summed: tuple[int, int]
    """Grid where programs sum over tiles."""
    summed_tile: dict[str, int]
    finish: tuple[int]
    """Grid where parts are added up, all at once."""
    finish_tile: dict[str, int]


@lru_cache(maxsize=1024)
def _plan(shape: tuple[int, ...], elements: int, device: torch.device) -> _Plan:
    """Lay out tiles, of so many `elements` where programs sum over them, with two programs for every multiprocessor.

    These sizes were the fastest on an H200, where the compiler reports no spilled registers. Those of statistics and of
    two norms were not timed: they are the same, and compile without spills.
    """
    rows, channels = math.prod(shape) // shape[1], shape[1]
    block = min(max(8, power_of_two(channels)), 256)  # a draw of dropout is for 8 channels
    columns = ceil_div(channels, block)
    alone, summed = 4096 // block, elements // block
    parts = max(1, min(2 * multiprocessors(device) // columns, ceil_div(rows, summed)))
    return _Plan(
        rows,
        channels,
        parts,
        (ceil_div(rows, alone), columns),
        {"BM": alone, "CB": block},
        (parts, columns),
        {"BM": summed, "CB": block},
        *_finish(parts, channels),
    )


def _finish(parts: int, channels: int) -> tuple[tuple[int], dict[str, int]]:
    """Lay out the grid and the tile that add up parts."""
    parts_up = power_of_two(parts)
    finished = max(4, 2048 // parts_up)
    return (ceil_div(channels, finished),), {"PB": parts_up, "CB": finished}


def _behind(dropout: float, relu: bool) -> dict[str, int]:
    """Return the options for what follows the norm; dropout to the nearest of 65536 parts, and never of all."""
    return {"DROP": min(65535, round(65536 * dropout)), "RELU": relu}
