"""Kernels that the interpreter runs as they are meant, and a GPU does not."""

import importlib.util
from collections.abc import Callable
from typing import Any

import pytest
import torch

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs Triton"),
    pytest.mark.skipif(torch.cuda.is_available(), reason="kernels are not interpreted where there is a CUDA device"),
]

if importlib.util.find_spec("triton") is not None:
    import triton
    import triton.language as tl

    _jit: Callable[[Callable[..., Any]], Any] = triton.jit

    @_jit
    def shift(x: tl.tensor, y: tl.tensor, STEP: tl.constexpr, BY: tl.constexpr, AT_MOST: tl.constexpr) -> None:
        """Write to y what stands in x, `BY` numbers on."""
        at = tl.program_id(0) * STEP + tl.arange(0, 4)
        tl.store(y + at + BY, tl.load(x + at, at < AT_MOST, 0.0), at < AT_MOST)

    @_jit
    def read_again(y: tl.tensor) -> None:
        """Write ones, and two of each once they have been read."""
        at = tl.arange(0, 4)
        tl.store(y + at, tl.full((4,), 1.0, tl.float32))
        tl.store(y + 4 + at, 2 * tl.load(y + at))

    @_jit
    def gather(y: tl.tensor) -> None:
        """Write two numbers to each place."""
        at = tl.arange(0, 4)
        tl.store(y + at // 2, at.to(tl.float32))

    @_jit
    def sum_up(x: tl.tensor, y: tl.tensor) -> None:
        """Sum three numbers, and say nothing of a fourth."""
        at = tl.arange(0, 4)
        tl.store(y, tl.sum(tl.load(x + at, at < 3), 0))

    @_jit
    def halve(x: tl.tensor, y: tl.tensor) -> None:
        """Write to every other byte."""
        at = tl.arange(0, 4).to(tl.int64)
        tl.store((y.to(tl.int64) + at * 2).to(tl.pointer_type(tl.float32)), tl.load(x + at))


def test_neighbours_that_leave_each_other_alone() -> None:
    x, y = torch.arange(10.0), torch.zeros(10)
    shift[(3,)](x, y, STEP=4, BY=0, AT_MOST=10)
    assert torch.equal(x, y)
    shift[(3,)](x, x, STEP=4, BY=0, AT_MOST=10)  # in place: each program has numbers of its own
    assert torch.equal(x, y)


@pytest.mark.parametrize(
    ("in_place", "settings", "message"),
    [
        (False, {"STEP": 4, "BY": 0, "AT_MOST": 11}, "program 3 reads or writes outside"),
        (False, {"STEP": 4, "BY": -1, "AT_MOST": 10}, "program 1 reads or writes outside"),
        (False, {"STEP": 3, "BY": 0, "AT_MOST": 10}, "program 2 writes what program 1 has written"),
        (True, {"STEP": 4, "BY": 4, "AT_MOST": 6}, "program 2 reads what program 1 has written"),
        (True, {"STEP": 4, "BY": -4, "AT_MOST": 10}, "program 1 reads or writes outside"),
    ],
)
def test_neighbours_that_do_not(in_place: bool, settings: dict[str, int], message: str) -> None:
    x, y = torch.arange(10.0), torch.zeros(10)
    with pytest.raises(Exception, match=message):
        shift[(3,)](x, x if in_place else y, **settings)


def test_what_others_have_read_is_not_written() -> None:
    x = torch.arange(12.0)
    with pytest.raises(Exception, match="program 2 writes what program 1 has read"):
        shift[(2,)](x[4:], x[4:], STEP=4, BY=-4, AT_MOST=8)


@pytest.mark.parametrize(
    ("kernel", "message"), [("read_again", "program 1 reads what program 1"), ("gather", "a number twice at once")]
)
def test_threads_of_a_program(kernel: str, message: str) -> None:
    with pytest.raises(Exception, match=message):
        globals()[kernel][(1,)](torch.zeros(8))


def test_numbers_begin_where_numbers_begin() -> None:
    with pytest.raises(Exception, match="no number begins"):
        halve[(1,)](torch.zeros(4), torch.zeros(4))


def test_what_a_mask_leaves_out_is_not_a_zero() -> None:
    x, y = torch.ones(4), torch.zeros(1)
    sum_up[(1,)](x, y)
    assert y.isnan()
