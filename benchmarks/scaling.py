"""How time and memory of the loss and of the graph convolution grow with K, N, T and V.

python -m benchmarks.scaling                      K to 2^20 keys, N to 512 samples, T to 300 frames, V to 133 joints
python -m benchmarks.scaling --threads 1          on a busy CPU: counts time computed, not time passed
python -m benchmarks.scaling --json result.json   also as numbers in a file

Forward and backward, float32, each beside the operations of the released code as long as what those hold is small
enough. AimCLR's loss is that of the second stage, with 128 samples and 32768 keys unless it is the one that grows; the
graph convolution has 64 channels in and out, 32 bodies, 13 frames and 25 joints, and a random graph of 3 partitions.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from benchmarks.forms import Binding, Form, Row, measure_forms, print_head, table
from benchmarks.graph_conv import graph_conv_forms, graph_conv_values, graph_conv_work
from benchmarks.losses import Problem, draw, forms
from benchmarks.measure import Limits, Timing, save

SAMPLES, KEYS, DIM = 128, 32768, 128
CHANNELS, BODIES, FRAMES, JOINTS = 64, 32, 13, 25


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description="Growth of time and memory.")
    powers = [2**power for power in range(12, 21, 2)]
    parser.add_argument("--keys", type=int, nargs="*", default=powers, help="keys in the bank, K")
    parser.add_argument("--samples", type=int, nargs="*", default=[8, 32, 128, 512], help="samples of the loss, N")
    parser.add_argument("--bodies", type=int, nargs="*", default=[4, 16, 64, 256], help="bodies in a layer, N x M")
    parser.add_argument("--frames", type=int, nargs="*", default=[13, 25, 50, 150, 300], help="frames, T")
    parser.add_argument("--joints", type=int, nargs="*", default=[17, 25, 33, 67, 133], help="joints, V")
    Timing.add_arguments(parser, repeats=5)
    args = parser.parse_args(argv)
    timing = Timing.of(args)
    limits = Limits.measure(timing)
    print(", ".join(f"{name} {value}" for name, value in timing.settings().items()) + f", float32\n{limits.show()}")

    def of_loss(N: int, K: int) -> tuple[dict[str, Form], Binding]:
        problem: Problem = draw(N, DIM, K, timing.device)
        found = forms(problem)
        found.pop("dense", None)
        return found, Binding(problem.work(), limits)

    def of_layer(bodies: int, T: int, V: int) -> tuple[dict[str, Form], Binding]:
        graph = torch.rand(3, V, V, generator=torch.Generator().manual_seed(0)) / V
        shape = (bodies, CHANNELS, CHANNELS, T)
        values = graph_conv_values(*shape, graph, timing.device)
        return graph_conv_forms(values), Binding(graph_conv_work(*shape, graph), limits)

    loss, layer = "AimCLR's loss", "Graph convolution"
    tables = [
        grow(f"{loss}, K", "K", args.keys, lambda K: of_loss(SAMPLES, K), timing),
        grow(f"{loss}, N", "N", args.samples, lambda N: of_loss(N, KEYS), timing),
        grow(f"{layer}, N", "N", args.bodies, lambda bodies: of_layer(bodies, FRAMES, JOINTS), timing),
        grow(f"{layer}, T", "T", args.frames, lambda T: of_layer(BODIES, T, JOINTS), timing),
        grow(f"{layer}, V", "V", args.joints, lambda V: of_layer(BODIES, FRAMES, V), timing),
    ]
    save(args.json, {**timing.settings(), "limits": limits._asdict(), "tables": tables})


def grow(
    title: str,
    axis: str,
    values: Sequence[int],
    make: Callable[[int], tuple[dict[str, Form], Binding]],
    timing: Timing,
) -> dict[str, Any]:
    """Measure an operation at several sizes; rows hold the size, for a plot."""
    print_head(title)
    return table(title, axis, list(_rows(axis, values, make, timing)), axis=axis)


def _rows(
    axis: str, values: Sequence[int], make: Callable[[int], tuple[dict[str, Form], Binding]], timing: Timing
) -> Iterator[Row]:
    for value in values:
        forms, bound = make(value)
        for row in measure_forms(f"{axis} {value}", forms, timing, bound=bound, tolerance=1e-3):
            yield row | {"value": value}


if __name__ == "__main__":
    main()
