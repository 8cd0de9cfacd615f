"""Means of loss terms over an epoch: their values, the first step that is not finite, and the messages."""

import re
from typing import Any

import pytest
import torch

from skelcontrast.evaluation import mean_terms
from skelcontrast.methods import SkeletonCLRLoss


def steps(*totals: float, **others: float) -> list[dict[str, torch.Tensor]]:
    return [{"total": torch.tensor(total), **{n: torch.tensor(v) for n, v in others.items()}} for total in totals]


def test_means() -> None:
    assert mean_terms(steps(1.0, 2.0, 6.0, d3m=0.5)) == {"total": 3.0, "d3m": 0.5}
    found = mean_terms([{"total": torch.tensor(1.0, requires_grad=True), "nnm": torch.tensor(2.0).bfloat16()}])
    assert found == {"total": 1.0, "nnm": 2.0}
    assert all(type(value) is float for value in found.values())


@pytest.mark.parametrize(
    ("values", "options", "said"),
    [
        ((1.0, torch.nan, torch.inf), {}, "got total nan in step 2 of 3. A lower learning rate or a longer warm-up"),
        ((1.0, 2.0, -torch.inf), {"epoch": 4}, "got total -inf in step 3 of 3 of epoch 4. A lower learning rate or"),
    ],
)
def test_the_first_step_that_is_not_finite_is_named(
    values: tuple[float, ...], options: dict[str, Any], said: str
) -> None:
    with pytest.raises(FloatingPointError, match=re.escape(f"mean_terms: `steps` must hold finite terms, {said}")):
        mean_terms(steps(*values, d3m=1.0), **options)


def test_the_term_that_broke_is_named() -> None:
    with pytest.raises(FloatingPointError, match="got d3m inf in step 1 of 2"):
        mean_terms(steps(1.0, torch.nan, d3m=torch.inf))


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ([], ValueError, "`steps` must hold at least one step, got none."),
        (
            [*steps(1.0, nnm=1.0), *steps(1.0)],
            ValueError,
            "the terms total, nnm in every step, got total in step 2",
        ),
        (
            [SkeletonCLRLoss(torch.ones(()), torch.ones(()))],
            TypeError,
            "`steps[0]` must be a mapping, got SkeletonCLRLoss. Of a method's loss take `_asdict()`",
        ),
        ([{"total": 1.0}], TypeError, """`steps[0]["total"]` must be a torch.Tensor, got float."""),
        ([{"total": torch.ones(2)}], ValueError, """`steps[0]["total"]` must have shape (), got (2,)."""),
        (
            [{"total": torch.ones((), dtype=torch.long)}],
            TypeError,
            """`steps[0]["total"]` must be floating point""",
        ),
    ],
)
def test_bad_calls(given: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=re.escape(message)):
        mean_terms(given)
