"""D3M against Eq. 7 and 8 written as a loop, the released code's numbers, and what makes it a divergence."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.reference import losses as reference
from tests.reference.losses import unit_rows
from torch import Tensor

from skelcontrast.losses import D3MLoss, d3m
from skelcontrast.losses.bank_read import Implementation

Form = Literal["cross_entropy", "kl"]
FORMS: tuple[Form, ...] = ("cross_entropy", "kl")

both_twins = pytest.mark.parametrize("implementation", ["dense", "chunked"])


def draw(N: int, D: int, K: int, views: int = 2) -> tuple[Tensor, list[Tensor], Tensor, Tensor]:
    extremes = [unit_rows(N, D, 10 + view) for view in range(views)]
    return unit_rows(N, D, 0), extremes, unit_rows(N, D, 1), unit_rows(K, D, 2)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("N", "D", "views"), [(1, 24, 1), (3, 65, 2), (3, 24, 3)])
@pytest.mark.parametrize("K", [1, 7, 4097])
@both_twins
def test_agrees_with_the_oracle(N: int, D: int, K: int, views: int, form: Form, implementation: Implementation) -> None:
    query, extremes, positive, bank = draw(N, D, K, views)
    expected = torch.tensor(
        reference.d3m(query, extremes, positive, bank, temperature=0.1, form=form), dtype=torch.float64
    )
    found = d3m(
        query, extremes, positive, bank, temperature=0.1, form=form, reduction="none", implementation=implementation
    )
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)
    narrow = [view.float() for view in extremes]
    found = d3m(
        query.float(),
        narrow,
        positive.float(),
        bank.float(),
        temperature=0.1,
        form=form,
        reduction="none",
        implementation=implementation,
    )
    torch.testing.assert_close(found, expected.float(), rtol=1e-5, atol=1e-5)


@both_twins
def test_agrees_with_the_released_code(
    golden: Callable[[str], Mapping[str, Any]], implementation: Implementation
) -> None:
    numbers = {name: torch.from_numpy(value) for name, value in golden("losses.npz").items()}
    views = {name: numbers[name].requires_grad_() for name in ("query", "extreme", "extreme_dropped")}
    query, *extremes = views.values()
    loss = d3m(
        query,
        extremes,
        numbers["key"],
        numbers["queue"],
        temperature=float(numbers["temperature"]),
        implementation=implementation,
    )
    loss.backward()
    torch.testing.assert_close(loss.detach(), numbers["d3m"], rtol=0, atol=1e-9)
    for name, view in views.items():
        # The target carries no gradient: zero there, none here.
        found = torch.zeros_like(view) if view.grad is None else view.grad
        torch.testing.assert_close(found, numbers[f"d3m_grad_{name}"], rtol=0, atol=1e-9)
    assert query.grad is None


@pytest.mark.parametrize("form", FORMS)
@both_twins
def test_gradient(form: Form, implementation: Implementation) -> None:
    query, extremes, positive, bank = draw(2, 5, 6)
    inputs = [view.requires_grad_() for view in extremes]
    assert torch.autograd.gradcheck(
        lambda *views: d3m(query, views, positive, bank, temperature=0.3, form=form, implementation=implementation),
        tuple(inputs),
    )


@both_twins
def test_both_forms_have_the_same_gradients(implementation: Implementation) -> None:
    query, extremes, positive, bank = draw(3, 16, 40)
    gradients = []
    for form in FORMS:
        views = [view.clone().requires_grad_() for view in extremes]
        gradients.append(
            torch.autograd.grad(d3m(query, views, positive, bank, form=form, implementation=implementation), views)
        )
    for cross_entropy, kl in zip(*gradients, strict=True):
        torch.testing.assert_close(cross_entropy, kl, rtol=1e-12, atol=1e-12)


def test_the_forms_differ_by_the_entropy_of_the_target() -> None:
    query, extremes, positive, bank = draw(3, 16, 40)
    log_p = torch.log_softmax(
        torch.cat([torch.linalg.vecdot(query, positive)[:, None], query @ bank.T], dim=1) / 0.07, dim=1
    )
    entropy = -(log_p.exp() * log_p).sum(dim=1)
    cross_entropy, kl = (d3m(query, extremes, positive, bank, form=form, reduction="none") for form in FORMS)
    torch.testing.assert_close(cross_entropy - kl, entropy)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), K=st.integers(1, 30), temperature=st.sampled_from([0.01, 0.07, 1.0]))
def test_kl_is_not_negative(seed: int, K: int, temperature: float) -> None:
    query, extreme, positive, bank = (unit_rows(rows, 6, seed + i) for i, rows in enumerate((4, 4, 4, K)))
    losses = d3m(query, [extreme], positive, bank, temperature=temperature, form="kl", reduction="none")
    assert losses.min() >= -1e-13
    near = d3m(query, [query + 1e-9 * extreme], positive, bank, temperature=temperature, form="kl", reduction="none")
    assert near.abs().max() <= 1e-6


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_kl_of_identical_views_is_zero(dtype: torch.dtype) -> None:
    query, positive, bank = (unit_rows(rows, 16, seed, dtype=dtype) for seed, rows in enumerate((5, 5, 33)))
    assert d3m(query, [query.clone(), query], positive, bank, form="kl", temperature=0.01).item() == 0


def test_is_the_mean_over_the_views() -> None:
    query, extremes, positive, bank = draw(3, 8, 9, views=3)
    alone = [d3m(query, [view], positive, bank) for view in extremes]
    torch.testing.assert_close(d3m(query, extremes, positive, bank), torch.stack(alone).mean())


def test_module_is_the_function_with_its_settings() -> None:
    query, extremes, positive, bank = draw(3, 8, 5)
    module = D3MLoss(temperature=0.2, form="kl", reduction="none")
    expected = d3m(query, extremes, positive, bank, temperature=0.2, form="kl", reduction="none")
    assert torch.equal(module(query, extremes, positive, bank), expected)
    assert repr(module) == "D3MLoss(temperature=0.2, form='kl', reduction='none')"
    assert repr(D3MLoss()) == "D3MLoss(temperature=0.07, form='cross_entropy', reduction='mean')"


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"extremes": []}, ValueError, "`extremes` must hold at least 1 tensor, got 0."),
        (
            {"extremes": torch.zeros(6, 8)},
            TypeError,
            "`extremes` must be a sequence of tensors, got Tensor. Put it in a list.",
        ),
        (
            {"extremes": [torch.zeros(6, 8), torch.zeros(5, 8)]},
            ValueError,
            "`extremes[1]` must have shape (6, 8) to match `query`, got (5, 8).",
        ),
        ({"extremes": [None]}, TypeError, "`extremes[0]` must be a torch.Tensor, got NoneType."),
        (
            {"extremes": [torch.zeros(6, 8, device="meta")]},
            ValueError,
            "`extremes[0]` must be on the device of `query` (cpu), got meta.",
        ),
        (
            {"bank": torch.zeros(8, 9)},
            ValueError,
            "`bank` must have shape (K, 8) to match `query` (6, 8), got (8, 9). Was the bank passed transposed?",
        ),
        (
            {"positive": torch.zeros(6, 9)},
            ValueError,
            "`positive` must have shape (6, 8) to match `query`, got (6, 9).",
        ),
        ({"form": "js"}, ValueError, "`form` must be one of 'cross_entropy', 'kl', got 'js'."),
        ({"temperature": 0}, ValueError, "`temperature` must lie in (0, inf), got 0."),
        ({"reduction": ""}, ValueError, "`reduction` must be one of 'mean', 'sum', 'none', got ''."),
    ],
)
def test_bad_calls(changes: dict[str, Any], kind: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {"query": torch.zeros(6, 8), "extremes": [torch.zeros(6, 8)]}
    arguments |= {"positive": torch.zeros(6, 8), "bank": torch.zeros(9, 8)}
    with pytest.raises(kind, match=f"^{re.escape(f'd3m: {message}')}$"):
        d3m(**{**arguments, **changes})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"temperature": -1}, "`temperature` must lie in (0, inf), got -1."),
        ({"form": "KL"}, "`form` must be one of 'cross_entropy', 'kl', got 'KL'."),
        ({"reduction": "avg"}, "`reduction` must be one of 'mean', 'sum', 'none', got 'avg'."),
    ],
)
def test_module_checks_its_settings(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(f'D3MLoss: {message}')}$"):
        D3MLoss(**wrong)
