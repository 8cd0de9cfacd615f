"""An operation with a gradient in closed form, as torch's compiler wants it and as it starts soonest without."""

from collections.abc import Callable
from typing import Any, Generic, TypeAlias, TypeVar

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from skelcontrast._once import once
from skelcontrast._operator import operator

_Result = TypeVar("_Result", bound=Tensor | tuple[Tensor, Tensor])

Gradients: TypeAlias = Callable[..., tuple[Tensor, ...]]
"""From the upstream gradient and what was saved to gradients."""


class Context(FunctionCtx):
    """What a gradient finds again: tensors, and all else that the operation was told."""

    saved_tensors: tuple[Any, ...]
    """To be asked for once: checkpoints of torch refuse a second time."""
    needs_input_grad: tuple[bool, ...]
    how: tuple[Any, ...]


def unset_gradient(parameter: Tensor) -> Tensor:
    """Return the gradient of a parameter, without values."""
    return torch.empty_like(parameter, memory_format=torch.contiguous_format)


def _without_upstream(ctx: Context) -> tuple[None, ...]:
    """Return no gradient for any input, where what comes behind has none either."""
    return (None,) * len(ctx.needs_input_grad)


class Twin(Generic[_Result]):
    """An operator of torch for what is being compiled, one node with a gradient; else the same called directly.

    The way through torch's dispatcher takes the host longer than many of these operations take a GPU. The gradients are
    an operator too and have none of their own: a second derivative raises.

    Args:
        name: Of the operator, ``"skelcontrast::..."``.
        forward: From tensors and numbers to a tensor, or to one and another that has no gradient.
        fake: The same without values: an unset result of the right shape and memory format.
        gradients: From the upstream gradient and what was saved to gradients.
        fake_gradients: The same without values.
        save: Keeps in the context what the gradient needs, given the inputs and the output.
        gradient: From the context, the upstream gradient and `gradients` to one entry for every input.
    """

    def __init__(
        self,
        name: str,
        forward: Callable[..., _Result],
        fake: Callable[..., _Result],
        gradients: Gradients,
        fake_gradients: Gradients,
        *,
        save: Callable[[Context, tuple[Any, ...], _Result], None],
        gradient: Callable[[Context, Tensor, Gradients], tuple[Tensor | None, ...]],
    ) -> None:
        self._forward = forward
        self.operator = operator(name, forward, fake)
        of = self.gradients_operator = operator(f"{name}_gradients", gradients, fake_gradients)

        def keep_for_backward(ctx: Context, inputs: tuple[Any, ...], output: _Result) -> None:
            if isinstance(output, tuple):  # zeros in the place of a gradient would be a kernel more
                ctx.mark_non_differentiable(output[1])
                ctx.set_materialize_grads(False)
            save(ctx, inputs, output)

        def compiled_gradient(ctx: Context, upstream: Tensor | None, *_none: None) -> tuple[Tensor | None, ...]:
            return _without_upstream(ctx) if upstream is None else gradient(ctx, upstream, of)

        def direct_gradient(ctx: Context, upstream: Tensor | None) -> tuple[Tensor | None, ...]:
            return _without_upstream(ctx) if upstream is None else gradient(ctx, upstream, gradients)

        self.operator.register_autograd(compiled_gradient, setup_context=keep_for_backward)

        def direct_forward(ctx: Context, *inputs: object) -> _Result:
            # With a `setup_context` torch would bind the arguments by their signature in every call, which takes it
            # longer than all else that it does.
            out = forward(*inputs)
            keep_for_backward(ctx, inputs, out)
            return out

        public = name.removeprefix("skelcontrast::").removeprefix("summed_")

        def direct_backward(ctx: Context, upstream: Tensor | None, *_none: None) -> tuple[Tensor | None, ...]:
            if not torch.is_grad_enabled():
                return direct_gradient(ctx, upstream)
            return once(public, lambda: direct_gradient(ctx, upstream), upstream, *ctx.saved_tensors)

        methods = {"forward": staticmethod(direct_forward), "backward": staticmethod(direct_backward)}
        self._direct: Any = type(name, (torch.autograd.Function,), methods)

    def __call__(self, *inputs: object) -> _Result:
        """Do the operation."""
        if torch.compiler.is_compiling():
            through: Callable[..., _Result] = self.operator
        else:
            through = self._direct.apply if torch.is_grad_enabled() else self._forward
        return through(*inputs)
