"""Operations that torch's compiler calls as they are: met without a word, and with inputs that lie as without it."""

from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor

import skelcontrast
from skelcontrast._operator import operator

STRIDES: list[tuple[int, ...]] = []


def _turned(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    STRIDES.append(x.stride())
    return x + y, x - y


def _unset(x: Tensor, _y: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(x)


def _count(x: Tensor, calls: Tensor) -> Tensor:
    calls.add_(1)
    return x.clone()


turned = operator("skelcontrast_tests::turned", _turned, _unset)
count = operator("skelcontrast_tests::count", _count, lambda x, _: torch.empty_like(x), mutates=("calls",))


def chain(x: Tensor, calls: Tensor) -> Tensor:
    """An operator of all that it has made before, 40 times over: 2 to the 40 paths from the end to the input."""
    y = x
    for _ in range(40):
        x, y = turned(x, y)
    counted: Tensor = count(x, calls)  # nothing but operators, so that no compiler of C++ is asked for
    return counted


def test_a_long_chain_is_compiled_by_what_torch_takes_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor import exc  # not before: loaded by torch when it first compiles

    # In PyTorch before 2.13 what it says of the last operator would never be written to its end.
    said = Mock(side_effect=AssertionError("an operator was met that it had not been told of"))
    monkeypatch.setattr(exc.OperatorIssue, "operator_str", staticmethod(said))
    x = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    expected = chain(x, torch.zeros(()))
    STRIDES.clear()
    calls = torch.zeros(())
    torch.compiler.reset()
    found = torch.compile(chain, fullgraph=True)(x, calls)
    assert torch.equal(found, expected)
    assert [x.stride()] * 40 == STRIDES
    assert calls.item() == 1


def test_every_operator_of_the_library_is_made_so() -> None:
    source = Path(skelcontrast.__file__).parent
    assert {file.name for file in source.rglob("*.py") if "custom_op(" in file.read_text()} == {"_operator.py"}
