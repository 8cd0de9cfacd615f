"""CrosSCLR: streams that are pre-trained side by side and hand each other their nearest neighbours."""

from collections.abc import Collection, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from skelcontrast import _check
from skelcontrast._side_by_side import side_by_side
from skelcontrast.losses import cross_stream
from skelcontrast.losses.bank_read import Implementation
from skelcontrast.methods.aimclr import AimCLR, AimCLRViews
from skelcontrast.methods.skeletonclr import SkeletonCLR, SkeletonCLRViews


class CrosSCLRViews(NamedTuple):
    """Embeddings of one batch in every stream."""

    streams: dict[str, SkeletonCLRViews | AimCLRViews]

    @property
    def key(self) -> dict[str, Tensor]:
        """Keys (N, D) of every stream, for `CrosSCLR.enqueue`."""
        return {name: views.key for name, views in self.streams.items()}


class CrosSCLRLoss(NamedTuple):
    """The losses of one batch, scalars; `None` where a term was left out."""

    total: Tensor
    """Sum over the streams."""
    info_nce: Tensor | None
    """InfoNCE, summed over the streams; in the first stage."""
    cross: Tensor | None
    """The cross-stream loss, summed over the streams; in the second stage."""
    d3m: Tensor | None
    """D3M, summed over the streams that are `AimCLR` and have an extreme view."""
    streams: dict[str, Tensor]
    """What each stream adds to the total."""


class CrosSCLR(nn.Module):
    """CrosSCLR over any set of streams; of `AimCLR` streams it is AimCLR with cross-stream mining (3s-AimCLR§).

    Each stream is a complete method with an encoder, a head, a momentum update and a bank of its own. In the first
    stage each learns alone. In the second, ``cross=True``, `losses.cross_stream` replaces InfoNCE; D3M stays.

    Per step: ``momentum_update()``, ``embed``, ``loss``, backward, optimiser step, ``enqueue(views.key)``.

    Args:
        streams: Two or more built methods, by name, that share no parameter. Banks must be of one size and filled
            alike, since row j holds the same sample in all; temperatures and implementations must agree.
        k: Neighbours that every other stream hands over, from 1 to K.
        context: Whether products of two streams' similarities take part, see `losses.cross_stream`.

    Raises:
        TypeError: If a stream is neither `SkeletonCLR` nor `AimCLR`.
        ValueError: If there are fewer than two streams, or they do not fit together.

    Note:
        Deviates from the released code, in which the motion and bone streams share the joint stream's head, whose key
        side moves three times a step, and in the second stage only the motion stream's key side moves. Of § the AimCLR
        paper says no more than that it uses CrosSCLR's mining, and no code of it was released; that the mined positives
        replace AimCLR's own (NNM) is this library's reading.

    References:
        Li et al., CVPR 2021 (CrosSCLR); AimCLR, Tables 3 to 6, the rows marked §.

    Example:
        >>> import torch
        >>> from skelcontrast import nn as snn, skeleton
        >>> def stream():
        ...     encoder = snn.STGCN(skeleton.NTU_RGBD_25, channels=(8, 16), strides=(1, 2))
        ...     return SkeletonCLR(encoder, snn.ProjectionHead(16, 8), queue_size=32)
        >>> model = CrosSCLR({"joint": stream(), "motion": stream()})
        >>> x = torch.randn(4, 3, 20, 25, 2)
        >>> inputs = {name: skeleton.to_stream(x, name, skeleton.NTU_RGBD_25) for name in model.streams}
        >>> model.momentum_update()
        >>> views = model.embed(inputs, inputs)
        >>> loss = model.loss(views, cross=True)
        >>> loss.total.backward()
        >>> model.enqueue(views.key)
        >>> loss.info_nce is None, torch.equal(loss.total, loss.cross)
        (True, True)
    """

    streams: nn.ModuleDict
    """The method of each stream, by name."""

    def __init__(self, streams: Mapping[str, SkeletonCLR | AimCLR], *, k: int = 1, context: bool = True) -> None:
        super().__init__()
        first = _check_streams(streams)
        self.temperature, self.implementation, queue_size = first.temperature, first.implementation, first.bank.size
        self.k = _check.integer("CrosSCLR", "k", k, 1, queue_size, hint=f"The banks hold {queue_size} keys.")
        self.context = context
        self.streams = nn.ModuleDict(streams)

    @property
    def encoders(self) -> dict[str, nn.Module]:
        """The query encoder of every stream, which is what is evaluated and used downstream."""
        return {name: method.encoder for name, method in self._methods().items()}

    def compile(self, **options: Any) -> None:  # noqa: ANN401  whatever torch.compile takes
        """Compile passes and losses of every stream, each by itself, with options of `torch.compile`."""
        for method in self._methods().values():
            method.compile(**options)

    def query_parameters(self) -> list[nn.Parameter]:
        """Return the parameters to optimise, those of the query sides of all streams."""
        return [parameter for method in self._methods().values() for parameter in method.query_parameters()]

    def momentum_update(self) -> None:
        """Let every stream's key side follow its query side by one step; the first call of a training step."""
        for method in self._methods().values():
            method.momentum_update()

    def embed(
        self,
        query_views: Mapping[str, Tensor],
        key_views: Mapping[str, Tensor],
        extreme_views: Mapping[str, Tensor] | None = None,
    ) -> CrosSCLRViews:
        """Embed the views (N, C, T, V, M) of a batch by stream, each already turned into its stream.

        Only `AimCLR` streams have extreme views.
        """
        given = {"query_views": query_views, "key_views": key_views, "extreme_views": extreme_views}
        for argument, views in given.items():
            if views is not None:
                self._check_names("embed", argument, views)
        methods, views_of = self._methods(), list[tuple[Tensor, ...]]()
        for name, method in methods.items():
            if extreme_views is not None and not isinstance(method, AimCLR):
                got = f"views, and stream {name!r} is a SkeletonCLR"
                _check.fail("CrosSCLR.embed", "extreme_views", "be None unless every stream is an AimCLR", got)
            views_of.append(tuple(views[name] for views in given.values() if views is not None))
        embedded = side_by_side([partial(_embed, method) for method in methods.values()], views_of)
        return CrosSCLRViews(dict(zip(methods, embedded, strict=True)))

    def loss(self, views: CrosSCLRViews, *, cross: bool = False) -> CrosSCLRLoss:
        """Return the loss of a batch: InfoNCE in the first stage, `losses.cross_stream` in the second; D3M in both."""
        self._check_names("loss", "views.streams", views.streams)
        pairs = [(method, views.streams[name]) for name, method in self._methods().items()]
        if cross:
            mined = cross_stream(
                [view.query for _, view in pairs],
                [view.key for _, view in pairs],
                [method.bank.keys for method, _ in pairs],
                temperature=self.temperature,
                k=self.k,
                context=self.context,
                implementation=self.implementation,
            )
            terms = [_crossed(*pair, contrast) for pair, contrast in zip(pairs, mined.streams, strict=True)]
        else:
            terms = [_alone(*pair) for pair in pairs]
        contrast = _sum(term.contrast for term in terms)
        return CrosSCLRLoss(
            total=torch.stack([term.total for term in terms]).sum(),
            info_nce=None if cross else contrast,
            cross=contrast if cross else None,
            d3m=_sum(term.d3m for term in terms),
            streams={name: term.total for name, term in zip(self.streams, terms, strict=True)},
        )

    def enqueue(self, keys: Mapping[str, Tensor], *, gather: bool = False) -> None:
        """Store the batch's keys (N, D) of every stream, or none if one is refused; the last call of a step."""
        self._check_names("enqueue", "keys", keys)
        counts = {name: len(of) for name, of in keys.items() if isinstance(of, Tensor) and of.ndim}
        if len(set(counts.values())) > 1:
            got = ", ".join(f"{name} {count}" for name, count in counts.items())
            _check.fail("CrosSCLR.enqueue", "keys", "hold as many of every stream", got)
        for name, method in self._methods().items():  # all before any, so that the banks never come out of step
            method.bank.check_keys(keys[name], gather=gather)
        for name, method in self._methods().items():
            method.enqueue(keys[name], gather=gather)

    def extra_repr(self) -> str:
        """Show the settings that are not modules."""
        return f"temperature={self.temperature}, k={self.k}, context={self.context}"

    def _methods(self) -> dict[str, SkeletonCLR | AimCLR]:
        return cast("dict[str, SkeletonCLR | AimCLR]", dict(self.streams.items()))

    def _check_names(self, call: str, argument: str, given: Collection[str]) -> None:
        if set(given) != set(self.streams):
            must = f"name the streams {', '.join(self.streams)}"
            _check.fail(f"CrosSCLR.{call}", argument, must, ", ".join(given) or "none")


class _Terms(NamedTuple):
    total: Tensor
    contrast: Tensor | None
    d3m: Tensor | None


def _alone(method: SkeletonCLR | AimCLR, views: SkeletonCLRViews | AimCLRViews) -> _Terms:
    """Return the losses of a stream that learns alone."""
    if isinstance(method, AimCLR):
        both = method.loss(_with_extremes(views))
        return _Terms(both.total, both.info_nce, both.d3m)
    loss = method.loss(SkeletonCLRViews(views.query, views.key)).info_nce
    return _Terms(loss, loss, None)


def _crossed(method: SkeletonCLR | AimCLR, views: SkeletonCLRViews | AimCLRViews, contrast: Tensor) -> _Terms:
    """Return the losses of a stream whose contrastive term comes from the other streams' neighbours."""
    if not isinstance(method, AimCLR):
        return _Terms(contrast, contrast, None)
    total, divergence = method.alpha * contrast, method.divergence(_with_extremes(views))
    if divergence is not None:
        total = total + method.beta * divergence
    return _Terms(total, contrast, divergence)


def _with_extremes(views: SkeletonCLRViews | AimCLRViews) -> AimCLRViews:
    return views if isinstance(views, AimCLRViews) else AimCLRViews(*views, None, None)


def _sum(terms: Iterable[Tensor | None]) -> Tensor | None:
    present = [term for term in terms if term is not None]
    return torch.stack(present).sum() if present else None


def _embed(method: SkeletonCLR | AimCLR, views: tuple[Tensor, ...]) -> SkeletonCLRViews | AimCLRViews:
    return method.embed(*views)


def _check_streams(streams: object) -> SkeletonCLR | AimCLR:
    """Check that the streams fit together and return the first, with whose settings the others agree."""
    streams = _check.mapping("CrosSCLR", "streams", streams)
    if len(streams) < 2:
        _check.fail("CrosSCLR", "streams", "hold at least 2 streams", len(streams))
    first_with: dict[nn.Parameter, str] = {}
    settings: dict[str, tuple[float, Implementation, int, int, int]] = {}
    for name, method in streams.items():
        if not isinstance(name, str) or "." in name or hasattr(nn.ModuleDict, name):
            must = "have names that a torch.nn.ModuleDict takes: strings without a dot, and none of its own attributes"
            _check.fail("CrosSCLR", "streams", must, repr(name))
        if not isinstance(method, (SkeletonCLR, AimCLR)):
            argument, got = f"streams[{name!r}]", type(method).__name__
            _check.fail("CrosSCLR", argument, "be a SkeletonCLR or an AimCLR", got, kind=TypeError)
        if any(first_with.setdefault(parameter, name) != name for parameter in method.parameters()):
            hint = "Build an encoder and a head for each."
            _check.fail("CrosSCLR", "streams", "share no parameter", f"one that {name} shares", hint=hint)
        bank = method.bank
        filled = int(bank.pointer), int(bank.enqueued)
        settings[name] = (method.temperature, method.implementation, bank.size, *filled)
    if len(set(settings.values())) > 1:
        must = "agree in temperature, implementation, bank size, the row that is filled next and the keys stored so far"
        _check.fail("CrosSCLR", "streams", must, ", ".join(f"{name} {values}" for name, values in settings.items()))
    first: SkeletonCLR | AimCLR = next(iter(streams.values()))
    return first
