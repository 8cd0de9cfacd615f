"""Gradients in closed form: as they are, and refused a second time whichever way they are asked for."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from skelcontrast._once import once


class Square(torch.autograd.Function):
    """x ** 2 / 2, whose gradient is x, made without a graph."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.square() / 2

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, upstream: Tensor) -> Tensor | None:
        (x,) = ctx.saved_tensors  # type: ignore[attr-defined]  # of the subclass that torch makes
        (gradient,) = once("square", lambda: (upstream * x,), upstream, x)
        return gradient


@pytest.mark.parametrize("after", [torch.sum, lambda y: y.pow(3).sum()], ids=["constant upstream", "upstream of x"])
@pytest.mark.parametrize("alone", [True, False])
def test_a_second_derivative_raises(after: Callable[[Tensor], Tensor], alone: bool) -> None:
    x = torch.tensor([1.0, -2.0, 3.0], requires_grad=True)
    expected = torch.autograd.grad(after(x.square() / 2), x)[0]
    (gradient,) = torch.autograd.grad(after(Square.apply(x)), x, create_graph=True)  # type: ignore[no-untyped-call]
    torch.testing.assert_close(gradient, expected)
    whole = gradient.sum() + (0 if alone else x.square().sum())  # of which there is something to differentiate
    for differentiate in (lambda: whole.backward(retain_graph=True), lambda: torch.autograd.grad(whole, x)):
        with pytest.raises(RuntimeError, match="square cannot be differentiated twice: its gradient is in closed form"):
            differentiate()


def test_without_a_graph_of_gradients_it_is_what_it_was_given() -> None:
    x = torch.tensor([1.0, -2.0], requires_grad=True)
    Square.apply(x).sum().backward()  # type: ignore[no-untyped-call]
    assert torch.equal(x.grad if x.grad is not None else torch.empty(0), x.detach())
    with torch.no_grad():
        made = (x, None)
        assert once("nothing", lambda: made, x) is made
