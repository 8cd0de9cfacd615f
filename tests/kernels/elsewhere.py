"""Compile the encoder's kernels for a device that is not here, in a process of its own that does not interpret them.

python -m tests.kernels.elsewhere FILE 86 bfloat16 tf32 16 16 25

Writes into a file, as JSON, the bytes of shared memory that each kernel takes in layers of 16 channels and 25 joints,
and in one graph convolution more, to the second number of channels; graph convolutions also with a residual.
A launch compiles and goes no further. What the library asks of the device is answered for that one.
"""

import itertools
import json
import sys
from pathlib import Path
from typing import Any
from unittest.mock import PropertyMock, patch

import torch
import triton
from benchmarks.host import launched_by
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction

from skelcontrast._cuda import ROOMY
from skelcontrast.kernels import graph_conv, graph_conv_wide, temporal_conv
from skelcontrast.nn import EADM, GraphConv, TemporalConv, _batch_norm


class Elsewhere:
    """What Triton asks a driver for before it compiles."""

    def __init__(self, capability: int) -> None:
        self.target = GPUTarget("cuda", capability, 32)

    def get_current_device(self) -> int:
        """Return its number."""
        return 0

    def get_current_stream(self, _device: int) -> int:
        """Return a stream that nothing is put on."""
        return 0

    def get_current_target(self) -> GPUTarget:
        """Return what is compiled for."""
        return self.target


def main(
    file: Path, capability: int, dtype: torch.dtype, precision: str, channels: int, widened: int, joints: int
) -> None:
    triton.runtime.driver.set_active(Elsewhere(capability))
    compile_and_launch, shared = JITFunction.run, dict[str, int]()

    def run(kernel: Any, *args: Any, **options: Any) -> None:
        compiled = compile_and_launch(kernel, *args, **{**options, "warmup": True})
        name = kernel.fn.__name__
        shared[name] = max(shared.get(name, 0), compiled.metadata.shared)

    roomy = divmod(capability, 10) in ROOMY
    with (
        launched_by(run, torch.device("cpu")),
        patch.object(graph_conv._Case, "roomy", PropertyMock(return_value=roomy)),
        patch.object(graph_conv._Case, "adds", PropertyMock(return_value=dtype.itemsize == 2 or capability >= 90)),
        patch.object(graph_conv, "precision_of", lambda _: precision),
        patch.object(graph_conv_wide, "precision_of", lambda _: precision),
        patch.object(temporal_conv, "precision_of", lambda _: precision),
    ):
        graph = GraphConv(channels, channels, torch.ones(3, joints, joints), implementation="triton")
        frames = TemporalConv(channels, channels, stride=2, implementation="triton")
        x, residual = (
            torch.randn(2, channels, 50, joints, dtype=dtype)
            .contiguous(memory_format=torch.channels_last)
            .requires_grad_()
            for _ in range(2)
        )
        norms = [torch.nn.BatchNorm2d(channels) for _ in range(5)]
        made = _batch_norm.normalized(norms[0], x)  # of which nobody has made sums, as there are of what follows
        made = _batch_norm.convolved(graph, norms[1], made, dropout=torch.nn.Dropout(), residual=residual)
        added = _batch_norm.convolved_to_add(torch.nn.Identity(), norms[2], residual)
        made = _batch_norm.normalized(norms[3], made, dropout=torch.nn.Dropout(), residual=added)
        framed = _batch_norm.convolved(frames, norms[4], made)
        EADM()(framed).float().sum().backward()
        EADM.preset("official")(framed)
        wider = GraphConv(channels, widened, torch.ones(3, joints, joints), implementation="triton")
        wider(x).float().sum().backward()
        for layer, every in itertools.product((graph, wider), (1, 2)):
            norm, relu = torch.nn.BatchNorm2d(layer.out_channels), torch.nn.ReLU()
            made, kept = _batch_norm.branched(layer, norm, x, relu=relu, every=every)
            (made.float().sum() + kept.float().sum()).backward()
    file.write_text(json.dumps(shared), encoding="utf-8")


if __name__ == "__main__":
    where, number, name, products, *sizes = sys.argv[1:]
    main(Path(where), int(number), getattr(torch, name), products, *map(int, sizes))
