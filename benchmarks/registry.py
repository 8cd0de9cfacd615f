"""What is measured: per operation the module that does it, the tests that must pass first, and what it needs."""

from typing import Literal, NamedTuple

import torch

from skelcontrast.nn._precision import EMULATED_BY_CPU


class Benchmark(NamedTuple):
    """A module of this folder that measures one operation behind its tests.

    The module prints its result, and writes its numbers where ``--json FILE`` is given: settings and, under "tables",
    what `benchmarks.report` renders.
    """

    title: str
    """What the page calls it."""
    module: str
    tests: tuple[str, ...]
    """Of the operation; nothing is measured unless they pass in the same call."""
    arguments: tuple[str, ...] = ()
    """Always given to the module."""
    quick: tuple[str, ...] = ()
    """Given with ``--quick``: less of the same, in seconds."""
    needs: tuple[str, ...] = ()
    """Packages of the extra `bench`."""
    only: Literal["cpu", "cuda"] | None = None
    """What alone it tells something about; elsewhere it is measured only where it is named."""

    def is_for(self, device: str) -> bool:
        """Tell whether it belongs to all benchmarks of a machine whose torch computes on `device`."""
        return self.only in (None, device)


_BANK_READ = ("tests/losses", "tests/kernels/test_bank_read.py", "tests/kernels/test_aimclr.py")
_ENCODER = tuple(
    f"tests/kernels/test_{name}.py"
    for name in ("graph_conv", "branch", "temporal_conv", "batch_norm", "two_norms", "statistics", "eadm")
)
_GRAPH_CONV = ("tests/nn", *_ENCODER)
_STEP = ("tests/methods", "tests/test_cuda_graph.py", "tests/test_moco.py", "tests/test_memory.py", *_ENCODER)
_FEW = ("--repeats", "2")


def _on_cpu(*arguments: str) -> tuple[str, ...]:
    """Return arguments that keep all benchmarks together below half an hour on a CPU, nothing where there is CUDA."""
    return () if torch.cuda.is_available() else arguments


def _on_emulating_cpu(*arguments: str) -> tuple[str, ...]:
    """Return arguments that do the same where a CPU has no arithmetic in bfloat16, nothing where it has."""
    return _on_cpu(*arguments) if torch.bfloat16 in EMULATED_BY_CPU else ()


def _on_cuda(*arguments: str) -> tuple[str, ...]:
    """Return arguments that keep all benchmarks together at some minutes on CUDA, nothing on a CPU."""
    return arguments if torch.cuda.is_available() else ()


_SHORT_AXES = (
    *("--keys", "4096", "16384", "--samples", "8", "32"),
    *("--bodies", "4", "16", "--frames", "13", "25", "--joints", "17", "25"),
)

BENCHMARKS = {
    "losses": Benchmark(
        "AimCLR's loss", "benchmarks.losses", _BANK_READ, quick=(*_FEW, "--batch", "32", "--keys", "4096")
    ),
    "losses_rules": Benchmark("How a bank is read", "benchmarks.losses_rules", _BANK_READ, quick=_FEW),
    "graph_conv": Benchmark(
        "Encoder, layer by layer",
        "benchmarks.graph_conv",
        _GRAPH_CONV,
        _on_cpu("--repeats", "5", "--encoder-batch", "32", "--orders"),
        quick=(*_FEW, "--batch", "8", "--encoder-batch", "4"),
    ),
    "graph_conv_bf16": Benchmark(
        "Encoder, layer by layer, bfloat16",
        "benchmarks.graph_conv",
        _GRAPH_CONV,
        (
            "--bf16",
            *_on_cpu("--repeats", "5", "--encoder-batch", "32", "--orders"),
            *_on_emulating_cpu("--repeats", "2", "--encoder-batch", "4", "--batch", "4"),
        ),
        quick=(*_FEW, "--batch", "8", "--encoder-batch", "4"),
        only="cuda",
    ),
    "graph_conv_rules": Benchmark(
        "How a graph convolution is computed",
        "benchmarks.graph_conv_rules",
        _GRAPH_CONV,
        quick=(*_FEW, "--bodies", "8"),
        only="cpu",
    ),
    "host": Benchmark(
        "What the host does for the encoder",
        "benchmarks.host",
        _ENCODER,
        _on_cpu("--threads", "1"),
        quick=_FEW,
        needs=("triton",),
    ),
    "scaling": Benchmark(
        "Growth with K, N, T and V",
        "benchmarks.scaling",
        (*_BANK_READ, *_GRAPH_CONV),
        quick=(*_FEW, *_SHORT_AXES),
    ),
    "augment": Benchmark(
        "Augmentation", "benchmarks.augment", ("tests/augment",), quick=("--repeats", "3", "--batch", "16")
    ),
    "step": Benchmark("A whole training step", "benchmarks.step", _STEP, quick=(*_FEW, "--batch", "8")),
    "step_bf16": Benchmark(
        "A whole training step, bfloat16",
        "benchmarks.step",
        _STEP,
        ("--bf16", *_on_emulating_cpu(*_FEW, "--batch", "4")),
        (*_FEW, "--batch", "4"),
    ),
    "step_kernels": Benchmark(
        "Where a step's time goes",
        "benchmarks.step_kernels",
        _STEP,
        ("--bf16",),
        quick=("--repeats", "2", "--batch", "8", "--keys", "4096", "--form", "captured"),
        only="cuda",
    ),
    "epoch": Benchmark(
        "One epoch",
        "benchmarks.epoch",
        (*_STEP, "tests/data/test_loader.py", "tests/data/test_dataset.py"),
        (*_on_cpu("--clips", "128", "--batch", "64"), *_on_cuda("--clips", "5120")),
        quick=("--clips", "16", "--batch", "8"),
    ),
    "evaluation": Benchmark(
        "Evaluation of frozen features",
        "benchmarks.evaluation",
        ("tests/evaluation",),
        _on_cpu("--seeds", "1"),
        quick=("--train", "2000", "--test", "1000", "--epochs", "3", "--seeds", "2"),
        only="cpu",
    ),
    "parsing": Benchmark(
        "Reading files",
        "benchmarks.parsing",
        ("tests/data/readers",),
        quick=("--files", "6", "--frames", "20", "--repeats", "2"),
        only="cpu",
    ),
    "preparation": Benchmark(
        "Preparing a data set",
        "benchmarks.preparation",
        ("tests/data/preparation",),
        _on_cpu("--files", "1000", "--repeats", "2"),
        quick=("--files", "40", "--frames", "20", "--repeats", "1"),
        only="cpu",
    ),
    "libraries": Benchmark(
        "Beside other libraries",
        "benchmarks.libraries",
        ("tests/losses/test_info_nce.py", "tests/test_memory.py"),
        quick=(*_FEW, "--keys", "4096"),
        needs=("lightly", "pytorch_metric_learning"),
    ),
}
