"""Measure what the rules of `graph_conv` stand on: where one form of the graph convolution overtakes another.

python -m benchmarks.graph_conv_rules                      one layer after the other, 64 bodies
python -m benchmarks.graph_conv_rules --threads 1          on a busy CPU: counts time computed, not time passed
python -m benchmarks.graph_conv_rules --json result.json   also as numbers in a file

The blocked form is the baseline: the dense product beside it for small layers, project-first for layers that narrow,
and the blocked form itself with other sizes of its blocks. Float32, forward and backward, channels-last. The blocked
form is a CPU's, so all of it is measured there.
"""

import argparse
from collections.abc import Sequence
from functools import partial
from unittest import mock

import torch
from torch import Tensor

from benchmarks.forms import Form, Row, measure_forms, print_head, table
from benchmarks.graph_conv import graph_conv_values
from benchmarks.measure import Timing, save
from skelcontrast.nn import _graph_conv_blocked, graph_conv

SMALL = ((25, 3, 3, 16), (25, 3, 3, 64), (25, 3, 8, 16), (25, 3, 8, 32), (17, 3, 16, 16), (33, 3, 3, 64), (25, 1, 8, 8))
NARROWING = ((25, 3, 32, 16), (25, 3, 64, 32), (25, 3, 256, 64))
BLOCKS = ((25, 3, 16, 16), (25, 3, 64, 64), (25, 3, 64, 256))
KIBIBYTES = (512, 1024, 1536, 2048, 4096)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.graph_conv_rules", description="Rules of graph_conv.")
    parser.add_argument("--bodies", type=int, default=64, help="sequences in the batch")
    parser.add_argument("--frames", type=int, default=25, help="frames of each")
    Timing.add_arguments(parser, repeats=9)
    parser.set_defaults(device="cpu")
    args = parser.parse_args(argv)
    timing = Timing.of(args)

    settings = {"bodies": args.bodies, "frames": args.frames, **timing.settings()}
    print(", ".join(f"{name} {value}" for name, value in settings.items()) + ", float32")
    blocked, size = partial(graph_conv, implementation="blocked"), (args.bodies, args.frames)
    tables = []
    for layers, other, call in (
        (SMALL, "dense", partial(graph_conv, order="dense")),
        (NARROWING, "project-first", partial(graph_conv, order="project-first")),
    ):
        title, rows = f"Blocked and {other}", list[Row]()
        print_head(title)
        for layer in layers:
            values = draw(layer, *size)
            rows += measure_forms(name(layer), {"blocked": form(blocked, values), other: form(call, values)}, timing)
        tables.append(table(title, "layer", rows))
    title, rows = "Sizes of the blocks, forward", []
    print_head(title)
    for layer in BLOCKS:
        values = draw(layer, *size)
        sizes = {f"blocks of {kib} KiB": form(partial(in_blocks, kib), values) for kib in KIBIBYTES}
        rows += measure_forms(name(layer), sizes, timing)
    tables.append(table(title, "layer", rows))
    save(args.json, {**settings, "tables": tables})


def draw(layer: tuple[int, int, int, int], bodies: int, frames: int) -> list[Tensor]:
    """Draw features, weight, bias and adjacency for joints, partitions, channels in and out."""
    joints, partitions, fan_in, fan_out = layer
    graph = torch.randn(partitions, joints, joints, generator=torch.Generator().manual_seed(0)) / joints**0.5
    return graph_conv_values(bodies, fan_in, fan_out, frames, graph, graph.device)


def form(call: partial[Tensor], values: Sequence[Tensor]) -> Form:
    """Return a form on channels-last features."""
    return Form.of(call, values, torch.channels_last)


def in_blocks(kibibytes: int, *inputs: Tensor) -> Tensor:
    """Convolve with blocks of another size, forward; backward takes its own time with the usual ones."""
    with mock.patch.object(_graph_conv_blocked, "SCRATCH_BYTES", kibibytes * 1024):
        return graph_conv(*inputs, implementation="blocked")


def name(layer: tuple[int, int, int, int]) -> str:
    """Write a layer in the room of a label."""
    joints, partitions, fan_in, fan_out = layer
    return f"{fan_in}->{fan_out}, V {joints}, P {partitions}"


if __name__ == "__main__":
    main()
