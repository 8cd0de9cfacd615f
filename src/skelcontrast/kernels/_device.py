"""Where kernels run, and what arithmetic torch is set to there."""

from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache

import torch
from torch import Tensor


def on_device_of(x: Tensor) -> AbstractContextManager[object]:
    """Return a context in which kernels are launched on the device of `x`."""
    elsewhere = x.is_cuda and x.get_device() != torch.cuda.current_device()
    return torch.cuda.device(x.device) if elsewhere else nullcontext()


def multiprocessors(device: torch.device) -> int:
    """Return how many multiprocessors a device has; 2 for the interpreter, where work is shared too."""
    return _multiprocessors(device) if device.type == "cuda" else 2


def tf32_in_products() -> bool:
    """Return whether torch takes matrix products of float32 on CUDA in tf32; it does not unless told to."""
    return _is_tf32(torch.backends.cuda.matmul, torch.backends.cuda.matmul)


def tf32_in_convolutions() -> bool:
    """Return whether torch takes convolutions of float32 on CUDA in tf32; it does unless told otherwise."""
    return _is_tf32(getattr(torch.backends.cudnn, "conv", None), torch.backends.cudnn)


def precision_of(x: Tensor) -> str:
    """Return the arithmetic of a convolution: float32 as one product of tf32 where torch's own may be, else as three.

    "wide" for bfloat16 on a device without products of bfloat16: they are taken in float32 there.
    """
    if x.dtype == torch.bfloat16 and not (x.is_cuda and _multiplies_bfloat16(x.device)):
        return "wide"
    return "tf32" if tf32_in_convolutions() else "tf32x3"


def unset(x: Tensor, *sizes: int) -> Tensor:
    """Return an unset float32 tensor of these sizes, on the device of `x`."""
    return torch.empty(sizes, dtype=torch.float32, device=x.device)


# Triton has the next two itself, for kernels: called from Python they take microseconds, and a step calls them often.


def ceil_div(number: int, size: int) -> int:
    """Return how many parts of a size hold a number of things."""
    return -(-number // size)


def power_of_two(size: int) -> int:
    """Return the least power of two that is not below a size of 1 or more."""
    return 1 << (int(size) - 1).bit_length()  # a size that is a symbol, for torch.compile, becomes a number


def are_known(sizes: tuple[int, ...]) -> bool:
    """Return whether all sizes are plain integers: torch.compile's symbols cannot be kept in a cache."""
    return all(type(size) is int for size in sizes)


def padded(size: int) -> int:
    """Return the least power of two that a matrix unit takes for a size: 16 or more."""
    return max(16, power_of_two(size))


# What a device is does not change, and to ask it takes microseconds.


@lru_cache
def _multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count


@lru_cache
def _multiplies_bfloat16(device: torch.device) -> bool:
    with torch.cuda.device(device):
        supported: bool = torch.cuda.is_bf16_supported(including_emulation=False)
    return supported


def _is_tf32(setting: object, older: object) -> bool:
    # The newer of torch's two settings, where there is one: it refuses to be mixed with the older.
    precision = getattr(setting, "fp32_precision", None)
    return bool(getattr(older, "allow_tf32", False)) if precision is None else precision == "tf32"
