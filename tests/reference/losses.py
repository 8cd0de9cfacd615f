"""Slow, plain versions of the losses, in float64, one query and one key at a time, written from the equations.

All take tensors and return the losses of the batch as a list of N numbers.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

Rows = NDArray[np.float64]


def unit_rows(
    rows: int, width: int, seed: int, *, dtype: torch.dtype = torch.float64, requires_grad: bool = False
) -> Tensor:
    """Draw unit vectors."""
    drawn = torch.randn(rows, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return F.normalize(drawn, dim=1).to(dtype).requires_grad_(requires_grad)


def info_nce(query: Tensor, positive: Tensor, bank: Tensor, *, temperature: float) -> list[float]:
    """Eq. 1."""
    losses = []
    for z, key in zip(_rows(query), _rows(positive), strict=True):
        similarities = [float(np.dot(z, m)) / temperature for m in [key, *_rows(bank)]]
        losses.append(_log_sum_exp(similarities) - similarities[0])
    return losses


def d3m(
    query: Tensor, extremes: Sequence[Tensor], positive: Tensor, bank: Tensor, *, temperature: float, form: str
) -> list[float]:
    """Eq. 7 and 8 over the positive and the bank, averaged over the extreme views."""
    losses = []
    for n, (z, key) in enumerate(zip(_rows(query), _rows(positive), strict=True)):
        target = _log_p(z, key, bank, temperature)
        of_views = []
        for extreme in extremes:
            of_view = 0.0
            for log_p, log_q in zip(target, _log_p(_rows(extreme)[n], key, bank, temperature), strict=True):
                of_view -= math.exp(log_p) * log_q
                if form == "kl":
                    of_view += math.exp(log_p) * log_p
            of_views.append(of_view)
        losses.append(sum(of_views) / len(of_views))
    return losses


def nearest_neighbors(query: Tensor, bank: Tensor, *, k: int) -> list[list[int]]:
    """Rank the whole bank for every query, nearest first, and take k."""
    stored = _rows(bank)
    return [sorted(range(len(stored)), key=lambda row: -float(np.dot(z, stored[row])))[:k] for z in _rows(query)]


def nnm(
    query: Tensor,
    positive: Tensor,
    bank: Tensor,
    neighbors: Sequence[Sequence[int]],
    *,
    temperature: float,
    positives: str,
) -> list[float]:
    """Eq. 9 and its two variants, with the neighbours of a query as a set."""
    losses = []
    for z, key, rows in zip(_rows(query), _rows(positive), neighbors, strict=True):
        log_p = _log_p(z, key, bank, temperature)
        chosen = [log_p[0], *(log_p[1 + row] for row in set(rows))]
        if positives == "logsumexp":
            losses.append(-_log_sum_exp(chosen))
        else:
            losses.append(-sum(chosen) / (len(chosen) if positives == "mean" else 1))
    return losses


def cross_stream(
    queries: Sequence[Tensor],
    keys: Sequence[Tensor],
    banks: Sequence[Tensor],
    *,
    temperature: float,
    k: int,
    context: bool,
) -> list[list[float]]:
    """CrosSCLR's cross step, per stream: every ordered pair on its own, then the mean over the other streams."""
    count, size = len(queries), banks[0].shape[0]
    losses = []
    for u in range(count):
        of_stream = []
        for n in range(queries[0].shape[0]):
            total = 0.0
            for v in range(count):
                if v == u:
                    continue
                mine = [float(np.dot(_rows(queries[u])[n], m)) for m in _rows(banks[u])]
                theirs = [float(np.dot(_rows(queries[v])[n], m)) for m in _rows(banks[v])]
                found = sorted(range(size), key=lambda row: -theirs[row])[:k]
                entries = [float(np.dot(_rows(queries[u])[n], _rows(keys[u])[n])), *mine]
                chosen = [0, *(1 + row for row in found)]
                if context:
                    entries += [a * b for a, b in zip(mine, theirs, strict=True)]
                    chosen += [1 + size + row for row in found]
                entries = [entry / temperature for entry in entries]
                whole = _log_sum_exp(entries)
                total += sum(whole - entries[column] for column in chosen) / len(chosen)
            of_stream.append(total / (count - 1))
        losses.append(of_stream)
    return losses


def bank_read(
    view: Tensor, positive: Tensor, bank: Tensor, *, temperature: float, k: int
) -> tuple[list[float], Rows, list[list[int]]]:
    """Log of the denominator of Eq. 4 and 5, mean of positive and bank under those probabilities, nearest rows."""
    log_partition, attended = [], []
    for z, key in zip(_rows(view), _rows(positive), strict=True):
        keys = [key, *_rows(bank)]
        log_partition.append(_log_sum_exp([float(np.dot(z, m)) / temperature for m in keys]))
        attended.append(sum(math.exp(p) * m for p, m in zip(_log_p(z, key, bank, temperature), keys, strict=True)))
    return log_partition, np.stack(attended), nearest_neighbors(view, bank, k=k)


def released_aimclr_loss(
    query: Tensor, extremes: Sequence[Tensor], positive: Tensor, queue: Tensor, *, temperature: float, k: int
) -> Tensor:
    """The second stage's loss in the operations of the released code, differentiable: the plain form for benchmarks.

    Three dense blocks of similarities with a queue (D, K) of a key per column, the logarithm taken after the softmax,
    one-hot masks of the nearest keys, NNM as a mean.
    """

    def similarities(view: Tensor) -> tuple[Tensor, Tensor]:
        negatives = torch.einsum("nc,ck->nk", view, queue.clone().detach())
        logits = torch.cat([torch.einsum("nc,nc->n", view, positive.detach()).unsqueeze(-1), negatives], dim=1)
        logits /= temperature
        return logits, negatives

    blocks = [similarities(view) for view in (query, *extremes)]
    logits = blocks[0][0]
    target = torch.softmax(logits.clone().detach(), dim=1)
    marked = torch.zeros_like(blocks[0][1])
    for _, negatives in blocks:
        marked.scatter_(1, torch.topk(negatives, k, dim=1).indices, 1)
    mask = torch.cat([torch.ones_like(marked[:, :1]), marked], dim=1)
    contrast = -((F.log_softmax(logits, dim=1) * mask).sum(1) / mask.sum(1)).mean()
    of_views = [-torch.mean(torch.sum(torch.log(torch.softmax(view, dim=1)) * target, dim=1)) for view, _ in blocks[1:]]
    return contrast + sum(of_views[1:], of_views[0]) / len(of_views)


def _log_p(z: Rows, key: Rows, bank: Tensor, temperature: float) -> list[float]:
    """Eq. 5, then Eq. 4 for every stored key, as logarithms."""
    similarities = [float(np.dot(z, m)) / temperature for m in [key, *_rows(bank)]]
    whole = _log_sum_exp(similarities)
    return [similarity - whole for similarity in similarities]


def _log_sum_exp(values: Sequence[float]) -> float:
    highest = max(values)
    return highest + math.log(math.fsum(math.exp(value - highest) for value in values))


def _rows(embeddings: Tensor) -> Rows:
    rows: Rows = embeddings.detach().double().numpy()
    return rows
