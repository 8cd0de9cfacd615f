"""InfoNCE: pick the positive out of the bank."""

from torch import Tensor, nn

from skelcontrast.losses import _similarity
from skelcontrast.losses._similarity import Reduction
from skelcontrast.losses.bank_read import Implementation, check_implementation, read_views


def info_nce(
    query: Tensor,
    positive: Tensor,
    bank: Tensor,
    *,
    temperature: float = 0.07,
    reduction: Reduction = "mean",
    implementation: Implementation = "auto",
) -> Tensor:
    """Return the negative log-probability of the positive among itself and the bank.

    Computed in float32 at least, also under autocast. The gradient reaches `query` alone: keys and bank are targets.

    Args:
        query: Embeddings (N, D), expected to be unit vectors, which is not checked.
        positive: Key of each query (N, D).
        bank: Stored keys (K, D), the negatives of every query.
        temperature: Divides the dot products, positive.
        reduction: ``"mean"`` or ``"sum"`` over the batch, or ``"none"`` for the losses (N,).
        implementation: How the bank is read, see `bank_read`; only speed and memory depend on it.

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
    check_implementation("info_nce", implementation)
    _similarity.check_contrast("info_nce", query, positive, bank)
    (read,) = read_views("info_nce", [query], positive, bank, temperature=temperature, implementation=implementation)
    return _similarity.reduce(info_nce_losses(query, positive, read.log_partition, temperature), reduction)


def info_nce_losses(query: Tensor, positive: Tensor, log_partition: Tensor, temperature: float) -> Tensor:
    """Return InfoNCE of each sample (N,), given the log-partition of the queries (N,)."""
    query, positive = _similarity.widen_to(log_partition, query, positive.detach())
    return log_partition - _similarity.positive_products(query, positive)[:, 0] / temperature


class InfoNCELoss(nn.Module):
    """`info_nce` with its settings.

    Args:
        temperature: Divides the dot products, positive.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        implementation: How the bank is read, see `bank_read`; only speed and memory depend on it.

    Raises:
        ValueError: If a setting is out of range.

    References:
        AimCLR, Eq. 1.

    Example:
        >>> InfoNCELoss(temperature=0.1)
        InfoNCELoss(temperature=0.1, reduction='mean')
    """

    def __init__(
        self, *, temperature: float = 0.07, reduction: Reduction = "mean", implementation: Implementation = "auto"
    ) -> None:
        super().__init__()
        _similarity.check_settings("InfoNCELoss", temperature, reduction)
        check_implementation("InfoNCELoss", implementation)
        self.temperature = temperature
        self.reduction: Reduction = reduction
        self.implementation: Implementation = implementation

    def forward(self, query: Tensor, positive: Tensor, bank: Tensor) -> Tensor:
        """Return the loss of queries (N, D), their positives (N, D) and a bank (K, D)."""
        return info_nce(
            query,
            positive,
            bank,
            temperature=self.temperature,
            reduction=self.reduction,
            implementation=self.implementation,
        )

    def extra_repr(self) -> str:
        """Show the settings."""
        return f"temperature={self.temperature}, reduction={self.reduction!r}"
