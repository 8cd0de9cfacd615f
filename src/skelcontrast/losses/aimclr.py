"""AimCLR's whole loss on one read of the bank."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from skelcontrast import _check
from skelcontrast.losses import _similarity
from skelcontrast.losses._operators import aimclr_terms
from skelcontrast.losses._similarity import Reduction
from skelcontrast.losses.bank_read import Implementation, check_implementation, check_k, choose, count, read_views
from skelcontrast.losses.d3m import Form, check_extremes, check_form, divergence
from skelcontrast.losses.info_nce import info_nce_losses
from skelcontrast.losses.nnm import Positives, check_positives, nnm_losses


class AimCLRTerms(NamedTuple):
    """AimCLR's loss and its terms: scalars, or (N,) each under ``reduction="none"``."""

    total: Tensor
    """alpha times the contrast, plus beta times D3M."""
    contrast: Tensor
    """NNM where neighbours are mined, else InfoNCE."""
    d3m: Tensor | None
    """D3M; `None` without an extreme view."""


def aimclr_loss(
    query: Tensor,
    extremes: Sequence[Tensor],
    positive: Tensor,
    bank: Tensor,
    *,
    temperature: float = 0.07,
    mine: bool = False,
    k: int = 1,
    positives: Positives = "sum",
    form: Form = "cross_entropy",
    alpha: float = 1.0,
    beta: float = 1.0,
    reduction: Reduction = "mean",
    implementation: Implementation = "auto",
) -> AimCLRTerms:
    """Return InfoNCE or NNM of the query plus D3M of the extreme views, from one read of the bank.

    Values and gradients are those of `d3m` and of `info_nce`, or of `nnm` with the `nearest_neighbors` of all views,
    which would read the bank two or three times. The gradient reaches `query` through the contrast and `extremes`
    through D3M; `positive`, `bank` and the neighbours carry none. Computed in float32 at least, also under autocast.

    Args:
        query: Embeddings of the normal view (N, D), expected to be unit vectors, which is not checked.
        extremes: Embeddings of the extreme views, each (N, D); may be empty.
        positive: Key of each query (N, D).
        bank: Stored keys (K, D).
        temperature: Divides the dot products, positive.
        mine: Whether the k nearest keys of the query and of every extreme view are positives too: the paper's second
            stage, NNM in the place of InfoNCE.
        k: Neighbours of each view, from 1 to K; used with `mine`.
        positives: How mined neighbours enter, see `nnm`; used with `mine`.
        form: Form of D3M, see `d3m`.
        alpha: Weight of InfoNCE or NNM, at least 0.
        beta: Weight of D3M, at least 0.
        reduction: ``"mean"`` or ``"sum"`` over the batch, or ``"none"`` for losses (N,), in total and per term.
        implementation: How the bank is read, see `bank_read`; only speed and memory depend on it.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If shapes, devices or settings do not fit.

    References:
        AimCLR, Section 3.5: L_1 (Eq. 1, 7 and 8) and, with `mine`, L_2 (Eq. 9).

    Example:
        One key beside the positive. Query and positive are orthogonal to it, the extreme view equals it. At temperature
        1 / ln 3 the query's distribution is (3/4, 1/4) and the extreme view's (1/4, 3/4): InfoNCE is ln 4/3, and D3M,
        in its second form, ln(3) / 2.

        >>> import math, torch
        >>> query, extreme = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
        >>> loss = aimclr_loss(query, [extreme], query, extreme, temperature=1 / math.log(3), form="kl")
        >>> loss.total, loss.contrast, loss.d3m
        (tensor(0.8370), tensor(0.2877), tensor(0.5493))
    """
    owner = "aimclr_loss"
    _similarity.check_settings(owner, temperature, reduction)
    check_positives(owner, positives)
    check_form(owner, form)
    check_implementation(owner, implementation)
    _check.interval(owner, "alpha", alpha, 0)
    _check.interval(owner, "beta", beta, 0)
    _similarity.check_contrast(owner, query, positive, bank)
    extremes = check_extremes(owner, extremes, query, least=0)
    if mine:
        check_k(owner, k, "bank", bank)

    views, k = [query, *extremes], k if mine else 0
    dtype = _similarity.widest(positive, bank, *views)
    if choose(owner, implementation, bank, queries=count(views), dtype=dtype, k=k) == "triton":
        contrast, d3m = aimclr_terms(
            [view.to(dtype) for view in views],
            positive.detach().to(dtype),
            bank.detach(),
            temperature=temperature,
            k=k,
            positives=positives,
            form=form,
        )
        return _terms(contrast, d3m if extremes else None, alpha, beta, reduction)
    reads = read_views(
        owner,
        views,
        positive,
        bank,
        temperature=temperature,
        implementation=implementation,
        k=k,
        attend=1 if extremes else 0,  # D3M alone asks where the query attends to
    )
    log_partition = reads[0].log_partition
    if mine:
        neighbors = torch.cat([read.neighbors for read in reads], dim=1)
        contrast = nnm_losses(query, positive, bank, neighbors, log_partition, temperature, positives)
    else:
        contrast = info_nce_losses(query, positive, log_partition, temperature)
    divergences = divergence(query, extremes, reads, temperature, form) if extremes else None
    return _terms(contrast, divergences, alpha, beta, reduction)


def _terms(contrast: Tensor, d3m: Tensor | None, alpha: float, beta: float, reduction: Reduction) -> AimCLRTerms:
    """Reduce and weigh the losses (N,)."""
    contrast = _similarity.reduce(contrast, reduction)
    if d3m is None:
        return AimCLRTerms(alpha * contrast, contrast, None)
    d3m = _similarity.reduce(d3m, reduction)
    return AimCLRTerms(torch.add(alpha * contrast, d3m, alpha=beta), contrast, d3m)
