"""The kernels of the graph convolution's gradients; `_graph_conv` says how they compute and what their sizes are."""

from collections.abc import Callable
from typing import Any

import triton
import triton.language as tl

from skelcontrast.kernels._graph_conv import (
    dot,
    features_at,
    gather,
    load_biases,
    load_graph,
    load_maps,
    outputs_at,
    reach_of,
)

_jit: Callable[[Callable[..., Any]], Any] = triton.jit


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
    added: tl.tensor,
    an: tl.tensor,
    ac: tl.tensor,
    at: tl.tensor,
    av: tl.tensor,
    grad_graph: tl.tensor,
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
    EVERY: tl.constexpr,
    DOT: tl.constexpr,
) -> None:
    """Gradients in x, written, and in the adjacency, summed over this program's frames and channels.

    Without what the biases add to the latter. With EVERY the former take in what is `added`, in each EVERY-th frame.
    """
    graph = load_graph(adjacency, V, P, VP, PP).to(x.dtype.element_ty)
    c0 = tl.program_id(1) * CB
    of_graph = tl.zeros((VP, PP * VP), tl.float32)
    if STEPS == 1:
        maps = tl.trans(load_maps(weight, c0, 0, C, O, P, PP, CB, OB)).to(x.dtype.element_ty)
    for tile in range(tl.program_id(0), tl.cdiv(frames, BB), tl.num_programs(0)):
        if EVERY:
            there, is_there = features_at(added, an, ac, at, av, tile * BB, frames, c0, T, V, C, VP, CB, BB, EVERY)
            others = tl.load(there, is_there, 0.0)
        of_gathered = tl.zeros((BB * VP, PP * CB), tl.float32)
        if STEPS == 1:
            where, mask = outputs_at(upstream, un, uo, ut, uv, tile * BB, frames, 0, T, V, O, VP, OB, BB)
            of_gathered += dot(tl.load(where, mask, 0.0), maps, DOT)
        else:
            for o0 in range(0, O, OB):
                where, mask = outputs_at(upstream, un, uo, ut, uv, tile * BB, frames, o0, T, V, O, VP, OB, BB)
                maps = tl.trans(load_maps(weight, c0, o0, C, O, P, PP, CB, OB)).to(x.dtype.element_ty)
                of_gathered += dot(tl.load(where, mask, 0.0), maps, DOT)
        turned = tl.permute(tl.reshape(of_gathered.to(x.dtype.element_ty), (BB, VP, PP, CB)), (0, 3, 2, 1))
        turned = tl.reshape(turned, (BB * CB, PP * VP))
        where, mask = features_at(grad_x, gn, gc, gt, gv, tile * BB, frames, c0, T, V, C, VP, CB, BB)
        of_features = dot(turned, tl.trans(graph), DOT)
        if EVERY:
            of_features += others.to(tl.float32)
        tl.store(where, of_features.to(grad_x.dtype.element_ty), mask)
        where, mask = features_at(x, xn, xc, xt, xv, tile * BB, frames, c0, T, V, C, VP, CB, BB)
        of_graph += dot(tl.trans(tl.load(where, mask, 0.0)), turned, DOT)
    source, column = tl.arange(0, VP), tl.arange(0, PP * VP)
    partition, target = column // VP, column % VP
    mask = (source < V)[:, None] & ((partition < P) & (target < V))[None, :]
    where = source[:, None] * V + (partition * V * V + target)[None, :]
    part = tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)
    tl.store(grad_graph + part * P * V * V + where, of_graph, mask)


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
    graph = load_graph(adjacency, V, P, VP, PP)
    reach = reach_of(graph, VP, PP)
    graph = graph.to(x.dtype.element_ty)
    c0, o0 = tl.program_id(1) * CB, tl.program_id(2) * OB
    of_maps, of_shift = tl.zeros((PP * CB, OB), tl.float32), tl.zeros((VP, OB), tl.float32)
    for tile in range(tl.program_id(0), tl.cdiv(frames, BB), tl.num_programs(0)):
        where, mask = outputs_at(upstream, un, uo, ut, uv, tile * BB, frames, o0, T, V, O, VP, OB, BB)
        above = tl.load(where, mask, 0.0)
        of_shift += tl.sum(tl.reshape(above.to(tl.float32), (BB, VP, OB)), 0)
        where, mask = features_at(x, xn, xc, xt, xv, tile * BB, frames, c0, T, V, C, VP, CB, BB)
        gathered = gather(tl.load(where, mask, 0.0), graph, PP, VP, CB, BB, DOT)
        of_maps += dot(tl.trans(gathered), above, DOT)
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
        of_reach = tl.sum(load_biases(bias, o0, O, P, PP, OB)[:, None, :] * of_shift[None, :, :], 2)
        into = grad_reach + tl.program_id(0) * width + tl.program_id(2) * P * V + part[:, None] * V + joint[None, :]
        tl.store(into, of_reach, (part < P)[:, None] & (joint < V)[None, :])


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
    V: tl.tensor,
    C: tl.tensor,
    O: tl.tensor,
    P: tl.tensor,
    RB: tl.constexpr,
    WB: tl.constexpr,
) -> None:
    """Gradients in adjacency, weight and bias from the rows of all programs, RB at a time.

    A row of `graphs` holds the adjacency; one of `maps` weight, bias, and the reach of biases for each outer block.
    """
    column = tl.program_id(0) * WB + tl.arange(0, WB)
    graph, rest = P * V * V, P * (O * C + O)
    is_graph, is_rest = column < graph, (column >= graph) & (column < graph + rest)
    total = tl.zeros((RB, WB), tl.float32)
    for first in range(0, graph_rows, RB):
        row = first + tl.arange(0, RB)
        mask = (row < graph_rows)[:, None] & is_graph[None, :]
        total += tl.load(graphs + row[:, None] * graph + column[None, :], mask, 0.0)
    for first in range(0, map_rows, RB):
        row = first + tl.arange(0, RB)
        there, start = (row < map_rows)[:, None], maps + row[:, None] * width
        total += tl.load(start + (column - graph)[None, :], there & is_rest[None, :], 0.0)
        for block in range(outer):
            reach = rest + block * P * V + column // (V * V) * V + column % V
            total += tl.load(start + reach[None, :], there & is_graph[None, :], 0.0)
    result, column = tl.sum(total, 0), column - graph
    tl.store(of_graph + column + graph, result.to(of_graph.dtype.element_ty), is_graph)
    tl.store(of_maps + column, result.to(of_maps.dtype.element_ty), is_rest & (column < P * O * C))
    column -= P * O * C
    tl.store(of_bias + column, result.to(of_bias.dtype.element_ty), is_rest & (column >= 0))
