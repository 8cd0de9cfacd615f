"""One read of [positive | bank] that gives all that the losses and their gradients need.

Three twins compute the same: `_dense_read` (every similarity in memory), `_chunked_read` (a running softmax over pieces
of the bank, in torch) and `kernels.bank_read` (the same in one Triton kernel). The last two are operators of torch with
a gradient in closed form, so `torch.compile` takes each as one node and backward never reads the bank again.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from skelcontrast import _check
from skelcontrast._cuda import HAS_TRITON, check_triton, triton_cannot
from skelcontrast.losses import _similarity
from skelcontrast.losses._dense_read import dense_read, dense_rows
from skelcontrast.losses._operators import streamed_read, streamed_rows, tied

Implementation: TypeAlias = Literal["auto", "dense", "chunked", "triton"]
_IMPLEMENTATIONS = ("auto", "dense", "chunked", "triton")
_WIDEST_OF_TRITON, _NEAREST_OF_TRITON = 256, 32  # what a program's registers hold
_DENSE_UP_TO = 2**17
"""Similarities up to which the dense twin is chosen: it is then as fast, see docs/guide/performance.md."""


class BankRead(NamedTuple):
    """What a view of N samples reads from [positive | bank]."""

    log_partition: Tensor
    """ln of the sum of exp(similarity / temperature) over the positive and the bank (N,)."""
    attended: Tensor
    """Mean of positive and bank, weighted by the softmax of the similarities (N, D); carries no gradient."""
    neighbors: Tensor
    """Rows of the bank with the highest similarities, nearest first (N, k)."""


def bank_read(
    views: Sequence[Tensor],
    positive: Tensor,
    bank: Tensor,
    *,
    temperature: float = 0.07,
    k: int = 0,
    implementation: Implementation = "auto",
) -> tuple[BankRead, ...]:
    """Read the bank once for several views of a batch, and return what contrasts over [positive | bank] are made of.

    With lse(z) the log-partition and c(z) the attended mean of a view z, and t the temperature, the gradient of lse(z)
    is c(z) / t. So InfoNCE is lse(q) - q.p/t, D3M is lse(e) - e.c(q)/t, and NNM takes its positives from `neighbors`;
    losses of your own can be written in the same way. The gradient reaches `views` through the log-partition alone;
    positive, bank, attended mean and neighbours are targets. Computed in float32 at least, also under autocast;
    ``"chunked"`` and ``"triton"`` widen a float16 or bfloat16 bank piece by piece.

    Args:
        views: Embeddings of the views, one or more, each (N, D), expected to be unit vectors, which is not checked.
        positive: Key of each sample (N, D), the same for all views.
        bank: Stored keys (K, D).
        temperature: Divides the dot products, positive.
        k: Neighbours to find for each view, from 0 to K. Which of two equally near keys is taken is left open.
        implementation: ``"dense"`` holds all similarities (G N K of them), can be differentiated twice, and goes with
            `torch.func`; ``"chunked"`` and ``"triton"`` hold none, and backward does not read the bank. ``"triton"``
            needs a CUDA device, float32 or narrower, D up to 256 and k up to 32. ``"auto"`` takes ``"triton"`` where it
            can, else ``"dense"`` up to 2**17 similarities, else ``"chunked"``.

    Returns:
        What each view read, in their order.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If shapes, devices or settings do not fit, there is no view, or an implementation cannot take them.
        ImportError: If Triton is asked for and is not installed.

    References:
        AimCLR, Eq. 4 and 5 (the softmax). The running softmax: Milakov and Gimelshein, Online normalizer calculation
        for softmax, 2018.

    Example:
        The view equals its positive and the first of two stored keys. At temperature 1 / ln 2 they weigh 2 : 2 : 1, so
        the partition is 5, and 4/5 of the mean lie on the first axis.

        >>> import math
        >>> view = torch.tensor([[1.0, 0.0]])
        >>> (read,) = bank_read([view], view, torch.eye(2), temperature=1 / math.log(2), k=1)
        >>> read.log_partition.exp(), read.attended, read.neighbors
        (tensor([5.]), tensor([[0.8000, 0.2000]]), tensor([[0]]))
    """
    _check.interval("bank_read", "temperature", temperature, 0, open_low=True)
    check_implementation("bank_read", implementation)
    views = _similarity.check_views("bank_read", "views", views)
    _similarity.check_like("bank_read", "positive", positive, "views[0]", views[0])
    _similarity.check_bank("bank_read", "bank", bank, "views[0]", views[0])
    check_k("bank_read", k, "bank", bank, least=0)
    return read_views(
        "bank_read",
        views,
        positive,
        bank,
        temperature=temperature,
        implementation=implementation,
        k=k,
        attend=len(views),
    )


def read_views(
    owner: str,
    views: Sequence[Tensor],
    positive: Tensor,
    bank: Tensor,
    *,
    temperature: float,
    implementation: Implementation,
    k: int = 0,
    attend: int = 0,
) -> tuple[BankRead, ...]:
    """Do as `bank_read`, on checked arguments.

    The attended mean is asked of the first `attend` views. The dense twin leaves out that of the others, which has no
    rows then; the streamed ones need every mean for the gradient.
    """
    positive, bank = positive.detach(), bank.detach()
    dtype = _similarity.widest(positive, bank, *views)
    twin = choose(owner, implementation, bank, queries=count(views), dtype=dtype, k=k)
    if twin == "dense":
        return tuple(
            BankRead(*dense_read(view, positive, bank, temperature, k, attend=place < attend))
            for place, view in enumerate(views)
        )
    views = [view.to(dtype) for view in views]
    stacked = torch.stack([view.detach() for view in views])
    reads = zip(views, *streamed_read(stacked, positive.to(dtype), bank, temperature, k, twin), strict=True)
    return tuple(
        BankRead(tied(log_partition, temperature, view, attended), attended, neighbors)
        for view, log_partition, attended, neighbors in reads
    )


@torch.no_grad()
def nearest_rows(
    owner: str, views: Sequence[Tensor], bank: Tensor, *, k: int, implementation: Implementation
) -> list[Tensor]:
    """Return the k nearest rows of the bank for every view, nearest first (N, k) each, on checked arguments."""
    dtype = _similarity.widest(bank, *views)
    twin = choose(owner, implementation, bank, queries=count(views), dtype=dtype, k=k)
    if twin == "dense":
        return [dense_rows(view, bank, k) for view in views]
    return list(streamed_rows(torch.stack([view.to(dtype) for view in views]), bank, k, twin))


def count(views: Sequence[Tensor]) -> int:
    """Return how many queries several views are together."""
    return sum(view.shape[0] for view in views)


def check_implementation(owner: str, implementation: object) -> None:
    """Check the name of an implementation."""
    _check.choice(owner, "implementation", implementation, _IMPLEMENTATIONS)


def check_k(owner: str, k: object, bank_name: str, bank: Tensor, *, least: int = 1) -> None:
    """Check that a bank holds k neighbours."""
    _check.integer(owner, "k", k, least, bank.shape[0], hint=f"`{bank_name}` holds {bank.shape[0]} keys.")


def choose(
    owner: str, implementation: Implementation, bank: Tensor, *, queries: int, dtype: torch.dtype, k: int = 0
) -> str:
    """Return the implementation that reads a bank for so many queries, after checking that it can."""
    if bank.shape[0] == 0:
        return "dense"  # nothing to stream
    if implementation == "auto":
        if HAS_TRITON and bank.is_cuda and _triton_cannot(bank, dtype, k) is None:
            return "triton"
        return "dense" if queries * bank.shape[0] <= _DENSE_UP_TO else "chunked"
    if implementation == "triton":
        check_triton(owner, _triton_cannot(bank, dtype, k))
    return implementation


def _triton_cannot(bank: Tensor, dtype: torch.dtype, k: int) -> str | None:
    """Say why the kernel cannot take these tensors."""
    problem = triton_cannot(bank, dtype)
    if problem is not None:
        return problem
    if bank.shape[1] > _WIDEST_OF_TRITON:
        return f"for D above {_WIDEST_OF_TRITON}, here {bank.shape[1]}"
    return f"for more than {_NEAREST_OF_TRITON} neighbours, here {k}" if k > _NEAREST_OF_TRITON else None
