"""Time the parts of the encoder, layer by layer, and the whole of it, against the operations of the released code.

python -m benchmarks.graph_conv                      the layers of the paper's encoder, 128 samples of two bodies
python -m benchmarks.graph_conv --threads 1          on a busy CPU: counts time computed, not time passed
python -m benchmarks.graph_conv --encoder-batch 0    without the encoder, which takes longest
python -m benchmarks.graph_conv --json result.json   also as numbers in a file

Float32, gradients in everything. The released forms are a 1x1 convolution and an einsum, and a convolution over frames,
both on contiguous features; ours have theirs channels-last, as inside `STGCN`. Layers that are alike are timed once and
count as often as they occur.
"""

import argparse
import json
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from tests.reference.stgcn import released_graph_conv, released_stgcn
from torch import Tensor

from benchmarks.layers import PARTS, Form, Timing, copy_rate, geometric_mean, measure_forms, print_head
from benchmarks.measure import Clock, Spread, interleaved, speedup
from skelcontrast.nn import STGCN, STGCNBlock, graph_conv, temporal_conv
from skelcontrast.skeleton import NTU_RGBD_25, adjacency

RELEASED, AUTO = "released form", "auto"
ORDERS: tuple[Literal["project-first", "aggregate-first", "dense"], ...] = ("project-first", "aggregate-first", "dense")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.graph_conv", description="Speed of the encoder.")
    parser.add_argument("--batch", type=int, default=128, help="samples; each has two bodies")
    parser.add_argument("--encoder-batch", type=int, default=64, help="samples for the encoder, 0 for none")
    parser.add_argument("--frames", type=int, default=50, help="frames of a sample")
    parser.add_argument("--repeats", type=int, default=7, help="how often each is timed")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads for torch")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--clock", choices=("wall", "cpu"), help="time passed, or computed (default with one thread)")
    parser.add_argument("--orders", nargs="*", default=ORDERS, choices=ORDERS, help="orders to time beside auto")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    clock: Clock = args.clock or ("cpu" if args.threads == 1 and device.type == "cpu" else "wall")
    timing = Timing(args.repeats, device, clock)

    settings = {name: getattr(args, name) for name in ("batch", "encoder_batch", "frames", "repeats", "threads")}
    print(", ".join(f"{name} {value}" for name, value in settings.items()) + f", clock {clock}, {device.type}, float32")
    result: dict[str, Any] = {**settings, "device": device.type, "clock": clock}
    result["graph_conv"] = measure_graph_convs(2 * args.batch, args.frames, args.orders, timing)
    result["temporal_conv"] = measure_temporal_convs(2 * args.batch, args.frames, timing)
    if args.encoder_batch:
        result["encoder"] = measure_encoder(args.encoder_batch, args.frames, timing)
    if args.json is not None:
        args.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def blocks(frames: int) -> list[tuple[STGCNBlock, int]]:
    """Return the blocks of the paper's encoder, and the frames that each is given."""
    found = []
    for block in STGCN(NTU_RGBD_25).blocks:
        if isinstance(block, STGCNBlock):
            found.append((block, frames))
            frames = -(-frames // block.stride)
    return found


def measure_graph_convs(bodies: int, frames: int, orders: Sequence[str], timing: Timing) -> dict[str, Any]:
    """Measure every graph convolution, and say what share of the rate of a copy it moves its input and output at."""
    rate, found = copy_rate(timing), []
    print(f"\ngraph convolution; a copy moves {rate / 1e9:.1f} GB/s, read and written")
    print_head()
    graph, generator = adjacency(NTU_RGBD_25), torch.Generator().manual_seed(0)
    layers = Counter((block.gcn.in_channels, block.gcn.out_channels, given) for block, given in blocks(frames))
    for (fan_in, fan_out, given), count in layers.items():
        x = torch.randn(bodies, fan_in, given, 25, generator=generator)
        weight = torch.randn(3, fan_out, fan_in, generator=generator) / fan_in**0.5
        bias = torch.randn(3, fan_out, generator=generator)
        values = [value.to(timing.device) for value in (x, weight, bias, graph)]
        forms = {RELEASED: Form.of(released_graph_conv, values, torch.contiguous_format)}
        forms[AUTO] = Form.of(graph_conv, values, torch.channels_last)
        for order in ORDERS:
            if order in orders:
                forms[order] = Form.of(partial(graph_conv, order=order), values, torch.channels_last)
        least = 4 * bodies * given * 25 * (3 * fan_in + 2 * fan_out)  # x and y forward; x, dy and dx backward
        measured = measure_forms(f"{fan_in}->{fan_out}, T {given}", count, forms, timing)
        found += [{**entry, "share_of_copy": least / rate / entry["seconds"]["both"]["median"]} for entry in measured]
    print_means(found, (AUTO, *(order for order in ORDERS if order in orders)))
    shares = ", ".join(f"{entry['share_of_copy']:.0%}" for entry in found if entry["form"] == AUTO)
    print(f"{AUTO}, share of the rate of a copy, layer by layer: {shares}")
    return {"copy_bytes_per_second": rate, "layers": found}


def measure_temporal_convs(bodies: int, frames: int, timing: Timing) -> list[dict[str, Any]]:
    """Measure every convolution over frames: as released, the same channels-last, in the frequency domain, and auto."""
    print("\nconvolution over frames")
    print_head()
    found, generator = [], torch.Generator().manual_seed(0)
    layers = Counter((block.gcn.out_channels, block.stride, given) for block, given in blocks(frames))
    for (channels, stride, given), count in layers.items():
        x = torch.randn(bodies, channels, given, 25, generator=generator)
        weight = torch.randn(channels, channels, 9, 1, generator=generator) / (9 * channels) ** 0.5
        values = [value.to(timing.device) for value in (x, weight, torch.randn(channels, generator=generator))]
        direct = partial(temporal_conv, stride=stride, implementation="direct")
        forms = {RELEASED: Form.of(direct, values, torch.contiguous_format)}
        forms["direct, channels-last"] = Form.of(direct, values, torch.channels_last)
        if stride == 1:
            spectral = partial(temporal_conv, implementation="spectral")
            forms["spectral"] = Form.of(spectral, values, torch.channels_last)
        forms[AUTO] = Form.of(partial(temporal_conv, stride=stride), values, torch.channels_last)
        found += measure_forms(f"{channels}, T {given}, stride {stride}", count, forms, timing)
    print_means(found, [AUTO])
    return found


def print_means(found: Sequence[dict[str, Any]], forms: Sequence[str]) -> None:
    """Print the geometric means of the ratios."""
    for name in forms:
        shown = ", ".join(f"{part} {geometric_mean(found, name, part):.2f}" for part in PARTS)
        print(f"{name}, times faster than the released form, geometric mean over the encoder's layers: {shown}")


def measure_encoder(batch: int, frames: int, timing: Timing) -> dict[str, Any]:
    """Time the whole encoder in training mode: forward alone, as for keys, and forward with backward."""
    torch.manual_seed(0)
    encoder = STGCN(NTU_RGBD_25, bodies="all").to(timing.device)
    parameters = list(encoder.parameters())
    x = torch.randn(batch, 3, frames, 25, 2, device=timing.device)

    def forward(encode: Callable[[Tensor], Tensor]) -> None:
        with torch.no_grad():
            encode(x)

    def both(encode: Callable[[Tensor], Tensor]) -> None:
        torch.autograd.grad(encode(x).square().sum(), parameters)

    encoders: dict[str, Callable[[Tensor], Tensor]] = {RELEASED: partial(released_stgcn, encoder), "STGCN": encoder}
    candidates = {
        f"{name}, {part}": partial(run, encode)
        for part, run in (("forward", forward), ("both", both))
        for name, encode in encoders.items()
    }
    times = interleaved(candidates, repeats=timing.repeats, warmup=1, device=timing.device, clock=timing.clock)
    print(f"\nencoder, {batch} samples of two bodies, {frames} frames, training mode")
    found: dict[str, Any] = {}
    for name in candidates:
        part = name.rpartition(", ")[2]
        ratio, seconds = speedup(times[f"{RELEASED}, {part}"], times[name]), Spread.of(times[name])
        print(f"{name:26}{seconds.show(1e3):>26} ms{ratio.median:>8.2f} x ({ratio.low:.2f}-{ratio.high:.2f})")
        found[name] = {"seconds": seconds._asdict(), "times_faster": ratio._asdict()}
    return found


if __name__ == "__main__":
    main()
