"""What the losses share: checked arguments, dot products, reductions."""

import functools
from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from skelcontrast import _check
from skelcontrast._autocast import autocast_off

Reduction: TypeAlias = Literal["mean", "sum", "none"]


def check_settings(owner: str, temperature: object, reduction: object) -> None:
    """Check what every loss is set by."""
    _check.interval(owner, "temperature", temperature, 0, open_low=True)
    _check.choice(owner, "reduction", reduction, ("mean", "sum", "none"))


def check_tensors(owner: str, name: str, value: object, least: int) -> Sequence[Tensor]:
    """Check a list of tensors: its kind and its length, not what lies in it."""
    if not isinstance(value, Sequence):
        must = "be a sequence of tensors"
        _check.fail(owner, name, must, type(value).__name__, hint="Put it in a list.", kind=TypeError)
    if len(value) < least:
        _check.fail(owner, name, f"hold at least {least} tensor{'s' if least > 1 else ''}", len(value))
    return value


def check_embeddings(owner: str, name: str, value: object) -> Tensor:
    """Check embeddings (N, D), the ones that the other arguments are then compared with."""
    return _check.shape(owner, name, _check.tensor(owner, name, value), "N D")


def check_like(owner: str, name: str, value: object, other_name: str, other: Tensor) -> None:
    """Check embeddings of the same shape and device as `other`."""
    N, D = other.shape
    like = _check.shape(owner, name, _check.tensor(owner, name, value), "N D", N=N, D=D, why=f"to match `{other_name}`")
    _check.same_device(owner, name, like, other_name, other.device)


def check_bank(owner: str, name: str, value: object, other_name: str, other: Tensor) -> Tensor:
    """Check a bank (K, D) of the width and device of the embeddings `other`."""
    bank = _check.tensor(owner, name, value)
    D = other.shape[1]
    hint = "Was the bank passed transposed?" if bank.ndim == 2 and bank.shape[0] == D else ""
    # Sizes that torch.compile leaves open cannot be written down, so that this is not said unless it is needed.
    fits = bank.ndim == 2 and bank.shape[1] == D
    why = "" if fits else f"to match `{other_name}` {_check.show(other.shape)}"
    _check.shape(owner, name, bank, "K D", D=D, why=why, hint=hint)
    _check.same_device(owner, name, bank, other_name, other.device)
    return bank


def check_views(owner: str, name: str, views: object) -> Sequence[Tensor]:
    """Check one or more embeddings (N, D) of one batch."""
    views = check_tensors(owner, name, views, 1)
    first = check_embeddings(owner, f"{name}[0]", views[0])
    for index, view in enumerate(views):
        check_like(owner, f"{name}[{index}]", view, f"{name}[0]", first)
    return views


def check_contrast(owner: str, query: object, positive: object, bank: object) -> None:
    """Check the three tensors of a contrast."""
    embeddings = check_embeddings(owner, "query", query)
    check_like(owner, "positive", positive, "query", embeddings)
    check_bank(owner, "bank", bank, "query", embeddings)


def widest(*tensors: Tensor) -> torch.dtype:
    """Return the widest dtype among tensors, at least float32."""
    return functools.reduce(torch.promote_types, (tensor.dtype for tensor in tensors), torch.float32)


def widen(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Bring tensors to one dtype, the widest among them and at least float32."""
    dtype = widest(*tensors)
    return tuple(tensor.to(dtype) for tensor in tensors)


def widen_to(other: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
    """Bring tensors to the dtype of `other`."""
    return tuple(tensor.to(other.dtype) for tensor in tensors)


def dot_products(rows: Tensor, bank: Tensor) -> Tensor:
    """Return the dot product of every row (N, D) with every key (K, D), as (N, K), whatever autocast says."""
    with autocast_off(rows.device):
        return rows @ bank.T


def positive_products(rows: Tensor, positive: Tensor) -> Tensor:
    """Return the dot product of every row (N, D) with its own positive, as a column (N, 1)."""
    return (rows * positive).sum(dim=1, keepdim=True)


def reduce(losses: Tensor, reduction: Reduction) -> Tensor:
    """Reduce losses (N,) to what the caller asked for."""
    if reduction == "none":
        return losses
    return losses.mean() if reduction == "mean" else losses.sum()
