"""The bank against a plain deque, its state, its errors, and two processes that keep one bank."""

import re
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from skelcontrast.losses import info_nce
from skelcontrast.memory import MemoryQueue, choose_queue_size


def numbered(first: int, count: int, dim: int = 2) -> Tensor:
    """Return keys that carry their running number."""
    return torch.arange(first, first + count, dtype=torch.float32)[:, None].expand(count, dim).contiguous()


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 7), batches=st.lists(st.integers(0, 7), max_size=12))
def test_is_a_deque_of_the_last_keys(size: int, batches: list[int]) -> None:
    queue = MemoryQueue(size, 2)
    model: deque[tuple[float, ...]] = deque((tuple(row) for row in queue.keys.tolist()), maxlen=size)
    come = 0
    for batch in batches:
        count = min(batch, size)
        keys = numbered(come, count)
        queue.enqueue(keys)
        model.extend(tuple(row) for row in keys.tolist())
        come += count
        oldest_first = queue.keys.roll(-int(queue.pointer), 0)
        assert [tuple(row) for row in oldest_first.tolist()] == list(model)
        assert queue.pointer.item() == come % size
        assert queue.enqueued.item() == come


def test_batch_of_exactly_the_size() -> None:
    queue = MemoryQueue(4, 2)
    queue.enqueue(numbered(0, 3))
    queue.enqueue(numbered(3, 4))
    assert queue.keys[:, 0].tolist() == [4, 5, 6, 3]
    assert queue.pointer.item() == 3


def test_starts_with_random_unit_vectors() -> None:
    queue = MemoryQueue(50, 16)
    torch.testing.assert_close(queue.keys.norm(dim=1), torch.ones(50))
    assert (queue.size, queue.dim) == (50, 16)
    assert queue.enqueued.item() == queue.pointer.item() == 0
    again = [MemoryQueue(50, 16, generator=torch.Generator().manual_seed(3)).keys for _ in range(2)]
    assert torch.equal(*again)
    assert not torch.equal(again[0], queue.keys)


def test_keys_are_stored_detached_and_by_value() -> None:
    queue = MemoryQueue(4, 2)
    keys = numbered(0, 2).requires_grad_()
    queue.enqueue(keys * 2)
    assert not queue.keys.requires_grad
    assert queue.keys.grad_fn is None
    fresh = numbered(5, 1)
    queue.enqueue(fresh)
    fresh.zero_()
    assert queue.keys[:, 0].tolist()[:3] == [0, 2, 5]


def test_enqueue_before_backward_is_refused_by_torch() -> None:
    queue = MemoryQueue(4, 2)
    query = torch.randn(3, 2, requires_grad=True)
    loss = info_nce(query, torch.randn(3, 2), queue.keys)
    queue.enqueue(numbered(0, 3))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_keys_are_cast_to_the_dtype_of_the_bank() -> None:
    queue = MemoryQueue(4, 2)
    queue.enqueue(numbered(1, 2).bfloat16())
    queue.enqueue(numbered(3, 1).double())
    assert queue.keys.dtype == torch.float32
    assert queue.keys[:3, 0].tolist() == [1, 2, 3]
    half = MemoryQueue(4, 2).to(torch.bfloat16)
    half.enqueue(numbered(1, 2))
    assert half.keys.dtype == torch.bfloat16
    assert half.pointer.dtype == half.enqueued.dtype == torch.int64


def test_state_round_trip_goes_on_bit_for_bit(tmp_path: Path) -> None:
    queue, other = MemoryQueue(5, 3), MemoryQueue(5, 3)
    for _ in range(4):
        queue.enqueue(torch.randn(3, 3))
    torch.save(queue.state_dict(), tmp_path / "queue.pt")
    other.load_state_dict(torch.load(tmp_path / "queue.pt", weights_only=True))
    for _ in range(3):
        keys = torch.randn(4, 3)
        queue.enqueue(keys)
        other.enqueue(keys)
    assert set(queue.state_dict()) == {"keys", "pointer", "enqueued"}
    for name, value in queue.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])


def test_has_no_parameters() -> None:
    assert not list(MemoryQueue(5, 3).parameters())


def test_repr() -> None:
    assert repr(MemoryQueue(5, 3)) == "MemoryQueue(size=5, dim=3)"


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"size": 0}, ValueError, "`size` must be at least 1, got 0."),
        ({"dim": 0}, ValueError, "`dim` must be at least 1, got 0."),
        ({"size": 2.0}, TypeError, "`size` must be an integer, got 2.0."),
    ],
)
def test_errors_of_the_constructor(change: dict[str, Any], kind: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {"size": 4, "dim": 2, **change}
    with pytest.raises(kind, match=re.escape(f"MemoryQueue: {message}")):
        MemoryQueue(**arguments)


@pytest.mark.parametrize(
    ("keys", "options", "kind", "message"),
    [
        (
            torch.zeros(5, 2),
            {},
            ValueError,
            "`keys` must hold at most 4 keys, the size of the queue, got 5. Make the queue larger",
        ),
        (torch.zeros(2, 3), {}, ValueError, "`keys` must have shape (B, 2) to match the bank, got (2, 3)."),
        (torch.zeros(2, 4), {}, ValueError, "`keys` must have shape (B, 2) to match the bank, got (2, 4)."),
        (torch.zeros(2), {}, ValueError, "`keys` must have shape (B, 2) to match the bank, got (2,)."),
        (
            torch.zeros(1, 2, device="meta"),
            {},
            ValueError,
            "`keys` must be on the device of `bank` (cpu), got meta.",
        ),
        (torch.zeros(1, 2).long(), {}, TypeError, "`keys` must be floating point, got torch.int64."),
        ([[0.0, 0.0]], {}, TypeError, "`keys` must be a torch.Tensor, got list."),
        (
            torch.zeros(1, 2),
            {"gather": True},
            RuntimeError,
            "`gather` must be False unless torch.distributed is initialised, got True.",
        ),
    ],
)
def test_errors_of_enqueue_leave_the_queue_as_it_was(
    keys: Any, options: dict[str, Any], kind: type[Exception], message: str
) -> None:
    queue = MemoryQueue(4, 2)
    queue.enqueue(numbered(0, 3))
    before = {name: value.clone() for name, value in queue.state_dict().items()}
    for call in (queue.check_keys, queue.enqueue):
        with pytest.raises(kind, match=re.escape(f"MemoryQueue.enqueue: {message}")):
            call(keys, **options)
    assert all(torch.equal(value, before[name]) for name, value in queue.state_dict().items())


@pytest.mark.parametrize(
    ("samples", "batch_size", "size"),
    [
        (384, 32, 192),
        (431, 32, 215),
        (40091, 128, 20045),
        (65535, 128, 32767),
        (65536, 128, 32768),
        (10**6, 128, 32768),
    ],
)
def test_a_bank_of_half_of_the_data(samples: int, batch_size: int, size: int) -> None:
    assert choose_queue_size(samples, batch_size) == size
    assert choose_queue_size(samples, batch_size, wanted=7) == 7
    assert choose_queue_size(samples, batch_size, largest=150) == 150


def test_a_bank_holds_a_batch_at_least() -> None:
    assert choose_queue_size(6, 4) == 4
    assert choose_queue_size(1, 1) == 1
    assert choose_queue_size(1000, 128, largest=64) == 128


def test_a_bank_larger_than_the_data_is_warned_of() -> None:
    warning = (
        "choose_queue_size: `wanted`, 400, is larger than the number of training sequences, 384: the bank will hold"
    )
    with pytest.warns(UserWarning, match=re.escape(warning)) as caught:
        assert choose_queue_size(384, 32, wanted=400) == 400
    assert caught[0].filename == __file__
    assert choose_queue_size(384, 32, wanted=384) == 384


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"samples": 0}, ValueError, "`samples` must be at least 1, got 0."),
        ({"samples": 2.0}, TypeError, "`samples` must be an integer, got 2.0."),
        ({"batch_size": 0}, ValueError, "`batch_size` must be at least 1, got 0."),
        ({"wanted": 0}, ValueError, "`wanted` must be at least 1, got 0."),
        ({"largest": 0}, ValueError, "`largest` must be at least 1, got 0."),
    ],
)
def test_errors_of_the_choice(change: dict[str, Any], kind: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {"samples": 4, "batch_size": 2, **change}
    with pytest.raises(kind, match=re.escape(f"choose_queue_size: {message}")):
        choose_queue_size(**arguments)


@contextmanager
def process_group(rank: int, ranks: int, folder: Path) -> Iterator[None]:
    """Join a gloo group that meets in a file."""
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder / 'meeting'}",
        rank=rank,
        world_size=ranks,
        timeout=timedelta(seconds=60),
    )
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


def two_ranks(rank: int, folder: Path) -> MemoryQueue:
    """Enqueue twice, two keys from each rank: rank 0 brings 0, 1 and 20, 21; rank 1 brings 10, 11 and 30, 31."""
    with process_group(rank, 2, folder):
        queue = MemoryQueue(5, 2, generator=torch.Generator().manual_seed(0))
        for turn in range(2):
            keys = numbered(20 * turn + 10 * rank, 2)
            queue.enqueue((keys if turn else keys.T.contiguous().T).requires_grad_(), gather=True)
        with pytest.raises(
            ValueError, match=re.escape("`keys` must hold at most 5 keys, the size of the queue, got 6.")
        ):
            queue.enqueue(numbered(0, 3), gather=True)
        queue.enqueue(numbered(7, 1))  # without gather every rank keeps its own
    return queue


CHILD = """
import sys
from pathlib import Path

import torch
from tests.test_memory import two_ranks

torch.save(two_ranks(1, Path(sys.argv[1])).state_dict(), Path(sys.argv[1]) / "rank1.pt")
"""


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="torch was built without gloo")
def test_gather_keeps_one_bank_in_two_processes(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[1]
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path)], cwd=root)
    try:
        queue = two_ranks(0, tmp_path)
        assert child.wait(60) == 0
    finally:
        child.kill()
        child.wait()
    assert queue.keys[:, 0].tolist() == [21, 30, 31, 7, 20]  # 0, 1, 10, 11, 20 came first
    assert queue.pointer.item() == 4
    assert queue.enqueued.item() == 9
    other = torch.load(tmp_path / "rank1.pt", weights_only=True)
    assert all(torch.equal(value, other[name]) for name, value in queue.state_dict().items())
