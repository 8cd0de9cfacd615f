"""CrosSCLR's cross step against a loop over ordered pairs and the released code's numbers."""

import re
import sys
from collections.abc import Callable, Mapping
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from tests.reference import losses as reference
from tests.reference.losses import unit_rows
from torch import Tensor

from skelcontrast.losses import CrossStream, CrossStreamLoss, cross_stream, nearest_neighbors, nnm
from skelcontrast.losses._operators import streamed_context
from skelcontrast.losses.bank_read import Implementation

Streams = tuple[list[Tensor], list[Tensor], list[Tensor]]

both_twins = pytest.mark.parametrize("implementation", ["dense", "chunked"])


def draw(N: int, K: int, widths: tuple[int, ...]) -> Streams:
    queries = [unit_rows(N, D, 10 + s) for s, D in enumerate(widths)]
    keys = [unit_rows(N, D, 20 + s) for s, D in enumerate(widths)]
    return queries, keys, [unit_rows(K, D, 30 + s) for s, D in enumerate(widths)]


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("context", [False, True])
@pytest.mark.parametrize("widths", [(24, 24), (65, 24, 7), (5, 6, 7, 8)])
@pytest.mark.parametrize(("N", "K", "k"), [(1, 1, 1), (3, 7, 3), (3, 97, 1)])
@both_twins
def test_agrees_with_the_oracle(
    N: int, K: int, k: int, widths: tuple[int, ...], context: bool, implementation: Implementation
) -> None:
    queries, keys, banks = draw(N, K, widths)
    expected = torch.tensor(
        reference.cross_stream(queries, keys, banks, temperature=0.1, k=k, context=context), dtype=torch.float64
    )
    found = cross_stream(
        queries, keys, banks, temperature=0.1, k=k, context=context, reduction="none", implementation=implementation
    )
    torch.testing.assert_close(torch.stack(found.streams), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.total, expected.sum(dim=0), rtol=1e-12, atol=1e-12)


@both_twins
def test_agrees_with_the_oracle_at_a_large_bank(implementation: Implementation) -> None:
    queries, keys, banks = draw(1, 4097, (24, 24))
    expected = torch.tensor(
        reference.cross_stream(queries, keys, banks, temperature=0.1, k=2, context=True), dtype=torch.float64
    )
    found = cross_stream(queries, keys, banks, temperature=0.1, k=2, reduction="none", implementation=implementation)
    torch.testing.assert_close(torch.stack(found.streams), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("context", [False, True])
@pytest.mark.parametrize("k", [1, 2])
@both_twins
def test_agrees_with_the_released_code(
    golden: Callable[[str], Mapping[str, Any]], context: bool, k: int, implementation: Implementation
) -> None:
    numbers = {name: torch.from_numpy(value) for name, value in golden("cross_stream.npz").items()}
    names = ("joint", "motion", "bone")
    queries, keys, banks = ([numbers[f"{kind}_{name}"] for name in names] for kind in ("query", "key", "queue"))
    queries = [query.requires_grad_() for query in queries]
    loss = cross_stream(
        queries,
        keys,
        banks,
        temperature=float(numbers["temperature"]),
        k=k,
        context=context,
        implementation=implementation,
    )
    loss.total.backward()
    setting = f"context{int(context)}_top{k}"
    torch.testing.assert_close(loss.total.detach(), numbers[f"loss_total_{setting}"], rtol=0, atol=1e-9)
    for name, stream, query in zip(names, loss.streams, queries, strict=True):
        torch.testing.assert_close(stream.detach(), numbers[f"loss_{name}_{setting}"], rtol=0, atol=1e-9)
        torch.testing.assert_close(query.grad, numbers[f"grad_{name}_{setting}"], rtol=0, atol=1e-9)


def test_the_context_is_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = Mock(wraps=streamed_context)
    monkeypatch.setattr(sys.modules["skelcontrast.losses.cross_stream"], "streamed_context", reads)
    queries, keys, banks = draw(3, 20, (8, 9))
    cross_stream(queries, keys, banks, implementation="dense")
    reads.assert_not_called()
    cross_stream(queries, keys, banks, implementation="chunked")
    reads.assert_called_once()


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("context", [False, True])
@both_twins
def test_gradient(context: bool, implementation: Implementation) -> None:
    queries, keys, banks = draw(2, 37, (4, 5, 4))
    inputs = tuple(query.requires_grad_() for query in queries)

    def losses(*queries: Tensor) -> tuple[Tensor, ...]:
        loss = cross_stream(queries, keys, banks, temperature=0.3, k=2, context=context, implementation=implementation)
        return (loss.total, *loss.streams)

    assert torch.autograd.gradcheck(losses, inputs)


@pytest.mark.parametrize("context", [False, True])
@both_twins
def test_only_the_context_ties_the_gradients_of_two_streams(context: bool, implementation: Implementation) -> None:
    queries, keys, banks = draw(2, 6, (4, 5))
    own, other = (query.requires_grad_() for query in queries)
    cross_stream([own, other], keys, banks, context=context, implementation=implementation).streams[0].backward()
    assert own.grad is not None
    assert (other.grad is not None) == context


@both_twins
def test_two_streams_without_context_are_nnm_with_exchanged_neighbors(implementation: Implementation) -> None:
    queries, keys, banks = draw(3, 20, (8, 8))
    found = cross_stream(queries, keys, banks, k=2, context=False, implementation=implementation)
    for u, v in ((0, 1), (1, 0)):
        neighbors = nearest_neighbors([queries[v]], banks[v], k=2, implementation=implementation)
        torch.testing.assert_close(
            found.streams[u],
            nnm(queries[u], keys[u], banks[u], neighbors, positives="mean", implementation=implementation),
        )


def test_the_order_of_the_streams_does_not_matter() -> None:
    queries, keys, banks = draw(3, 20, (8, 9, 10))
    found = cross_stream(queries, keys, banks)
    turned = cross_stream(queries[::-1], keys[::-1], banks[::-1])
    torch.testing.assert_close(turned.streams, found.streams[::-1])
    torch.testing.assert_close(turned.total, found.total)


def test_module_is_the_function_with_its_settings() -> None:
    queries, keys, banks = draw(3, 9, (8, 8))
    module = CrossStreamLoss(temperature=0.2, k=3, context=False, reduction="sum")
    found = module(queries, keys, banks)
    expected = cross_stream(queries, keys, banks, temperature=0.2, k=3, context=False, reduction="sum")
    assert isinstance(found, CrossStream)
    assert torch.equal(found.total, expected.total)
    assert repr(module) == "CrossStreamLoss(temperature=0.2, k=3, context=False, reduction='sum')"
    assert repr(CrossStreamLoss()) == "CrossStreamLoss(temperature=0.07, k=1, context=True, reduction='mean')"


X = torch.zeros(6, 8)
BANK = torch.zeros(9, 8)


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"queries": [X]}, ValueError, "`queries` must hold at least 2 tensors, got 1."),
        (
            {"queries": X},
            TypeError,
            "`queries` must be a sequence of tensors, got Tensor. Put it in a list.",
        ),
        ({"keys": [X, X, X]}, ValueError, "`keys` must hold 2 tensors, one per stream of `queries`, got 3."),
        ({"keys": [X]}, ValueError, "`keys` must hold 2 tensors, one per stream of `queries`, got 1."),
        ({"banks": [BANK] * 3}, ValueError, "`banks` must hold 2 tensors, one per stream of `queries`, got 3."),
        (
            {"queries": [X, X[:5]]},
            ValueError,
            "`queries[1]` must have shape (6, D) to match `queries[0]`, got (5, 8).",
        ),
        ({"queries": [X, X[0]]}, ValueError, "`queries[1]` must have shape (N, D), got (8,)."),
        ({"keys": [X, X[:, :7]]}, ValueError, "`keys[1]` must have shape (6, 8) to match `queries[1]`, got (6, 7)."),
        (
            {"banks": [BANK.T, BANK]},
            ValueError,
            (
                "`banks[0]` must have shape (K, 8) to match `queries[0]` (6, 8), got (8, 9). "
                "Was the bank passed transposed?"
            ),
        ),
        (
            {"banks": [BANK, BANK[:7]]},
            ValueError,
            (
                "`banks[1]` must have shape (9, 8) to match `banks[0]`, got (7, 8). "
                "Row j must hold one sample in all banks."
            ),
        ),
        (
            {"queries": [X, X.to("meta")]},
            ValueError,
            "`queries[1]` must be on the device of `queries[0]` (cpu), got meta.",
        ),
        ({"k": 10}, ValueError, "`k` must lie in [1, 9], got 10. `banks[0]` holds 9 keys."),
        ({"temperature": 0}, ValueError, "`temperature` must lie in (0, inf), got 0."),
        ({"reduction": "avg"}, ValueError, "`reduction` must be one of 'mean', 'sum', 'none', got 'avg'."),
    ],
)
def test_bad_calls(changes: dict[str, Any], kind: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {"queries": [X, X], "keys": [X, X], "banks": [BANK, BANK]}
    with pytest.raises(kind, match=f"^{re.escape(f'cross_stream: {message}')}$"):
        cross_stream(**{**arguments, **changes})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"temperature": 0}, "`temperature` must lie in (0, inf), got 0."),
        ({"k": 0}, "`k` must be at least 1, got 0."),
        ({"reduction": "avg"}, "`reduction` must be one of 'mean', 'sum', 'none', got 'avg'."),
    ],
)
def test_module_checks_its_settings(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(f'CrossStreamLoss: {message}')}$"):
        CrossStreamLoss(**wrong)
