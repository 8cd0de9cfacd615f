"""Where kernels run."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def on_device_of(x: Tensor) -> AbstractContextManager[object]:
    """Return a context in which kernels are launched on the device of `x`."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()


def multiprocessors(x: Tensor) -> int:
    """Return how many multiprocessors the device of `x` has; 2 for the interpreter, where work is shared too."""
    return torch.cuda.get_device_properties(x.device).multi_processor_count if x.is_cuda else 2
