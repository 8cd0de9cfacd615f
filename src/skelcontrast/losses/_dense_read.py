"""The bank read as the formula says it, with every similarity in memory: the readable twin."""

import torch
from torch import Tensor

from skelcontrast._autocast import autocast_off
from skelcontrast.losses import _similarity


def dense_read(
    view: Tensor, positive: Tensor, bank: Tensor, temperature: float, k: int, *, attend: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Read the bank for one view (N, D), see `bank_read`. Differentiated by autograd, as often as wanted.

    Without `attend` the mean, which costs as much as the similarities, is left out: it has no rows then.
    """
    view, positive, bank = _similarity.widen(view, positive, bank)
    products = _similarity.dot_products(view, bank)
    logits = torch.cat([_similarity.positive_products(view, positive), products], dim=1) / temperature
    attended = _attended(logits.detach().softmax(dim=1), positive, bank) if attend else bank.new_empty(0, bank.shape[1])
    return logits.logsumexp(dim=1), attended, nearest_columns(products, k)


def _attended(weights: Tensor, positive: Tensor, bank: Tensor) -> Tensor:
    """Return the mean of positive and bank under weights (N, 1 + K)."""
    with autocast_off(bank.device):
        return weights[:, :1] * positive + weights[:, 1:] @ bank


def dense_rows(view: Tensor, bank: Tensor, k: int) -> Tensor:
    """Return the k nearest rows of the bank for one view (N, D), as (N, k)."""
    return nearest_columns(_similarity.dot_products(*_similarity.widen(view, bank)), k)


def nearest_columns(products: Tensor, k: int) -> Tensor:
    """Return the columns (N, k) of the highest dot products (N, K), nearest first."""
    return products.detach().topk(k, dim=1).indices
