"""The kernels of the graph convolution of layers so wide that one large product does most of their work.

Features stand as rows (joint) with a column per frame and channel. So the graph multiplies them from the left, and
nothing is turned around on the chip. What is gathered lies in memory as a matrix: a row for every frame and joint, and
`width` columns: those of partition and channel, then one per partition that says how far its bias reaches this joint,
then zeros. The channel maps lie beside it as a row for every channel out, biases among their columns, so that the shift
of a joint comes out of the same product.

Sizes are those of `_graph_conv`, and EB, the columns behind channels, padded. Features are dense and channels-last.
"""

from collections.abc import Callable
from typing import Any

import triton
import triton.language as tl

from skelcontrast.kernels._graph_conv import dot, load_graph, reach_of

_jit: Callable[[Callable[..., Any]], Any] = triton.jit


@_jit
def lay_maps(
    weight: tl.tensor,
    bias: tl.tensor,
    maps: tl.tensor,
    C: tl.tensor,
    O: tl.tensor,
    P: tl.tensor,
    width: tl.tensor,
    WB: tl.constexpr,
) -> None:
    """Lay out channel maps (P, O, C) and biases (P, O) as rows (channel out) of `width` columns, one per program."""
    out, column = tl.program_id(0), tl.arange(0, WB)
    partition, channel, over = column // C, column % C, column - P * C
    map_of = tl.load(weight + (partition * O + out) * C + channel, over < 0, 0.0)
    bias_of = tl.load(bias + over * O + out, (over >= 0) & (over < P), 0.0)
    row = maps + out * width + column
    tl.store(row, tl.where(over < 0, map_of, bias_of).to(maps.dtype.element_ty), column < width)


@_jit
def _features_of(
    tile: tl.tensor,
    frames: tl.tensor,
    c0: tl.tensor,
    V: tl.tensor,
    C: tl.tensor,
    VP: tl.constexpr,
    CB: tl.constexpr,
    BB: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor]:
    """Offsets from a tile's first frame, and mask, of features as rows (joint) and columns (frame, channel)."""
    joint, column = tl.arange(0, VP), tl.arange(0, BB * CB)
    frame, channel = column // CB, c0 + column % CB
    mask = (tile * BB + frame < frames) & (channel < C)
    return (joint * C)[:, None] + (frame * V * C + channel)[None, :], (joint < V)[:, None] & mask[None, :]


@_jit
def _gathered_of(
    tile: tl.tensor,
    frames: tl.tensor,
    c0: tl.tensor,
    V: tl.tensor,
    C: tl.tensor,
    P: tl.tensor,
    width: tl.tensor,
    VP: tl.constexpr,
    PP: tl.constexpr,
    CB: tl.constexpr,
    BB: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor]:
    """The same of what is gathered, as rows (partition, joint)."""
    row, column = tl.arange(0, PP * VP), tl.arange(0, BB * CB)
    partition, joint = row // VP, row % VP
    frame, channel = column // CB, c0 + column % CB
    mask = (tile * BB + frame < frames) & (channel < C)
    where = (joint * width + partition * C)[:, None] + (frame * V * width + channel)[None, :]
    return where, ((partition < P) & (joint < V))[:, None] & mask[None, :]


@_jit
def gather_rows(
    x: tl.tensor,
    adjacency: tl.tensor,
    gathered: tl.tensor,
    frames: tl.tensor,
    V: tl.tensor,
    C: tl.tensor,
    P: tl.tensor,
    width: tl.tensor,
    VP: tl.constexpr,
    PP: tl.constexpr,
    CB: tl.constexpr,
    BB: tl.constexpr,
    EB: tl.constexpr,
    DOT: tl.constexpr,
) -> None:
    """Gather features over the graph, and say how far biases reach."""
    graph = load_graph(adjacency, V, P, VP, PP)
    c0 = tl.program_id(1) * CB
    # How far biases reach: a row per joint, columns (frame, partition), alike for every frame.
    joint, column = tl.arange(0, VP), tl.arange(0, BB * EB)
    frame, partition = column // EB, column % EB
    is_own = partition[None, :, None] == tl.arange(0, PP)[None, None, :]
    reach = tl.sum(tl.where(is_own, tl.trans(reach_of(graph, VP, PP))[:, None, :], 0.0), 2).to(x.dtype.element_ty)
    beside = joint[:, None] * width + (frame * V * width + P * C + partition)[None, :]
    is_beside = (joint < V)[:, None] & (c0 * width + P * C + partition < width)[None, :]  # the first block's
    graph = tl.trans(graph).to(x.dtype.element_ty)
    for tile in range(tl.program_id(0), tl.cdiv(frames, BB), tl.num_programs(0)):
        first = tl.full((), tile * BB, tl.int64) * V
        where, mask = _features_of(tile, frames, c0, V, C, VP, CB, BB)
        parts = dot(graph, tl.load(x + first * C + where, mask, 0.0), DOT)
        into = gathered + first * width
        where, mask = _gathered_of(tile, frames, c0, V, C, P, width, VP, PP, CB, BB)
        tl.store(into + where, parts.to(x.dtype.element_ty), mask)
        tl.store(into + beside, reach, is_beside & (tile * BB + frame < frames)[None, :])


@_jit
def spread_rows(
    of_gathered: tl.tensor,
    x: tl.tensor,
    adjacency: tl.tensor,
    grad_x: tl.tensor,
    added: tl.tensor,
    grad_graph: tl.tensor,
    frames: tl.tensor,
    V: tl.tensor,
    C: tl.tensor,
    P: tl.tensor,
    width: tl.tensor,
    VP: tl.constexpr,
    PP: tl.constexpr,
    CB: tl.constexpr,
    BB: tl.constexpr,
    ADDED: tl.constexpr,
    DOT: tl.constexpr,
) -> None:
    """Gradients in x, written, and in the adjacency, summed over this program's frames and channels.

    From that in what `gather_rows` writes. What is said there of biases belongs to the first block of channels. With
    ADDED the former take in what is `added`.
    """
    graph = tl.trans(load_graph(adjacency, V, P, VP, PP).to(x.dtype.element_ty))
    c0 = tl.program_id(1) * CB
    row = tl.arange(0, PP * VP)
    partition, target = row // VP, row % VP
    is_there = (partition < P) & (target < V)
    frame = tl.arange(0, BB)
    beside = (target * width + P * C + partition)[:, None] + (frame * V * width)[None, :]
    is_beside = (is_there & (c0 * P + partition < P))[:, None]  # the first block's
    of_graph, of_reach = tl.zeros((PP * VP, VP), tl.float32), tl.zeros((PP * VP,), tl.float32)
    for tile in range(tl.program_id(0), tl.cdiv(frames, BB), tl.num_programs(0)):
        first = tl.full((), tile * BB, tl.int64) * V
        above = of_gathered + first * width
        reach = tl.load(above + beside, is_beside & (tile * BB + frame < frames)[None, :], 0.0)
        where, mask = _gathered_of(tile, frames, c0, V, C, P, width, VP, PP, CB, BB)
        parts = tl.load(above + where, mask, 0.0)
        where, mask = _features_of(tile, frames, c0, V, C, VP, CB, BB)
        if ADDED:
            others = tl.load(added + first * C + where, mask, 0.0)
        # In the other order the compiler would wait after every piece of both products, on Hopper.
        of_graph += dot(parts, tl.trans(tl.load(x + first * C + where, mask, 0.0)), DOT)
        of_features = tl.trans(dot(tl.trans(parts), graph, DOT))
        if ADDED:
            of_features += others.to(tl.float32)
        tl.store(grad_x + first * C + where, of_features.to(grad_x.dtype.element_ty), mask)
        of_reach += tl.sum(reach.to(tl.float32), 1)
    source = tl.arange(0, VP)
    where = (partition * V * V + target)[:, None] + source[None, :] * V
    part = tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)
    mask = is_there[:, None] & (source < V)[None, :]
    tl.store(grad_graph + part * P * V * V + where, of_graph + of_reach[:, None], mask)
