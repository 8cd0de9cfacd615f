"""The bank read in many small chunks: neighbours from anywhere, a softmax whose reference has to move, NaN."""

import math
from typing import Any

import pytest
import torch
from tests.reference import losses as reference
from tests.reference.losses import unit_rows
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from skelcontrast.losses import BankRead, _chunked_read, bank_read


@pytest.fixture(autouse=True)
def _smallest_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_chunked_read, "_ON_CPU", 1)


def draw(N: int, D: int, K: int, dtype: torch.dtype) -> tuple[list[Tensor], Tensor, Tensor]:
    views = [unit_rows(N, D, seed, dtype=dtype) for seed in (0, 1, 2)]
    return views, unit_rows(N, D, 3, dtype=dtype), unit_rows(K, D, 4, dtype=dtype)


def assert_agrees(
    read: BankRead, view: Tensor, positive: Tensor, bank: Tensor, *, temperature: float, k: int, tolerance: float
) -> None:
    """Compare with the loop; where rows are equally near, any of them is right."""
    log_partition, attended, neighbors = reference.bank_read(view, positive, bank, temperature=temperature, k=k)
    expected = torch.tensor(log_partition, dtype=torch.float64)
    torch.testing.assert_close(read.log_partition.double(), expected, rtol=tolerance, atol=tolerance)
    found, weighted = read.attended.double(), torch.from_numpy(attended)
    torch.testing.assert_close(found, weighted, rtol=10 * tolerance, atol=10 * tolerance)
    products = view.double() @ bank.double().T
    assert all(len(set(rows)) == k for rows in read.neighbors.tolist())
    best, chosen = products.gather(1, torch.tensor(neighbors)), products.gather(1, read.neighbors)
    torch.testing.assert_close(chosen, best, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("k", [1, 8])
@pytest.mark.parametrize("nearest_at", ["start", "end", "anywhere"])
def test_neighbours_of_a_bank_in_many_chunks(nearest_at: str, k: int) -> None:
    views, positive, bank = draw(2, 24, 600, torch.float64)
    if nearest_at != "anywhere":
        order = (bank @ views[0][0]).argsort(descending=nearest_at == "start")
        bank = bank[order]
    for view, read in zip(views, bank_read(views, positive, bank, k=k, implementation="chunked"), strict=True):
        assert_agrees(read, view, positive, bank, temperature=0.07, k=k, tolerance=1e-12)


@pytest.mark.parametrize("on_device", [False, True])
@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("of_positive", [-1.0, 0.0, 1.0])
@pytest.mark.parametrize("scales", [(1, 40, 1, 3000), (1, 1e-10, 1, 1), (3000, 40, 1, 1)])
def test_similarities_that_grow_or_fall_from_chunk_to_chunk(
    scales: tuple[float, ...], of_positive: float, sign: float, on_device: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_chunked_read, "_may_ask", lambda x: not on_device)
    # Two queries whose similarities are far apart, so that what one of them needs must not harm the other.
    same = torch.nn.functional.normalize(torch.ones(1, 8))
    view = torch.cat([same, 1e-3 * same])
    bank = torch.cat([sign * scale * same.expand(16, -1) * torch.linspace(0.9, 1, 16)[:, None] for scale in scales])
    positive = of_positive * torch.cat([same, same])
    (read,) = bank_read([view], positive, bank, temperature=0.05, k=2, implementation="chunked")
    assert_agrees(read, view, positive, bank, temperature=0.05, k=2, tolerance=2e-6)
    assert all(part.isfinite().all() for part in read[:2])


def test_what_is_not_a_number_stays_with_its_query() -> None:
    views, positive, bank = draw(3, 16, 600, torch.float32)
    expected = bank_read(views, positive, 100 * bank, k=2, implementation="chunked")
    views[0][1] = math.nan
    found = bank_read(views, positive, 100 * bank, k=2, implementation="chunked")
    assert found[0].log_partition[1].isnan()
    assert ((found[0].neighbors >= 0) & (found[0].neighbors < 600)).all()
    for read, right in zip(found, expected, strict=True):
        others = torch.tensor([0, 2])
        assert all(torch.equal(a[others], b[others]) for a, b in zip(read, right, strict=True))


def test_rows_of_what_is_nowhere_near_lie_in_the_bank() -> None:
    view, bank = torch.full((3, 4), -math.inf), torch.ones(5, 4)  # a block holds 16 rows, of which 11 are not there
    (read,) = bank_read([view], torch.ones(3, 4), bank, k=2, implementation="chunked")
    assert ((read.neighbors >= 0) & (read.neighbors < 5)).all()


def test_many_queries_look_through_more_blocks_than_are_kept_at_a_time() -> None:
    views, positive, bank = draw(40, 24, 4800, torch.float64)  # 300 blocks, of which 16 fit beside the best
    (read,) = bank_read(views[:1], positive, bank, k=3, implementation="chunked")
    expected = torch.tensor(reference.bank_read(views[0], positive, bank, temperature=0.07, k=3)[2])
    assert torch.equal(read.neighbors, expected)


class _NeverAsked(TorchDispatchMode):
    """Refuse what makes the host wait for a device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func.overloadpacket.__name__ not in {"_local_scalar_dense", "nonzero", "masked_select", "is_nonzero"}
        return func(*args, **(kwargs or {}))


def test_nothing_of_a_device_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    views, positive, bank = draw(3, 16, 600, torch.float32)
    with _NeverAsked(), pytest.raises(AssertionError):  # type: ignore[no-untyped-call]  # its base is untyped
        _chunked_read.chunked_read(torch.stack(views), positive, bank, 0.07, 2)
    monkeypatch.setattr(_chunked_read, "_may_ask", lambda x: False)
    with _NeverAsked():  # type: ignore[no-untyped-call]  # see above
        _chunked_read.chunked_read(torch.stack(views), positive, bank, 0.07, 2)
        _chunked_read.chunked_rows(torch.stack(views), bank, 2)
        _chunked_read.chunked_context(views[0], views[1], bank, bank, 0.07)
