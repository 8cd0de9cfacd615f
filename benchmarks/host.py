"""Time what the host does for the encoder before kernels start, each replaced by nothing.

python -m benchmarks.host                      on a CPU or on CUDA
python -m benchmarks.host --json result.json   also as numbers in a file

Beside a fast GPU a step that is launched kernel by kernel waits for the host. Here Triton's kernels are never launched,
so this is what Python, autograd and torch's own operations take beside them. It does not depend on sizes, so the
encoder is an eighth as wide as the paper's and sees one clip of a few frames: on a CPU torch's operations compute too.
There the encoder takes the kernels that it would on a GPU.
"""

import argparse
import importlib.util
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import torch

from benchmarks.forms import Row, table, whole_row
from benchmarks.measure import Spread, Timing, interleaved, save
from skelcontrast.nn import STGCN, GraphConv, TemporalConv, _batch_norm
from skelcontrast.skeleton import NTU_RGBD_25

if TYPE_CHECKING:
    from triton.runtime.jit import JITFunction

FORM = "STGCN, kernels replaced by nothing"
CHANNELS = (2, 2, 2, 2, 4, 4, 4, 8, 8, 32)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.host", description="What the host takes.")
    parser.add_argument("--frames", type=int, default=8, help="frames of a clip")
    Timing.add_arguments(parser, repeats=100)
    args = parser.parse_args(argv)
    if importlib.util.find_spec("triton") is None:
        parser.error("the kernels need Triton: run `pip install triton`")
    if os.environ.get("TRITON_INTERPRET") == "1":
        parser.error("interpreted kernels are another program: unset TRITON_INTERPRET")
    timing = Timing.of(args)
    settings = {"frames": args.frames, **timing.settings()}
    print(", ".join(f"{name} {value}" for name, value in settings.items()))
    encoder = kernels_for(STGCN(NTU_RGBD_25, channels=CHANNELS, bodies="all").to(timing.device))
    x = torch.randn(1, 3, args.frames, 25, 2, device=timing.device)
    parameters = list(encoder.parameters())

    def forward() -> None:
        with torch.no_grad():
            encoder(x)

    def both() -> None:
        torch.autograd.grad(encoder(x).sum(), parameters)

    rows: list[Row] = []
    passes: dict[str, Callable[[], None]] = {"forward alone, as for keys": forward, "forward and backward": both}
    with nowhere(timing.device) as launched:
        for name, call in passes.items():
            launched.clear()
            call()
            case = f"{name}: {sum(launched.values())} kernels"
            seconds = interleaved({FORM: call}, timing)[FORM]
            rows.append(whole_row(case, FORM, seconds, seconds, None))
            print(f"{case:45}{Spread.of(seconds).show(1e3):>28} ms")
    title = "The host's time for the encoder, training mode"
    save(args.json, {**settings, "tables": [table(title, "pass", rows)]})


def kernels_for(encoder: STGCN) -> STGCN:
    """Return the encoder, in training, with the kernels of the paper's on a GPU: not in its widest convolution."""
    for module in encoder.modules():
        if isinstance(module, GraphConv):
            module.implementation = "triton"
        if isinstance(module, TemporalConv):
            module.implementation = "triton" if module.in_channels < encoder.out_features else "direct"
    return encoder.train()


@contextmanager
def nowhere(device: torch.device) -> Iterator[Counter[str]]:
    """Let launched kernels do nothing but count, by name."""
    launched: Counter[str] = Counter()

    def run(kernel: "JITFunction[Any]", *_args: object, **_options: object) -> None:
        launched[kernel.fn.__name__] += 1

    with launched_by(run, device):
        yield launched


def launched_by(run: Callable[..., None], device: torch.device) -> AbstractContextManager[object]:
    """Return a context in which `run` is called in the place of a launch, also for tensors of a CPU."""
    from triton.runtime.jit import JITFunction

    # The library gives tensors of a CPU to kernels where they are interpreted. These here are not: what they are is
    # settled when they are imported, before the variable is set.
    from skelcontrast.kernels import batch_norm, eadm, graph_conv, temporal_conv  # noqa: F401

    stack = ExitStack()
    stack.enter_context(patch.object(JITFunction, "run", run))
    if device.type != "cuda":
        stack.enter_context(patch.dict(os.environ, TRITON_INTERPRET="1"))
        stack.enter_context(patch.object(_batch_norm, "_is_on_gpu", lambda _: True))
    return stack


if __name__ == "__main__":
    main()
