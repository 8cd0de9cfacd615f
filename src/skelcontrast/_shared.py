"""Small tensors that every batch needs anew, made once for each size and device."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar, cast

Arguments = ParamSpec("Arguments")
Made = TypeVar("Made")


def shared(make: Callable[Arguments, Made]) -> Callable[Arguments, Made]:
    """Call a function once for the same hashable arguments. The tensors that it returns are shared: read only."""

    @wraps(make)
    def outside_inference(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Made:
        import torch  # here, so that a layout can be had without

        with torch.inference_mode(mode=False):  # a tensor made in inference mode could not be used in training later
            return make(*args, **kwargs)

    return cast("Callable[Arguments, Made]", lru_cache(maxsize=256)(outside_inference))
