"""What CrosSCLR's context adds: a softmax over the products of two streams' similarities, row of bank by row."""

from torch import Tensor

from skelcontrast.losses import _similarity
from skelcontrast.losses._operators import streamed_context, tied


def context_log_partition(
    own: Tensor, other: Tensor, own_bank: Tensor, other_bank: Tensor, *, temperature: float, dense: bool
) -> Tensor:
    """Return ln of the sum over rows of exp(similarity of one stream * similarity of the other / temperature), (N,).

    Args:
        own: Queries of one stream (N, D).
        other: Queries of the other (N, D'); symmetric in both.
        own_bank: Bank of the one stream (K, D).
        other_bank: Bank of the other (K, D').
        temperature: Divides the products.
        dense: Whether all similarities are held in memory, else they are read in pieces.
    """
    own_bank, other_bank = own_bank.detach(), other_bank.detach()
    if dense:
        own, other, own_bank, other_bank = _similarity.widen(own, other, own_bank, other_bank)
        products = _similarity.dot_products(own, own_bank) * _similarity.dot_products(other, other_bank)
        return (products / temperature).logsumexp(dim=1)
    dtype = _similarity.widest(own, other, own_bank, other_bank)
    own, other = own.to(dtype), other.to(dtype)
    read = streamed_context(own.detach(), other.detach(), own_bank, other_bank, temperature)
    log_partition, attended, other_attended = read
    return tied(log_partition, temperature, own, attended, other, other_attended)
