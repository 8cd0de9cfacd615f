"""What dtype is computed with."""

import torch
from torch import Tensor


def _emulated_by_cpu() -> frozenset[torch.dtype]:
    """Return the narrow dtypes for which this CPU has no arithmetic, as far as torch's library of kernels can tell."""
    if not torch.backends.mkldnn.is_available():
        return frozenset()
    asked = {torch.bfloat16: "_is_mkldnn_bf16_supported", torch.float16: "_is_mkldnn_fp16_supported"}
    answers = {dtype: getattr(torch.ops.mkldnn, name, None) for dtype, name in asked.items()}
    return frozenset(dtype for dtype, answer in answers.items() if answer is not None and not answer())


EMULATED_BY_CPU = _emulated_by_cpu()
TILES_IN_CPU = bool(getattr(torch.cpu, "_is_amx_tile_supported", bool)())
"""Whether this CPU multiplies tiles of bfloat16 (AMX), as far as torch tells: its version 2.4 does not."""


def is_full_precision(x: Tensor) -> bool:
    """Tell whether `x` is computed with in float32 or float64."""
    return autocast_dtype(x) in (torch.float32, torch.float64)


def autocast_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype that autocast computes with for `x`, or its own."""
    return torch.get_autocast_dtype(x.device.type) if is_autocast(x) else x.dtype


def is_autocast(x: Tensor) -> bool:
    """Tell whether autocast chooses what `x` is computed with; it leaves float64 alone."""
    device = x.device.type
    # Of other kinds not every version of torch can be asked, and autocast is not there for all.
    known = device in ("cpu", "cuda") or torch.amp.is_autocast_available(device)
    return x.dtype != torch.float64 and known and torch.is_autocast_enabled(device)


def is_emulated(weight: Tensor) -> bool:
    """Tell whether autocast asks a CPU to compute with a float32 weight in numbers that it can only emulate."""
    asked = weight.device.type == "cpu" and weight.dtype == torch.float32 and torch.is_autocast_enabled("cpu")
    return asked and torch.get_autocast_dtype("cpu") in EMULATED_BY_CPU
