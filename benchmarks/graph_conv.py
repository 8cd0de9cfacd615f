"""Time the parts of the encoder, layer by layer, and the whole of it, against the operations of the released code.

python -m benchmarks.graph_conv                      the layers of the paper's encoder, 128 samples of two bodies
python -m benchmarks.graph_conv --threads 1          on a busy CPU: counts time computed, not time passed
python -m benchmarks.graph_conv --encoder-batch 0    without the encoder, which takes longest
python -m benchmarks.graph_conv --bf16               layers in bfloat16, the encoder under bfloat16 autocast
python -m benchmarks.graph_conv --json result.json   also as numbers in a file

Float32 or bfloat16, gradients in everything. The released forms are a 1x1 convolution and an einsum, and a convolution
over frames, both on contiguous features; ours have theirs channels-last, as inside `STGCN`. Layers that are alike are
timed once and count as often as they occur. The work counted is that of the order of contraction with the fewest
operations, of the direct convolution over frames (which the frequency domain goes below), and features and gradients
moved once.
"""

import argparse
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Literal

import torch
from tests.reference.stgcn import released_graph_conv, released_stgcn
from torch import Tensor

from benchmarks.forms import (
    PARTS,
    Binding,
    Form,
    Row,
    geometric_mean,
    measure_calls,
    measure_forms,
    print_head,
    table,
)
from benchmarks.measure import Limits, Timing, Work, save
from skelcontrast.nn import STGCN, STGCNBlock, graph_conv, temporal_conv
from skelcontrast.skeleton import NTU_RGBD_25, adjacency

RELEASED, AUTO = "released form", "auto"
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2}
ORDERS: tuple[Literal["project-first", "aggregate-first", "dense"], ...] = ("project-first", "aggregate-first", "dense")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.graph_conv", description="Speed of the encoder.")
    parser.add_argument("--batch", type=int, default=128, help="samples; each has two bodies")
    parser.add_argument("--encoder-batch", type=int, default=64, help="samples for the encoder, 0 for none")
    parser.add_argument("--frames", type=int, default=50, help="frames of a sample")
    parser.add_argument("--orders", nargs="*", default=ORDERS, choices=ORDERS, help="orders to time beside auto")
    parser.add_argument("--bf16", action="store_true", help="bfloat16 in place of float32")
    Timing.add_arguments(parser, repeats=7)
    args = parser.parse_args(argv)
    timing = Timing.of(args)
    dtype = torch.bfloat16 if args.bf16 else torch.float32
    limits = Limits.measure(timing, dtype)
    settings = {"batch": args.batch, "encoder_batch": args.encoder_batch, "frames": args.frames, **timing.settings()}
    settings |= {"dtype": str(dtype).removeprefix("torch.")}
    print(", ".join(f"{name} {value}" for name, value in settings.items()) + f"\n{limits.show()}")
    bodies = 2 * args.batch
    tables = [
        measure_graph_convs(bodies, args.frames, args.orders, timing, limits, dtype),
        measure_temporal_convs(bodies, args.frames, timing, limits, dtype),
    ]
    if args.encoder_batch:
        autocast = torch.autocast(timing.device.type, torch.bfloat16, enabled=args.bf16)
        tables.append(measure_encoder(args.encoder_batch, args.frames, timing, autocast))
    save(args.json, {**settings, "limits": limits._asdict(), "tables": tables})


def blocks(frames: int) -> list[tuple[STGCNBlock, int]]:
    """Return the blocks of the paper's encoder, and the frames that each is given."""
    found = []
    for block in STGCN(NTU_RGBD_25).blocks:
        if isinstance(block, STGCNBlock):
            found.append((block, frames))
            frames = -(-frames // block.stride)
    return found


def graph_conv_values(
    bodies: int, fan_in: int, fan_out: int, frames: int, graph: Tensor, device: torch.device
) -> list[Tensor]:
    """Draw features, weight and bias beside a graph (P, V, V), in its dtype."""
    P, V, _ = graph.shape
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(bodies, fan_in, frames, V, generator=generator)
    weight = torch.randn(P, fan_out, fan_in, generator=generator) / fan_in**0.5
    return [value.to(device, graph.dtype) for value in (x, weight, torch.randn(P, fan_out, generator=generator), graph)]


def graph_conv_work(bodies: int, fan_in: int, fan_out: int, frames: int, graph: Tensor) -> Work:
    """Count forward and backward: three times the products of the cheapest order; x, y and their gradients."""
    P, V, _ = graph.shape
    sites = bodies * frames * V
    project = P * fan_in * fan_out
    products = min(project + P * V * fan_out, P * V * fan_in + project, V * fan_in * fan_out)
    return Work(flops=3 * 2 * sites * products, moved=graph.element_size() * sites * (3 * fan_in + 2 * fan_out))


def graph_conv_forms(values: Sequence[Tensor], orders: Sequence[str] = ()) -> dict[str, Form]:
    """Return the released form, what `auto` takes, and single orders of contraction."""
    forms = {RELEASED: Form.of(released_graph_conv, values, torch.contiguous_format)}
    forms[AUTO] = Form.of(graph_conv, values, torch.channels_last)
    chosen = [order for order in ORDERS if order in orders]
    return forms | {order: Form.of(partial(graph_conv, order=order), values, torch.channels_last) for order in chosen}


def measure_graph_convs(
    bodies: int, frames: int, orders: Sequence[str], timing: Timing, limits: Limits, dtype: torch.dtype
) -> dict[str, Any]:
    """Measure every graph convolution of the encoder."""
    print_head("Graph convolution")
    graph, rows, tolerance = adjacency(NTU_RGBD_25).to(dtype), list[Row](), TOLERANCE[dtype]
    layers = Counter((block.gcn.in_channels, block.gcn.out_channels, given) for block, given in blocks(frames))
    for (fan_in, fan_out, given), count in layers.items():
        values = graph_conv_values(bodies, fan_in, fan_out, given, graph, timing.device)
        bound = Binding(graph_conv_work(bodies, fan_in, fan_out, given, graph), limits)
        forms = graph_conv_forms(values, orders)
        case = f"{fan_in}->{fan_out}, T {given}"
        rows += measure_forms(case, forms, timing, count=count, bound=bound, tolerance=tolerance)
    means = print_means(rows, (AUTO, *(order for order in ORDERS if order in orders)))
    return table(f"Graph convolution, {bodies} bodies", "layer", rows, geometric_means=means)


def measure_temporal_convs(
    bodies: int, frames: int, timing: Timing, limits: Limits, dtype: torch.dtype
) -> dict[str, Any]:
    """Measure every convolution over frames: as released, the same channels-last, and auto.

    The frequency domain, which is meant for a CPU and float32, only there.
    """
    print_head("Convolution over frames")
    rows, tolerance, generator = list[Row](), TOLERANCE[dtype], torch.Generator().manual_seed(0)
    layers = Counter((block.gcn.out_channels, block.stride, given) for block, given in blocks(frames))
    for (channels, stride, given), count in layers.items():
        x = torch.randn(bodies, channels, given, 25, generator=generator)
        weight = torch.randn(channels, channels, 9, 1, generator=generator) / (9 * channels) ** 0.5
        bias = torch.randn(channels, generator=generator)
        values = [value.to(timing.device, dtype) for value in (x, weight, bias)]
        direct = partial(temporal_conv, stride=stride, implementation="direct")
        forms = {RELEASED: Form.of(direct, values, torch.contiguous_format)}
        forms["direct, channels-last"] = Form.of(direct, values, torch.channels_last)
        if stride == 1 and timing.device.type == "cpu" and dtype == torch.float32:
            spectral = partial(temporal_conv, implementation="spectral")
            forms["spectral"] = Form.of(spectral, values, torch.channels_last)
        forms[AUTO] = Form.of(partial(temporal_conv, stride=stride), values, torch.channels_last)
        made = bodies * 25 * -(-given // stride)
        moved = values[0].element_size() * channels * (3 * bodies * 25 * given + 2 * made)
        bound = Binding(Work(3 * 2 * made * 9 * channels**2, moved), limits)
        case = f"{channels}, T {given}, stride {stride}"
        rows += measure_forms(case, forms, timing, count=count, bound=bound, tolerance=tolerance)
    return table(f"Convolution over frames, {bodies} bodies", "layer", rows, geometric_means=print_means(rows, [AUTO]))


def print_means(rows: Sequence[Row], forms: Sequence[str]) -> dict[str, dict[str, float]]:
    """Print and return the geometric means of the ratios."""
    parts = [part for part in PARTS if part in rows[0]["seconds"]]
    means = {name: {part: geometric_mean(rows, name, part) for part in parts} for name in forms}
    for name, of in means.items():
        shown = ", ".join(f"{part} {mean:.2f}" for part, mean in of.items())
        print(f"{name}, times faster than the released form, geometric mean over the encoder's layers: {shown}")
    return means


def measure_encoder(batch: int, frames: int, timing: Timing, autocast: AbstractContextManager[Any]) -> dict[str, Any]:
    """Measure the whole encoder in training mode: forward alone, as for keys, and forward with backward."""
    torch.manual_seed(0)
    encoder = STGCN(NTU_RGBD_25, bodies="all").to(timing.device)
    parameters = list(encoder.parameters())
    x = torch.randn(batch, 3, frames, 25, 2, device=timing.device)

    def forward(encode: Callable[[Tensor], Tensor]) -> None:
        with torch.no_grad(), autocast:
            encode(x)

    def both(encode: Callable[[Tensor], Tensor]) -> None:
        with autocast:
            loss = encode(x).square().sum()
        torch.autograd.grad(loss, parameters)

    encoders: dict[str, Callable[[Tensor], Tensor]] = {RELEASED: partial(released_stgcn, encoder), "STGCN": encoder}
    title, rows = f"Encoder, {batch} samples of two bodies, {frames} frames, training mode", list[Row]()
    print_head(title)
    for case, run in (("forward alone, as for keys", forward), ("forward and backward", both)):
        calls = {name: partial(run, encode) for name, encode in encoders.items()}
        rows += measure_calls(case, calls, timing, warmup=1)
    return table(title, "pass", rows)


if __name__ == "__main__":
    main()
