"""AimCLR: extreme views, a drop layer, distribution matching and mined neighbours on top of SkeletonCLR."""

from functools import partial
from typing import ClassVar, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

from torch import Tensor, nn

from skelcontrast import _check
from skelcontrast._side_by_side import side_by_side
from skelcontrast.losses import aimclr_loss, d3m
from skelcontrast.losses.aimclr import AimCLRTerms
from skelcontrast.losses.bank_read import Implementation
from skelcontrast.losses.nnm import Positives
from skelcontrast.methods._base import MomentumContrast
from skelcontrast.moco import KeyInit
from skelcontrast.nn import EADM
from skelcontrast.nn.stgcn import changes_in_turn

Preset: TypeAlias = Literal["paper", "official"]


@runtime_checkable
class FeatureMapEncoder(Protocol):
    """An encoder that can return its last feature map before pooling, as EADM needs it. `STGCN` is one."""

    def feature_map(self, x: Tensor) -> Tensor:
        """Map skeletons (N, C, T, V, M) to a feature map (N * M, D, T', V)."""
        ...

    def present_bodies(self, x: Tensor) -> Tensor:
        """Return which bodies are there, (N, M) bool."""
        ...

    def pool(self, feature_map: Tensor, present: Tensor) -> Tensor:
        """Average a feature map (N * M, D, T', V) to features (N, D)."""
        ...


class AimCLRViews(NamedTuple):
    """Embeddings of one batch, unit vectors (N, D); `None` where a view was left out."""

    query: Tensor
    key: Tensor
    extreme: Tensor | None
    extreme_dropped: Tensor | None


class AimCLRLoss(NamedTuple):
    """The losses of one batch, scalars; `None` where a term was left out."""

    total: Tensor
    info_nce: Tensor | None
    nnm: Tensor | None
    d3m: Tensor | None


class AimCLR(MomentumContrast):
    """AimCLR, both training stages.

    Per step: ``momentum_update()``, ``embed``, ``loss``, backward, optimiser step, ``enqueue(views.key)``. For the rows
    of the paper's Table 1 leave out the extreme view in `embed` (and give it two extreme ones in the place of the
    normal ones), build with ``drop=None``, or keep ``mine=False``.

    Args:
        encoder: Built encoder from skeletons to features; with a drop layer it must be a `FeatureMapEncoder`.
        head: Built head from features to embeddings; the embedding size is read from its ``out_features``.
        queue_size: Number of stored keys, K.
        momentum: Weight of the old key parameters, in [0, 1].
        temperature: Temperature of every softmax, positive.
        k: Neighbours mined per view, from 1 to K; used with ``mine=True``.
        alpha: Weight of InfoNCE or NNM, at least 0.
        beta: Weight of D3M, at least 0.
        drop: Drop layer of the extreme view; ``"preset"`` for the preset's EADM, `None` for no dropped view.
        positives: How mined neighbours enter the loss, see `losses.nnm`; ``"preset"`` for the preset's form.
        key_init: How the key side starts, see `MomentumEncoder`; ``"preset"`` for the preset's start.
        implementation: How the losses read the bank, see `losses.bank_read`; only speed and memory depend on it.
        preset: What ``"preset"`` means. ``"paper"``: EADM of Algorithm 1, NNM as the sum of Eq. 9, key side copied.
            ``"official"``: the released code's EADM, NNM as a mean, key side drawn independently.

    Raises:
        TypeError: If `encoder`, `head` or `drop` is no module, `head` has no integer ``out_features``, a drop layer
            meets an encoder without feature map, or a setting is of the wrong kind.
        ValueError: If a setting is out of range.

    References:
        AimCLR, Section 3 and Figure 1; L_1 and L_2 in Section 3.5.

    Example:
        >>> import torch
        >>> from skelcontrast import nn as snn, skeleton
        >>> encoder = snn.STGCN(skeleton.NTU_RGBD_25, channels=(8, 16), strides=(1, 2))
        >>> model = AimCLR(encoder, snn.ProjectionHead(16, 8), queue_size=32)
        >>> x = torch.randn(4, 3, 20, 25, 2)
        >>> model.momentum_update()
        >>> views = model.embed(x, x, x.flip(2))
        >>> loss = model.loss(views, mine=True)
        >>> loss.total.backward()
        >>> model.enqueue(views.key)
        >>> loss.info_nce is None, torch.equal(loss.total, loss.nnm + loss.d3m)
        (True, True)
    """

    _parts: ClassVar[tuple[str, ...]] = (*MomentumContrast._parts, "_extreme")

    def __init__(
        self,
        encoder: nn.Module,
        head: nn.Module,
        *,
        queue_size: int = 32768,
        momentum: float = 0.999,
        temperature: float = 0.07,
        k: int = 1,
        alpha: float = 1.0,
        beta: float = 1.0,
        drop: nn.Module | Literal["preset"] | None = "preset",
        positives: Positives | Literal["preset"] = "preset",
        key_init: KeyInit | Literal["preset"] = "preset",
        implementation: Implementation = "auto",
        preset: Preset = "paper",
    ) -> None:
        _check.choice("AimCLR", "preset", preset, ("paper", "official"))
        _check.choice("AimCLR", "positives", positives, ("preset", "sum", "mean", "logsumexp"))
        _check.choice("AimCLR", "key_init", key_init, ("preset", "copy", "independent"))
        paper = preset == "paper"
        if key_init == "preset":
            key_init = "copy" if paper else "independent"
        if positives == "preset":
            positives = "sum" if paper else "mean"
        super().__init__(
            encoder,
            head,
            queue_size=queue_size,
            momentum=momentum,
            temperature=temperature,
            key_init=key_init,
            implementation=implementation,
        )
        self.k = _check.integer("AimCLR", "k", k, 1, queue_size)
        self.alpha = _check.interval("AimCLR", "alpha", alpha, 0)
        self.beta = _check.interval("AimCLR", "beta", beta, 0)
        self.drop = _drop_layer(drop, preset)
        self.positives: Positives = positives
        if self.drop is not None:
            _check_feature_map(encoder)

    def query_parameters(self) -> list[nn.Parameter]:
        """Return the parameters to optimise, those of the query side and any of the drop layer."""
        return [*super().query_parameters(), *(self.drop.parameters() if self.drop is not None else ())]

    def embed(self, query_view: Tensor, key_view: Tensor, extreme_view: Tensor | None = None) -> AimCLRViews:
        """Embed two normal views and one extreme view (N, C, T, V, M) of a batch.

        The dropped and the undropped extreme embedding share one pass of the encoder up to its last feature map.
        Without the extreme view there is no D3M term: that is SkeletonCLR, or a warm-up.
        """
        passes = [self._part("_query"), self._part("_key")]
        if extreme_view is None:
            query, key = side_by_side(passes, [query_view, key_view])
            return AimCLRViews(query, key, None, None)
        query, key, extremes = side_by_side(
            [*passes, self._part("_extreme")],
            [query_view, key_view, extreme_view],
            changes=partial(self._changes, extreme_view),
            learns=(self.moco, None, self.moco),
        )
        return AimCLRViews(query, key, *extremes)

    def _changes(self, x: Tensor) -> tuple[nn.Module | None, None, nn.Module | None]:
        """Say what the passes of query, key and extreme view change that another of them changes too.

        The query's and the extreme view's go through one encoder and one head. Where all that they change there are
        running statistics that kernels take turns at, they need not wait for each other.
        """
        head_has_state = next(self.moco.query_head.buffers(), None) is not None
        shared = self.moco.query_encoder if head_has_state or not changes_in_turn(self.encoder, x) else None
        return shared, None, shared

    def _extreme(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Embed extreme views (N, C, T, V, M), undropped and dropped."""
        if self.drop is None:
            return self.moco.query(x), None
        encoder = _check_feature_map(self.encoder)
        present, feature_map = encoder.present_bodies(x), encoder.feature_map(x)
        extreme = self.moco.project(encoder.pool(feature_map, present))
        return extreme, self.moco.project(encoder.pool(self.drop(feature_map), present))

    def loss(self, views: AimCLRViews, *, mine: bool = False) -> AimCLRLoss:
        """Return the loss of a batch: L_1 in the first stage, L_2 with ``mine=True`` in the second (Section 3.5)."""
        loss = self._part("_loss")(views.query, _extremes(views), views.key, mine=mine)
        info_nce, nnm = (None, loss.contrast) if mine else (loss.contrast, None)
        return AimCLRLoss(loss.total, info_nce, nnm, loss.d3m)

    def _loss(self, query: Tensor, extremes: list[Tensor], key: Tensor, *, mine: bool) -> AimCLRTerms:
        return aimclr_loss(
            query,
            extremes,
            key,
            self.bank.keys,
            temperature=self.temperature,
            mine=mine,
            k=self.k,
            positives=self.positives,
            alpha=self.alpha,
            beta=self.beta,
            implementation=self.implementation,
        )

    def divergence(self, views: AimCLRViews) -> Tensor | None:
        """Return D3M of a batch alone, unweighted (Eq. 7 and 8); `None` where there is no extreme view."""
        extremes = _extremes(views)
        if not extremes:
            return None
        return d3m(
            views.query,
            extremes,
            views.key,
            self.bank.keys,
            temperature=self.temperature,
            implementation=self.implementation,
        )

    def extra_repr(self) -> str:
        """Show the settings that are not modules."""
        settings = f"temperature={self.temperature}, k={self.k}, alpha={self.alpha}, beta={self.beta}"
        return f"{settings}, positives={self.positives!r}"


def _extremes(views: AimCLRViews) -> list[Tensor]:
    return [view for view in (views.extreme, views.extreme_dropped) if view is not None]


def _drop_layer(drop: object, preset: Preset) -> nn.Module | None:
    if drop is None or isinstance(drop, nn.Module):
        return drop
    if drop != "preset":
        hint = "Pass EADM(keep_margin=0.7), say."
        _check.fail("AimCLR", "drop", "be a module, 'preset' or None", repr(drop), hint=hint, kind=TypeError)
    return EADM.preset(preset)


def _check_feature_map(encoder: nn.Module) -> FeatureMapEncoder:
    if not isinstance(encoder, FeatureMapEncoder):
        must = "have `feature_map`, `present_bodies` and `pool` when there is a drop layer"
        hint = "Pass drop=None to train without one."
        _check.fail("AimCLR", "encoder", must, type(encoder).__name__, hint=hint, kind=TypeError)
    return encoder
