"""InfoNCE against Eq. 1 written as a loop, the released code's numbers, and the messages of bad calls."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from tests.reference import losses as reference
from tests.reference.losses import unit_rows
from torch import Tensor

from skelcontrast.losses import InfoNCELoss, info_nce
from skelcontrast.losses.bank_read import Implementation

both_twins = pytest.mark.parametrize("implementation", ["dense", "chunked"])


def draw(N: int, D: int, K: int) -> tuple[Tensor, Tensor, Tensor]:
    return unit_rows(N, D, 0), unit_rows(N, D, 1), unit_rows(K, D, 2)


@pytest.mark.parametrize("N", [1, 3])
@pytest.mark.parametrize("D", [24, 65])
@pytest.mark.parametrize("K", [1, 7, 4097])
@both_twins
def test_agrees_with_the_oracle(N: int, D: int, K: int, implementation: Implementation) -> None:
    query, positive, bank = draw(N, D, K)
    expected = torch.tensor(reference.info_nce(query, positive, bank, temperature=0.1), dtype=torch.float64)
    found = info_nce(query, positive, bank, temperature=0.1, reduction="none", implementation=implementation)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    narrow = info_nce(
        query.float(), positive.float(), bank.float(), temperature=0.1, reduction="none", implementation=implementation
    )
    torch.testing.assert_close(narrow, expected.float(), rtol=1e-5, atol=1e-5)


@both_twins
def test_agrees_with_the_released_code(
    golden: Callable[[str], Mapping[str, Any]], implementation: Implementation
) -> None:
    numbers = {name: torch.from_numpy(value) for name, value in golden("losses.npz").items()}
    query = numbers["query"].requires_grad_()
    loss = info_nce(
        query,
        numbers["key"],
        numbers["queue"],
        temperature=float(numbers["temperature"]),
        implementation=implementation,
    )
    loss.backward()
    assert query.grad is not None
    torch.testing.assert_close(loss.detach(), numbers["info_nce"], rtol=0, atol=1e-9)
    torch.testing.assert_close(query.grad, numbers["info_nce_grad_query"], rtol=0, atol=1e-9)
    # The other views take no part.
    assert not numbers["info_nce_grad_extreme"].any()
    assert not numbers["info_nce_grad_extreme_dropped"].any()


@both_twins
def test_gradient(implementation: Implementation) -> None:
    query, positive, bank = draw(2, 5, 6)
    query.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda q: info_nce(q, positive, bank, temperature=0.3, implementation=implementation), (query,)
    )


def test_is_cross_entropy_with_the_positive_first() -> None:
    query, positive, bank = draw(4, 8, 10)
    logits = torch.cat([torch.linalg.vecdot(query, positive)[:, None], query @ bank.T], dim=1) / 0.07
    expected = torch.nn.functional.cross_entropy(logits, torch.zeros(4, dtype=torch.long))
    torch.testing.assert_close(info_nce(query, positive, bank), expected)


def test_equal_keys_give_the_uniform_value() -> None:
    query = unit_rows(1, 8, 0)
    loss = info_nce(query, query, query.expand(9, -1))
    torch.testing.assert_close(loss, torch.tensor(10.0, dtype=torch.float64).log())


def test_module_is_the_function_with_its_settings() -> None:
    query, positive, bank = draw(3, 8, 5)
    module = InfoNCELoss(temperature=0.2, reduction="none")
    assert torch.equal(
        module(query, positive, bank), info_nce(query, positive, bank, temperature=0.2, reduction="none")
    )
    assert repr(module) == "InfoNCELoss(temperature=0.2, reduction='none')"
    assert repr(InfoNCELoss()) == "InfoNCELoss(temperature=0.07, reduction='mean')"
    assert not module.state_dict()


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        (
            {"bank": torch.zeros(128, 4096)},
            ValueError,
            (
                "`bank` must have shape (K, 128) to match `query` (256, 128), got (128, 4096). "
                "Was the bank passed transposed?"
            ),
        ),
        (
            {"bank": torch.zeros(64, 32)},
            ValueError,
            "`bank` must have shape (K, 128) to match `query` (256, 128), got (64, 32).",
        ),
        (
            {"bank": torch.zeros(128)},
            ValueError,
            "`bank` must have shape (K, 128) to match `query` (256, 128), got (128,).",
        ),
        (
            {"bank": torch.zeros(9, 128, device="meta")},
            ValueError,
            "`bank` must be on the device of `query` (cpu), got meta.",
        ),
        (
            {"positive": torch.zeros(255, 128)},
            ValueError,
            "`positive` must have shape (256, 128) to match `query`, got (255, 128).",
        ),
        (
            {"positive": torch.zeros(256, 128, device="meta")},
            ValueError,
            "`positive` must be on the device of `query` (cpu), got meta.",
        ),
        ({"query": torch.zeros(2, 3, 128)}, ValueError, "`query` must have shape (N, D), got (2, 3, 128)."),
        ({"query": [0.0]}, TypeError, "`query` must be a torch.Tensor, got list."),
        (
            {"positive": torch.zeros(256, 128, dtype=torch.long)},
            TypeError,
            "`positive` must be floating point, got torch.int64. Call `positive.float()` first.",
        ),
        ({"temperature": 0}, ValueError, "`temperature` must lie in (0, inf), got 0."),
        ({"temperature": -0.07}, ValueError, "`temperature` must lie in (0, inf), got -0.07."),
        ({"temperature": float("nan")}, ValueError, "`temperature` must lie in (0, inf), got nan."),
        ({"temperature": "0.07"}, TypeError, "`temperature` must be a number, got '0.07'."),
        ({"reduction": "average"}, ValueError, "`reduction` must be one of 'mean', 'sum', 'none', got 'average'."),
    ],
)
def test_bad_calls(changes: dict[str, Any], kind: type[Exception], message: str) -> None:
    tensors = {"query": torch.zeros(256, 128), "positive": torch.zeros(256, 128), "bank": torch.zeros(9, 128)}
    with pytest.raises(kind, match=f"^{re.escape(f'info_nce: {message}')}$"):
        info_nce(**{**tensors, **changes})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 0.0}, "`temperature` must lie in (0, inf), got 0."),
        ({"reduction": None}, "`reduction` must be one of 'mean', 'sum', 'none', got None."),
    ],
)
def test_module_checks_its_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(f'InfoNCELoss: {message}')}$"):
        InfoNCELoss(**settings)
