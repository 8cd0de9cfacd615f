"""Weights of several passes: their gradients are those of the plain passes, added up in one operation."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from skelcontrast._own_weights import own_weights
from tests.compiling import needs_compiler


class Two(nn.Module):
    """Two layers that share a weight, one more that the second of two passes leaves out, and one that is frozen."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.more, self.frozen = (nn.Linear(3, 3) for _ in range(4))
        self.second.weight = self.first.weight
        self.frozen.requires_grad_(requires_grad=False)

    def forward(self, x: Tensor, *, all_of_it: bool = True) -> Tensor:
        x = self.frozen(self.second(self.first(x).tanh()))
        return torch.as_tensor(self.more(x).square() if all_of_it else x)


@pytest.fixture
def sums(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Where the sums lie, call by call; to hold them would keep autograd from using them as they are."""
    found: list[list[int]] = []
    add = torch._foreach_add

    def watched(*args: Any) -> Any:
        together = add(*args)
        found.append([each.data_ptr() for each in together])
        return together

    monkeypatch.setattr(torch, "_foreach_add", watched)
    return found


def gradients(model: Two, views: Tensor, passes: list[Callable[[Tensor], Tensor]]) -> list[Tensor | None]:
    model.zero_grad()
    contexts = own_weights([model] * len(passes))
    total = torch.zeros(())
    for one, context, view in zip(passes, contexts, views, strict=True):
        with context:
            total = total + one(view).sum()
    total.backward()
    return [weight.grad for weight in model.parameters()]


@pytest.mark.parametrize("number", [2, 3])
def test_gradients_are_those_of_plain_passes_and_are_not_copied(sums: list[list[int]], number: int) -> None:
    model, views = Two(), torch.randn(number, 5, 3)
    found = gradients(model, views, [model] * number)
    assert [len(each) for each in sums] == [5] * (number - 1)
    learned = [gradient for gradient in found if gradient is not None]
    assert [one.data_ptr() for one in learned] == sums[-1]
    model.zero_grad()
    torch.stack([model(view).sum() for view in views]).sum().backward()
    for one, weight in zip(found, model.parameters(), strict=True):
        assert (one is None) == (weight.grad is None)
        if one is not None:
            torch.testing.assert_close(one, weight.grad)
    assert [weight.grad is None for weight in model.frozen.parameters()] == [True, True]


def test_a_weight_that_one_pass_leaves_out_has_the_gradient_of_the_other(sums: list[list[int]]) -> None:
    model, views = Two(), torch.randn(2, 5, 3)
    found = gradients(model, views, [lambda x: model(x, all_of_it=False), model])
    assert [len(each) for each in sums] == [3]
    model.zero_grad()
    (model(views[0], all_of_it=False).sum() + model(views[1]).sum()).backward()
    for one, weight in zip(found, model.parameters(), strict=True):
        torch.testing.assert_close(one, weight.grad)


def test_gradients_can_be_differentiated_again() -> None:
    model, views = Two(), torch.randn(2, 5, 3)
    weights, found = [weight for weight in model.parameters() if weight.requires_grad], list[tuple[Tensor, ...]]()
    for contexts in (own_weights([model, model]), own_weights([model, None])):
        total = torch.zeros(())
        for context, view in zip(contexts, views, strict=True):
            with context:
                total = total + model(view).sum()
        once = torch.autograd.grad(total, weights, create_graph=True)
        found.append(torch.autograd.grad(torch.stack([each.square().sum() for each in once]).sum(), weights))
    torch.testing.assert_close(*found)


def test_the_module_is_as_before_behind_a_pass_also_where_that_stops() -> None:
    model = Two()
    before = dict(model.named_parameters())
    context, _ = own_weights([model, model])

    def stop() -> None:
        with context:
            assert model.first.weight is model.second.weight
            assert model.first.weight is not before["first.weight"]
            assert model.frozen.weight is before["frozen.weight"]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        stop()
    assert all(one is before[name] for name, one in model.named_parameters())


def test_a_module_of_one_pass_keeps_its_weights_and_so_do_all_without_gradients() -> None:
    model, other = Two(), Two()
    weights = model.first.weight, other.first.weight
    with torch.no_grad():
        without = own_weights([model, None, model])
    for contexts in (own_weights([model, None, other]), without):
        for context in contexts:
            with context:
                assert model.first.weight is weights[0]
                assert other.first.weight is weights[1]


@needs_compiler
def test_compiled_passes_learn_the_same(sums: list[list[int]]) -> None:
    torch.compiler.reset()
    model, views = Two(), torch.randn(2, 5, 3)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True, dynamic=False)
    found = gradients(model, views, [compiled, compiled])
    assert [len(each) for each in sums] == [5]
    expected = gradients(model, views, [model, model])
    for one, two in zip(found, expected, strict=True):
        torch.testing.assert_close(one, two)
