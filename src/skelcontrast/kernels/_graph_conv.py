"""The graph convolution's kernel, and what it shares with those of its gradients.

A program takes a few frames at a time. Their features stand as rows (frame, channel) with a column per joint while they
are gathered over the graph, and as rows (frame, joint) with a column per channel while they are projected; in between
they are turned around on the chip, so that memory sees the input once and the output once. A bias reaches a joint as
often as its partition of the graph sends something there; what all of them come to is the shift of a joint. What is
summed over frames (the gradients of weight, bias and adjacency) stays on the chip until a program has seen its frames,
and is written once per program, a row of `width` numbers, to be added up in a fixed order.

Sizes: T frames of a sample, V joints, C and O channels in and out, P partitions, `frames` of all samples together. Of
a tile: VP joints and PP partitions (padded), CB and OB channels, BB frames. STEPS blocks of channels are summed over
in a tile; where it is one, its maps stay on the chip. Strides come in the order of (N, C, T, V).
DOT is the arithmetic of the products.
"""

from collections.abc import Callable
from typing import Any

import triton
import triton.language as tl

from skelcontrast.kernels._statistics import follow, seen_by, write_merged

_jit: Callable[[Callable[..., Any]], Any] = triton.jit


@_jit
def features_at(
    x: tl.tensor,
    sn: tl.tensor,
    sc: tl.tensor,
    st: tl.tensor,
    sv: tl.tensor,
    first: tl.tensor,
    frames: tl.tensor,
    c0: tl.tensor,
    T: tl.tensor,
    V: tl.tensor,
    C: tl.tensor,
    VP: tl.constexpr,
    CB: tl.constexpr,
    BB: tl.constexpr,
    EVERY: tl.constexpr = 1,
) -> tuple[tl.tensor, tl.tensor]:
    """Offsets and mask of features as rows (frame, channel) and columns (joint); of a sample, each EVERY-th frame."""
    row = tl.arange(0, BB * CB)
    frame = first + row // CB
    channel = c0 + row % CB
    joint = tl.arange(0, VP)
    where = (frame // T).to(tl.int64) * sn + channel * sc + (frame % T) // EVERY * st
    mask = (frame < frames) & (channel < C)
    if EVERY > 1:
        mask = mask & (frame % T % EVERY == 0)
    return x + where[:, None] + joint[None, :] * sv, mask[:, None] & (joint < V)[None, :]


@_jit
def outputs_at(
    y: tl.tensor,
    sn: tl.tensor,
    so: tl.tensor,
    st: tl.tensor,
    sv: tl.tensor,
    first: tl.tensor,
    frames: tl.tensor,
    o0: tl.tensor,
    T: tl.tensor,
    V: tl.tensor,
    O: tl.tensor,
    VP: tl.constexpr,
    OB: tl.constexpr,
    BB: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor]:
    """Offsets and mask of outputs as rows (frame, joint) and columns (channel)."""
    row = tl.arange(0, BB * VP)
    frame = first + row // VP
    joint = row % VP
    channel = o0 + tl.arange(0, OB)
    where = (frame // T).to(tl.int64) * sn + joint * sv + (frame % T) * st
    mask = (frame < frames) & (joint < V)
    return y + where[:, None] + channel[None, :] * so, mask[:, None] & (channel < O)[None, :]


@_jit
def load_graph(adjacency: tl.tensor, V: tl.tensor, P: tl.tensor, VP: tl.constexpr, PP: tl.constexpr) -> tl.tensor:
    """Load the adjacency as rows (from joint) and columns (partition, to joint)."""
    source = tl.arange(0, VP)
    column = tl.arange(0, PP * VP)
    partition, target = column // VP, column % VP
    mask = (source < V)[:, None] & ((partition < P) & (target < V))[None, :]
    return tl.load(adjacency + source[:, None] * V + (partition * V * V + target)[None, :], mask, 0.0)


@_jit
def load_maps(
    weight: tl.tensor,
    c0: tl.tensor,
    o0: tl.tensor,
    C: tl.tensor,
    O: tl.tensor,
    P: tl.tensor,
    PP: tl.constexpr,
    CB: tl.constexpr,
    OB: tl.constexpr,
) -> tl.tensor:
    """Load the channel maps as rows (partition, channel in) and columns (channel out)."""
    row = tl.arange(0, PP * CB)
    partition, channel = row // CB, c0 + row % CB
    out = o0 + tl.arange(0, OB)
    mask = ((partition < P) & (channel < C))[:, None] & (out < O)[None, :]
    return tl.load(weight + (partition * O * C + channel)[:, None] + out[None, :] * C, mask, 0.0)


@_jit
def load_biases(
    bias: tl.tensor,
    o0: tl.tensor,
    O: tl.tensor,
    P: tl.tensor,
    PP: tl.constexpr,
    OB: tl.constexpr,
) -> tl.tensor:
    """Load the biases as rows (partition) and columns (channel out)."""
    partition, channel = tl.arange(0, PP), o0 + tl.arange(0, OB)
    mask = (partition < P)[:, None] & (channel < O)[None, :]
    return tl.load(bias + partition[:, None] * O + channel[None, :], mask, 0.0).to(tl.float32)


@_jit
def reach_of(graph: tl.tensor, VP: tl.constexpr, PP: tl.constexpr) -> tl.tensor:
    """Return how much of a bias reaches a joint: rows (partition) and columns (joint)."""
    return tl.reshape(tl.sum(graph.to(tl.float32), 0), (PP, VP))


@_jit
def _shift(
    bias: tl.tensor,
    graph: tl.tensor,
    o0: tl.tensor,
    O: tl.tensor,
    P: tl.tensor,
    VP: tl.constexpr,
    PP: tl.constexpr,
    OB: tl.constexpr,
    BB: tl.constexpr,
) -> tl.tensor:
    """Return what the biases come to, as rows (frame, joint) and columns (channel out), alike for every frame."""
    biases, reach = load_biases(bias, o0, O, P, PP, OB), reach_of(graph, VP, PP)
    shift = tl.sum(reach[:, :, None] * biases[:, None, :], 0)
    return tl.reshape(tl.broadcast_to(shift[None, :, :], (BB, VP, OB)), (BB * VP, OB))


@_jit
def dot(a: tl.tensor, b: tl.tensor, DOT: tl.constexpr) -> tl.tensor:
    """Multiply with float32 sums; with "wide" also in float32, for devices without products of bfloat16."""
    if DOT == "wide":
        product = tl.dot(a.to(tl.float32), b.to(tl.float32), input_precision="ieee")
    else:  # a return above would not keep the compiler from this
        product = tl.dot(a, b, input_precision=DOT)
    return product


@_jit
def gather(
    features: tl.tensor,
    graph: tl.tensor,
    PP: tl.constexpr,
    VP: tl.constexpr,
    CB: tl.constexpr,
    BB: tl.constexpr,
    DOT: tl.constexpr,
) -> tl.tensor:
    """Gather rows (frame, channel) over the graph into rows (frame, joint), columns (partition, channel)."""
    gathered = dot(features, graph, DOT).to(features.dtype)
    turned = tl.permute(tl.reshape(gathered, (BB, CB, PP, VP)), (0, 3, 2, 1))
    return tl.reshape(turned, (BB * VP, PP * CB))


@_jit
def forward(
    x: tl.tensor,
    xn: tl.tensor,
    xc: tl.tensor,
    xt: tl.tensor,
    xv: tl.tensor,
    weight: tl.tensor,
    bias: tl.tensor,
    adjacency: tl.tensor,
    y: tl.tensor,
    yn: tl.tensor,
    yo: tl.tensor,
    yt: tl.tensor,
    yv: tl.tensor,
    sums: tl.tensor,
    frames: tl.tensor,
    T: tl.tensor,
    V: tl.tensor,
    C: tl.tensor,
    O: tl.tensor,
    P: tl.tensor,
    VP: tl.constexpr,
    PP: tl.constexpr,
    CB: tl.constexpr,
    OB: tl.constexpr,
    BB: tl.constexpr,
    STEPS: tl.constexpr,
    DOT: tl.constexpr,
    SUMS: tl.constexpr,
) -> None:
    """Outputs and, with SUMS, the parts of their statistics, see `_statistics`."""
    graph = load_graph(adjacency, V, P, VP, PP)
    o0 = tl.program_id(1) * OB
    start = _shift(bias, graph, o0, O, P, VP, PP, OB, BB)
    graph = graph.to(x.dtype.element_ty)
    if STEPS == 1:
        maps = load_maps(weight, 0, o0, C, O, P, PP, CB, OB).to(x.dtype.element_ty)
    if SUMS:
        row, number = tl.arange(0, BB * VP), 0.0
        mean, spread = tl.zeros((BB * VP, OB), tl.float32), tl.zeros((BB * VP, OB), tl.float32)
    for tile in range(tl.program_id(0), tl.cdiv(frames, BB), tl.num_programs(0)):
        total = start
        if STEPS == 1:
            where, mask = features_at(x, xn, xc, xt, xv, tile * BB, frames, 0, T, V, C, VP, CB, BB)
            total += dot(gather(tl.load(where, mask, 0.0), graph, PP, VP, CB, BB, DOT), maps, DOT)
        else:
            for c0 in range(0, C, CB):
                where, mask = features_at(x, xn, xc, xt, xv, tile * BB, frames, c0, T, V, C, VP, CB, BB)
                gathered = gather(tl.load(where, mask, 0.0), graph, PP, VP, CB, BB, DOT)
                maps = load_maps(weight, c0, o0, C, O, P, PP, CB, OB).to(gathered.dtype)
                total += dot(gathered, maps, DOT)
        where, mask = outputs_at(y, yn, yo, yt, yv, tile * BB, frames, o0, T, V, O, VP, OB, BB)
        value = total.to(y.dtype.element_ty)
        tl.store(where, value, mask)
        if SUMS:
            number += 1.0
            mean, spread = follow(mean, spread, value, tile * BB + row // VP < frames, number)
    if SUMS:
        seen = seen_by(tl.program_id(0) * BB + row // VP, frames, tl.num_programs(0) * BB)
        write_merged(sums, mean, spread, tl.where(row % VP < V, seen, 0), o0 + tl.arange(0, OB), O)
