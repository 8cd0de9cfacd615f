"""Mined neighbours against a full ranking, NNM against Eq. 9 written as a loop and the released code's numbers."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

import pytest
import torch
from tests.reference import losses as reference
from tests.reference.losses import unit_rows
from torch import Tensor

from skelcontrast.losses import NNMLoss, info_nce, nearest_neighbors, nnm
from skelcontrast.losses.bank_read import Implementation

Positives = Literal["sum", "mean", "logsumexp"]
POSITIVES: tuple[Positives, ...] = ("sum", "mean", "logsumexp")

both_twins = pytest.mark.parametrize("implementation", ["dense", "chunked"])


def draw(N: int, D: int, K: int) -> tuple[Tensor, Tensor, Tensor]:
    return unit_rows(N, D, 0), unit_rows(N, D, 1), unit_rows(K, D, 2)


@pytest.mark.parametrize(("N", "D"), [(1, 24), (3, 65)])
@pytest.mark.parametrize(("K", "k"), [(1, 1), (7, 3), (7, 7), (4097, 5)])
@both_twins
def test_neighbors_agree_with_the_oracle(N: int, D: int, K: int, k: int, implementation: Implementation) -> None:
    queries, bank = [unit_rows(N, D, 0), unit_rows(N, D, 1)], unit_rows(K, D, 2)
    found = nearest_neighbors(queries, bank, k=k, implementation=implementation)
    assert found.dtype == torch.int64
    assert found.shape == (N, 2 * k)
    expected = [reference.nearest_neighbors(query, bank, k=k) for query in queries]
    assert found.tolist() == [a + b for a, b in zip(*expected, strict=True)]


@pytest.mark.parametrize("positives", POSITIVES)
def test_a_row_of_minus_one_is_no_neighbor(positives: Positives) -> None:
    query, positive, bank = draw(2, 8, 20)
    rows = torch.tensor([[3, -1, 5], [-1, -1, 2]])
    found = nnm(query, positive, bank, rows, positives=positives, reduction="none")
    for n, kept in enumerate(([3, 5], [2])):
        expected = nnm(query[[n]], positive[[n]], bank, torch.tensor([kept]), positives=positives, reduction="none")
        torch.testing.assert_close(found[[n]], expected)


def test_neighbors_carry_no_gradient_and_ignore_autocast() -> None:
    queries = [unit_rows(5, 32, seed, dtype=torch.float32, requires_grad=True) for seed in (0, 1)]
    bank = unit_rows(500, 32, 2, dtype=torch.float32)
    expected = nearest_neighbors(queries, bank, k=20)
    assert not expected.requires_grad
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(nearest_neighbors(queries, bank, k=20), expected)


@pytest.mark.parametrize("positives", POSITIVES)
@pytest.mark.parametrize(("N", "D"), [(1, 24), (3, 65)])
@pytest.mark.parametrize(("K", "k"), [(1, 1), (7, 3), (4097, 2)])
@both_twins
def test_agrees_with_the_oracle(
    N: int, D: int, K: int, k: int, positives: Positives, implementation: Implementation
) -> None:
    query, positive, bank = draw(N, D, K)
    # Two views that are nearly the same find the same rows, so some repeat.
    neighbors = nearest_neighbors([query, query + 0.1 * positive, positive], bank, k=k, implementation=implementation)
    expected = torch.tensor(
        reference.nnm(query, positive, bank, neighbors.tolist(), temperature=0.1, positives=positives),
        dtype=torch.float64,
    )
    found = nnm(
        query,
        positive,
        bank,
        neighbors,
        temperature=0.1,
        positives=positives,
        reduction="none",
        implementation=implementation,
    )
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    found = nnm(
        query.float(),
        positive.float(),
        bank.float(),
        neighbors,
        temperature=0.1,
        positives=positives,
        reduction="none",
        implementation=implementation,
    )
    torch.testing.assert_close(found, expected.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("k", [1, 3])
@both_twins
def test_agrees_with_the_released_code(
    golden: Callable[[str], Mapping[str, Any]], k: int, implementation: Implementation
) -> None:
    numbers = {name: torch.from_numpy(value) for name, value in golden("losses.npz").items()}
    views = {name: numbers[name].requires_grad_() for name in ("query", "extreme", "extreme_dropped")}
    query, key, bank = views["query"], numbers["key"], numbers["queue"]
    neighbors = nearest_neighbors(list(views.values()), bank, k=k, implementation=implementation)
    mask = torch.zeros(query.shape[0], 1 + bank.shape[0], dtype=torch.bool)
    mask[:, 0] = True
    assert torch.equal(mask.scatter(1, neighbors + 1, value=True), numbers[f"positive_mask_top{k}"])
    for positives in POSITIVES:
        query.grad = None
        loss = nnm(
            query,
            key,
            bank,
            neighbors,
            temperature=float(numbers["temperature"]),
            positives=positives,
            implementation=implementation,
        )
        loss.backward()
        torch.testing.assert_close(loss.detach(), numbers[f"nnm_{positives}_top{k}"], rtol=0, atol=1e-9)
        for name, view in views.items():
            found = torch.zeros_like(view) if view.grad is None else view.grad
            torch.testing.assert_close(found, numbers[f"nnm_{positives}_top{k}_grad_{name}"], rtol=0, atol=1e-9)


@pytest.mark.parametrize("positives", POSITIVES)
@both_twins
def test_gradient(positives: Positives, implementation: Implementation) -> None:
    query, positive, bank = draw(2, 5, 6)
    neighbors = torch.tensor([[3, 1, 3], [0, 5, 2]])
    query.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda q: nnm(
            q, positive, bank, neighbors, temperature=0.3, positives=positives, implementation=implementation
        ),
        (query,),
    )


@pytest.mark.parametrize("positives", POSITIVES)
@both_twins
def test_a_repeated_neighbor_counts_once(positives: Positives, implementation: Implementation) -> None:
    query, positive, bank = draw(2, 8, 6)
    once = nnm(
        query,
        positive,
        bank,
        torch.tensor([[0, 4], [5, 0]]),
        positives=positives,
        reduction="none",
        implementation=implementation,
    )
    again = torch.tensor([[4, 0, 4, 0, 0], [0, 5, 0, 5, 5]])
    torch.testing.assert_close(
        nnm(query, positive, bank, again, positives=positives, reduction="none", implementation=implementation), once
    )
    # Row 0 beside the same row again, where nothing else separates them.
    zeros = torch.zeros(2, 3, dtype=torch.long)
    expected = nnm(
        query, positive, bank, zeros[:, :1], positives=positives, reduction="none", implementation=implementation
    )
    assert torch.equal(
        nnm(query, positive, bank, zeros, positives=positives, reduction="none", implementation=implementation),
        expected,
    )


def test_neighbors_are_not_changed() -> None:
    query, positive, bank = draw(1, 8, 6)
    neighbors = torch.tensor([[5, 1, 5]])
    nnm(query, positive, bank, neighbors)
    assert neighbors.tolist() == [[5, 1, 5]]


@pytest.mark.parametrize("positives", POSITIVES)
def test_without_neighbors_it_is_info_nce(positives: Positives) -> None:
    query, positive, bank = draw(3, 8, 6)
    found = nnm(query, positive, bank, torch.zeros(3, 0, dtype=torch.long), positives=positives, reduction="none")
    torch.testing.assert_close(found, info_nce(query, positive, bank, reduction="none"))


def test_the_three_forms_are_ordered_and_related() -> None:
    query, positive, bank = draw(4, 8, 20)
    neighbors = torch.tensor([[1, 2], [3, 3], [4, 9], [0, 19]])
    total, mean, inside = (nnm(query, positive, bank, neighbors, positives=p, reduction="none") for p in POSITIVES)
    torch.testing.assert_close(total, mean * torch.tensor([3, 2, 3, 3]))
    assert (inside < mean).all()


def test_logsumexp_of_everything_is_zero() -> None:
    query, positive, bank = draw(3, 8, 6)
    query.requires_grad_()
    loss = nnm(query, positive, bank, torch.arange(6).expand(3, -1), positives="logsumexp", temperature=0.01)
    loss.backward()
    assert query.grad is not None
    assert abs(loss.item()) < 1e-14
    assert query.grad.abs().max() < 1e-12


def test_module_is_the_function_with_its_settings() -> None:
    query, positive, bank = draw(3, 8, 5)
    neighbors = nearest_neighbors([query], bank, k=2)
    module = NNMLoss(temperature=0.2, positives="logsumexp", reduction="sum")
    expected = nnm(query, positive, bank, neighbors, temperature=0.2, positives="logsumexp", reduction="sum")
    assert torch.equal(module(query, positive, bank, neighbors), expected)
    assert repr(module) == "NNMLoss(temperature=0.2, positives='logsumexp', reduction='sum')"
    assert repr(NNMLoss()) == "NNMLoss(temperature=0.07, positives='sum', reduction='mean')"


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        (
            {"neighbors": torch.zeros(6, 1)},
            TypeError,
            "`neighbors` must be int64, got torch.float32. Pass rows of the bank, as `nearest_neighbors` returns them.",
        ),
        (
            {"neighbors": torch.zeros(6, 9, dtype=torch.bool)},
            TypeError,
            "`neighbors` must be int64, got torch.bool. Pass rows of the bank, as `nearest_neighbors` returns them.",
        ),
        ({"neighbors": [[0]]}, TypeError, "`neighbors` must be a torch.Tensor, got list."),
        (
            {"neighbors": torch.zeros(6, dtype=torch.long)},
            ValueError,
            "`neighbors` must have shape (6, P) to match `query` (6, 8), got (6,).",
        ),
        (
            {"neighbors": torch.zeros(5, 2, dtype=torch.long)},
            ValueError,
            "`neighbors` must have shape (6, P) to match `query` (6, 8), got (5, 2).",
        ),
        (
            {"neighbors": torch.zeros(6, 1, dtype=torch.long, device="meta")},
            ValueError,
            "`neighbors` must be on the device of `query` (cpu), got meta.",
        ),
        (
            {"bank": torch.zeros(8, 9)},
            ValueError,
            "`bank` must have shape (K, 8) to match `query` (6, 8), got (8, 9). Was the bank passed transposed?",
        ),
        ({"positive": torch.zeros(8)}, ValueError, "`positive` must have shape (6, 8) to match `query`, got (8,)."),
        ({"positives": "max"}, ValueError, "`positives` must be one of 'sum', 'mean', 'logsumexp', got 'max'."),
        ({"temperature": -1}, ValueError, "`temperature` must lie in (0, inf), got -1."),
        ({"reduction": 0}, ValueError, "`reduction` must be one of 'mean', 'sum', 'none', got 0."),
    ],
)
def test_bad_calls(changes: dict[str, Any], kind: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {"query": torch.zeros(6, 8), "positive": torch.zeros(6, 8)}
    arguments |= {"bank": torch.zeros(9, 8), "neighbors": torch.zeros(6, 1, dtype=torch.long)}
    with pytest.raises(kind, match=f"^{re.escape(f'nnm: {message}')}$"):
        nnm(**{**arguments, **changes})


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"queries": []}, ValueError, "`queries` must hold at least 1 tensor, got 0."),
        (
            {"queries": torch.zeros(6, 8)},
            TypeError,
            "`queries` must be a sequence of tensors, got Tensor. Put it in a list.",
        ),
        ({"queries": [torch.zeros(8)]}, ValueError, "`queries[0]` must have shape (N, D), got (8,)."),
        (
            {"queries": [torch.zeros(6, 8), torch.zeros(6, 7)]},
            ValueError,
            "`queries[1]` must have shape (6, 8) to match `queries[0]`, got (6, 7).",
        ),
        (
            {"bank": torch.zeros(8, 20)},
            ValueError,
            "`bank` must have shape (K, 8) to match `queries[0]` (6, 8), got (8, 20). Was the bank passed transposed?",
        ),
        ({"k": 10}, ValueError, "`k` must lie in [1, 9], got 10. `bank` holds 9 keys."),
        ({"k": 0}, ValueError, "`k` must lie in [1, 9], got 0. `bank` holds 9 keys."),
        ({"k": 1.0}, TypeError, "`k` must be an integer, got 1.0."),
    ],
)
def test_bad_calls_for_neighbors(changes: dict[str, Any], kind: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {"queries": [torch.zeros(6, 8)], "bank": torch.zeros(9, 8)}
    with pytest.raises(kind, match=f"^{re.escape(f'nearest_neighbors: {message}')}$"):
        nearest_neighbors(**{**arguments, **changes})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"temperature": 0}, "`temperature` must lie in (0, inf), got 0."),
        ({"positives": "Sum"}, "`positives` must be one of 'sum', 'mean', 'logsumexp', got 'Sum'."),
        ({"reduction": "avg"}, "`reduction` must be one of 'mean', 'sum', 'none', got 'avg'."),
    ],
)
def test_module_checks_its_settings(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(f'NNMLoss: {message}')}$"):
        NNMLoss(**wrong)
