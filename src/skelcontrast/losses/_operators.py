"""The streaming twins as operators of torch, each one node for `torch.compile`, and their gradient in closed form."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from skelcontrast._once import once
from skelcontrast._operator import operator
from skelcontrast.losses._chunked_read import chunked_context, chunked_read, chunked_rows


def _read(
    views: Tensor, positive: Tensor, bank: Tensor, temperature: float, k: int, twin: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Read the bank, see `bank_read`, for stacked views (G, N, D) and positives that have the dtype to compute in."""
    if twin == "triton":
        from skelcontrast.kernels.bank_read import triton_read

        return triton_read(views, positive, bank, temperature, k)
    return chunked_read(views, positive, bank, temperature, k)


def _rows(views: Tensor, bank: Tensor, k: int, twin: str) -> Tensor:
    """Return the k nearest rows of the bank for stacked views (G, N, D), as (G, N, k)."""
    if twin == "triton":
        from skelcontrast.kernels.bank_read import triton_rows

        return triton_rows(views, bank, k)
    return chunked_rows(views, bank, k)


def _context(
    own: Tensor, other: Tensor, own_bank: Tensor, other_bank: Tensor, temperature: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Read the products of two streams' similarities, see `cross_stream`, for views in the dtype to compute in."""
    return chunked_context(own, other, own_bank, other_bank, temperature)


def _terms(
    views: Tensor,
    positive: Tensor,
    bank: Tensor,
    log_partition: Tensor,
    attended: Tensor,
    neighbors: Tensor,
    temperature: float,
    positives: str,
    form: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return contrast and D3M (N,) of views (G, N, D), and their gradients in the query and in the others."""
    from skelcontrast.kernels.aimclr import triton_terms

    return triton_terms(views, positive, bank, log_partition, attended, neighbors, temperature, positives, form)


def _unset_read(
    views: Tensor, _positive: Tensor, _bank: Tensor, _temperature: float, k: int, _twin: str
) -> tuple[Tensor, Tensor, Tensor]:
    G, N, D = views.shape
    return views.new_empty(G, N), views.new_empty(G, N, D), views.new_empty(G, N, k, dtype=torch.int64)


def _unset_rows(views: Tensor, _bank: Tensor, k: int, _twin: str) -> Tensor:
    return views.new_empty(*views.shape[:2], k, dtype=torch.int64)


def _unset_terms(views: Tensor, *_: object) -> tuple[Tensor, Tensor, Tensor]:
    N = views.shape[1]
    return views.new_empty(N), views.new_empty(N), torch.empty_like(views, memory_format=torch.contiguous_format)


def _unset_context(own: Tensor, other: Tensor, *_: object) -> tuple[Tensor, Tensor, Tensor]:
    return own.new_empty(own.shape[0]), torch.empty_like(own), torch.empty_like(other)


streamed_read = operator("skelcontrast::bank_read", _read, _unset_read)
streamed_rows = operator("skelcontrast::bank_rows", _rows, _unset_rows)
streamed_context = operator("skelcontrast::context_read", _context, _unset_context)
fused_terms = operator("skelcontrast::aimclr_terms", _terms, _unset_terms)


def tied(log_partition: Tensor, temperature: float, *views_and_attended: Tensor) -> Tensor:
    """Return a log-partition (N,) that was computed without a graph, given its gradients in closed form.

    The gradient of each view (N, D) is what it attended to (N, D) over the temperature, so it needs neither a bank nor
    any similarity. Views and what they attended to come in pairs.
    """
    of_views: Tensor = _Tied.apply(log_partition, temperature, *views_and_attended)  # type: ignore[no-untyped-call]  # torch's
    return of_views


class _Tied(torch.autograd.Function):
    # Arguments are not named one by one, here and below: where no view needs a gradient, torch's compiler counts them,
    # and takes some numbers of them for a function without a context.
    @staticmethod
    def forward(ctx: FunctionCtx, *given: Any) -> Tensor:  # noqa: ANN401  see above
        log_partition, temperature, *views_and_attended = given
        ctx.save_for_backward(*views_and_attended)
        ctx.temperature = temperature  # type: ignore[attr-defined]  # contexts take any attribute
        of_views: Tensor = log_partition.clone()
        return of_views

    @staticmethod
    def backward(ctx: FunctionCtx, of_log_partition: Tensor) -> tuple[Tensor | None, ...]:
        scale = 1 / ctx.temperature  # type: ignore[attr-defined]  # see forward
        given: tuple[Tensor, ...] = ctx.saved_tensors  # type: ignore[attr-defined]  # of the subclass that torch makes

        def gradients() -> tuple[Tensor | None, ...]:
            scaled = of_log_partition[:, None] * scale
            return (None, None, *(gradient for one in given[1::2] for gradient in (scaled * one, None)))

        return once("bank_read", gradients, of_log_partition, *given)


def aimclr_terms(
    views: Sequence[Tensor],
    positive: Tensor,
    bank: Tensor,
    *,
    temperature: float,
    k: int,
    positives: str,
    form: str,
) -> tuple[Tensor, Tensor]:
    """Return contrast and D3M (N,) of views that have the dtype to compute in, with their gradients in closed form."""
    stacked = torch.stack([view.detach() for view in views])
    reads = streamed_read(stacked, positive, bank, temperature, k, "triton")
    contrast, d3m = _Terms.apply(stacked, positive, bank, *reads, temperature, positives, form, *views)  # type: ignore[no-untyped-call]  # torch's
    return contrast, d3m


class _Terms(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, *given: Any) -> tuple[Tensor, Tensor]:  # noqa: ANN401  see above
        contrast, d3m, gradients = fused_terms(*given[:9])  # behind them come the views
        ctx.save_for_backward(gradients, *given[9:])
        return contrast, d3m

    @staticmethod
    def backward(ctx: FunctionCtx, of_contrast: Tensor, of_d3m: Tensor) -> tuple[Tensor | None, ...]:
        stored, *views = ctx.saved_tensors  # type: ignore[attr-defined]  # of the subclass that torch makes

        def gradients() -> tuple[Tensor | None, ...]:
            return (*[None] * 9, of_contrast[:, None] * stored[0], *(of_d3m[:, None] * stored[1:]))

        return once("aimclr_loss", gradients, of_contrast, of_d3m, *views)
