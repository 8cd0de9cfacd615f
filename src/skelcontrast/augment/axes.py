"""Maps on single axes: what every linear augmentation comes down to, how maps merge, and how they meet the batch."""

from typing import NamedTuple

import torch
from torch import Tensor

# Types that hold one joint's bodies as a single word, by its bytes. Integers where there are any, so that no bit
# pattern is ever read as a number.
WORDS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64, 16: torch.complex128}


class AxisMaps(NamedTuple):
    """Linear maps on the single axes of a batch (N, C, T, V, M), one per sample; `None` leaves an axis alone.

    Maps on different axes commute, so one per axis is enough; on time, frames are first picked, then mixed.

    Args:
        channel: Matrices (N, C, C), ``y[n, c] = sum_k channel[n, c, k] x[n, k]``; or their diagonals (N, C),
            ``y[n, c] = channel[n, c] x[n, c]``.
        joint: Indices (N, V), int64: ``y[n, :, :, v] = x[n, :, :, joint[n, v]]``.
        frame: Indices (N, T), int64: ``y[n, :, t] = x[n, :, frame[n, t]]``.
        mix: Matrices (N, T, T): ``y[n, :, t] = sum_s mix[n, t, s] x[n, :, s]``.

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

    def then(self, after: "AxisMaps") -> "AxisMaps":
        """Return the maps that do `self` and then `after`."""
        frame, mix = self.frame, self.mix
        if mix is None:
            frame = _pick(frame, after.frame)
        elif after.frame is not None:  # picking among mixed frames is picking among the rows of the matrices
            N, T, _ = mix.shape
            rows = after.frame + T * torch.arange(N, device=mix.device)[:, None]
            mix = mix.reshape(N * T, T).index_select(0, rows.flatten()).view(N, T, T)
        return AxisMaps(
            channel=_multiply(self.channel, after.channel),
            joint=_pick(self.joint, after.joint),
            frame=frame,
            mix=_multiply(mix, after.mix),
        )

    def take(self, rows: Tensor) -> "AxisMaps":
        """Return the maps of some samples, by their indices (R,)."""
        return AxisMaps(*(None if axis is None else axis.index_select(0, rows) for axis in self))

    def apply(self, x: Tensor) -> Tensor:
        """Map a batch (N, C, T, V, M), touching it once per kind of map: a gather, a T x T and a C x C product."""
        if self.joint is not None:
            x = _move_joints(x, self.joint, self.frame)
        elif self.frame is not None:
            x = _move_frames(x, self.frame)
        channel = self.channel
        if self.mix is not None:
            mix = self.mix[:, None]
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


def _multiply(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    if first is None or second is None:
        return second if first is None else first
    if second.dim() == 2:
        return second[:, :, None] * first if first.dim() == 3 else second * first
    return second * first[:, None, :] if first.dim() == 2 else torch.bmm(second, first)


def _move_frames(x: Tensor, frame: Tensor) -> Tensor:
    N, C, T, V, M = x.shape
    start = T * torch.arange(N * C, device=x.device).view(N, C, 1)  # the first frame of each sample and coordinate
    rows = (start + frame[:, None]).flatten()
    return x.reshape(N * C * T, V * M).index_select(0, rows).view(x.shape)


def _move_joints(x: Tensor, joint: Tensor, frame: Tensor | None) -> Tensor:
    N, C, T, V, M = x.shape
    if frame is None:
        frame = torch.arange(T, device=x.device)[None]
    source = (frame[:, :, None] * V + joint[:, None, :]).flatten(1)
    x = x.contiguous()
    word = WORDS.get(M * x.element_size())
    # The bodies of a joint move together: as one word where that is possible, at less than half the time. Reading
    # a tensor as another type has no gradient and needs memory that starts on a whole word.
    if word is not None and not x.requires_grad and x.storage_offset() % M == 0:
        words = x.view(N, C, T * V * M).view(word)
        return words.gather(2, source[:, None].expand(N, C, T * V)).view(x.dtype).view(x.shape)
    source = (source[:, :, None] * M + torch.arange(M, device=x.device)).flatten(1)
    return x.flatten(2).gather(2, source[:, None].expand(N, C, T * V * M)).view(x.shape)
