"""InfoNCE: pick the positive out of the bank."""

from torch import Tensor, nn

from skelcontrast.losses import _similarity
from skelcontrast.losses._similarity import Reduction


def info_nce(
    query: Tensor, positive: Tensor, bank: Tensor, *, temperature: float = 0.07, reduction: Reduction = "mean"
) -> Tensor:
    """Return the negative log-probability of the positive among itself and the bank.

    Computed in float32 at least, also under autocast. The gradient reaches `query` alone: keys and bank are targets.

    Args:
        query: Embeddings (N, D), expected to be unit vectors, which is not checked.
        positive: Key of each query (N, D).
        bank: Stored keys (K, D), the negatives of every query.
        temperature: Divides the dot products, positive.
        reduction: ``"mean"`` or ``"sum"`` over the batch, or ``"none"`` for the losses (N,).

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If shapes, devices or settings do not fit.

    References:
        AimCLR, Eq. 1; van den Oord et al., Representation Learning with Contrastive Predictive Coding, 2018.

    Example:
        The query is its own positive, and orthogonal to one key. At temperature 1 / ln 3 the softmax weighs them 3 : 1,
        so the loss is ln 4/3.

        >>> import math, torch
        >>> query, bank = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
        >>> info_nce(query, query, bank, temperature=1 / math.log(3))
        tensor(0.2877)
    """
    _similarity.check_settings("info_nce", temperature, reduction)
    _similarity.check_contrast("info_nce", query, positive, bank)
    losses = -_similarity.log_probabilities(query, positive, bank, temperature)[:, 0]
    return _similarity.reduce(losses, reduction)


class InfoNCELoss(nn.Module):
    """`info_nce` with its settings.

    Args:
        temperature: Divides the dot products, positive.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Raises:
        ValueError: If a setting is out of range.

    References:
        AimCLR, Eq. 1.

    Example:
        >>> InfoNCELoss(temperature=0.1)
        InfoNCELoss(temperature=0.1, reduction='mean')
    """

    def __init__(self, *, temperature: float = 0.07, reduction: Reduction = "mean") -> None:
        super().__init__()
        _similarity.check_settings("InfoNCELoss", temperature, reduction)
        self.temperature = temperature
        self.reduction: Reduction = reduction

    def forward(self, query: Tensor, positive: Tensor, bank: Tensor) -> Tensor:
        """Return the loss of queries (N, D), their positives (N, D) and a bank (K, D)."""
        return info_nce(query, positive, bank, temperature=self.temperature, reduction=self.reduction)

    def extra_repr(self) -> str:
        """Show the settings."""
        return f"temperature={self.temperature}, reduction={self.reduction!r}"
