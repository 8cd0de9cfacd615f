"""AimCLR's loss in one call against the loops, the released code's numbers, its own parts, and a plain dense form."""

import itertools
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import pytest
import torch
from tests.reference import losses as reference
from tests.reference.losses import unit_rows
from torch import Tensor

from skelcontrast.losses import AimCLRTerms, aimclr_loss, d3m, info_nce, nearest_neighbors, nnm
from skelcontrast.losses.bank_read import Implementation
from skelcontrast.losses.d3m import Form
from skelcontrast.losses.nnm import Positives

both_twins = pytest.mark.parametrize("implementation", ["dense", "chunked"])
every_form = pytest.mark.parametrize(
    ("positives", "form"), list(itertools.product(get_args(Positives), get_args(Form)))
)


def draw(N: int, D: int, K: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, list[Tensor], Tensor, Tensor]:
    query, *extremes = (unit_rows(N, D, seed, dtype=dtype) for seed in (0, 1, 2))
    return query, extremes, unit_rows(N, D, 3, dtype=dtype), unit_rows(K, D, 4, dtype=dtype)


def leaves(*tensors: Tensor) -> list[Tensor]:
    return [tensor.detach().clone().requires_grad_() for tensor in tensors]


@both_twins
@every_form
@pytest.mark.parametrize("mine", [False, True])
def test_agrees_with_the_oracle(mine: bool, positives: Positives, form: Form, implementation: Implementation) -> None:
    query, extremes, positive, bank = draw(3, 24, 97)
    t, k = 0.1, 3
    found = aimclr_loss(
        query,
        extremes,
        positive,
        bank,
        temperature=t,
        mine=mine,
        k=k,
        positives=positives,
        form=form,
        alpha=0.5,
        beta=3.0,
        reduction="none",
        implementation=implementation,
    )
    if mine:
        of_views = [reference.nearest_neighbors(view, bank, k=k) for view in (query, *extremes)]
        rows = [[row for found in sample for row in found] for sample in zip(*of_views, strict=True)]
        contrast = reference.nnm(query, positive, bank, rows, temperature=t, positives=positives)
    else:
        contrast = reference.info_nce(query, positive, bank, temperature=t)
    divergence = reference.d3m(query, extremes, positive, bank, temperature=t, form=form)
    expected = [torch.tensor(x, dtype=torch.float64) for x in (contrast, divergence)]
    assert found.d3m is not None
    torch.testing.assert_close(found.contrast, expected[0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.d3m, expected[1], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.total, 0.5 * expected[0] + 3 * expected[1], rtol=1e-12, atol=1e-12)


@both_twins
@every_form
@pytest.mark.parametrize(("N", "D", "K", "k"), [(1, 24, 1, 1), (3, 65, 7, 7), (127, 24, 4097, 8)])
def test_is_its_parts_in_value_and_gradient(
    N: int, D: int, K: int, k: int, positives: Positives, form: Form, implementation: Implementation
) -> None:
    query, extremes, positive, bank = draw(N, D, K)
    one, other = leaves(query, *extremes), leaves(query, *extremes)
    whole = aimclr_loss(
        one[0], one[1:], positive, bank, mine=True, k=k, positives=positives, form=form, implementation=implementation
    )
    neighbors = nearest_neighbors(other, bank, k=k, implementation="dense")
    contrast = nnm(other[0], positive, bank, neighbors, positives=positives, implementation="dense")
    divergence = d3m(other[0], other[1:], positive, bank, form=form, implementation="dense")
    torch.testing.assert_close(whole.contrast, contrast, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(whole.d3m, divergence, rtol=1e-11, atol=1e-11)
    whole.total.backward()
    (contrast + divergence).backward()
    for found, expected in zip(one, other, strict=True):
        torch.testing.assert_close(found.grad, expected.grad, rtol=1e-11, atol=1e-11)


@both_twins
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("positives", get_args(Positives))
def test_agrees_with_the_released_code(
    golden: Callable[[str], Mapping[str, Any]], positives: Positives, k: int, implementation: Implementation
) -> None:
    numbers = {name: torch.from_numpy(value) for name, value in golden("losses.npz").items()}
    names = ("query", "extreme", "extreme_dropped")
    for mine, name in ((False, "info_nce"), (True, f"nnm_{positives}_top{k}")):
        views = leaves(*(numbers[view] for view in names))
        loss = aimclr_loss(
            views[0],
            views[1:],
            numbers["key"],
            numbers["queue"],
            temperature=float(numbers["temperature"]),
            mine=mine,
            k=k,
            positives=positives,
            implementation=implementation,
        )
        loss.total.backward()
        torch.testing.assert_close(loss.contrast.detach(), numbers[name], rtol=0, atol=1e-9)
        assert loss.d3m is not None
        torch.testing.assert_close(loss.d3m.detach(), numbers["d3m"], rtol=0, atol=1e-9)
        for view, own in zip(views, names, strict=True):
            expected = numbers[f"{name}_grad_{own}"] + numbers[f"d3m_grad_{own}"]
            torch.testing.assert_close(view.grad, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("implementation", "dtype", "tolerance"),
    [
        ("dense", torch.float64, 1e-11),
        ("chunked", torch.float64, 1e-11),
        ("chunked", torch.float32, 2e-5),
    ],
)
def test_agrees_with_the_plain_form_that_benchmarks_compare_with(
    implementation: Implementation, dtype: torch.dtype, tolerance: float
) -> None:
    query, extremes, positive, bank = draw(16, 32, 5000, dtype)
    one, other = leaves(query, *extremes), leaves(query, *extremes)
    found = aimclr_loss(
        one[0], one[1:], positive, bank, mine=True, k=2, positives="mean", implementation=implementation
    ).total
    expected = reference.released_aimclr_loss(other[0], other[1:], positive, bank.T.contiguous(), temperature=0.07, k=2)
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    found.backward()
    expected.backward()
    for view, right in zip(one, other, strict=True):
        torch.testing.assert_close(view.grad, right.grad, rtol=10 * tolerance, atol=tolerance)


@pytest.mark.parametrize("positives", get_args(Positives))
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("mine", [False, True])
def test_gradient_of_the_contrast(mine: bool, positives: Positives, reduction: Literal["mean", "none"]) -> None:
    query, extremes, positive, bank = draw(2, 4, 21)

    def contrast(query: Tensor) -> Tensor:
        return aimclr_loss(
            query,
            extremes,
            positive,
            bank,
            temperature=0.3,
            mine=mine,
            k=2,
            positives=positives,
            reduction=reduction,
            implementation="chunked",
        ).contrast

    assert torch.autograd.gradcheck(contrast, leaves(query))


@pytest.mark.parametrize("form", get_args(Form))
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_gradient_of_d3m(form: Form, reduction: Literal["mean", "none"]) -> None:
    query, extremes, positive, bank = draw(2, 4, 21)

    def divergence(*extremes: Tensor) -> Tensor:
        found = aimclr_loss(
            query, extremes, positive, bank, temperature=0.3, form=form, reduction=reduction, implementation="chunked"
        ).d3m
        assert found is not None
        return found

    assert torch.autograd.gradcheck(divergence, leaves(*extremes))


@both_twins
@pytest.mark.parametrize("form", get_args(Form))
def test_each_term_trains_its_own_views(form: Form, implementation: Implementation) -> None:
    query, extremes, positive, bank = draw(3, 8, 20)
    inputs = leaves(query, *extremes, positive, bank)
    for mine in (False, True):
        loss = aimclr_loss(
            inputs[0], inputs[1:3], inputs[3], inputs[4], mine=mine, form=form, implementation=implementation
        )
        assert loss.d3m is not None
        of_contrast = torch.autograd.grad(loss.contrast, inputs, retain_graph=True, allow_unused=True)
        of_divergence = torch.autograd.grad(loss.d3m, inputs, allow_unused=True)
        assert [gradient is not None for gradient in of_contrast] == [True, False, False, False, False]
        assert [gradient is not None for gradient in of_divergence] == [False, True, True, False, False]


@both_twins
def test_without_extreme_views(implementation: Implementation) -> None:
    query, _, positive, bank = draw(3, 8, 20)
    loss = aimclr_loss(query, [], positive, bank, alpha=0.5, implementation=implementation)
    assert loss.d3m is None
    torch.testing.assert_close(loss.total, 0.5 * info_nce(query, positive, bank))


@both_twins
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("sign", [1, -1])
def test_finite_at_temperature_0_01(dtype: torch.dtype, sign: int, implementation: Implementation) -> None:
    query = torch.eye(4, dtype=dtype, requires_grad=True)
    extreme = torch.eye(4, dtype=dtype).flip(0).requires_grad_()
    loss = aimclr_loss(
        query,
        [extreme],
        sign * query,
        torch.cat([query, -query]).repeat(20, 1),
        temperature=0.01,
        mine=True,
        k=8,
        implementation=implementation,
    )
    loss.total.backward()
    assert loss.total.isfinite()
    for view in (query, extreme):
        assert view.grad is not None
        assert view.grad.dtype == dtype
        assert view.grad.isfinite().all()


def test_the_bank_may_change_before_backward() -> None:
    query, extremes, positive, bank = draw(3, 8, 20)
    one, other = leaves(query), leaves(query)
    loss = aimclr_loss(one[0], extremes, positive, bank, mine=True, implementation="chunked").total
    aimclr_loss(other[0], extremes, positive, bank.clone(), mine=True, implementation="chunked").total.backward()
    bank.zero_()
    loss.backward()
    assert torch.equal(one[0].grad, other[0].grad)  # type: ignore[arg-type]  # both are there


X, BANK = torch.zeros(6, 8), torch.zeros(9, 8)


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"extremes": X}, TypeError, "`extremes` must be a sequence of tensors, got Tensor. Put it in a list."),
        ({"extremes": [X[:5]]}, ValueError, "`extremes[0]` must have shape (6, 8) to match `query`, got (5, 8)."),
        ({"positive": X[:5]}, ValueError, "`positive` must have shape (6, 8) to match `query`, got (5, 8)."),
        (
            {"bank": BANK.T},
            ValueError,
            "`bank` must have shape (K, 8) to match `query` (6, 8), got (8, 9). Was the bank passed transposed?",
        ),
        ({"k": 10}, ValueError, "`k` must lie in [1, 9], got 10. `bank` holds 9 keys."),
        ({"k": 1.0}, TypeError, "`k` must be an integer, got 1.0."),
        ({"alpha": -1}, ValueError, "`alpha` must lie in [0, inf), got -1."),
        ({"beta": -1}, ValueError, "`beta` must lie in [0, inf), got -1."),
        ({"temperature": 0}, ValueError, "`temperature` must lie in (0, inf), got 0."),
        ({"positives": "all"}, ValueError, "`positives` must be one of 'sum', 'mean', 'logsumexp', got 'all'."),
        ({"form": "js"}, ValueError, "`form` must be one of 'cross_entropy', 'kl', got 'js'."),
        ({"reduction": "avg"}, ValueError, "`reduction` must be one of 'mean', 'sum', 'none', got 'avg'."),
        (
            {"implementation": "fast"},
            ValueError,
            "`implementation` must be one of 'auto', 'dense', 'chunked', 'triton', got 'fast'.",
        ),
    ],
)
def test_bad_calls(changes: dict[str, Any], kind: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {"query": X, "extremes": [X], "positive": X, "bank": BANK, "mine": True}
    with pytest.raises(kind, match=f"^{re.escape(f'aimclr_loss: {message}')}$"):
        aimclr_loss(**{**arguments, **changes})


def test_k_matters_only_where_neighbors_are_mined() -> None:
    loss = aimclr_loss(X, [X], X, BANK, k=10)
    assert isinstance(loss, AimCLRTerms)
