"""Small tensors that every batch needs anew, made once for each size and device."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar, cast

import torch
from torch import Tensor

Arguments = ParamSpec("Arguments")
Made = TypeVar("Made")


def shared(make: Callable[Arguments, Made]) -> Callable[Arguments, Made]:
    """Call a function once for the same hashable arguments. The tensors that it returns are shared: read only."""

    @wraps(make)
    def outside_inference(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Made:
        with torch.inference_mode(mode=False):  # a tensor made in inference mode could not be used in training later
            return make(*args, **kwargs)

    return cast("Callable[Arguments, Made]", lru_cache(maxsize=64)(outside_inference))


@shared
def count(size: int, device: torch.device, step: int = 1) -> Tensor:
    """Return 0, `step`, 2 `step`, ..., `size` numbers (size,), int64."""
    return step * torch.arange(size, device=device)


@shared
def identity(size: int, device: torch.device) -> Tensor:
    """Return the identity matrix (size, size), float32."""
    return torch.eye(size, device=device)
