"""CrosSCLR over streams of both kinds: both stages against the oracles, every stream its own, steps and state."""

import copy
import re
from collections.abc import Callable, Mapping
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from tests.reference import losses as reference
from torch import Tensor, nn

from skelcontrast.memory import MemoryQueue
from skelcontrast.methods import AimCLR, CrosSCLR, CrosSCLRLoss, CrosSCLRViews, SkeletonCLR
from skelcontrast.nn import STGCN, ProjectionHead
from skelcontrast.skeleton import COCO_17, to_stream

NAMES = ("joint", "motion", "bone")
Views = dict[str, Tensor]


def stream(kind: type[SkeletonCLR] | type[AimCLR] = SkeletonCLR, **options: Any) -> Any:
    encoder = STGCN(COCO_17, channels=(4, 8), strides=(1, 2), dropout=options.pop("dropout", 0.5))
    head = ProjectionHead(8, options.pop("width", 6))
    return kind(encoder, head, **{"queue_size": 16, "momentum": 0.9, "temperature": 0.3, **options})


def build(seed: int = 0, kind: type[SkeletonCLR] | type[AimCLR] = SkeletonCLR, **options: Any) -> CrosSCLR:
    torch.manual_seed(seed)
    own = {name: options.pop(name) for name in ("k", "context") if name in options}
    return CrosSCLR({name: stream(kind, **options) for name in NAMES}, **own)


def in_streams(x: Tensor) -> Views:
    return {name: to_stream(x, name, COCO_17) for name in ("joint", "motion", "bone")}


def draw_views(samples: int = 5, dtype: torch.dtype = torch.float32) -> tuple[Views, Views, Views]:
    x = torch.randn(samples, 3, 6, 17, 2, dtype=dtype)
    return in_streams(x), in_streams(x * 1.1), in_streams(x.flip(2) * 2)


def step(model: CrosSCLR, optimizer: torch.optim.Optimizer, views: tuple[Views, ...], *, cross: bool) -> CrosSCLRLoss:
    model.momentum_update()
    embedded = model.embed(*views)
    loss = model.loss(embedded, cross=cross)
    optimizer.zero_grad()
    loss.total.backward()
    optimizer.step()
    model.enqueue(embedded.key)
    return loss


def banks_of(model: CrosSCLR) -> dict[str, Tensor]:
    return {name: model.get_buffer(f"streams.{name}.bank.keys") for name in model.streams}


def expected_contrasts(model: CrosSCLR, views: CrosSCLRViews, *, cross: bool) -> dict[str, float]:
    """The contrastive term of every stream, by the slow definitions."""
    banks, parts = banks_of(model), views.streams
    if not cross:
        return {
            name: float(np.mean(reference.info_nce(part.query, part.key, banks[name], temperature=0.3)))
            for name, part in parts.items()
        }
    losses = reference.cross_stream(
        [part.query for part in parts.values()],
        [part.key for part in parts.values()],
        list(banks.values()),
        temperature=0.3,
        k=model.k,
        context=model.context,
    )
    return {name: float(np.mean(of_stream)) for name, of_stream in zip(parts, losses, strict=True)}


@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize(("k", "context"), [(1, True), (2, False)])
def test_crossclr_against_the_oracle(k: int, context: bool, cross: bool) -> None:
    model = build(k=k, context=context).double()
    views = model.embed(*draw_views(dtype=torch.float64)[:2])
    loss = model.loss(views, cross=cross)
    expected = expected_contrasts(model, views, cross=cross)
    assert {name: value.item() for name, value in loss.streams.items()} == pytest.approx(expected, abs=1e-10)
    assert loss.total.item() == pytest.approx(sum(expected.values()), abs=1e-10)
    assert (loss.info_nce is None, loss.cross is None, loss.d3m) == (cross, not cross, None)
    found = loss.cross if cross else loss.info_nce
    assert found is not None
    assert torch.equal(found, loss.total)


@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize("preset", ["paper", "official"])
def test_aimclr_across_streams_against_the_oracle(preset: str, cross: bool) -> None:
    model = build(kind=AimCLR, preset=preset, alpha=0.5, beta=3.0).double()
    views = model.embed(*draw_views(dtype=torch.float64))
    loss = model.loss(views, cross=cross)
    contrasts, banks, divergences = expected_contrasts(model, views, cross=cross), banks_of(model), {}
    for name, part in views.streams.items():
        extremes = [view for view in part[2:] if view is not None]
        assert len(extremes) == 2
        values = reference.d3m(part.query, extremes, part.key, banks[name], temperature=0.3, form="cross_entropy")
        divergences[name] = float(np.mean(values))
    expected = {name: 0.5 * contrasts[name] + 3 * divergences[name] for name in NAMES}
    assert {name: value.item() for name, value in loss.streams.items()} == pytest.approx(expected, abs=1e-10)
    assert loss.total.item() == pytest.approx(sum(expected.values()), abs=1e-10)
    assert loss.d3m is not None
    assert loss.d3m.item() == pytest.approx(sum(divergences.values()), abs=1e-10)


def test_first_stage_is_every_stream_alone() -> None:
    model = build(kind=AimCLR).eval()
    views = draw_views()
    found = model.loss(model.embed(*views))
    for name, method in model.streams.items():
        assert isinstance(method, AimCLR)
        alone = method.loss(method.embed(*(view[name] for view in views)))
        torch.testing.assert_close(found.streams[name], alone.total, rtol=1e-6, atol=0)


def test_streams_of_both_kinds_and_any_names_and_widths() -> None:
    model = CrosSCLR({"left": stream(AimCLR, drop=None), "right": stream(width=4)})
    x = {"left": torch.randn(5, 3, 6, 17, 2), "right": torch.randn(5, 3, 6, 17, 1)}
    loss = step(model, torch.optim.SGD(model.query_parameters(), lr=0.1), (x, x), cross=True)
    assert torch.isfinite(loss.total)
    assert loss.d3m is None
    assert {name: keys.shape for name, keys in banks_of(model).items()} == {"left": (16, 6), "right": (16, 4)}


def test_every_stream_has_its_own_head_and_momentum_update() -> None:
    """What the released code's streams do not have."""
    model = build()
    assert len({id(encoder) for encoder in model.encoders.values()}) == 3
    optimizer = torch.optim.SGD(model.query_parameters(), lr=0.5)
    for cross in (False, True):
        step(model, optimizer, draw_views()[:2], cross=cross)
        before = copy.deepcopy(model.state_dict())
        model.momentum_update()
        after = model.state_dict()
        for name in NAMES:
            query, key = (f"streams.{name}.moco.{side}" for side in ("query_head.", "key_head.module."))
            weights = [entry.removeprefix(query) for entry in after if entry.startswith(query)]
            assert weights
            for weight in weights:
                assert not torch.equal(after[key + weight], before[key + weight]), (name, weight)
                torch.testing.assert_close(
                    after[key + weight], 0.9 * before[key + weight] + 0.1 * after[query + weight]
                )


@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize("kind", [SkeletonCLR, AimCLR])
def test_gradient_reaches_the_query_sides_alone(kind: type[SkeletonCLR] | type[AimCLR], cross: bool) -> None:
    model = build(kind=kind)
    views = draw_views()
    model.loss(model.embed(*(views if kind is AimCLR else views[:2])), cross=cross).total.backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert trained == {name for name, _ in model.named_parameters() if ".moco.query_" in name}
    assert {id(parameter) for parameter in model.query_parameters()} == {
        id(parameter) for name, parameter in model.named_parameters() if name in trained
    }


@pytest.mark.parametrize("cross", [False, True])
def test_gradient_of_the_total(cross: bool) -> None:
    model = build().double().eval()
    drawn = model.embed(*draw_views(3, torch.float64)[:2]).streams
    queries = [part.query.detach().requires_grad_() for part in drawn.values()]

    def total(*queries: Tensor) -> Tensor:
        views = {name: part._replace(query=query) for (name, part), query in zip(drawn.items(), queries, strict=True)}
        return model.loss(CrosSCLRViews(views), cross=cross).total

    assert torch.autograd.gradcheck(total, queries)


@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize("kind", [SkeletonCLR, AimCLR])
def test_steps_lower_the_loss_of_a_problem_that_stands_still(
    kind: type[SkeletonCLR] | type[AimCLR], cross: bool
) -> None:
    model = build(kind=kind, dropout=0.0)
    optimizer = torch.optim.SGD(model.query_parameters(), lr=0.1, momentum=0.9)
    poses = torch.randn(24, 3, 6, 17, 1)
    model.enqueue(model.embed(*[in_streams(poses[8:])] * 2).key)
    views = [in_streams(poses[:8] + noise * torch.randn(8, 3, 6, 17, 1)) for noise in (0, 0.1, 0.3)]
    totals = []
    for _ in range(16):  # without momentum update and enqueue the keys stay
        total = model.loss(model.embed(*(views if kind is AimCLR else views[:2])), cross=cross).total
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert totals[-1] < totals[0] - 0.3


def test_two_stages_fill_the_banks_alike() -> None:
    model = build()
    optimizer = torch.optim.SGD(model.query_parameters(), lr=0.1)
    for turn in range(4):
        assert torch.isfinite(step(model, optimizer, draw_views()[:2], cross=turn >= 2).total)
    state = model.state_dict()
    assert [state[f"streams.{name}.bank.enqueued"].item() for name in NAMES] == [20] * 3
    assert [state[f"streams.{name}.bank.pointer"].item() for name in NAMES] == [4] * 3


def test_state_round_trip_goes_on_bit_for_bit() -> None:
    model, other = build(0), build(1)
    batches = [draw_views()[:2] for _ in range(4)]
    optimizers = [torch.optim.SGD(one.query_parameters(), lr=0.1, momentum=0.9) for one in (model, other)]
    for views in batches[:2]:
        step(model, optimizers[0], views, cross=False)
    other.load_state_dict(model.state_dict())
    optimizers[1].load_state_dict(copy.deepcopy(optimizers[0].state_dict()))
    totals = []
    for one, optimizer in zip((model, other), optimizers, strict=True):
        torch.manual_seed(7)  # dropout
        totals.append([step(one, optimizer, views, cross=True).total for views in batches[2:]])
    assert torch.equal(torch.stack(totals[0]), torch.stack(totals[1]))
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in model.state_dict().items())


def test_every_bank_is_told_to_gather(monkeypatch: pytest.MonkeyPatch) -> None:
    model, keys = build(), {name: torch.zeros(2, 6) for name in NAMES}
    with pytest.raises(RuntimeError, match=r"`gather` must be False unless torch\.distributed is initialised"):
        model.enqueue(keys, gather=True)
    told = Mock()
    monkeypatch.setattr(MemoryQueue, "check_keys", Mock())
    monkeypatch.setattr(MemoryQueue, "enqueue", told)
    model.enqueue(keys, gather=True)
    assert [call.kwargs for call in told.call_args_list] == [{"gather": True}] * 3


def test_repr_shows_the_settings() -> None:
    assert "temperature=0.3, k=2, context=False" in repr(build(k=2, context=False))


def shifted() -> SkeletonCLR:
    moved: SkeletonCLR = stream()
    moved.enqueue(torch.zeros(3, 6))
    return moved


def sharing(first: SkeletonCLR) -> SkeletonCLR:
    return SkeletonCLR(STGCN(COCO_17, channels=(4, 8), strides=(1, 2)), first.moco.query_head, queue_size=16)


def filled() -> SkeletonCLR:
    full: SkeletonCLR = stream()
    full.enqueue(torch.zeros(16, 6))
    return full


AGREE = (
    "`streams` must agree in temperature, implementation, bank size, the row that is filled next and the keys stored "
    "so far, got "
)
NAMED = (
    "`streams` must have names that a torch.nn.ModuleDict takes: strings without a dot, and none of its own attributes"
)


@pytest.mark.parametrize(
    ("streams", "kind", "message"),
    [
        (lambda one: [one, stream()], TypeError, "`streams` must be a mapping from names, got list."),
        (lambda one: {"joint": one}, ValueError, "`streams` must hold at least 2 streams, got 1."),
        (
            lambda one: {"joint": one, "bone": nn.Linear(1, 1)},
            TypeError,
            "`streams['bone']` must be a SkeletonCLR or an AimCLR, got Linear.",
        ),
        (
            lambda one: {"joint": one, "bone": sharing(one)},
            ValueError,
            "`streams` must share no parameter, got one that bone shares. Build an encoder and a head for each.",
        ),
        (
            lambda one: {"joint": one, "bone": stream(temperature=0.5)},
            ValueError,
            AGREE + "joint (0.3, 'auto', 16, 0, 0), bone (0.5, 'auto', 16, 0, 0).",
        ),
        (
            lambda one: {"joint": one, "bone": stream(queue_size=8)},
            ValueError,
            AGREE + "joint (0.3, 'auto', 16, 0, 0), bone (0.3, 'auto', 8, 0, 0).",
        ),
        (
            lambda one: {"joint": one, "bone": shifted()},
            ValueError,
            AGREE + "joint (0.3, 'auto', 16, 0, 0), bone (0.3, 'auto', 16, 3, 3).",
        ),
        (
            lambda one: {"joint": one, "bone": filled()},
            ValueError,
            AGREE + "joint (0.3, 'auto', 16, 0, 0), bone (0.3, 'auto', 16, 0, 16).",
        ),
        (lambda one: {"joint": one, "keys": stream()}, ValueError, NAMED + ", got 'keys'."),
        (lambda one: {"joint": one, "a.b": stream()}, ValueError, NAMED + ", got 'a.b'."),
        (lambda one: {"joint": one, 1: stream()}, ValueError, NAMED + ", got 1."),
    ],
)
def test_streams_that_do_not_fit(streams: Callable[[Any], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=f"^{re.escape(f'CrosSCLR: {message}')}$"):
        CrosSCLR(streams(stream()))


def test_errors_of_the_settings() -> None:
    streams = {"joint": stream(), "bone": stream()}
    with pytest.raises(ValueError, match=re.escape("CrosSCLR: `k` must lie in [1, 16], got 17. The banks hold 16 key")):
        CrosSCLR(streams, k=17)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda model, x: model.embed(x, {"joint": x["joint"]}),
            "CrosSCLR.embed: `key_views` must name the streams joint, motion, bone, got joint.",
        ),
        (
            lambda model, x: model.embed(x, x, {}),
            "CrosSCLR.embed: `extreme_views` must name the streams joint, motion, bone, got none.",
        ),
        (
            lambda model, x: model.embed(x, x, x),
            "`extreme_views` must be None unless every stream is an AimCLR, got views, and stream 'joint' is a Skele",
        ),
        (
            lambda model, x: model.loss(CrosSCLRViews({})),
            "CrosSCLR.loss: `views.streams` must name the streams joint, motion, bone, got none.",
        ),
        (
            lambda model, x: model.enqueue({**model.embed(x, x).key, "depth": x["joint"]}),
            "CrosSCLR.enqueue: `keys` must name the streams joint, motion, bone, got joint, motion, bone, depth.",
        ),
        (  # or the banks would come out of step
            lambda model, x: model.enqueue({**model.embed(x, x).key, "bone": torch.zeros(2, 6)}),
            "CrosSCLR.enqueue: `keys` must hold as many of every stream, got joint 5, motion 5, bone 2.",
        ),
        (
            lambda model, x: model.enqueue({**model.embed(x, x).key, "bone": torch.zeros(5, 6, device="meta")}),
            "MemoryQueue.enqueue: `keys` must be on the device of `bank` (cpu), got meta.",
        ),
        (  # the last stream's keys do not fit: no bank takes any
            lambda model, x: model.enqueue({**model.embed(x, x).key, "bone": torch.zeros(5, 7)}),
            "MemoryQueue.enqueue: `keys` must have shape (B, 6) to match the bank, got (5, 7).",
        ),
        (
            lambda model, x: model.loss(model.embed(x, {**x, "bone": x["bone"][:2]})),
            "info_nce: `positive` must have shape (5, 6) to match `query`, got (2, 6).",
        ),
    ],
)
def test_errors_in_the_loop(call: Callable[[CrosSCLR, Mapping[str, Tensor]], object], message: str) -> None:
    model, (x, _, _) = build(), draw_views()
    with pytest.raises(ValueError, match=re.escape(message)):
        call(model, x)
    assert [int(model.get_buffer(f"streams.{name}.bank.enqueued")) for name in NAMES] == [0] * 3


def test_keys_that_are_no_tensors_are_named_before_any_is_stored() -> None:
    model, keys = build(), {**dict.fromkeys(NAMES, torch.zeros(2, 6)), "bone": [[0.0] * 6] * 2}
    with pytest.raises(TypeError, match=r"MemoryQueue.enqueue: `keys` must be a torch\.Tensor, got list\."):
        model.enqueue(keys)  # type: ignore[arg-type]  # on purpose
    assert [int(model.get_buffer(f"streams.{name}.bank.enqueued")) for name in NAMES] == [0] * 3
