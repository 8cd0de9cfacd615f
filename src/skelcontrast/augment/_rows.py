"""How a batch (N, C, T, V, M) is touched: sums over its rows, one for each sample, coordinate and frame, and moves."""

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional

from skelcontrast._shared import count

# Types that hold one joint's bodies as a single word, by its bytes. Integers where there are any, so that no bit
# pattern is ever read as a number.
WORDS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64, 16: torch.complex128}

MANY = 2**31  # indices that no int32 counts


def sum_rows(x: Tensor, row: Tensor, weight: Tensor) -> Tensor:
    """Return ``y[n, c, t] = sum_k weight[n, c, t, k] x[n].flatten(0, 1)[row[n, c, t, k]]``, for a CPU.

    One pass that reads rows where they lie, at half the time of a gather and a product of small matrices.

    Args:
        x: A batch (N, C, T, V, M).
        row: Rows within a sample, int32 or int64, of a shape that broadcasts to (N, C, T, K).
        weight: Weights, of a shape that broadcasts to (N, C, T, K).
    """
    (N, C, T, V, M), K = x.shape, row.shape[-1]
    kind = torch.int32 if N * C * T * K < MANY else torch.int64  # narrow indices are half as much to write and read
    start = torch.arange(0, N * C * T, C * T, dtype=kind, device=x.device).view(N, 1, 1, 1)
    rows = (row + start).expand(N, C, T, K).flatten()
    weights = weight.to(x.dtype).expand(N, C, T, K).flatten()
    bags = torch.arange(0, N * C * T * K + 1, K, dtype=kind, device=x.device)
    y = functional.embedding_bag(
        rows, x.reshape(N * C * T, V * M), bags, mode="sum", per_sample_weights=weights, include_last_offset=True
    )
    return y.view(x.shape)


def move_frames(x: Tensor, frame: Tensor) -> Tensor:
    """Return ``y[n, :, t] = x[n, :, frame[n, t]]``."""
    N, C, T, V, M = x.shape
    start = count(N * C, x.device, T).view(N, C, 1)  # the first row of each sample and coordinate
    return x.reshape(N * C * T, V * M).index_select(0, (start + frame.unsqueeze(1)).flatten()).view(x.shape)


def move_joints(x: Tensor, joint: Tensor, frame: Tensor | None = None) -> Tensor:
    """Return ``y[n, :, t, v] = x[n, :, frame[n, t], joint[n, v]]``, all frames in their place if not told otherwise."""
    N, C, T, V, M = x.shape
    parts, source = C * T, joint
    if frame is not None:
        parts, source = C, torch.add(joint[:, None, :], frame[:, :, None], alpha=V).flatten(1)
    x = x.contiguous()
    # The bodies of a joint move together: as one word where that is possible, at less than half the time. Reading
    # a tensor as another type has no gradient and needs memory that starts on a whole word, which no compiler can tell.
    word = None if torch.compiler.is_compiling() else WORDS.get(M * x.element_size())
    differentiated = x.requires_grad or forward_ad._current_level >= 0
    if word is not None and not differentiated and x.storage_offset() % M == 0:
        words = x.view(N, parts, C * T * V * M // parts).view(word)
        return words.gather(2, source[:, None].expand(words.shape)).view(x.dtype).view(x.shape)
    source = torch.add(count(M, x.device), source[:, :, None], alpha=M).flatten(1)
    flat = x.view(N, parts, C * T * V * M // parts)
    return flat.gather(2, source[:, None].expand(flat.shape)).view(x.shape)
