"""The kernels of the graph convolution's gradients in adjacency, weight and bias; see `_graph_conv`."""

from collections.abc import Callable
from typing import Any

import triton
import triton.language as tl

from skelcontrast.kernels._graph_conv import dot, features_at, load_biases, load_graph, load_maps, stack

_jit: Callable[[Callable[..., Any]], Any] = triton.jit


@_jit
def _sent(
    upstream: tl.tensor,
    un: tl.tensor,
    uo: tl.tensor,
    ut: tl.tensor,
    uv: tl.tensor,
    features: tl.tensor,
    weight: tl.tensor,
    first: tl.tensor,
    frames: tl.tensor,
    c0: tl.tensor,
    T: tl.tensor,
    p: tl.constexpr,
    V: tl.constexpr,
    C: tl.constexpr,
    O: tl.constexpr,
    VP: tl.constexpr,
    CB: tl.constexpr,
    OB: tl.constexpr,
    BB: tl.constexpr,
    DOT: tl.constexpr,
) -> tl.tensor:
    """Return the gradient in a partition's adjacency of every frame (to joint, from joint)."""
    of_gathered = tl.zeros((BB, VP, CB), tl.float32)
    for o0 in range(0, O, OB):
        where, mask = features_at(upstream, un, uo, ut, uv, first, frames, o0, T, V, O, VP, OB, BB)
        maps = stack(load_maps(weight, p, c0, o0, True, C, O, CB, OB), features.dtype, OB, CB, BB)
        of_gathered += dot(tl.load(where, mask, 0.0), maps, DOT)
    return dot(of_gathered.to(features.dtype), tl.permute(features, (0, 2, 1)), DOT)


@_jit
def _store_graph(into: tl.tensor, of_graph: tl.tensor, p: tl.constexpr, V: tl.constexpr, VP: tl.constexpr) -> None:
    """Store the sum over a stack of gradients in a partition's adjacency (to joint, from joint)."""
    target, source = tl.arange(0, VP)[:, None], tl.arange(0, VP)[None, :]
    tl.store(into + p * V * V + source * V + target, tl.sum(of_graph, 0), (source < V) & (target < V))


@_jit
def backward_graph(
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
    sums: tl.tensor,
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
    DOT: tl.constexpr,
) -> None:
    """Gradient in the adjacency (P, V, V), but for what biases add; a row for each program and block of channels."""
    c0 = tl.program_id(1) * CB
    of_0 = tl.zeros((BB, VP, VP), tl.float32)
    of_1, of_2, of_3 = of_0, of_0, of_0
    for tile in range(tl.program_id(0), tl.cdiv(frames, BB), tl.num_programs(0)):
        first = tile * BB
        where, mask = features_at(x, xn, xc, xt, xv, first, frames, c0, T, V, C, VP, CB, BB)
        features = tl.load(where, mask, 0.0)
        of_0 += _sent(upstream, un, uo, ut, uv, features, weight, first, frames, c0, T, 0, V, C, O, VP, CB, OB, BB, DOT)
        if P > 1:
            of_1 += _sent(
                upstream, un, uo, ut, uv, features, weight, first, frames, c0, T, 1, V, C, O, VP, CB, OB, BB, DOT
            )
        if P > 2:
            of_2 += _sent(
                upstream, un, uo, ut, uv, features, weight, first, frames, c0, T, 2, V, C, O, VP, CB, OB, BB, DOT
            )
        if P > 3:
            of_3 += _sent(
                upstream, un, uo, ut, uv, features, weight, first, frames, c0, T, 3, V, C, O, VP, CB, OB, BB, DOT
            )
    into = sums + (tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)) * (P * V * V)
    _store_graph(into, of_0, 0, V, VP)
    if P > 1:
        _store_graph(into, of_1, 1, V, VP)
    if P > 2:
        _store_graph(into, of_2, 2, V, VP)
    if P > 3:
        _store_graph(into, of_3, 3, V, VP)


@_jit
def _mapped(
    features: tl.tensor,
    above: tl.tensor,
    adjacency: tl.tensor,
    p: tl.constexpr,
    V: tl.constexpr,
    VP: tl.constexpr,
    BB: tl.constexpr,
    DOT: tl.constexpr,
) -> tl.tensor:
    """Return the gradient in a partition's maps (channel in, channel out) of every frame."""
    graph = stack(load_graph(adjacency, p, False, V, VP), features.dtype, VP, VP, BB)
    return dot(dot(features, graph, DOT).to(features.dtype), above, DOT)


@_jit
def _store_maps(
    into: tl.tensor,
    of_maps: tl.tensor,
    of_shift: tl.tensor,
    bias: tl.tensor,
    adjacency: tl.tensor,
    p: tl.constexpr,
    V: tl.constexpr,
    C: tl.constexpr,
    O: tl.constexpr,
    P: tl.constexpr,
    VP: tl.constexpr,
    CB: tl.constexpr,
    OB: tl.constexpr,
) -> None:
    """Store the sum over a stack of gradients in a partition's maps, in its bias, and in how far that reaches."""
    c0, o0 = tl.program_id(1) * CB, tl.program_id(2) * OB
    channel, out, joint = c0 + tl.arange(0, CB), o0 + tl.arange(0, OB), tl.arange(0, VP)
    where = p * O * C + channel[:, None] + out[None, :] * C
    tl.store(into + where, tl.sum(of_maps, 0), (channel < C)[:, None] & (out < O)[None, :])
    if tl.program_id(1) == 0:
        reach = tl.sum(load_graph(adjacency, p, False, V, VP).to(tl.float32), 0)
        tl.store(into + P * O * C + p * O + out, tl.sum(reach[:, None] * of_shift, 0), out < O)
        of_reach = tl.sum(load_biases(bias, p, o0, O, OB)[None, :] * of_shift, 1)
        tl.store(into + P * (O * C + O) + (tl.program_id(2) * P + p) * V + joint, of_reach, joint < V)


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
    sums: tl.tensor,
    width: tl.tensor,
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
    DOT: tl.constexpr,
) -> None:
    """Gradients in weight (P, O, C) and bias (P, O), and in how far biases reach (P, V), for every block of outputs."""
    c0, o0 = tl.program_id(1) * CB, tl.program_id(2) * OB
    of_0, of_shift = tl.zeros((BB, CB, OB), tl.float32), tl.zeros((BB, VP, OB), tl.float32)
    of_1, of_2, of_3 = of_0, of_0, of_0
    for tile in range(tl.program_id(0), tl.cdiv(frames, BB), tl.num_programs(0)):
        where, mask = features_at(upstream, un, uo, ut, uv, tile * BB, frames, o0, T, V, O, VP, OB, BB)
        above = tl.load(where, mask, 0.0)
        of_shift += above.to(tl.float32)
        where, mask = features_at(x, xn, xc, xt, xv, tile * BB, frames, c0, T, V, C, VP, CB, BB)
        features = tl.permute(tl.load(where, mask, 0.0), (0, 2, 1))
        of_0 += _mapped(features, above, adjacency, 0, V, VP, BB, DOT)
        if P > 1:
            of_1 += _mapped(features, above, adjacency, 1, V, VP, BB, DOT)
        if P > 2:
            of_2 += _mapped(features, above, adjacency, 2, V, VP, BB, DOT)
        if P > 3:
            of_3 += _mapped(features, above, adjacency, 3, V, VP, BB, DOT)
    into, of_all = sums + tl.program_id(0) * width, tl.sum(of_shift, 0)
    _store_maps(into, of_0, of_all, bias, adjacency, 0, V, C, O, P, VP, CB, OB)
    if P > 1:
        _store_maps(into, of_1, of_all, bias, adjacency, 1, V, C, O, P, VP, CB, OB)
    if P > 2:
        _store_maps(into, of_2, of_all, bias, adjacency, 2, V, C, O, P, VP, CB, OB)
    if P > 3:
        _store_maps(into, of_3, of_all, bias, adjacency, 3, V, C, O, P, VP, CB, OB)


@_jit
def add_up(
    graphs: tl.tensor,
    maps: tl.tensor,
    of_graph: tl.tensor,
    of_maps: tl.tensor,
    of_bias: tl.tensor,
    graph_rows: tl.tensor,
    map_rows: tl.tensor,
    width: tl.tensor,
    outer: tl.tensor,
    V: tl.constexpr,
    C: tl.constexpr,
    O: tl.constexpr,
    P: tl.constexpr,
    RB: tl.constexpr,
    WB: tl.constexpr,
) -> None:
    """Gradients in adjacency, weight and bias from the rows of all programs."""
    column = tl.program_id(0) * WB + tl.arange(0, WB)
    partition, target, rest = column // (V * V), column % V, column - P * V * V
    is_graph, is_rest = partition < P, (rest >= 0) & (rest < P * (O * C + O))
    total = tl.zeros((RB, WB), tl.float32)
    for first in range(0, graph_rows, RB):
        row = first + tl.arange(0, RB)
        mask = (row < graph_rows)[:, None] & is_graph[None, :]
        total += tl.load(graphs + row[:, None] * (P * V * V) + column[None, :], mask, 0.0)
    for first in range(0, map_rows, RB):
        row = first + tl.arange(0, RB)
        there = (row < map_rows)[:, None]
        total += tl.load(maps + row[:, None] * width + rest[None, :], there & is_rest[None, :], 0.0)
        for block in range(outer):
            where = P * (O * C + O) + (block * P + partition) * V + target
            total += tl.load(maps + row[:, None] * width + where[None, :], there & is_graph[None, :], 0.0)
    result = tl.sum(total, 0)
    tl.store(of_graph + column, result.to(of_graph.dtype.element_ty), is_graph)
    tl.store(of_maps + rest, result.to(of_maps.dtype.element_ty), is_rest & (rest < P * O * C))
    rest -= P * O * C
    tl.store(of_bias + rest, result.to(of_bias.dtype.element_ty), (rest >= 0) & (rest < P * O))
