"""The three kernels of the graph convolution.

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

_jit: Callable[[Callable[..., Any]], Any] = triton.jit


@_jit
def _features(
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
) -> tuple[tl.tensor, tl.tensor]:
    """Offsets and mask of features as rows (frame, channel) and columns (joint)."""
    row = tl.arange(0, BB * CB)
    frame = first + row // CB
    channel = c0 + row % CB
    joint = tl.arange(0, VP)
    where = (frame // T).to(tl.int64) * sn + channel * sc + (frame % T) * st
    mask = (frame < frames) & (channel < C)
    return x + where[:, None] + joint[None, :] * sv, mask[:, None] & (joint < V)[None, :]


@_jit
def _outputs(
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
def _graph(adjacency: tl.tensor, V: tl.tensor, P: tl.tensor, VP: tl.constexpr, PP: tl.constexpr) -> tl.tensor:
    """Load the adjacency as rows (from joint) and columns (partition, to joint)."""
    source = tl.arange(0, VP)
    column = tl.arange(0, PP * VP)
    partition, target = column // VP, column % VP
    mask = (source < V)[:, None] & ((partition < P) & (target < V))[None, :]
    return tl.load(adjacency + source[:, None] * V + (partition * V * V + target)[None, :], mask, 0.0)


@_jit
def _maps(
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
def _biases(
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
def _reach(graph: tl.tensor, VP: tl.constexpr, PP: tl.constexpr) -> tl.tensor:
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
    biases, reach = _biases(bias, o0, O, P, PP, OB), _reach(graph, VP, PP)
    shift = tl.sum(reach[:, :, None] * biases[:, None, :], 0)
    return tl.reshape(tl.broadcast_to(shift[None, :, :], (BB, VP, OB)), (BB * VP, OB))


@_jit
def _dot(a: tl.tensor, b: tl.tensor, DOT: tl.constexpr) -> tl.tensor:
    """Multiply with float32 sums; with "wide" also in float32, for devices without products of bfloat16."""
    if DOT == "wide":
        return tl.dot(a.to(tl.float32), b.to(tl.float32), input_precision="ieee")
    return tl.dot(a, b, input_precision=DOT)


@_jit
def _gather(
    features: tl.tensor,
    graph: tl.tensor,
    PP: tl.constexpr,
    VP: tl.constexpr,
    CB: tl.constexpr,
    BB: tl.constexpr,
    DOT: tl.constexpr,
) -> tl.tensor:
    """Gather rows (frame, channel) over the graph into rows (frame, joint), columns (partition, channel)."""
    gathered = _dot(features, graph, DOT).to(features.dtype)
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
) -> None:
    graph = _graph(adjacency, V, P, VP, PP)
    o0 = tl.program_id(1) * OB
    start = _shift(bias, graph, o0, O, P, VP, PP, OB, BB)
    graph = graph.to(x.dtype.element_ty)
    if STEPS == 1:
        maps = _maps(weight, 0, o0, C, O, P, PP, CB, OB).to(x.dtype.element_ty)
    for tile in range(tl.program_id(0), tl.cdiv(frames, BB), tl.num_programs(0)):
        total = start
        if STEPS == 1:
            where, mask = _features(x, xn, xc, xt, xv, tile * BB, frames, 0, T, V, C, VP, CB, BB)
            total += _dot(_gather(tl.load(where, mask, 0.0), graph, PP, VP, CB, BB, DOT), maps, DOT)
        else:
            for c0 in range(0, C, CB):
                where, mask = _features(x, xn, xc, xt, xv, tile * BB, frames, c0, T, V, C, VP, CB, BB)
                gathered = _gather(tl.load(where, mask, 0.0), graph, PP, VP, CB, BB, DOT)
                maps = _maps(weight, c0, o0, C, O, P, PP, CB, OB).to(gathered.dtype)
                total += _dot(gathered, maps, DOT)
        where, mask = _outputs(y, yn, yo, yt, yv, tile * BB, frames, o0, T, V, O, VP, OB, BB)
        tl.store(where, total.to(y.dtype.element_ty), mask)


@_jit
def backward_features(
    upstream: tl.tensor,
    un: tl.tensor,
    uo: tl.tensor,
    ut: tl.tensor,
    uv: tl.tensor,
    x: tl.tensor,
    xn: tl.tensor,
    xc: tl.tensor,
    xt: tl.tensor,
    xv: tl.tensor,
    weight: tl.tensor,
    adjacency: tl.tensor,
    grad_x: tl.tensor,
    gn: tl.tensor,
    gc: tl.tensor,
    gt: tl.tensor,
    gv: tl.tensor,
    grad_graph: tl.tensor,
    width: tl.tensor,
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
) -> None:
    """Gradients in x, written, and in the adjacency, summed over this program's frames and channels.

    Without what the biases add to the latter.
    """
    graph = _graph(adjacency, V, P, VP, PP).to(x.dtype.element_ty)
    c0 = tl.program_id(1) * CB
    of_graph = tl.zeros((VP, PP * VP), tl.float32)
    if STEPS == 1:
        maps = tl.trans(_maps(weight, c0, 0, C, O, P, PP, CB, OB)).to(x.dtype.element_ty)
    for tile in range(tl.program_id(0), tl.cdiv(frames, BB), tl.num_programs(0)):
        of_gathered = tl.zeros((BB * VP, PP * CB), tl.float32)
        if STEPS == 1:
            where, mask = _outputs(upstream, un, uo, ut, uv, tile * BB, frames, 0, T, V, O, VP, OB, BB)
            of_gathered += _dot(tl.load(where, mask, 0.0), maps, DOT)
        else:
            for o0 in range(0, O, OB):
                where, mask = _outputs(upstream, un, uo, ut, uv, tile * BB, frames, o0, T, V, O, VP, OB, BB)
                maps = tl.trans(_maps(weight, c0, o0, C, O, P, PP, CB, OB)).to(x.dtype.element_ty)
                of_gathered += _dot(tl.load(where, mask, 0.0), maps, DOT)
        turned = tl.permute(tl.reshape(of_gathered.to(x.dtype.element_ty), (BB, VP, PP, CB)), (0, 3, 2, 1))
        turned = tl.reshape(turned, (BB * CB, PP * VP))
        where, mask = _features(grad_x, gn, gc, gt, gv, tile * BB, frames, c0, T, V, C, VP, CB, BB)
        of_features = _dot(turned, tl.trans(graph), DOT)
        tl.store(where, of_features.to(grad_x.dtype.element_ty), mask)
        where, mask = _features(x, xn, xc, xt, xv, tile * BB, frames, c0, T, V, C, VP, CB, BB)
        of_graph += _dot(tl.trans(tl.load(where, mask, 0.0)), turned, DOT)
    source, column = tl.arange(0, VP), tl.arange(0, PP * VP)
    partition, target = column // VP, column % VP
    mask = (source < V)[:, None] & ((partition < P) & (target < V))[None, :]
    where = source[:, None] * V + (partition * V * V + target)[None, :]
    tl.store(grad_graph + tl.program_id(0) * width + tl.program_id(1) * P * V * V + where, of_graph, mask)


@_jit
def backward_maps(
    upstream: tl.tensor,
    un: tl.tensor,
    uo: tl.tensor,
    ut: tl.tensor,
    uv: tl.tensor,
    x: tl.tensor,
    xn: tl.tensor,
    xc: tl.tensor,
    xt: tl.tensor,
    xv: tl.tensor,
    bias: tl.tensor,
    adjacency: tl.tensor,
    grad_maps: tl.tensor,
    grad_bias: tl.tensor,
    grad_reach: tl.tensor,
    width: tl.tensor,
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
    DOT: tl.constexpr,
) -> None:
    """Gradients in weight and bias, and in how far biases reach, summed over this program's frames."""
    graph = _graph(adjacency, V, P, VP, PP)
    reach = _reach(graph, VP, PP)
    graph = graph.to(x.dtype.element_ty)
    c0, o0 = tl.program_id(1) * CB, tl.program_id(2) * OB
    of_maps, of_shift = tl.zeros((PP * CB, OB), tl.float32), tl.zeros((VP, OB), tl.float32)
    for tile in range(tl.program_id(0), tl.cdiv(frames, BB), tl.num_programs(0)):
        where, mask = _outputs(upstream, un, uo, ut, uv, tile * BB, frames, o0, T, V, O, VP, OB, BB)
        above = tl.load(where, mask, 0.0)
        of_shift += tl.sum(tl.reshape(above.to(tl.float32), (BB, VP, OB)), 0)
        where, mask = _features(x, xn, xc, xt, xv, tile * BB, frames, c0, T, V, C, VP, CB, BB)
        gathered = _gather(tl.load(where, mask, 0.0), graph, PP, VP, CB, BB, DOT)
        of_maps += _dot(tl.trans(gathered), above, DOT)
    row, channel = tl.arange(0, PP * CB), o0 + tl.arange(0, OB)
    partition, inner = row // CB, c0 + row % CB
    mask = ((partition < P) & (inner < C))[:, None] & (channel < O)[None, :]
    where = tl.program_id(0) * width + (partition * O * C + inner)[:, None] + channel[None, :] * C
    tl.store(grad_maps + where, of_maps, mask)
    if tl.program_id(1) == 0:
        part, joint = tl.arange(0, PP), tl.arange(0, VP)
        of_bias = tl.sum(reach[:, :, None] * of_shift[None, :, :], 1)
        into = grad_bias + tl.program_id(0) * width + part[:, None] * O + channel[None, :]
        tl.store(into, of_bias, (part < P)[:, None] & (channel < O)[None, :])
        of_reach = tl.sum(_biases(bias, o0, O, P, PP, OB)[:, None, :] * of_shift[None, :, :], 2)
        into = grad_reach + tl.program_id(0) * width + tl.program_id(2) * P * V + part[:, None] * V + joint[None, :]
        tl.store(into, of_reach, (part < P)[:, None] & (joint < V)[None, :])


@_jit
def add_up(
    sums: tl.tensor,
    of_graph: tl.tensor,
    of_maps: tl.tensor,
    of_bias: tl.tensor,
    parts: tl.tensor,
    width: tl.tensor,
    V: tl.tensor,
    C: tl.tensor,
    O: tl.tensor,
    P: tl.tensor,
    INNER: tl.constexpr,
    OUTER: tl.constexpr,
    PB: tl.constexpr,
    WB: tl.constexpr,
) -> None:
    """Gradients in adjacency, weight and bias from the rows of all programs.

    A row holds the adjacency for INNER blocks of channels, weight, bias, and the reach of biases for OUTER blocks.
    """
    column = tl.program_id(0) * WB + tl.arange(0, WB)
    graph, maps, biases = P * V * V, P * O * C, P * O
    is_graph = column < graph
    reach = column // (V * V) * V + column % V
    total = tl.zeros((PB, WB), tl.float32)
    for first in range(0, parts, PB):
        part = first + tl.arange(0, PB)
        row = sums + part[:, None] * width
        here = (part < parts)[:, None]
        once = here & ((column >= graph) & (column < graph + maps + biases))[None, :]
        total += tl.load(row + (INNER - 1) * graph + column[None, :], once, 0.0)
        for block in range(INNER):
            total += tl.load(row + block * graph + column[None, :], here & is_graph[None, :], 0.0)
        for block in range(OUTER):
            where = INNER * graph + maps + biases + block * P * V + reach
            total += tl.load(row + where[None, :], here & is_graph[None, :], 0.0)
    result = tl.sum(total, 0)
    tl.store(of_graph + column, result.to(of_graph.dtype.element_ty), is_graph)
    column -= graph
    tl.store(of_maps + column, result.to(of_maps.dtype.element_ty), (column >= 0) & (column < maps))
    column -= maps
    tl.store(of_bias + column, result.to(of_bias.dtype.element_ty), (column >= 0) & (column < biases))
