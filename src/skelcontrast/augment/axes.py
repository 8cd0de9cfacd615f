"""Maps on single axes: what every linear augmentation comes down to, how maps merge, and how they meet the batch."""

from typing import NamedTuple

import torch
from torch import Tensor

from skelcontrast._shared import count
from skelcontrast.augment._rows import move_frames, move_joints, sum_rows


class AxisMaps(NamedTuple):
    """Linear maps on the single axes of a batch (N, C, T, V, M), one per sample; `None` leaves an axis alone.

    Maps on different axes commute, so one per axis is enough; on time, frames are first picked, then mixed.

    Args:
        channel: Matrices (N, C, C), ``y[n, c] = sum_k channel[n, c, k] x[n, k]``; or their diagonals (N, C),
            ``y[n, c] = channel[n, c] x[n, c]``.
        joint: Indices (N, V), int64, from 0 to V - 1: ``y[n, :, :, v] = x[n, :, :, joint[n, v]]``.
        frame: Indices (N, T), int64, from 0 to T - 1: ``y[n, :, t] = x[n, :, frame[n, t]]``.
        mix: Matrices (N, T, T): ``y[n, :, t] = sum_s mix[n, t, s] x[n, :, s]``; or, with `source`, weights (N, T, K):
            ``y[n, :, t] = sum_k mix[n, t, k] x[n, :, source[n, t, k]]``.
        source: Indices (N, T, K), int64, from 0 to T - 1, for maps that mix a few frames only; on a CPU that saves
            time.

    Values of indices are never checked: one that is out of range can read another coordinate or another sample.

    Example:
        >>> reverse = AxisMaps(frame=torch.tensor([[2, 1, 0]]))
        >>> double = AxisMaps(channel=torch.tensor([[2.0]]))
        >>> x = torch.tensor([1.0, 2.0, 3.0]).reshape(1, 1, 3, 1, 1)
        >>> reverse.then(double).apply(x).flatten()
        tensor([6., 4., 2.])
    """

    channel: Tensor | None = None
    joint: Tensor | None = None
    frame: Tensor | None = None
    mix: Tensor | None = None
    source: Tensor | None = None

    def then(self, after: "AxisMaps") -> "AxisMaps":
        """Return the maps that do `self` and then `after`."""
        frame, mix, source = self.frame, self.mix, self.source
        if mix is None:
            frame, mix, source = _pick(frame, after.frame), after.mix, after.source
        else:
            if after.frame is not None:  # picking among mixed frames is picking among the rows of the weights
                mix = _pick_rows(mix, after.frame)
                source = None if source is None else _pick_rows(source, after.frame)
            if after.mix is not None:
                mix, source = _product(_matrices(after.mix, after.source), _matrices(mix, source)), None
        return AxisMaps(
            channel=_multiply(self.channel, after.channel),
            joint=_pick(self.joint, after.joint),
            frame=frame,
            mix=mix,
            source=source,
        )

    def apply(self, x: Tensor) -> Tensor:
        """Map a batch (N, C, T, V, M).

        On a CPU rows of the batch are summed without gathering them first: one pass for frames and coordinates, another
        for a mix; joints move in a third. Elsewhere it is a gather, a T x T and a C x C product.
        """
        return self._by_rows(x) if x.device.type == "cpu" else self._by_products(x)

    def _by_rows(self, x: Tensor) -> Tensor:
        channel, frame, (_, C, T, _, _) = self.channel, self.frame, x.shape
        first = torch.arange(0, C * T, T, dtype=torch.int32, device=x.device)  # of each coordinate, the first row
        own = first.view(C, 1, 1)
        if self.mix is not None and self.source is not None:
            source = self.source if frame is None else frame.gather(1, self.source.flatten(1)).view(self.source.shape)
            x, frame = sum_rows(x, own + source.int().unsqueeze(1), self.mix.unsqueeze(1)), None
        elif self.mix is not None:
            x, frame = x if frame is None else move_frames(x, frame), None
            x = torch.matmul(self.mix.unsqueeze(1).to(x.dtype), x.flatten(3)).view(x.shape)
        if channel is not None:
            frame = (count(T, x.device) if frame is None else frame).int().view(-1, 1, T, 1)
            row, weight = (first, channel) if channel.dim() == 3 else (own, channel.unsqueeze(2))
            x = sum_rows(x, row + frame, weight.unsqueeze(2))
        elif frame is not None:
            x = move_frames(x, frame)
        return x if self.joint is None else move_joints(x, self.joint)

    def _by_products(self, x: Tensor) -> Tensor:
        if self.joint is not None:
            x = move_joints(x, self.joint, self.frame)
        elif self.frame is not None:
            x = move_frames(x, self.frame)
        channel = self.channel
        if self.mix is not None:
            mix = _matrices(self.mix, self.source)[:, None]
            if channel is not None and channel.dim() == 2:
                mix, channel = mix * channel[:, :, None, None], None
            x = torch.matmul(mix.to(x.dtype), x.flatten(3)).view(x.shape)
        if channel is not None:
            channel, flat = channel.to(x.dtype), x.flatten(2)
            flat = flat * channel[:, :, None] if channel.dim() == 2 else torch.bmm(channel, flat)
            x = flat.view(x.shape)
        return x


def _pick(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    if first is None or second is None:
        return second if first is None else first
    return first.gather(1, second)


def _pick_rows(weights: Tensor, frame: Tensor) -> Tensor:
    N, T, K = weights.shape
    rows = frame + count(N, frame.device, T)[:, None]
    return weights.reshape(N * T, K).index_select(0, rows.flatten()).view(N, T, K)


def _matrices(mix: Tensor, source: Tensor | None) -> Tensor:
    if source is None:
        return mix
    hit = source[..., None] == count(mix.shape[1], mix.device)
    return (mix[..., None] * hit).sum(dim=2)


def _multiply(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    if first is None or second is None:
        return second if first is None else first
    if second.dim() == 2:
        return second[:, :, None] * first if first.dim() == 3 else second * first
    return second * first[:, None, :] if first.dim() == 2 else _product(second, first)


def _product(second: Tensor, first: Tensor) -> Tensor:
    if second.dtype != first.dtype:  # a user's transform may make its maps in another
        dtype = torch.promote_types(second.dtype, first.dtype)
        second, first = second.to(dtype), first.to(dtype)
    return torch.bmm(second, first)
