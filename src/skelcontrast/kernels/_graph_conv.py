"""The kernels of the graph convolution.

A program takes a few frames at a time, as a stack of products, one for each frame: with the graph of a partition (to
joint x from joint) times the features (joint x channel), then with its channel maps. Features are read and written as
they lie, and what is gathered goes from one product into the next without leaving the registers. The gradient in x is
the same with the graph and the maps the other way round. A bias reaches a joint as often as its partition of the graph
sends something there; what all of them come to is the shift of a joint.

What is summed over frames (the gradients of weight, bias and adjacency) stays on the chip until a program has seen its
frames, and is written once per program, a row of `width` numbers, to be added up in a fixed order.

Sizes: T frames of a sample, V joints, C and O channels in and out, P partitions, `frames` of all samples together. Of
a tile: VP joints (padded), CB and OB channels, BB frames. Strides come in the order of (N, C, T, V). DOT is the
arithmetic of the products.
"""

from collections.abc import Callable
from typing import Any

import triton
import triton.language as tl

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
    V: tl.constexpr,
    C: tl.constexpr,
    VP: tl.constexpr,
    CB: tl.constexpr,
    BB: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor]:
    """Places and mask of features (frame, joint, channel)."""
    frame, joint, channel = first + tl.arange(0, BB), tl.arange(0, VP), c0 + tl.arange(0, CB)
    where = (frame // T).to(tl.int64) * sn + (frame % T) * st
    where = where[:, None, None] + (joint * sv)[None, :, None] + (channel * sc)[None, None, :]
    there = (frame < frames)[:, None, None] & (joint < V)[None, :, None] & (channel < C)[None, None, :]
    return x + where, there


@_jit
def load_graph(
    adjacency: tl.tensor, p: tl.constexpr, TURNED: tl.constexpr, V: tl.constexpr, VP: tl.constexpr
) -> tl.tensor:
    """Load a partition's adjacency (from joint, to joint), or TURNED (to joint, from joint)."""
    row, column = tl.arange(0, VP)[:, None], tl.arange(0, VP)[None, :]
    where = column * V + row if TURNED else row * V + column
    return tl.load(adjacency + p * V * V + where, (row < V) & (column < V), 0.0)


@_jit
def load_maps(
    weight: tl.tensor,
    p: tl.constexpr,
    c0: tl.tensor,
    o0: tl.tensor,
    TURNED: tl.constexpr,
    C: tl.constexpr,
    O: tl.constexpr,
    CB: tl.constexpr,
    OB: tl.constexpr,
) -> tl.tensor:
    """Load a partition's maps (channel in, channel out), or TURNED (channel out, channel in)."""
    if TURNED:
        channel, out = c0 + tl.arange(0, CB)[None, :], o0 + tl.arange(0, OB)[:, None]
    else:
        channel, out = c0 + tl.arange(0, CB)[:, None], o0 + tl.arange(0, OB)[None, :]
    return tl.load(weight + p * O * C + out * C + channel, (channel < C) & (out < O), 0.0)


@_jit
def load_biases(bias: tl.tensor, p: tl.constexpr, o0: tl.tensor, O: tl.constexpr, OB: tl.constexpr) -> tl.tensor:
    """Load a partition's biases, float32."""
    channel = o0 + tl.arange(0, OB)
    return tl.load(bias + p * O + channel, channel < O, 0.0).to(tl.float32)


@_jit
def stack(
    matrix: tl.tensor, dtype: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, BB: tl.constexpr
) -> tl.tensor:
    """Repeat a matrix for every frame, as numbers of a dtype."""
    return tl.broadcast_to(matrix.to(dtype)[None, :, :], (BB, ROWS, COLUMNS))


@_jit
def dot(a: tl.tensor, b: tl.tensor, DOT: tl.constexpr) -> tl.tensor:
    """Multiply with float32 sums; with "wide" also in float32, for devices without products of bfloat16."""
    if DOT == "wide":
        product = tl.dot(a.to(tl.float32), b.to(tl.float32), input_precision="ieee")
    else:  # a return above would not keep the compiler from this
        product = tl.dot(a, b, input_precision=DOT)
    return product


@_jit
def spread(
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
    V: tl.constexpr,
    C: tl.constexpr,
    O: tl.constexpr,
    P: tl.constexpr,
    VP: tl.constexpr,
    CB: tl.constexpr,
    OB: tl.constexpr,
    BB: tl.constexpr,
    BACK: tl.constexpr,
    DOT: tl.constexpr,
) -> None:
    """Outputs; or with BACK the gradient in x from that in the outputs: C and O are what goes in and out here."""
    o0 = tl.program_id(1) * OB
    shift = tl.zeros((VP, OB), tl.float32)
    if not BACK:
        for p in tl.static_range(P):
            reach = tl.sum(load_graph(adjacency, p, False, V, VP).to(tl.float32), 0)
            shift += reach[:, None] * load_biases(bias, p, o0, O, OB)[None, :]
    for tile in range(tl.program_id(0), tl.cdiv(frames, BB), tl.num_programs(0)):
        total = tl.broadcast_to(shift[None, :, :], (BB, VP, OB))
        for c0 in range(0, C, CB):
            where, mask = features_at(x, xn, xc, xt, xv, tile * BB, frames, c0, T, V, C, VP, CB, BB)
            features = tl.load(where, mask, 0.0)
            for p in tl.static_range(P):
                graph = stack(load_graph(adjacency, p, not BACK, V, VP), x.dtype.element_ty, VP, VP, BB)
                gathered = dot(graph, features, DOT).to(x.dtype.element_ty)
                if BACK:
                    maps = load_maps(weight, p, o0, c0, True, O, C, OB, CB)
                else:
                    maps = load_maps(weight, p, c0, o0, False, C, O, CB, OB)
                total += dot(gathered, stack(maps, x.dtype.element_ty, CB, OB, BB), DOT)
        where, mask = features_at(y, yn, yo, yt, yv, tile * BB, frames, o0, T, V, O, VP, OB, BB)
        tl.store(where, total.to(y.dtype.element_ty), mask)
