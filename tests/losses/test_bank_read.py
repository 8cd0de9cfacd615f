"""The bank read against a loop, in both torch twins: values, neighbours, gradients, edges, memory, compilation."""

import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tests.reference import losses as reference
from tests.reference.losses import unit_rows
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from skelcontrast import _cuda
from skelcontrast.losses import BankRead, _chunked_read, bank_read, nearest_neighbors
from skelcontrast.losses.bank_read import Implementation, choose

both_twins = pytest.mark.parametrize("implementation", ["dense", "chunked"])


@pytest.fixture(autouse=True)
def _poisoned_memory() -> Iterator[None]:
    """Let uninitialised memory hold NaN, so that whatever is read before it is written shows."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def draw(N: int, D: int, K: int, dtype: torch.dtype = torch.float64) -> tuple[list[Tensor], Tensor, Tensor]:
    views = [unit_rows(N, D, seed, dtype=dtype) for seed in (0, 1, 2)]
    return views, unit_rows(N, D, 3, dtype=dtype), unit_rows(K, D, 4, dtype=dtype)


def assert_agrees(
    reads: tuple[BankRead, ...],
    views: list[Tensor],
    positive: Tensor,
    bank: Tensor,
    *,
    temperature: float,
    k: int,
    tolerance: float,
) -> None:
    """Compare with the loop; where rows are equally near, any of them is right."""
    for view, read in zip(views, reads, strict=True):
        log_partition, attended, neighbors = reference.bank_read(view, positive, bank, temperature=temperature, k=k)
        expected = torch.tensor(log_partition, dtype=torch.float64)
        torch.testing.assert_close(read.log_partition.detach().double(), expected, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(
            read.attended.double(), torch.from_numpy(attended), rtol=10 * tolerance, atol=10 * tolerance
        )
        found = read.neighbors
        assert found.dtype == torch.int64
        assert found.shape == (view.shape[0], k)
        assert all(len(set(rows)) == k for rows in found.tolist())
        products = view.double() @ bank.double().T
        best = products.gather(1, torch.tensor(neighbors, dtype=torch.int64).view(found.shape))
        torch.testing.assert_close(products.gather(1, found), best, rtol=tolerance, atol=tolerance)


@both_twins
@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize(
    ("N", "D", "K", "k"), [(1, 24, 1, 1), (3, 65, 7, 7), (3, 24, 16, 0), (2, 8, 40, 17), (127, 24, 50, 2)]
)
def test_agrees_with_the_oracle(
    N: int, D: int, K: int, k: int, dtype: torch.dtype, tolerance: float, implementation: Implementation
) -> None:
    views, positive, bank = draw(N, D, K, dtype)
    reads = bank_read(views, positive, bank, temperature=0.1, k=k, implementation=implementation)
    assert all(read.log_partition.dtype == dtype for read in reads)
    assert_agrees(reads, views, positive, bank, temperature=0.1, k=k, tolerance=tolerance)


@both_twins
@pytest.mark.parametrize(("N", "size"), [(1, None), (3, None), (3, 2**14)])
def test_agrees_with_the_oracle_at_a_large_bank(
    N: int, size: int | None, implementation: Implementation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_chunked_read, "_ON_CPU", size or _chunked_read._ON_CPU)
    views, positive, bank = draw(N, 24, 4097)
    reads = bank_read(views, positive, bank, k=8, implementation=implementation)
    assert_agrees(reads, views, positive, bank, temperature=0.07, k=8, tolerance=1e-12)


@both_twins
@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("temperature", [0.01, 1.0])
def test_equally_near_keys(temperature: float, k: int, implementation: Implementation) -> None:
    same = torch.nn.functional.normalize(torch.ones(1, 8, dtype=torch.float64))
    for bank in (same.expand(40, -1), torch.cat([-same, same]).repeat(20, 1)):
        for z in (same, -same, torch.zeros_like(same)):
            reads = bank_read([z], same, bank, temperature=temperature, k=k, implementation=implementation)
            assert_agrees(reads, [z], same, bank, temperature=temperature, k=k, tolerance=1e-12)


@both_twins
@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("norm", [1e-20, 1e-3, 30.0, 1e4])
def test_huge_and_tiny_norms(norm: float, implementation: Implementation) -> None:
    views, positive, bank = draw(3, 16, 50, torch.float32)
    views = [norm * view for view in views]
    reads = bank_read(views, positive, bank, temperature=0.01, k=3, implementation=implementation)
    assert_agrees(reads, views, positive, bank, temperature=0.01, k=3, tolerance=1e-5)


@both_twins
@pytest.mark.usefixtures("small_chunks")
def test_gradient(implementation: Implementation) -> None:
    views, positive, bank = draw(2, 5, 37)
    inputs = tuple(view.requires_grad_() for view in views)

    def log_partitions(*views: Tensor) -> tuple[Tensor, ...]:
        return tuple(
            read.log_partition
            for read in bank_read(views, positive, bank, temperature=0.3, implementation=implementation)
        )

    assert torch.autograd.gradcheck(log_partitions, inputs)
    (read, *_) = bank_read(views, positive, bank, temperature=0.3, implementation=implementation)
    (gradient,) = torch.autograd.grad(read.log_partition.sum(), views[0])
    torch.testing.assert_close(gradient, read.attended / 0.3, rtol=1e-12, atol=1e-12)


@both_twins
def test_only_the_views_carry_a_gradient(implementation: Implementation) -> None:
    views, positive, bank = draw(3, 8, 20)
    view, positive, bank = views[0].requires_grad_(), positive.requires_grad_(), bank.requires_grad_()
    (read, other) = bank_read([view, views[1]], positive, bank, k=2, implementation=implementation)
    assert not read.attended.requires_grad
    assert not other.log_partition.requires_grad
    read.log_partition.sum().backward()
    assert view.grad is not None
    assert positive.grad is None
    assert bank.grad is None


def test_differentiated_twice() -> None:
    views, positive, bank = draw(2, 4, 9)
    view = views[0].requires_grad_()

    def log_partition(view: Tensor, implementation: Implementation = "dense") -> Tensor:
        (read,) = bank_read([view], positive, bank, temperature=0.5, implementation=implementation)
        return read.log_partition

    assert torch.autograd.gradgradcheck(log_partition, (view,))
    weight = torch.ones(2, dtype=torch.float64, requires_grad=True)
    for factor in (weight, weight.detach()):
        weighted = (factor * log_partition(view, "chunked")).sum()
        (gradient,) = torch.autograd.grad(weighted, view, create_graph=True)
        with pytest.raises(RuntimeError, match="differentiated twice"):
            torch.autograd.grad(gradient.sum() + view.square().sum(), view)  # of which a part has a derivative


@both_twins
@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_tensors_are_widened(dtype: torch.dtype, implementation: Implementation) -> None:
    views, positive, bank = draw(3, 16, 50, dtype)
    wide = [view.float() for view in views]
    expected = bank_read(wide, positive.float(), bank.float(), k=3, implementation=implementation)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = bank_read(views, positive, bank, k=3, implementation=implementation)
        mixed = bank_read(wide, positive.float(), bank, k=3, implementation=implementation)
    for read, other, right in zip(found, mixed, expected, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(read, right, strict=True))
        assert all(torch.equal(a, b) for a, b in zip(other, right, strict=True))


@both_twins
def test_empty_bank(implementation: Implementation) -> None:
    views, positive, bank = draw(3, 8, 0)
    (read, *_) = bank_read(views, positive, bank, temperature=0.5, implementation=implementation)
    torch.testing.assert_close(read.log_partition, (views[0] * positive).sum(1) / 0.5)
    torch.testing.assert_close(read.attended, positive)


class _Largest(TorchDispatchMode):
    """Remember the most numbers that any operation returned in one tensor."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for one in result if isinstance(result, tuple | list) else [result]:
            if isinstance(one, Tensor):
                own = one.numel() if one.is_contiguous() else 0  # the bank's transpose is nobody's copy
                self.numbers = max(self.numbers, own)
        return result


@pytest.mark.parametrize("N", [1, 33])
def test_chunks_hold_no_matrix_of_similarities(N: int) -> None:
    views, positive, bank = draw(N, 24, 30_000, torch.float32)
    stacked, narrow = torch.stack(views), bank.bfloat16()
    with _Largest() as largest:  # type: ignore[no-untyped-call]  # its base is untyped
        _chunked_read.chunked_read(stacked, positive, narrow, 0.07, 3)
        _chunked_read.chunked_rows(stacked, bank, 3)
        _chunked_read.chunked_context(stacked[0], stacked[1], bank, bank, 0.07)
    assert 0 < largest.numbers <= _chunked_read._ON_CPU < bank.numel()


def test_operators_keep_the_rules_of_torch() -> None:
    views, positive, bank = draw(5, 8, 40)
    stacked = torch.stack(views)
    ops = torch.ops.skelcontrast
    torch.library.opcheck(ops.bank_read, (stacked, positive, bank, 0.1, 2, "chunked"))
    torch.library.opcheck(ops.bank_rows, (stacked, bank, 2, "chunked"))
    torch.library.opcheck(ops.context_read, (stacked[0], stacked[1], bank, bank, 0.1))


def test_chunked_knows_its_shapes_without_data() -> None:
    positive, bank = torch.empty(5, 8, device="meta"), torch.empty(40, 8, device="meta")
    (read,) = bank_read([positive], positive, bank, k=3, implementation="chunked")
    assert [tuple(part.shape) for part in read] == [(5,), (5, 8), (5, 3)]
    rows = nearest_neighbors([positive, positive], bank, k=3, implementation="chunked")
    assert rows.shape == (5, 6)


def test_what_auto_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(sys.modules["skelcontrast.losses.bank_read"], "HAS_TRITON", True)
    for K, twin in ((0, "dense"), (1024, "dense"), (1025, "chunked")):
        assert choose("bank_read", "auto", torch.empty(K, 4), queries=128, dtype=torch.float32) == twin
    with FakeTensorMode():
        bank = torch.empty(9, 8, device="cuda")
        assert choose("bank_read", "auto", bank, queries=1, dtype=torch.float32, k=9) == "triton"
        assert choose("bank_read", "auto", bank, queries=1, dtype=torch.float32, k=33) == "dense"
        for width, k, twin in ((256, 32, "triton"), (257, 32, "dense"), (256, 33, "dense")):  # the widest, the most
            wide = torch.empty(40, width, device="cuda")
            assert choose("bank_read", "auto", wide, queries=1, dtype=torch.float32, k=k) == twin
        assert choose("bank_read", "auto", bank, queries=1, dtype=torch.float64) == "dense"
        assert choose("bank_read", "chunked", bank, queries=1, dtype=torch.float32) == "chunked"


X, BANK = torch.zeros(6, 8), torch.zeros(9, 8)


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"views": []}, ValueError, "`views` must hold at least 1 tensor, got 0."),
        ({"views": X}, TypeError, "`views` must be a sequence of tensors, got Tensor. Put it in a list."),
        (
            {"views": (X for _ in range(2))},
            TypeError,
            "`views` must be a sequence of tensors, got generator. Put it in a list.",
        ),
        ({"views": [X, X[:5]]}, ValueError, "`views[1]` must have shape (6, 8) to match `views[0]`, got (5, 8)."),
        ({"positive": X[0]}, ValueError, "`positive` must have shape (6, 8) to match `views[0]`, got (8,)."),
        (
            {"bank": BANK.T},
            ValueError,
            "`bank` must have shape (K, 8) to match `views[0]` (6, 8), got (8, 9). Was the bank passed transposed?",
        ),
        ({"k": 10}, ValueError, "`k` must lie in [0, 9], got 10. `bank` holds 9 keys."),
        ({"temperature": 0}, ValueError, "`temperature` must lie in (0, inf), got 0."),
        (
            {"implementation": "cuda"},
            ValueError,
            "`implementation` must be one of 'auto', 'dense', 'chunked', 'triton', got 'cuda'.",
        ),
        (
            {"implementation": "triton"},
            ValueError,
            "`implementation` must not be 'triton' for tensors on cpu, got 'triton'. Pass 'auto'.",
        ),
    ],
)
def test_bad_calls(
    changes: dict[str, Any], kind: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    arguments: dict[str, Any] = {"views": [X], "positive": X, "bank": BANK}
    with pytest.raises(kind, match=f"^{re.escape(f'bank_read: {message}')}$"):
        bank_read(**{**arguments, **changes})


@pytest.mark.parametrize(
    ("bank", "k", "what"),
    [
        (BANK.double(), 1, "float64"),
        (torch.zeros(9, 257), 1, "D above 256, here 257"),
        (torch.zeros(40, 8), 33, "more than 32 neighbours, here 33"),
    ],
)
def test_what_triton_does_not_take(bank: Tensor, k: int, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    view = torch.zeros(6, bank.shape[1])
    message = f"nearest_neighbors: `implementation` must not be 'triton' for {what}, got 'triton'. Pass 'auto'."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        nearest_neighbors([view], bank, k=k, implementation="triton")


def test_triton_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(_cuda, "HAS_TRITON", False)
    message = "bank_read: `implementation='triton'` needs Triton. Run `pip install triton`, or pass 'auto'."
    with pytest.raises(ImportError, match=f"^{re.escape(message)}$"):
        bank_read([X], X, BANK, implementation="triton")
