"""Weights that several passes learn, as tensors of each pass, so that their gradients are added up all at once."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn


def own_weights(modules: Sequence[nn.Module | None]) -> list[AbstractContextManager[None]]:
    """Return a context for each of several passes, in which the weights of its module are tensors of its own.

    Autograd adds up the gradients of a weight that several passes learn by an operation for every weight. From these
    tensors all of them come back together, and one operation does it. A module of a single pass is left as it is.
    """
    contexts: list[AbstractContextManager[None]] = [nullcontext() for _ in modules]
    for module in {id(module): module for module in modules if module is not None}.values():
        passes = [number for number, other in enumerate(modules) if other is module]
        weights = [weight for weight in module.parameters() if weight.requires_grad]
        if len(passes) == 1 or not weights or not torch.is_grad_enabled():
            continue
        tensors = _Aliases.apply(len(passes), *weights)  # type: ignore[no-untyped-call]  # torch's
        for first, number in enumerate(passes):
            own = tensors[first * len(weights) : (first + 1) * len(weights)]
            contexts[number] = _in_place_of(module, dict(zip(weights, own, strict=True)))
    return contexts


@contextmanager
def _in_place_of(module: nn.Module, own: dict[nn.Parameter, Tensor]) -> Iterator[None]:
    places = [
        (part._parameters, name, weight)
        for part in module.modules()
        for name, weight in part._parameters.items()
        if weight is not None and weight in own
    ]
    for where, name, weight in places:
        where[name] = own[weight]  # type: ignore[assignment]  # a tensor serves as well for as long as this lasts
    try:
        yield
    finally:
        for where, name, weight in places:
            where[name] = weight


class _Aliases(torch.autograd.Function):
    """The weights once for each pass; of their gradients, the sum over passes."""

    @staticmethod
    def forward(ctx: Any, passes: int, *weights: Tensor) -> tuple[Tensor, ...]:  # noqa: ANN401  autograd's
        ctx.set_materialize_grads(False)
        ctx.passes = passes
        return tuple(weight.view_as(weight) for _ in range(passes) for weight in weights)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:  # noqa: ANN401  autograd's
        count = len(gradients) // ctx.passes
        of_passes = (gradients[first : first + count] for first in range(0, len(gradients), count))
        return None, *reduce(_added, of_passes)


def _added(ones: Sequence[Tensor | None], twos: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
    """Add up gradients in one operation; either of a pair may be absent."""
    pairs = list(zip(ones, twos, strict=True))
    both = [(one, two) for one, two in pairs if one is not None and two is not None]
    sums = iter(torch._foreach_add(*zip(*both, strict=True)) if both else ())
    return tuple(two if one is None else one if two is None else next(sums) for one, two in pairs)
