"""SimAM attention and the energy-based attention-guided drop module (EADM)."""

from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from typing_extensions import Self

from skelcontrast import _check
from skelcontrast.nn._batch_norm import has_kernels
from skelcontrast.nn._eadm_operator import drop_by_margin
from skelcontrast.nn._memory_format import is_channels_last
from skelcontrast.nn._recorded import is_recorded

TemporalMask: TypeAlias = Literal["frame", "element"]
DropRescale: TypeAlias = Literal["sample", "batch"]
LOWEST_ATTENTION = 0.6224593312018546
"""Attention of a value at its channel's mean, ``sigmoid(1/2)``: no attention is lower."""
_AT_ONCE = 2**18
"""Values of which a CPU finds the attention at once, so that they stay in its cache."""


def simam_attention(x: Tensor, *, lambda_: float = 1e-4, correction: Literal[0, 1] = 0) -> Tensor:
    """Attention of every value by how far it stands out from its channel: ``sigmoid(1 / e)``.

    With mean and variance over the T * V values of a channel, ``1 / e = (x - mean)^2 / (4 (variance + lambda)) + 1/2``,
    so attention lies in [0.6225, 1).

    Args:
        x: Feature map (N, C, T, V), floating point.
        lambda_: Regulariser of the variance, positive.
        correction: Divide the squared deviations by ``T * V - correction``. 0 is Eq. 3; 1 is the released code.

    Returns:
        Attention (N, C, T, V), computed in float32 at least and returned in the dtype of `x`.

    Raises:
        TypeError: If `x` is not a floating-point tensor.
        ValueError: If `x` is not of rank 4, `lambda_` is not positive or `correction` is neither 0 nor 1.

    References:
        Yang et al., SimAM, ICML 2021; AimCLR, Eq. 3.

    Example:
        The deviations are -1, -1, -1 and 3 and the variance is 3, so ``1 / e`` is 1/12 + 1/2 three times, then
        9/12 + 1/2:

        >>> x = torch.tensor([0.0, 0.0, 0.0, 4.0]).reshape(1, 1, 2, 2)
        >>> simam_attention(x, lambda_=1e-9).flatten()
        tensor([0.6418, 0.6418, 0.6418, 0.7773])
    """
    _check.shape("simam_attention", "x", _check.tensor("simam_attention", "x", x), "N C T V")
    _check.interval("simam_attention", "lambda_", lambda_, 0, open_low=True)
    _check.integer("simam_attention", "correction", correction, 0, 1)
    wide = x.to(torch.promote_types(x.dtype, torch.float32))  # in float16 a square is soon no number
    squared = (wide - wide.mean((2, 3), keepdim=True)).square_()
    count = max(x.shape[2] * x.shape[3] - correction, 1)
    variance = squared.sum((2, 3), keepdim=True) / count
    return (squared / (4 * (variance + lambda_))).add_(0.5).sigmoid_().to(x.dtype)


class DropMasks(NamedTuple):
    """What `EADM` keeps of a feature map: two masks that multiply."""

    spatial: Tensor
    """Joints that stay, (N, 1, 1, V) bool."""
    temporal: Tensor
    """Frames that stay, (N, 1, T, 1) bool; or, in the released form, elements that stay, (N, C, T, V) bool."""

    def dropped_shares(self) -> tuple[Tensor, Tensor]:
        """Return the share that each mask drops over the batch, as two scalars in [0, 1]."""
        return 1 - self.spatial.float().mean(), 1 - self.temporal.float().mean()


class _Choice(NamedTuple):
    """What one of both masks keeps, before a mask that would drop everything is made to drop nothing."""

    mask: Tensor
    """1 where it keeps, else 0: any shape that a feature map (N, C, T, V) can be multiplied with."""
    drops_all: Tensor
    """1 where it keeps nothing, else 0: (N, 1, 1, 1) by sample, or (1, 1, 1, 1) by batch."""
    scale: Tensor
    """What is left is to be multiplied with, in the same shape."""

    def settled(self) -> Tensor:
        """Return the mask that is used."""
        return self.mask + self.drops_all


class EADM(nn.Module):
    """Drop the joints and the frames that SimAM attends to most, and scale up what is left.

    Has no parameters, draws nothing, and takes the feature map of any backbone. By default it drops in evaluation mode
    too, because in AimCLR the view decides what is dropped, not the mode; as a regulariser inside another network pass
    ``when="training"``.

    Attention varies little, so an absolute margin that drops a twentieth of one encoder's joints may drop none of
    another's, or all. Look at ``masks(x).dropped_shares()`` before you trust a margin, or give `drop_share`.

    Args:
        keep_margin: Mean attention from which a joint or frame is dropped, in (0.6225, 1]. The paper's ``keep_margin``;
            0.7, as in the released model, if neither it nor `drop_share` is given.
        drop_share: Instead of the margin: drop this share, in [0, 1), of the most attended joints and of the most
            attended frames (or elements), rounded down.
        temporal: ``"frame"`` drops whole frames (Algorithm 1); ``"element"`` drops single values (released code).
        rescale: ``"sample"`` scales every sample by what it lost; ``"batch"`` by what the batch lost (released code).
        lambda_: Regulariser of SimAM, positive.
        correction: Variance correction of SimAM, see `simam_attention`.
        when: ``"always"`` or only in ``"training"`` mode.

    Raises:
        TypeError: If a setting is of the wrong kind.
        ValueError: If a setting is out of range, or margin and share are both given.

    Deviates from the paper: a mask that would drop everything drops nothing, where Algorithm 1 divides 0 by 0. This is
    decided per sample, or under ``rescale="batch"`` for the whole batch.

    References:
        AimCLR, Section 3.3, Algorithm 1.

    Example:
        Four joints in one channel and frame: the last stands out, is dropped, and the others grow by 4/3.

        >>> x = torch.tensor([3.0, 3.0, 3.0, 9.0]).reshape(1, 1, 1, 4)
        >>> EADM(keep_margin=0.7)(x).flatten()
        tensor([4., 4., 4., 0.])
    """

    def __init__(
        self,
        keep_margin: float | None = None,
        *,
        drop_share: float | None = None,
        temporal: TemporalMask = "frame",
        rescale: DropRescale = "sample",
        lambda_: float = 1e-4,
        correction: Literal[0, 1] = 0,
        when: Literal["always", "training"] = "always",
    ) -> None:
        super().__init__()
        if keep_margin is not None and drop_share is not None:
            _check.fail("EADM", "drop_share", "be absent when `keep_margin` is given", drop_share)
        if drop_share is not None:
            _check.interval("EADM", "drop_share", drop_share, 0, 1, open_high=True)
        else:
            keep_margin = 0.7 if keep_margin is None else keep_margin
            hint = "Attention is never lower than sigmoid(1/2) = 0.6225: a lower margin would drop everything."
            _check.interval("EADM", "keep_margin", keep_margin, LOWEST_ATTENTION, 1, open_low=True, hint=hint)
        _check.choice("EADM", "temporal", temporal, ("frame", "element"))
        _check.choice("EADM", "rescale", rescale, ("sample", "batch"))
        _check.choice("EADM", "when", when, ("always", "training"))
        _check.interval("EADM", "lambda_", lambda_, 0, open_low=True)
        _check.integer("EADM", "correction", correction, 0, 1)
        self.keep_margin = keep_margin
        self.drop_share = drop_share
        self.temporal: TemporalMask = temporal
        self.rescale: DropRescale = rescale
        self.lambda_ = lambda_
        self.correction: Literal[0, 1] = correction
        self.when = when

    @classmethod
    def preset(cls, name: Literal["paper", "official"], *, keep_margin: float = 0.7) -> Self:
        """Return the module of Algorithm 1 (``"paper"``) or of the released code (``"official"``)."""
        _check.choice("EADM.preset", "name", name, ("paper", "official"))
        if name == "paper":
            return cls(keep_margin)
        return cls(keep_margin, temporal="element", rescale="batch", correction=1)

    def forward(self, x: Tensor) -> Tensor:
        """Drop from a feature map (N, C, T, V); no gradient flows through the choice of what is dropped."""
        if self.when == "training" and not self.training:
            return x
        _check.shape("EADM", "x", _check.tensor("EADM", "x", x), "N C T V")
        return x * self._factor(x)

    def masks(self, x: Tensor) -> DropMasks:
        """Return what would be kept of a feature map (N, C, T, V).

        Raises:
            TypeError: If `x` is not a floating-point tensor.
            ValueError: If `x` is not of rank 4.

        Example:
            >>> x = torch.tensor([3.0, 3.0, 3.0, 9.0]).reshape(1, 1, 1, 4)
            >>> EADM(drop_share=0.5).masks(x).spatial.sum().item()
            2
        """
        _check.shape("EADM", "x", _check.tensor("EADM", "x", x), "N C T V")
        decided = self._by_kernels(x)
        if decided is not None:
            return DropMasks(*decided[:2])
        return DropMasks(*(one.settled() != 0 for one in self._choose(x)))

    @torch.no_grad()
    def _factor(self, x: Tensor) -> Tensor:
        """Return what a feature map is multiplied with: 0, or the scale of what is left."""
        decided = self._by_kernels(x)
        if decided is not None:
            return decided[2]
        spatial, temporal = self._choose(x)
        joints = (spatial.settled() * (spatial.scale * temporal.scale)).to(x.dtype)
        return torch.addcmul(temporal.drops_all.to(x.dtype) * joints, temporal.mask.to(x.dtype), joints)

    @torch.no_grad()
    def _choose(self, x: Tensor) -> tuple[_Choice, _Choice]:
        """Choose what is kept of joints, and of frames or elements."""
        means: list[Tensor] = []
        elements: list[Tensor] = []
        counts: list[Tensor] = []
        for part in _in_cache(x):
            wide = part.float() if part.dtype in (torch.float16, torch.bfloat16) else part
            attention = simam_attention(wide, lambda_=self.lambda_, correction=self.correction)
            means.append(attention.mean(1, keepdim=True))
            if self.temporal == "element":
                kept = self._least(attention)
                counts.append(_count(kept))
                elements.append(kept.to(x.dtype))
        mean = torch.cat(means)
        joints = self._least(mean.mean(2, keepdim=True))
        if self.temporal == "element":
            others, count = torch.cat(elements), torch.cat(counts)
        else:
            others = self._least(mean.mean(3, keepdim=True))
            count = _count(others)
        return self._choice(joints, _count(joints)), self._choice(others, count)

    def _choice(self, mask: Tensor, count: Tensor) -> _Choice:
        """Say what a mask keeps that has so many ones in each sample, (N, 1, 1, 1)."""
        size = mask[:1].numel()
        if self.rescale == "batch":
            count, size = count.sum(0, keepdim=True), mask.numel()
        drops_all = (count == 0).to(count.dtype)
        return _Choice(mask, drops_all, size / (count + size * drops_all))

    @torch.no_grad()
    def _by_kernels(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
        """Return both masks and what a feature map is multiplied with, where kernels decide, which takes a margin."""
        if self.keep_margin is None or not _is_for_kernels(x):
            return None
        element, batch = self.temporal == "element", self.rescale == "batch"
        return drop_by_margin(x, self.keep_margin, self.lambda_, self.correction, element=element, batch=batch)

    def _least(self, attention: Tensor) -> Tensor:
        """Turn attention into 1 for what is attended to least in each sample and stays, and 0 for the rest.

        Not into truth values, which a CPU takes longer to count and to multiply with.
        """
        if self.keep_margin is not None:
            return attention.lt_(self.keep_margin)
        flat = attention.flatten(1)
        most = flat.topk(self._drop_count(flat.shape[1]), dim=1).indices
        return torch.ones_like(flat).scatter(1, most, 0.0).view_as(attention)

    def _drop_count(self, size: int) -> int:
        share = 0.0 if self.drop_share is None else self.drop_share
        # 0.29 of 100 is 29, not the 28.999... of binary arithmetic; whatever the share, one must stay.
        return min(int(share * size + 1e-6), size - 1)

    def extra_repr(self) -> str:
        """Show what is dropped and how."""
        what = f"drop_share={self.drop_share}" if self.drop_share is not None else f"keep_margin={self.keep_margin}"
        how = f"temporal={self.temporal!r}, rescale={self.rescale!r}, correction={self.correction}"
        return f"{what}, {how}, when={self.when!r}"


def _is_for_kernels(x: Tensor) -> bool:
    """Tell whether kernels may take a feature map: of a multiple of 8 channels, and one that a tile holds."""
    if not has_kernels(x) or not x.numel():
        return False
    _, channels, frames, joints = x.shape
    return channels % 8 == 0 and frames * joints <= 4096 and is_channels_last(x)


def _in_cache(x: Tensor) -> tuple[Tensor, ...]:
    """Split a feature map into parts that the cache holds; not where torch compiles or traces for any batch."""
    if x.device.type != "cpu" or is_recorded():
        return (x,)
    parts: tuple[Tensor, ...] = x.split(max(1, _AT_ONCE // max(1, x[:1].numel())))
    return parts


def _count(mask: Tensor) -> Tensor:
    return mask.sum((1, 2, 3), keepdim=True)
