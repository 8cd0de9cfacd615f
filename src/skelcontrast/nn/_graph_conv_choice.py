"""Which form of the graph convolution is taken: what can run, and what was fastest where it was measured."""

from typing import Literal, TypeAlias

import torch
from torch import Tensor

from skelcontrast import _check
from skelcontrast._cuda import HAS_TRITON, ROOMY, capability, check_triton, triton_cannot
from skelcontrast.nn._precision import TILES_IN_CPU, autocast_dtype, is_full_precision

ContractionOrder: TypeAlias = Literal["auto", "project-first", "aggregate-first", "dense"]
GraphConvImplementation: TypeAlias = Literal["auto", "torch", "blocked", "triton"]
_ORDERS = ("auto", "project-first", "aggregate-first", "dense")
_IMPLEMENTATIONS = ("auto", "torch", "blocked", "triton")

DENSE_UP_TO = 1600
"""V * C_in * C_out / P up to which one dense product beat the blocked form, on one core of an AMD EPYC (Zen 2)."""

NARROW = 4
"""C_in / C_out from which projecting first beat the blocked form, in the same place."""

DENSE_ENTRIES = {True: 25 * 25 * 16 * 16, False: 25 * 25 * 64 * 256}
"""V * V * C_in * C_out, the size of the dense map, up to which it beat other plain products on an H200: in full
precision, and in 16 bits, where that is the largest layer that was measured."""

DENSE_ENTRIES_PER_FRAME = 600
"""V * V * C_in * C_out / (N * T) up to which the dense map is taken in bfloat16 on a CPU that multiplies tiles. On an
Intel Xeon's core it was the fastest up to 300 to 1000, by layer (`benchmarks.graph_conv --bf16`, several batches)."""

_TRITON_PARTITIONS, _TRITON_JOINTS = 4, 32  # a larger graph finds no room on the chip


def check_choices(owner: str, order: str, implementation: str) -> None:
    """Check both names, and that they go together."""
    _check.choice(owner, "order", order, _ORDERS)
    _check.choice(owner, "implementation", implementation, _IMPLEMENTATIONS)
    if implementation in ("blocked", "triton") and order != "auto":
        hint = f"The {implementation} implementation has an order of its own."
        _check.fail(owner, "order", f"be 'auto' with implementation={implementation!r}", repr(order), hint=hint)


def choose(
    x: Tensor, weight: Tensor, order: ContractionOrder, implementation: GraphConvImplementation
) -> tuple[ContractionOrder, GraphConvImplementation]:
    """Put what is measured in the place of "auto", after checking that the implementation can take these tensors."""
    partitions, out_channels, in_channels = weight.shape
    if implementation == "triton":
        check_triton("graph_conv", _triton_cannot(x, weight))
    if implementation == "auto" and order == "auto":
        if x.is_cuda and HAS_TRITON and _triton_cannot(x, weight) is None:
            return "auto", "triton"
        if x.device.type == "cpu" and is_full_precision(x):
            if x.shape[3] * in_channels * out_channels <= DENSE_UP_TO * partitions:
                return "dense", "torch"
            if NARROW * out_channels > in_channels:
                return "auto", "blocked"
    if order == "auto":
        order = _plain_order(x, in_channels, out_channels)
    return order, "torch" if implementation == "auto" else implementation


def _plain_order(x: Tensor, in_channels: int, out_channels: int) -> ContractionOrder:
    """Return the order of contraction in which plain products are fastest."""
    exact, entries = is_full_precision(x), x.shape[3] ** 2 * in_channels * out_channels
    if x.is_cuda and entries <= DENSE_ENTRIES[exact]:
        return "dense"
    if x.device.type == "cpu" and TILES_IN_CPU and autocast_dtype(x) == torch.bfloat16:
        frames = x.shape[0] * x.shape[2]
        if entries <= DENSE_ENTRIES_PER_FRAME * frames:
            return "dense"
    keeps = x.is_cuda and exact and out_channels == in_channels
    return "aggregate-first" if out_channels > in_channels or keeps else "project-first"


def _triton_cannot(x: Tensor, weight: Tensor) -> str | None:
    """Say why the kernels cannot take these tensors."""
    problem = triton_cannot(x, x.dtype)
    if problem is not None:
        return problem
    partitions, joints = weight.shape[0], x.shape[3]
    if partitions > _TRITON_PARTITIONS or joints > _TRITON_JOINTS:
        most = f"{_TRITON_PARTITIONS} partitions or {_TRITON_JOINTS} joints"
        return f"for more than {most}, here {partitions} and {joints}"
    _, *sizes = x.shape
    _, *strides = x.stride()
    if sum([(size - 1) * stride for size, stride in zip(sizes, strides, strict=True)]) >= 2**31:
        return "for samples whose numbers lie 2^31 places apart or more"
    if not x.is_cuda:
        return None
    on = capability(x.device)
    if on < (8, 0) or (is_full_precision(x) and on not in ROOMY):
        numbers = "float32" if is_full_precision(x) else "16 bits"
        return f"for {numbers} on this device, which has too little shared memory"
    return None
