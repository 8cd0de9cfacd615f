"""The projection head."""

from torch import Tensor, nn

from skelcontrast import _check


class ProjectionHead(nn.Module):
    """Two-layer perceptron from encoder features to embeddings: linear, ReLU, linear.

    The embeddings are not normalised here; `skelcontrast.moco.MoCo` does that.

    Args:
        in_features: Size of the encoder's features.
        out_features: Size of the embeddings, D.
        hidden_features: Size of the hidden layer; `in_features` unless given.

    Raises:
        TypeError: If a size is not an integer.
        ValueError: If a size is not positive.

    References:
        AimCLR, Section 3.4 (``g``); 128 in Section 4.2, 256 and the hidden layer as released.

    Example:
        >>> import torch
        >>> ProjectionHead(256, 128)(torch.zeros(4, 256)).shape
        torch.Size([4, 128])
    """

    out_features: int
    """Size of the embeddings, D."""

    def __init__(self, in_features: int, out_features: int, *, hidden_features: int | None = None) -> None:
        super().__init__()
        self.in_features = _check.integer("ProjectionHead", "in_features", in_features, 1)
        self.out_features = _check.integer("ProjectionHead", "out_features", out_features, 1)
        if hidden_features is not None:
            _check.integer("ProjectionHead", "hidden_features", hidden_features, 1)
        hidden = in_features if hidden_features is None else hidden_features
        self.layers = nn.Sequential(nn.Linear(in_features, hidden), nn.ReLU(), nn.Linear(hidden, out_features))

    def forward(self, features: Tensor) -> Tensor:
        """Map features (N, in_features) to embeddings (N, out_features)."""
        _check.tensor("ProjectionHead", "features", features)
        _check.shape("ProjectionHead", "features", features, "N F", F=self.in_features)
        embeddings: Tensor = self.layers(features)
        return embeddings
