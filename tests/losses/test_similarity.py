"""What holds for every loss: reductions, precision, detached keys, order of the bank, closed-form gradients."""

import re
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.compiling import needs_compiler
from tests.reference.losses import unit_rows
from torch import Tensor

from skelcontrast.losses import (
    CrossStreamLoss,
    D3MLoss,
    InfoNCELoss,
    NNMLoss,
    aimclr_loss,
    cross_stream,
    d3m,
    info_nce,
    nearest_neighbors,
    nnm,
)
from skelcontrast.losses._similarity import Reduction
from skelcontrast.losses.bank_read import Implementation
from skelcontrast.losses.nnm import Positives

Loss = Callable[[Tensor, Tensor, Tensor, Tensor, float, Reduction], Tensor]


def losses_with(i: Implementation) -> dict[str, Loss]:
    """Return every loss and form as a function of (query, extreme, positive, bank, temperature, reduction)."""

    def mined(positives: Positives) -> Loss:
        def loss(q: Tensor, e: Tensor, p: Tensor, b: Tensor, t: float, r: Reduction) -> Tensor:
            neighbors = nearest_neighbors([q, e], b, k=min(3, b.shape[0]), implementation=i)
            return nnm(q, p, b, neighbors, temperature=t, positives=positives, reduction=r, implementation=i)

        return loss

    def crossed(context: bool) -> Loss:
        def loss(q: Tensor, e: Tensor, p: Tensor, b: Tensor, t: float, r: Reduction) -> Tensor:
            streams = [q, e], [p, p], [b, -b]
            return cross_stream(*streams, temperature=t, context=context, reduction=r, implementation=i).total

        return loss

    return {
        f"{i} info_nce": lambda q, _, p, b, t, r: info_nce(q, p, b, temperature=t, reduction=r, implementation=i),
        f"{i} d3m": lambda q, e, p, b, t, r: d3m(q, [e, -e], p, b, temperature=t, reduction=r, implementation=i),
        f"{i} d3m kl": lambda q, e, p, b, t, r: d3m(
            q, [e, -e], p, b, temperature=t, form="kl", reduction=r, implementation=i
        ),
        f"{i} nnm sum": mined("sum"),
        f"{i} nnm mean": mined("mean"),
        f"{i} nnm logsumexp": mined("logsumexp"),
        f"{i} aimclr": lambda q, e, p, b, t, r: (
            aimclr_loss(q, [e, -e], p, b, temperature=t, mine=True, reduction=r, implementation=i).total
        ),
        f"{i} cross_stream": crossed(context=True),
        f"{i} cross_stream without context": crossed(context=False),
    }


LOSSES = losses_with("dense") | losses_with("chunked")
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())


def draw(N: int, D: int, K: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    query, extreme, positive = (unit_rows(N, D, seed, dtype=dtype) for seed in range(3))
    return query, extreme, positive, unit_rows(K, D, 3, dtype=dtype)


@every_loss
def test_reductions(loss: Loss) -> None:
    inputs = draw(5, 8, 20)
    each = loss(*inputs, 0.07, "none")
    assert each.shape == (5,)
    torch.testing.assert_close(loss(*inputs, 0.07, "mean"), each.mean())
    torch.testing.assert_close(loss(*inputs, 0.07, "sum"), each.sum())
    query, extreme, positive, bank = inputs
    rows = [loss(query[[n]], extreme[[n]], positive[[n]], bank, 0.07, "sum") for n in range(5)]
    torch.testing.assert_close(torch.stack(rows), each)


@every_loss
def test_keys_carry_no_gradient(loss: Loss) -> None:
    query, extreme, positive, bank = (x.requires_grad_() for x in draw(3, 8, 10))
    loss(query, extreme, positive, bank, 0.07, "mean").backward()
    assert positive.grad is None
    assert bank.grad is None


@every_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_computes_in_float32_whatever_autocast_says(loss: Loss, dtype: torch.dtype) -> None:
    query, extreme, positive, bank = draw(4, 32, 50, dtype)
    expected = loss(query.float(), extreme.float(), positive.float(), bank.float(), 0.07, "none")
    trained = [query.requires_grad_(), extreme.requires_grad_()]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = loss(query, extreme, positive, bank, 0.07, "none")
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)
    found.sum().backward()
    assert all(x.grad is None or x.grad.dtype == dtype for x in trained)


@every_loss
def test_computes_in_the_widest_dtype(loss: Loss) -> None:
    query, extreme, positive, bank = draw(3, 8, 10)
    assert loss(query, extreme, positive, bank, 0.07, "mean").dtype == torch.float64
    assert loss(query, extreme, positive, bank.float(), 0.07, "mean").dtype == torch.float64
    assert loss(query.half(), extreme.half(), positive.half(), bank.bfloat16(), 0.07, "mean").dtype == torch.float32


@every_loss
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("sign", [1, -1])
def test_finite_at_temperature_0_01(loss: Loss, dtype: torch.dtype, sign: int) -> None:
    query = torch.eye(4, dtype=dtype, requires_grad=True)
    extreme = torch.eye(4, dtype=dtype).flip(0).requires_grad_()
    # Similarities of 1, 0 and -1, so logits from -100 to 100, and the positive at either end.
    found = loss(query, extreme, sign * query, torch.cat([query, -query]), 0.01, "none")
    assert found.isfinite().all()
    found.sum().backward()
    for view in (query, extreme):
        assert view.grad is None or view.grad.isfinite().all()


@settings(max_examples=25, deadline=None)
@given(order=st.permutations(range(9)), name=st.sampled_from(sorted(LOSSES)))
def test_the_order_of_the_bank_does_not_matter(order: list[int], name: str) -> None:
    query, extreme, positive, bank = draw(3, 6, 9)
    expected = LOSSES[name](query, extreme, positive, bank, 0.07, "none")
    found = LOSSES[name](query, extreme, positive, bank[order], 0.07, "none")
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@every_loss
def test_runs_on_a_device_without_autocast(loss: Loss) -> None:
    query, extreme, positive, bank = (x.to("meta") for x in draw(3, 8, 10))
    found = loss(query, extreme, positive, bank, 0.07, "none")
    assert found.device.type == "meta"
    assert found.shape == (3,)


X = torch.zeros(3, 8)
MODULES: dict[str, Callable[[Implementation], object]] = {
    "info_nce": lambda i: InfoNCELoss(implementation=i)(X, X, X),
    "d3m": lambda i: D3MLoss(implementation=i)(X, [X], X, X),
    "nnm": lambda i: NNMLoss(implementation=i)(X, X, X, torch.zeros(3, 1, dtype=torch.long)),
    "cross_stream": lambda i: CrossStreamLoss(implementation=i)([X, X], [X, X], [X, X]),
}


@pytest.mark.parametrize(("owner", "call"), MODULES.items(), ids=MODULES.keys())
def test_modules_hand_their_implementation_on(
    owner: str, call: Callable[[str], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    message = f"{owner}: `implementation` must not be 'triton' for tensors on cpu, got 'triton'. Pass 'auto'."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call("triton")
    with pytest.raises(ValueError, match=r"Loss: `implementation` must be one of 'auto', .*, got 'fast'\.$"):
        call("fast")


FUNCTIONS: dict[str, Callable[[Implementation], object]] = {
    "info_nce": lambda i: info_nce(X, X, X, implementation=i),
    "d3m": lambda i: d3m(X, [X], X, X, implementation=i),
    "nnm": lambda i: nnm(X, X, X, torch.zeros(3, 1, dtype=torch.long), implementation=i),
    "nearest_neighbors": lambda i: nearest_neighbors([X], X, implementation=i),
    "cross_stream": lambda i: cross_stream([X, X], [X, X], [X, X], implementation=i),
}


@pytest.mark.parametrize(("owner", "call"), FUNCTIONS.items(), ids=FUNCTIONS.keys())
def test_an_implementation_that_there_is_not(owner: str, call: Callable[[str], object]) -> None:
    with pytest.raises(ValueError, match=rf"^{owner}: `implementation` must be one of 'auto', .*, got 'fast'\.$"):
        call("fast")


@needs_compiler
@pytest.mark.parametrize("implementation", ["dense", "chunked"])
def test_compiles_without_a_graph_break(implementation: Implementation) -> None:
    names = [f"{implementation} {name}" for name in ("aimclr", "cross_stream")]

    def whole(query: Tensor, extreme: Tensor, positive: Tensor, bank: Tensor) -> Tensor:
        return torch.stack([LOSSES[name](query, extreme, positive, bank, 0.07, "mean") for name in names])

    inputs, found = draw(3, 8, 40), []
    for function in (whole, torch.compile(whole, fullgraph=True, backend="aot_eager")):
        query, extreme = (x.clone().requires_grad_() for x in inputs[:2])
        losses = function(query, extreme, *inputs[2:])
        losses.square().sum().backward()
        found.append((losses.detach(), query.grad, extreme.grad))
    torch.testing.assert_close(found[1], found[0], rtol=1e-12, atol=1e-12)


@needs_compiler
@pytest.mark.parametrize("trains", [True, False])
@pytest.mark.parametrize(
    "name", ["chunked info_nce", "chunked d3m", "chunked nnm sum", "chunked cross_stream", "dense aimclr"]
)
def test_compiles_alone_for_batches_of_any_size_and_any_temperature(name: str, trains: bool) -> None:
    torch.compiler.reset()
    compiled = torch.compile(LOSSES[name], fullgraph=True, backend="aot_eager")
    for N, temperature in ((4, 0.07), (3, 0.07), (6, 0.1), (6, 0.2)):
        query, extreme, positive, bank = draw(N, 8, 40)
        inputs = query.requires_grad_(trains), extreme, positive, bank
        torch.testing.assert_close(compiled(*inputs, temperature, "mean"), LOSSES[name](*inputs, temperature, "mean"))


@every_loss
def test_an_empty_batch(loss: Loss) -> None:
    assert loss(*draw(0, 8, 40), 0.07, "none").shape == (0,)


def read(z: Tensor, s: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return the log-partition of one z over its rows s (1 + K, D), and the attention-weighted mean of the rows."""
    logits = s @ z / temperature
    return logits.logsumexp(dim=0), logits.softmax(dim=0) @ s


def test_every_loss_is_one_attention_read_of_the_bank() -> None:
    """With s = [positive; bank], values and gradients follow from lse(z) and c(z) = softmax(z s / t) s."""
    query, extreme, positive, bank = draw(4, 12, 30)
    t, neighbors = 0.2, torch.tensor([[1, 5, 1], [0, 2, 3], [7, 7, 7], [29, 4, 29]])

    def value_and_gradient(loss: Callable[[Tensor], Tensor], at: Tensor) -> tuple[Tensor, Tensor]:
        z = at.clone().requires_grad_()
        value = loss(z)
        return value.detach(), torch.autograd.grad(value.sum(), z)[0]

    found = {
        "info_nce": value_and_gradient(lambda z: info_nce(z, positive, bank, temperature=t, reduction="none"), query),
        "d3m": value_and_gradient(lambda z: d3m(query, [z], positive, bank, temperature=t, reduction="none"), extreme),
        "nnm": value_and_gradient(
            lambda z: nnm(z, positive, bank, neighbors, temperature=t, positives="mean", reduction="none"), query
        ),
        "nnm sum": value_and_gradient(
            lambda z: nnm(z, positive, bank, neighbors, temperature=t, reduction="none"), query
        ),
    }
    for n in range(4):
        q, e, key = query[n], extreme[n], positive[n]
        s = torch.cat([key[None], bank])
        (lse_q, c_q), (lse_e, c_e) = read(q, s, t), read(e, s, t)
        positives = torch.stack([key, *(bank[row] for row in set(neighbors[n].tolist()))])
        m, count = positives.mean(dim=0), len(positives)
        expected = {
            "info_nce": (lse_q - q @ key / t, (c_q - key) / t),
            "d3m": (lse_e - e @ c_q / t, (c_e - c_q) / t),
            "nnm": (lse_q - q @ m / t, (c_q - m) / t),
            "nnm sum": (count * (lse_q - q @ m / t), count * (c_q - m) / t),
        }
        for name, (value, gradient) in expected.items():
            torch.testing.assert_close(found[name][0][n], value, rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(found[name][1][n], gradient, rtol=1e-12, atol=1e-12)


@every_loss
@pytest.mark.gpu
def test_on_a_gpu_it_agrees_with_the_cpu(loss: Loss) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    query, extreme, positive, bank = draw(5, 65, 300, torch.float32)
    expected = loss(query, extreme, positive, bank, 0.07, "none")
    with torch.autocast("cuda", dtype=torch.bfloat16):
        found = loss(query.cuda(), extreme.cuda(), positive.cuda(), bank.cuda(), 0.07, "none")
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-4, atol=1e-4)
