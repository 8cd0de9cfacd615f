"""The nearest keys of many queries, looked for block by block while the bank is read once.

Of the similarities nothing but every block's highest is kept, and of the blocks only the k best: the k nearest keys lie
in the k blocks whose own nearest keys are nearest. Those few blocks are read again at the end.
"""

import math

import torch
from torch import Tensor

BLOCK = 16
"""Keys of a block."""


class NearestBlocks:
    """The k best blocks so far for each of R queries.

    Args:
        queries: All queries, a column each (D, R).
        k: Blocks to keep, as many as keys are wanted; 0 for none.
        room: Blocks whose maxima are collected before the best are chosen, no fewer than are asked for at one time.
    """

    def __init__(self, queries: Tensor, k: int, room: int) -> None:
        self._queries, self._k = queries, k
        self._maxima = queries.new_full((k + room, queries.shape[1]), -math.inf)  # k rows of the best so far, then room
        self._blocks = torch.zeros(k, queries.shape[1], dtype=torch.int64, device=queries.device)  # the best so far
        self._first = 0  # number of the block whose maximum is the first in the room
        self._filled = 0  # blocks whose maxima are in the room

    def place(self, blocks: int) -> Tensor:
        """Return where the maxima of the bank's next blocks are to be written, (blocks, R)."""
        if self._k + self._filled + blocks > self._maxima.shape[0]:
            self._choose()
        start = self._k + self._filled
        self._filled += blocks
        return self._maxima[start : start + blocks]

    def rows(self, bank: Tensor, at_once: int) -> Tensor:
        """Return the k nearest rows of the bank (K, D) for every query, nearest first (R, k).

        So many numbers of the bank are looked at again at one time. Not even NaN makes a row point behind the bank.
        """
        self._choose()
        K, D = bank.shape
        found = [self._blocks.T]  # nothing, where there are no queries or no neighbours
        if self._blocks.numel():
            size = max(1, at_once // (self._k * BLOCK * D))
            pieces = (self._queries.T, self._blocks.T, self._maxima[: self._k].T)
            found = [self._nearest(bank, *of) for of in zip(*(piece.split(size) for piece in pieces), strict=True)]
        return torch.cat(found).clamp_(max=K - 1)

    def _choose(self) -> None:
        """Keep the best blocks of those collected and those kept before."""
        if self._k and self._filled:
            best = _highest(self._maxima[: self._k + self._filled], self._k)
            kept = self._blocks.gather(0, best.indices.clamp(max=self._k - 1))
            self._blocks = torch.where(best.indices < self._k, kept, best.indices + (self._first - self._k))
            self._maxima[: self._k] = best.values
        self._first, self._filled = self._first + self._filled, 0

    def _nearest(self, bank: Tensor, queries: Tensor, blocks: Tensor, maxima: Tensor) -> Tensor:
        """Look for the nearest rows of some queries (r, D) in their blocks (r, k)."""
        K = bank.shape[0]
        rows = (blocks[:, :, None] * BLOCK + torch.arange(BLOCK, device=bank.device)).flatten(1)
        # Row by row it is copied in a quarter of the time of bank[rows], and a batch of small products takes longer.
        keys = bank.index_select(0, rows.flatten().clamp(max=K - 1)).to(queries.dtype).view(*rows.shape, -1)
        products = keys.mul_(queries[:, None]).sum(dim=2)
        is_none = (rows >= K) | (maxima == -math.inf).repeat_interleave(BLOCK, dim=1)
        return rows.gather(1, products.masked_fill_(is_none, -math.inf).topk(self._k, dim=1).indices)


def _highest(products: Tensor, k: int) -> "torch.return_types.max | torch.return_types.topk":
    """Return values and indices of the k highest in every column; of the highest alone in a fifth of the time."""
    return products.max(dim=0, keepdim=True) if k == 1 else products.topk(k, dim=0)
