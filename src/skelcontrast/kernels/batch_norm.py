"""Batch norm for CUDA, and what follows it in a block: dropout, residual and ReLU in the same pass."""

from typing import NamedTuple

import torch
from torch import Tensor

from skelcontrast.kernels._batch_norm import (
    batch_statistics,
    finish_statistics,
    finish_sums,
    gradient_features,
    gradient_sums,
    normalize,
)
from skelcontrast.kernels._device import ceil_div, multiprocessors, on_device_of, power_of_two


class Behind(NamedTuple):
    """What follows batch norm: dropout with this probability, ReLU."""

    dropout: float
    relu: bool

    def options(self, *, add: bool) -> dict[str, int]:
        """Return what the kernels are told; dropout to the nearest of 65536 parts, and never of all."""
        return {"DROP": min(65535, round(65536 * self.dropout)), "ADD": add, "RELU": self.relu}


def triton_statistics(
    x: Tensor,
    running_mean: Tensor,
    running_variance: Tensor,
    batches: Tensor | None,
    left_out: Tensor | None,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """Return mean and inverse standard deviation of every channel, float32; move the running ones and count the batch.

    Running statistics are those of the features with the bias that was left out of them.
    """
    rows, channels = _sizes(x)
    mean, inverse = (x.new_empty(channels, dtype=torch.float32) for _ in range(2))
    with on_device_of(x):
        sums, grid, tile = _summed(x, 8192)
        batch_statistics[grid](x, sums, rows, channels, **tile)
        finish, options = _finish(sums)
        options |= {"COUNT": batches is not None, "BIAS": left_out is not None}
        # What is not there is never read or written.
        more = (mean if batches is None else batches, mean if left_out is None else left_out)
        moved = running_mean, running_variance, *more
        finish_statistics[finish](x, sums, mean, inverse, *moved, len(sums), rows, channels, momentum, eps, **options)
    return mean, inverse


def triton_normalize(
    x: Tensor,
    mean: Tensor,
    inverse: Tensor,
    weight: Tensor,
    bias: Tensor,
    residual: Tensor | None,
    seed: Tensor,
    behind: Behind,
) -> Tensor:
    """Return ``relu(residual + dropout(weight * (x - mean) * inverse + bias))``; features are channels-last."""
    out = torch.empty_like(x)
    rows, channels = _sizes(x)
    grid, tile = _single(x)
    with on_device_of(x):
        normalize[grid](
            x,
            mean,
            inverse,
            weight,
            bias,
            x if residual is None else residual,
            seed,
            out,
            rows,
            channels,
            **tile,
            **behind.options(add=residual is not None),
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
    behind: Behind,
    *,
    with_residual: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients in x (mean and deviation are those of x), weight, bias, the residual and what was left out.

    The last two are empty where there is no such thing.
    """
    rows, channels = _sizes(x)
    grad_x, of_residual = torch.empty_like(x), torch.empty_like(x) if with_residual else x.new_empty(0)
    of_weight, of_bias = (x.new_empty(channels, dtype=torch.float32) for _ in range(2))
    of_left_out = x.new_empty(0) if left_out is None else torch.empty_like(left_out)
    behinds = behind.options(add=with_residual)
    with on_device_of(x):
        sums, grid, tile = _summed(x, 4096 if behind.dropout else 8192)  # whose draws take registers
        gradient_sums[grid](
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
            **tile,
            **behinds,
        )
        finish, options = _finish(sums)
        options["BIAS"] = left_out is not None
        finish_sums[finish](sums, of_bias, of_weight, of_left_out, len(sums), channels, **options)
        grid, tile = _single(x)
        gradient_features[grid](
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
            **tile,
            **behinds,
        )
    return grad_x, of_weight.to(weight.dtype), of_bias.to(bias.dtype), of_residual, of_left_out


# Tiles are those that were fastest on an H200, where the compiler reports no spilled registers.


def _sizes(x: Tensor) -> tuple[int, int]:
    """Return rows and channels of features (N, C, T, V)."""
    return x.numel() // x.shape[1], x.shape[1]


def _channels(x: Tensor) -> int:
    """Return how many channels a tile has: those of a draw of dropout at least, and 256 at most."""
    return min(max(8, power_of_two(x.shape[1])), 256)


def _single(x: Tensor) -> tuple[tuple[int, int], dict[str, int]]:
    """Return grid and tile where every tile has a program of its own."""
    rows, channels = _sizes(x)
    block = _channels(x)
    tile = {"BM": 4096 // block, "CB": block}
    return (ceil_div(rows, tile["BM"]), ceil_div(channels, block)), tile


def _summed(x: Tensor, elements: int) -> tuple[Tensor, tuple[int, int], dict[str, int]]:
    """Return room for sums, and grid and tile where programs sum over tiles: two for every multiprocessor."""
    rows, channels = _sizes(x)
    block = _channels(x)
    tile = {"BM": elements // block, "CB": block}
    columns = ceil_div(channels, block)
    parts = max(1, min(2 * multiprocessors(x) // columns, ceil_div(rows, tile["BM"])))
    return x.new_empty(parts, 2 * channels, dtype=torch.float32), (parts, columns), tile


def _finish(sums: Tensor) -> tuple[tuple[int], dict[str, int]]:
    """Return grid and tile where parts are added up, all at once."""
    parts, channels = sums.shape[0], sums.shape[1] // 2
    rows = power_of_two(parts)
    tile = {"PB": rows, "CB": max(4, 2048 // rows)}
    return (ceil_div(channels, tile["CB"]),), tile
