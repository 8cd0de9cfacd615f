"""Gradients in closed form, which have none of their own."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def once(
    name: str, gradients: Callable[[], tuple[Tensor | None, ...]], *of: Tensor | None
) -> tuple[Tensor | None, ...]:
    """Return gradients of which a second derivative, by anything that they are of, raises.

    That of torch, `once_differentiable`, lets those pass that are asked for by `torch.autograd.grad`, and all where the
    upstream gradient has no graph: what is missing would be taken for zero.

    Args:
        name: The operation, for the message.
        gradients: Makes the gradients.
        of: What they depend on: the upstream gradient, and all that the operation was given.
    """
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return gradients()
    with torch.no_grad():
        made = gradients()
    refusing: tuple[Tensor | None, ...] = _Once.apply(name, made, *of)  # type: ignore[no-untyped-call]  # torch's
    return refusing


class _Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, name: str, made: tuple[Tensor | None, ...], *_of: Tensor | None) -> tuple[Tensor | None, ...]:  # noqa: ANN401  autograd's
        ctx.name = name
        return made

    @staticmethod
    def backward(ctx: Any, *_upstream: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401  autograd's
        message = f"{ctx.name} cannot be differentiated twice: its gradient is in closed form. "
        raise RuntimeError(message + "Where there is an `implementation` to choose, a plain one can.")
