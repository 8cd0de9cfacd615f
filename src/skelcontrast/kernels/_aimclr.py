"""The kernel of AimCLR's terms: a program makes those of one sample from what its views read of the bank.

The views are the query and VIEWS - 1 extreme ones, one behind the other. `scale` is one over the temperature, `share`
one over the number of extreme views, and POSITIVES and KL name the forms of NNM and D3M.
"""

from collections.abc import Callable
from typing import Any

import triton
import triton.language as tl

_jit: Callable[[Callable[..., Any]], Any] = triton.jit


@_jit
def terms(
    views: tl.tensor,
    positives: tl.tensor,
    bank: tl.tensor,
    log_partition: tl.tensor,
    attended: tl.tensor,
    nearest: tl.tensor,
    contrast: tl.tensor,
    d3m: tl.tensor,
    gradients: tl.tensor,
    N: tl.tensor,
    D: tl.tensor,
    scale: tl.tensor,
    share: tl.tensor,
    k: tl.tensor,
    VIEWS: tl.constexpr,
    POSITIVES: tl.constexpr,
    KL: tl.constexpr,
    WIDTH: tl.constexpr,
) -> None:
    n = tl.program_id(0)
    column = tl.arange(0, WIDTH)
    here = column < D
    query = tl.load(views + n * D + column, mask=here, other=0.0)
    target = tl.load(attended + n * D + column, mask=here, other=0.0)
    of_query = tl.load(log_partition + n)

    # The positive and the neighbours that no view before has found: their number, logits and sum; or, for the form
    # "logsumexp", a running softmax over them.
    towards = tl.load(positives + n * D + column, mask=here, other=0.0)
    logits = tl.sum(query * towards, axis=0) * scale
    count = tl.full((), 1.0, tl.float32)
    for i in range(VIEWS * k):
        row = tl.load(nearest + (i // k * N + n) * k + i % k)
        is_new = row >= 0
        for j in range(i):
            is_new = is_new & (tl.load(nearest + (j // k * N + n) * k + j % k) != row)
        key = tl.load(bank + row * D + column, mask=here, other=0.0).to(tl.float32)
        logit = tl.sum(query * key, axis=0) * scale
        if POSITIVES == "logsumexp":
            logit = tl.where(is_new, logit, float("-inf"))
            highest = tl.maximum(logits, logit)
            decay, weight = tl.exp(logits - highest), tl.exp(logit - highest)
            count = count * decay + weight
            towards = towards * decay + weight * key
            logits = highest
        else:
            weight = tl.where(is_new, 1.0, 0.0)
            count += weight
            towards += weight * key
            logits += weight * logit
    if POSITIVES == "logsumexp":
        loss = of_query - (logits + tl.log(count))
        gradient = target - towards / count
    elif POSITIVES == "mean":
        loss = of_query - logits / count
        gradient = target - towards / count
    else:
        loss = count * of_query - logits
        gradient = count * target - towards
    tl.store(contrast + n, loss)
    tl.store(gradients + n * D + column, gradient * scale, mask=here)

    total = tl.zeros((), tl.float32)
    for view in tl.static_range(1, VIEWS):
        at = view * N + n
        extreme = tl.load(views + at * D + column, mask=here, other=0.0)
        of_extreme = tl.load(attended + at * D + column, mask=here, other=0.0)
        divergence = tl.load(log_partition + at)
        if KL:
            # Differences first, so that equal distributions give an exact 0.
            divergence -= of_query
            extreme -= query
        total += divergence - tl.sum(extreme * target, axis=0) * scale
        tl.store(gradients + at * D + column, (of_extreme - target) * scale * share, mask=here)
    tl.store(d3m + n, total * share)
