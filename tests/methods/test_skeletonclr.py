"""SkeletonCLR: its steps, its loss against the oracle, its state."""

import copy
import re
from typing import Any

import numpy as np
import pytest
import torch
from tests.reference import losses as reference
from torch import Tensor, nn

from skelcontrast.methods import AimCLR, SkeletonCLR
from skelcontrast.nn import STGCN, ProjectionHead
from skelcontrast.skeleton import COCO_17


def build(seed: int = 0, **options: Any) -> SkeletonCLR:
    torch.manual_seed(seed)
    encoder = options.pop("encoder", None) or STGCN(COCO_17, channels=(4, 8), strides=(1, 2))
    return SkeletonCLR(encoder, ProjectionHead(8, 6), **{"queue_size": 16, "momentum": 0.9, **options})


def step(model: SkeletonCLR, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> Tensor:
    model.momentum_update()
    views = model.embed(x, y)
    loss = model.loss(views)
    optimizer.zero_grad()
    loss.total.backward()
    optimizer.step()
    model.enqueue(views.key)
    return loss.total.detach()


def test_loss_is_equation_1() -> None:
    model = build(temperature=0.2).double()
    views = model.embed(*torch.randn(2, 5, 3, 6, 17, 2, dtype=torch.float64))
    loss = model.loss(views)
    expected = reference.info_nce(views.query, views.key, model.bank.keys, temperature=0.2)
    assert loss.total.item() == pytest.approx(sum(expected) / 5, abs=1e-10)
    assert loss.total is loss.info_nce


def test_any_head_that_says_how_many_numbers_it_gives() -> None:
    encoder = STGCN(COCO_17, channels=(4,), strides=(1,))
    sizes: tuple[Any, ...] = (6, np.int64(6))
    for size in sizes:
        model = SkeletonCLR(encoder, nn.Linear(4, size), queue_size=16)
        assert (model.bank.dim, model.embed(*torch.randn(2, 3, 3, 6, 17, 1)).key.shape) == (6, (3, 6))


@pytest.mark.parametrize("method", [SkeletonCLR, AimCLR])
def test_defaults_are_the_papers(method: type[SkeletonCLR | AimCLR]) -> None:
    model = method(STGCN(COCO_17, channels=(4,), strides=(1,)), ProjectionHead(4, 2))
    assert model.bank.size == 32768  # Section 4.2
    assert model.moco.key_encoder.momentum == model.moco.key_head.momentum == 0.999
    assert model.temperature == 0.07


def test_steps_run_and_fill_the_bank() -> None:
    model = build()
    optimizer = torch.optim.SGD(model.query_parameters(), lr=0.1, momentum=0.9)
    losses = [step(model, optimizer, *torch.randn(2, 6, 3, 6, 17, 1)) for _ in range(5)]
    assert torch.isfinite(torch.stack(losses)).all()
    assert model.bank.enqueued.item() == 30
    assert model.bank.pointer.item() == 30 % 16


def test_steps_lower_the_loss_of_a_problem_that_stands_still() -> None:
    encoder = STGCN(COCO_17, channels=(4, 8), strides=(1, 2), dropout=0.0)
    model = build(encoder=encoder, temperature=0.2)
    optimizer = torch.optim.SGD(model.query_parameters(), lr=0.1, momentum=0.9)
    poses = torch.randn(24, 3, 1, 17, 1).expand(24, 3, 6, 17, 1)
    model.enqueue(model.embed(poses[8:], poses[8:]).key)
    x, y = poses[:8], poses[:8] + 0.1 * torch.randn(8, 3, 6, 17, 1)
    losses = []
    for _ in range(24):  # without momentum update and enqueue the keys stay
        loss = model.loss(model.embed(x, y)).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.15


def test_loss_and_embed_change_nothing_but_batch_statistics() -> None:
    model = build().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    views = model.embed(*torch.randn(2, 5, 3, 6, 17, 2))
    model.loss(views).total.backward()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model.enqueue(views.key)
    assert torch.equal(model.bank.keys[:5], views.key)


def test_gradient_reaches_the_query_side_alone() -> None:
    model = build()
    model.loss(model.embed(*torch.randn(2, 5, 3, 6, 17, 2))).total.backward()
    trained = {name for name, value in model.named_parameters() if value.grad is not None}
    assert trained == {name for name, _ in model.named_parameters() if name.startswith("moco.query_")}
    assert {id(value) for value in model.query_parameters()} == {
        id(value) for name, value in model.named_parameters() if name in trained
    }


def test_key_start() -> None:
    x = torch.randn(5, 3, 6, 17, 2)
    copied, drawn = build().eval(), build(key_init="independent").eval()
    views = copied.embed(x, x)
    assert torch.equal(views.query, views.key)
    views = drawn.embed(x, x)
    assert not torch.allclose(views.query, views.key, atol=1e-3)


def test_embeddings_are_float32_unit_vectors_under_autocast() -> None:
    model = build()
    with torch.autocast("cpu", torch.bfloat16):
        views = model.embed(*torch.randn(2, 5, 3, 6, 17, 2))
        loss = model.loss(views).total
    for view in (*views, loss[None]):
        assert view.dtype == torch.float32
    for view in views:
        torch.testing.assert_close(view.norm(dim=1), torch.ones(5))


def test_state_round_trip_goes_on_bit_for_bit() -> None:
    model, other = build(0), build(1)
    batches = torch.randn(6, 2, 8, 3, 6, 17, 1)
    optimizers = [torch.optim.SGD(one.query_parameters(), lr=0.1, momentum=0.9) for one in (model, other)]
    for x, y in batches[:3]:
        step(model, optimizers[0], x, y)
    other.load_state_dict(model.state_dict())
    optimizers[1].load_state_dict(copy.deepcopy(optimizers[0].state_dict()))
    losses = []
    for one, optimizer in zip((model, other), optimizers, strict=True):
        torch.manual_seed(7)  # dropout
        losses.append([step(one, optimizer, x, y) for x, y in batches[3:]])
    assert torch.equal(torch.stack(losses[0]), torch.stack(losses[1]))
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in model.state_dict().items())


def test_encoder_and_any_head() -> None:
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(6, 5))
    model = SkeletonCLR(encoder, nn.Linear(5, 4), queue_size=8)
    assert model.encoder is encoder
    assert model.bank.dim == 4
    assert model.embed(torch.randn(3, 6), torch.randn(3, 6)).query.shape == (3, 4)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        (
            {"head": nn.Identity()},
            TypeError,
            "`head` must have an integer `out_features`, the embedding size, got None.",
        ),
        ({"queue_size": 0}, ValueError, "`queue_size` must be at least 1, got 0."),
        ({"momentum": 1.5}, ValueError, "`momentum` must lie in [0, 1], got 1.5."),
        ({"temperature": 0.0}, ValueError, "`temperature` must lie in (0, inf), got 0."),
        ({"key_init": "same"}, ValueError, "`key_init` must be one of 'copy', 'independent', got 'same'."),
    ],
)
def test_errors_of_the_constructor(options: dict[str, Any], kind: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {"encoder": nn.Linear(3, 4), "head": nn.Linear(4, 2), "queue_size": 8, **options}
    with pytest.raises(kind, match=re.escape(f"SkeletonCLR: {message}")):
        SkeletonCLR(**arguments)


def test_errors_in_the_loop() -> None:
    model = build()
    with pytest.raises(
        ValueError, match=re.escape("STGCN: `x` must have shape (N, 3, T, 17, M), got (2, 3, 6, 25, 2).")
    ):
        model.embed(torch.zeros(2, 3, 6, 25, 2), torch.zeros(2, 3, 6, 25, 2))
    with pytest.raises(ValueError, match=re.escape("`keys` must hold at most 16 keys, the size of the queue, got 17.")):
        model.enqueue(torch.zeros(17, 6))
