"""What is known of CUDA devices, and what stands in the way of Triton's kernels there."""

import importlib.util
import os
from functools import lru_cache

import torch
from torch import Tensor

from skelcontrast import _check

HAS_TRITON = importlib.util.find_spec("triton") is not None
ROOMY = {(8, 0), (9, 0), (10, 0), (10, 3)}
"""Compute capabilities with the shared memory per multiprocessor that some kernels take, above 99 KiB up to 160."""


def capability(device: torch.device) -> tuple[int, int]:
    """Return the compute capability of a CUDA device."""
    return _ask_capability(device) if torch.compiler.is_compiling() else _capability(device)


def _ask_capability(device: torch.device) -> tuple[int, int]:
    # Of the two calls that tell it, the one that torch.compile takes for a constant.
    properties = torch.cuda.get_device_properties(device)
    return properties.major, properties.minor


_capability = lru_cache(_ask_capability)  # it does not change, and to ask takes microseconds


def triton_cannot(x: Tensor, dtype: torch.dtype) -> str | None:
    """Say why no kernel can take a tensor, computed with in `dtype`; Triton's interpreter takes those of a CPU."""
    if not x.is_cuda and os.environ.get("TRITON_INTERPRET") != "1":
        return f"for tensors on {x.device.type}"
    if torch.version.hip is not None:
        return "for AMD devices, which the kernels were not written for"
    if not torch.compiler.is_compiling() and torch._C._get_tracing_state() is not None:
        return "under torch.jit.trace, which does not see what kernels write"
    return "for float64" if dtype == torch.float64 else None


def check_triton(owner: str, problem: str | None) -> None:
    """Refuse ``implementation="triton"`` where there is a problem with what it was given, or no Triton."""
    if problem is not None:
        _check.fail(owner, "implementation", f"not be 'triton' {problem}", "'triton'", hint="Pass 'auto'.")
    if not HAS_TRITON:
        hint = "Run `pip install triton`, or pass 'auto'."
        raise ImportError(f"{owner}: `implementation='triton'` needs Triton. {hint}")
