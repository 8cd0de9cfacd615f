"""SkeletonCLR: momentum contrast on skeleton sequences."""

from typing import NamedTuple

from torch import Tensor

from skelcontrast._side_by_side import side_by_side
from skelcontrast.losses import info_nce
from skelcontrast.methods._base import MomentumContrast


class SkeletonCLRViews(NamedTuple):
    """Embeddings of one batch, unit vectors (N, D)."""

    query: Tensor
    key: Tensor


class SkeletonCLRLoss(NamedTuple):
    """The loss of one batch, scalars."""

    total: Tensor
    info_nce: Tensor


class SkeletonCLR(MomentumContrast):
    """SkeletonCLR: one normal view predicts the key of another against a bank of older keys.

    Per step: ``momentum_update()``, ``embed``, ``loss``, backward, optimiser step, ``enqueue(views.key)``.

    Args:
        encoder: Built encoder from skeletons to features.
        head: Built head from features to embeddings; the embedding size is read from its ``out_features``.
        queue_size: Number of stored keys, K.
        momentum: Weight of the old key parameters, in [0, 1].
        temperature: Temperature of the softmax, positive.
        key_init: ``"copy"`` (default) or ``"independent"`` (released code), see `MomentumEncoder`.
        implementation: How the losses read the bank, see `losses.bank_read`; only speed and memory depend on it.

    Raises:
        TypeError: If `encoder` or `head` is no module, or `head` has no integer ``out_features``.
        ValueError: If a setting is out of range.

    References:
        Li et al., CVPR 2021 (CrosSCLR), Section 3.1; AimCLR, Section 3.1, Eq. 1 and 2.

    Example:
        >>> import torch
        >>> from skelcontrast import nn as snn, skeleton
        >>> encoder = snn.STGCN(skeleton.NTU_RGBD_25, channels=(8, 16), strides=(1, 2))
        >>> model = SkeletonCLR(encoder, snn.ProjectionHead(16, 8), queue_size=32)
        >>> x = torch.randn(4, 3, 20, 25, 2)
        >>> model.momentum_update()
        >>> views = model.embed(x, x)
        >>> model.loss(views).total.backward()
        >>> model.enqueue(views.key)
    """

    def embed(self, query_view: Tensor, key_view: Tensor) -> SkeletonCLRViews:
        """Embed two normal views (N, C, T, V, M) of one batch."""
        query, key = side_by_side([self._part("_query"), self._part("_key")], [query_view, key_view])
        return SkeletonCLRViews(query, key)

    def loss(self, views: SkeletonCLRViews) -> SkeletonCLRLoss:
        """Return InfoNCE of the batch (Eq. 1)."""
        loss = self._part("_loss")(views.query, views.key)
        return SkeletonCLRLoss(loss, loss)

    def _loss(self, query: Tensor, key: Tensor) -> Tensor:
        return info_nce(query, key, self.bank.keys, temperature=self.temperature, implementation=self.implementation)
