"""AimCLR's terms in one kernel: in Triton's interpreter without a GPU, on the device with one."""

import importlib.util
from typing import Any

import pytest
import torch
from tests.compiling import needs_compiler
from tests.reference.losses import unit_rows
from torch import Tensor

from skelcontrast.losses import aimclr_loss
from skelcontrast.losses._operators import fused_terms
from skelcontrast.losses.bank_read import Implementation

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs Triton")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def draw(N: int, D: int, K: int, views: int, dtype: torch.dtype = torch.float32) -> tuple[list[Tensor], Tensor, Tensor]:
    """Draw views that agree on some neighbours: each is the query with noise."""
    query = unit_rows(N, D, 0, dtype=torch.float64)
    noisy = [query + 0.3 * view * unit_rows(N, D, 10 + view, dtype=torch.float64) for view in range(views)]
    drawn = [torch.nn.functional.normalize(view, dim=1).to(DEVICE, torch.float32) for view in noisy]
    return drawn, unit_rows(N, D, 8, dtype=torch.float32).to(DEVICE), unit_rows(K, D, 9, dtype=dtype).to(DEVICE)


def assert_like_dense(views: list[Tensor], positive: Tensor, bank: Tensor, tolerance: float, **settings: Any) -> None:
    """Compare all terms and gradients with the dense form in float64, under weights of their own for every sample."""
    found = []
    forms: list[tuple[Implementation, torch.dtype]] = [("triton", torch.float32), ("dense", torch.float64)]
    for implementation, dtype in forms:
        leaves = [view.detach().to(dtype).requires_grad_() for view in views]
        keys = bank if dtype == torch.float32 else bank.double()
        loss = aimclr_loss(
            leaves[0], leaves[1:], positive.to(dtype), keys, reduction="none", implementation=implementation, **settings
        )
        weights = torch.linspace(-1, 2, len(positive), dtype=dtype, device=bank.device)
        (loss.total * weights).sum().backward()
        terms = [term.detach() for term in loss if term is not None]
        gradients = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in leaves]
        found.append([value.double() for value in (*terms, *gradients)])
    torch.testing.assert_close(found[0], found[1], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("positives", ["sum", "mean", "logsumexp"])
@pytest.mark.parametrize(
    ("N", "D", "K", "views", "k"), [(1, 24, 7, 1, 1), (3, 65, 70, 3, 2), (5, 16, 3, 2, 3), (2, 130, 40, 4, 1)]
)
def test_mined(N: int, D: int, K: int, views: int, k: int, positives: str) -> None:
    settings: dict[str, Any] = {"mine": True, "k": k, "positives": positives, "alpha": 0.5, "beta": 2.0}
    assert_like_dense(*draw(N, D, K, views), 1e-5, form="kl", **settings)
    assert_like_dense(*draw(N, D, K, views), 1e-5, form="cross_entropy", **settings)


@pytest.mark.parametrize("form", ["kl", "cross_entropy"])
@pytest.mark.parametrize("views", [1, 3])
def test_without_neighbours(views: int, form: str) -> None:
    assert_like_dense(*draw(3, 24, 33, views), 1e-5, form=form)


def test_small_temperature_and_narrow_bank() -> None:
    assert_like_dense(*draw(3, 24, 33, 3), 1e-4, temperature=0.01, mine=True, k=2, positives="logsumexp")
    assert_like_dense(*draw(3, 24, 33, 3, dtype=torch.bfloat16), 1e-5, mine=True, k=2, positives="mean")


def test_equal_views_have_no_divergence() -> None:
    (view,), positive, bank = draw(3, 24, 33, 1)
    loss = aimclr_loss(view, [view.clone()], positive, bank, form="kl", implementation="triton")
    assert loss.d3m == 0


def test_narrow_views_get_narrow_gradients() -> None:
    views, positive, bank = draw(3, 24, 33, 2)
    narrow = [view.bfloat16().requires_grad_() for view in views]
    aimclr_loss(narrow[0], narrow[1:], positive, bank, mine=True, implementation="triton").total.backward()
    for view in narrow:
        assert view.grad is not None
        assert view.grad.dtype == torch.bfloat16


def test_it_is_differentiable_once() -> None:
    views, positive, bank = draw(3, 24, 33, 2)
    query = views[0].requires_grad_()
    loss = aimclr_loss(query, views[1:], positive, bank, implementation="triton").total
    for once in (loss.square(), loss):
        (gradient,) = torch.autograd.grad(once, query, create_graph=True)
        with pytest.raises(RuntimeError, match="differentiated twice"):
            torch.autograd.grad(gradient.sum() + query.square().sum(), query)  # of which a part has a derivative


def test_operator_is_well_formed() -> None:
    views, positive, bank = draw(3, 24, 33, 2)
    stacked, neighbors = torch.stack(views), torch.zeros(2, 3, 1, dtype=torch.int64, device=DEVICE)
    arguments = (stacked, positive, bank, stacked.new_ones(2, 3), stacked.flip(1), neighbors, 0.07, "sum", "kl")
    torch.library.opcheck(fused_terms, arguments, test_utils=("test_schema", "test_faketensor"))


@needs_compiler
def test_it_compiles_without_a_break() -> None:
    views, positive, bank = draw(3, 24, 33, 3)

    def loss(*views: Tensor) -> Tensor:
        return aimclr_loss(views[0], views[1:], positive, bank, mine=True, k=2, implementation="triton").total

    found = []
    for call in (loss, torch.compile(loss, fullgraph=True, backend="aot_eager")):
        leaves = [view.detach().requires_grad_() for view in views]
        found.append([call(*leaves), *torch.autograd.grad(call(*leaves), leaves)])
    torch.testing.assert_close(found[0], found[1])
    for count in (1, 2, 3):  # with no, one and two extreme views, of which none needs a gradient
        torch.compiler.reset()
        compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
        with torch.no_grad():
            torch.testing.assert_close(compiled(*views[:count]), loss(*views[:count]))


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("positives", ["sum", "mean", "logsumexp"])
@pytest.mark.parametrize(("N", "D", "K", "k"), [(128, 128, 32768, 1), (127, 65, 4097, 8), (3, 256, 100_000, 3)])
def test_on_a_gpu(N: int, D: int, K: int, k: int, positives: str) -> None:
    assert_like_dense(*draw(N, D, K, 3), 2e-5, mine=True, k=k, positives=positives)
