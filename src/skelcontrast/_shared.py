"""Small tensors that every batch needs anew, made once for each size and device."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar, cast

import torch
from torch import Tensor

Arguments = ParamSpec("Arguments")
Made = TypeVar("Made")
_RECORDED: dict[int, object] = {}
"""What CUDA graphs read for as long as they live, of which nobody tells."""


def shared(make: Callable[Arguments, Made], *, most: int = 256) -> Callable[Arguments, Made]:
    """Call a function once for the same hashable arguments. The tensors that it returns are shared: read only.

    Results for the `most` last arguments are kept, and what a CUDA graph was recorded with: few of what grows with the
    square of the frames, since recordings may all be of another length.

    The compiler of `torch.compile`, which does not see through a cache, is led past it: there they are made, and merged
    with what follows, in every call. So are modes in which tensors are of another kind, without values.
    """

    def outside_inference(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Made:
        with torch.inference_mode(mode=False):  # a tensor made in inference mode could not be used in training later
            return make(*args, **kwargs)

    cache = lru_cache(maxsize=most)(outside_inference)
    kept = cast("Callable[Arguments, Made]", cache)

    @wraps(make)
    def once(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Made:
        if torch.compiler.is_compiling() or type(torch.empty(0, device="cpu")) is not Tensor:
            return make(*args, **kwargs)
        if not (torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()):
            return kept(*args, **kwargs)
        before = cache.cache_info().misses
        made = kept(*args, **kwargs)
        _RECORDED[id(made)] = made
        if cache.cache_info().misses > before:
            cache.cache_clear()  # what a graph makes has no values until it is replayed, so nobody else may have it
        return made

    return once


@shared
def joint_index(joints: tuple[int, ...], device: torch.device) -> Tensor:
    """Return a list of joints as a tensor on `device`, copied there once.

    Copying a list to a GPU in every step would make the host wait for the device.
    """
    return torch.tensor(joints, dtype=torch.int64, device=device)


@shared
def count(size: int, device: torch.device, step: int = 1) -> Tensor:
    """Return 0, `step`, 2 `step`, ..., `size` numbers (size,), int64."""
    return step * torch.arange(size, device=device)
