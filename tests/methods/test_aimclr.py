"""AimCLR: every row of Table 1, both stages and presets against the oracles, its steps and its state."""

import copy
import re
from typing import Any, Literal, NamedTuple

import numpy as np
import pytest
import torch
from tests.reference import losses as reference
from tests.reference import nn as reference_nn
from torch import Tensor, nn

from skelcontrast.methods import AimCLR, AimCLRLoss, AimCLRViews, FeatureMapEncoder, SkeletonCLR
from skelcontrast.nn import EADM, STGCN, ProjectionHead
from skelcontrast.skeleton import COCO_17

Preset = Literal["paper", "official"]


def small_encoder(**options: Any) -> STGCN:
    return STGCN(COCO_17, **{"channels": (4, 8), "strides": (1, 2), **options})


def build(seed: int = 0, **options: Any) -> AimCLR:
    torch.manual_seed(seed)
    encoder = options.pop("encoder", None) or small_encoder()
    return AimCLR(encoder, ProjectionHead(8, 6), **{"queue_size": 16, "momentum": 0.9, **options})


def draw_views(samples: int = 5, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    x = torch.randn(samples, 3, 6, 17, 2, dtype=dtype)
    x[1, ..., 1] = 0
    return x, x * 1.1, x.flip(2) * 2


def step(
    model: AimCLR, optimizer: torch.optim.Optimizer, views: tuple[Tensor, ...], *, mine: bool = False
) -> AimCLRLoss:
    model.momentum_update()
    embedded = model.embed(*views)
    loss = model.loss(embedded, mine=mine)
    optimizer.zero_grad()
    loss.total.backward()
    optimizer.step()
    model.enqueue(embedded.key)
    return loss


class Row(NamedTuple):
    """A row of Table 1, and which views and terms it has."""

    options: dict[str, Any]
    extreme: bool
    mine: bool
    present: tuple[bool, bool, bool, bool]
    """info_nce, nnm, d3m, and the dropped view."""


TABLE_1 = {
    "NA": Row({"drop": None}, False, False, (True, False, False, False)),
    "EA": Row({"drop": None}, False, False, (True, False, False, False)),
    "NA, EA": Row({"drop": None}, True, False, (True, False, True, False)),
    "NA, EA, EADM": Row({}, True, False, (True, False, True, True)),
    "NA, EA, EADM, NNM": Row({}, True, True, (False, True, True, True)),
    "NA, EA, NNM": Row({"drop": None}, True, True, (False, True, True, False)),
    "NA, NNM": Row({}, False, True, (False, True, False, False)),
}


@pytest.mark.parametrize("preset", ["paper", "official"])
@pytest.mark.parametrize("row", TABLE_1.values(), ids=TABLE_1.keys())
def test_every_row_of_table_1_against_the_oracle(row: Row, preset: Preset) -> None:
    model = build(preset=preset, temperature=0.3, k=2, alpha=0.5, beta=3.0, **row.options).double()
    query, key, extreme = draw_views(dtype=torch.float64)
    views = model.embed(query, key, extreme if row.extreme else None)
    loss = model.loss(views, mine=row.mine)
    has = (loss.info_nce is not None, loss.nnm is not None, loss.d3m is not None, views.extreme_dropped is not None)
    assert has == row.present
    bank, extremes = model.bank.keys, [view for view in views[2:] if view is not None]
    if row.mine:
        mined = [reference.nearest_neighbors(view, bank, k=2) for view in (views.query, *extremes)]
        rows = [[j for of_view in mined for j in of_view[n]] for n in range(5)]
        positives = "sum" if preset == "paper" else "mean"
        contrast = reference.nnm(views.query, views.key, bank, rows, temperature=0.3, positives=positives)
    else:
        contrast = reference.info_nce(views.query, views.key, bank, temperature=0.3)
    found = loss.nnm if row.mine else loss.info_nce
    assert found is not None
    assert found.item() == pytest.approx(np.mean(contrast), abs=1e-10)
    total = 0.5 * float(np.mean(contrast))
    if extremes:
        divergence = reference.d3m(views.query, extremes, views.key, bank, temperature=0.3, form="cross_entropy")
        assert loss.d3m is not None
        assert loss.d3m.item() == pytest.approx(np.mean(divergence), abs=1e-10)
        total += 3 * float(np.mean(divergence))
    assert loss.total.item() == pytest.approx(total, abs=1e-10)


def test_without_the_extreme_view_it_is_skeletonclr() -> None:
    model = build(drop=None)
    torch.manual_seed(0)
    baseline = SkeletonCLR(small_encoder(), ProjectionHead(8, 6), queue_size=16, momentum=0.9)
    baseline.load_state_dict(model.state_dict())
    query, key, _ = draw_views()
    for one in (model, baseline):
        one.eval()
    found, expected = model.loss(model.embed(query, key)).total, baseline.loss(baseline.embed(query, key)).total
    assert torch.equal(found, expected)


@pytest.mark.parametrize("preset", ["paper", "official"])
@pytest.mark.parametrize("bodies", ["present", "all"])
def test_views_are_what_the_parts_say(preset: Preset, bodies: Literal["present", "all"]) -> None:
    model = build(preset=preset, encoder=small_encoder(bodies=bodies)).double().eval()
    query, key, extreme = draw_views(dtype=torch.float64)
    views = model.embed(query, key, extreme)
    encoder = model.encoder
    assert isinstance(encoder, STGCN)

    def embed(features: Tensor) -> Tensor:
        z: Tensor = model.moco.query_head(features)
        return z / (z**2).sum(1, keepdim=True).sqrt()

    torch.testing.assert_close(views.query, embed(encoder(query)))
    assert views.extreme is not None
    torch.testing.assert_close(views.extreme, embed(encoder(extreme)))
    key_features = model.moco.key_encoder.module(key)
    z = model.moco.key_head.module(key_features)
    torch.testing.assert_close(views.key, z / z.norm(dim=1, keepdim=True))
    options: dict[str, Any] = (
        {"temporal": "element", "rescale": "batch", "correction": 1} if preset == "official" else {}
    )
    dropped = reference_nn.eadm(reference_nn.array(encoder.feature_map(extreme)), 0.7, **options)
    present = encoder.present_bodies(extreme).numpy()
    pooled = torch.from_numpy(reference_nn.pool(dropped, present, bodies))
    assert views.extreme_dropped is not None
    torch.testing.assert_close(views.extreme_dropped, embed(pooled))
    assert not torch.allclose(views.extreme_dropped, views.extreme)
    model.drop = None
    undropped = model.embed(query, key, extreme)
    torch.testing.assert_close(undropped[:3], views[:3])
    assert undropped.extreme_dropped is None


def test_dropped_and_undropped_view_share_one_pass() -> None:
    model = build(drop=nn.Identity())
    views = model.embed(*draw_views())  # training mode: two passes would draw dropout twice
    assert views.extreme is not None
    assert views.extreme_dropped is not None
    assert torch.equal(views.extreme, views.extreme_dropped)
    passes = [
        module.num_batches_tracked
        for module in model.encoder.modules()
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)
    ]
    assert all(count is not None and count.item() == 2 for count in passes)  # normal and extreme


def test_presets() -> None:
    paper, official = build().eval(), build(preset="official").eval()
    assert repr(paper.drop) == repr(EADM.preset("paper"))
    assert repr(official.drop) == repr(EADM.preset("official"))
    assert (paper.positives, official.positives) == ("sum", "mean")
    x, _, _ = draw_views()
    assert torch.equal(*paper.embed(x, x)[:2])
    assert not torch.allclose(*official.embed(x, x)[:2], atol=1e-3)


@pytest.mark.parametrize("preset", ["paper", "official"])
@pytest.mark.parametrize("positives", ["sum", "mean", "logsumexp"])
def test_form_of_nnm_is_an_argument_of_its_own(preset: Preset, positives: Literal["sum", "mean", "logsumexp"]) -> None:
    model = build(preset=preset, positives=positives, temperature=0.3).double()
    views = model.embed(*draw_views(dtype=torch.float64))
    bank = model.bank.keys
    mined = [
        reference.nearest_neighbors(view, bank, k=1) for view in views if view is not None and view is not views.key
    ]
    rows = [[j for of_view in mined for j in of_view[n]] for n in range(5)]
    expected = reference.nnm(views.query, views.key, bank, rows, temperature=0.3, positives=positives)
    found = model.loss(views, mine=True).nnm
    assert found is not None
    assert found.item() == pytest.approx(np.mean(expected), abs=1e-10)


def test_start_of_the_key_side_is_an_argument_of_its_own() -> None:
    x, _, _ = draw_views()
    drawn = build(key_init="independent").eval().embed(x, x)
    assert not torch.allclose(drawn.query, drawn.key, atol=1e-3)
    copied = build(key_init="copy", preset="official").eval().embed(x, x)
    assert torch.equal(copied.query, copied.key)


def test_parameters_of_the_drop_layer_are_trained() -> None:
    model = build(drop=nn.Conv2d(8, 8, 1))
    assert isinstance(model.drop, nn.Conv2d)
    assert {id(parameter) for parameter in model.drop.parameters()} < {id(one) for one in model.query_parameters()}


def test_own_drop_layer_is_kept() -> None:
    drop = EADM(drop_share=0.2)
    assert build(drop=drop).drop is drop


@pytest.mark.parametrize("mine", [False, True])
@pytest.mark.parametrize("preset", ["paper", "official"])
def test_steps_lower_the_loss_of_a_problem_that_stands_still(preset: Preset, mine: bool) -> None:
    model = build(preset=preset, encoder=small_encoder(dropout=0.0), temperature=0.2)
    optimizer = torch.optim.SGD(model.query_parameters(), lr=0.1, momentum=0.9)
    poses = torch.randn(24, 3, 1, 17, 1).expand(24, 3, 6, 17, 1)
    model.enqueue(model.embed(poses[8:], poses[8:]).key)
    views = [poses[:8] + noise * torch.randn(8, 3, 6, 17, 1) for noise in (0, 0.1, 0.3)]
    totals = []
    for _ in range(24):  # without momentum update and enqueue the keys stay
        total = model.loss(model.embed(*views), mine=mine).total
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert totals[-1] < totals[0] - 0.15


@pytest.mark.parametrize("preset", ["paper", "official"])
def test_steps_run_through_both_stages_and_fill_the_bank(preset: Preset) -> None:
    model = build(preset=preset)
    optimizer = torch.optim.SGD(model.query_parameters(), lr=0.1, momentum=0.9)
    totals = [step(model, optimizer, draw_views(6), mine=turn >= 3).total.detach() for turn in range(6)]
    assert torch.isfinite(torch.stack(totals)).all()
    assert model.bank.enqueued.item() == 36
    assert model.bank.pointer.item() == 36 % 16


@pytest.mark.parametrize("mine", [False, True])
def test_gradient_reaches_the_query_side_alone(mine: bool) -> None:
    model = build()
    model.loss(model.embed(*draw_views()), mine=mine).total.backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == name.startswith("moco.query_"), name


def test_terms_train_their_own_views() -> None:
    model = build()
    views = AimCLRViews(*(torch.nn.functional.normalize(torch.randn(4, 6), dim=1).requires_grad_() for _ in range(4)))
    for mine in (False, True):
        loss = model.loss(views, mine=mine)
        contrast = loss.nnm if mine else loss.info_nce
        assert contrast is not None
        assert loss.d3m is not None
        inputs = [view for view in views if view is not None]
        of_contrast = torch.autograd.grad(contrast, inputs, retain_graph=True, allow_unused=True)
        of_divergence = torch.autograd.grad(loss.d3m, inputs, allow_unused=True)
        assert [gradient is not None for gradient in of_contrast] == [True, False, False, False]
        assert [gradient is not None for gradient in of_divergence] == [False, False, True, True]


@pytest.mark.parametrize("mine", [False, True])
def test_the_implementation_does_not_change_the_numbers(mine: bool) -> None:
    found = []
    for implementation in ("dense", "chunked"):
        model = build(k=2, implementation=implementation).double()
        views = model.embed(*draw_views(dtype=torch.float64))
        found.append((*model.loss(views, mine=mine), model.divergence(views)))
    torch.testing.assert_close(found[1], found[0], rtol=1e-12, atol=1e-12)


def test_an_implementation_that_there_is_not() -> None:
    with pytest.raises(ValueError, match=r"^AimCLR: `implementation` must be one of 'auto', "):
        build(implementation="fast")


@pytest.mark.parametrize(("alpha", "beta"), [(0.0, 1.0), (1.0, 0.0), (2.0, 0.5)])
def test_weights_of_the_terms(alpha: float, beta: float) -> None:
    loss = build(alpha=alpha, beta=beta).loss(build().embed(*draw_views()))
    assert loss.info_nce is not None
    assert loss.d3m is not None
    torch.testing.assert_close(loss.total, alpha * loss.info_nce + beta * loss.d3m)


@pytest.mark.parametrize("preset", ["paper", "official"])
def test_state_round_trip_goes_on_bit_for_bit(preset: Preset) -> None:
    model, other = build(0, preset=preset), build(1, preset=preset)
    batches = [draw_views(8) for _ in range(6)]
    optimizers = [torch.optim.SGD(one.query_parameters(), lr=0.1, momentum=0.9) for one in (model, other)]
    for views in batches[:3]:
        step(model, optimizers[0], views)
    other.load_state_dict(model.state_dict())
    optimizers[1].load_state_dict(copy.deepcopy(optimizers[0].state_dict()))
    totals = []
    for one, optimizer in zip((model, other), optimizers, strict=True):
        torch.manual_seed(7)  # dropout
        totals.append([step(one, optimizer, views, mine=True).total for views in batches[3:]])
    assert torch.equal(torch.stack(totals[0]), torch.stack(totals[1]))
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in model.state_dict().items())


def test_autocast_gives_float32_losses() -> None:
    model = build()
    with torch.autocast("cpu", torch.bfloat16):
        views = model.embed(*draw_views())
        loss = model.loss(views, mine=True)
    assert all(view is not None and view.dtype == torch.float32 for view in views)
    assert loss.total.dtype == torch.float32
    loss.total.backward()
    assert all(parameter.grad is not None for parameter in model.query_parameters())


class OtherBackbone(nn.Module):
    """A backbone of someone else's, with the three methods."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(3, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.feature_map(x), self.present_bodies(x))

    def feature_map(self, x: Tensor) -> Tensor:
        out: Tensor = self.mix(x.permute(0, 4, 1, 2, 3).flatten(0, 1))
        return out

    def present_bodies(self, x: Tensor) -> Tensor:
        return torch.ones(x.shape[0], x.shape[4], dtype=torch.bool)

    def pool(self, feature_map: Tensor, present: Tensor) -> Tensor:
        samples, bodies = present.shape
        return feature_map.mean((2, 3)).reshape(samples, bodies, -1).mean(1)


def test_any_backbone_with_a_feature_map() -> None:
    backbone = OtherBackbone()
    assert isinstance(backbone, FeatureMapEncoder)
    model = AimCLR(backbone, nn.Linear(8, 4), queue_size=16)
    loss = step(model, torch.optim.SGD(model.query_parameters(), lr=0.1), draw_views())
    assert torch.isfinite(loss.total)


def test_any_backbone_at_all_without_a_drop_layer() -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * 6 * 17 * 2, 8))
    message = (
        "AimCLR: `encoder` must have `feature_map`, `present_bodies` and `pool` when there is a drop layer, "
        "got Sequential. Pass drop=None to train without one."
    )
    with pytest.raises(TypeError, match=re.escape(message)):
        AimCLR(flat, nn.Linear(8, 4), queue_size=16)
    model = AimCLR(flat, nn.Linear(8, 4), queue_size=16, drop=None)
    views = model.embed(*draw_views())
    assert views.extreme_dropped is None
    assert torch.isfinite(model.loss(views, mine=True).total)
    model.drop = EADM()  # put in afterwards: said, not passed over
    with pytest.raises(TypeError, match=re.escape(message)):
        model.embed(*draw_views())


def test_repr_shows_the_settings() -> None:
    assert "temperature=0.07, k=1, alpha=1.0, beta=1.0, positives='mean'" in repr(build(preset="official"))


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"encoder": STGCN}, TypeError, "`encoder` must be a built torch.nn.Module, got the class STGCN."),
        ({"head": 128}, TypeError, "`head` must be a built torch.nn.Module, got int."),
        (
            {"head": nn.Identity()},
            TypeError,
            "`head` must have an integer `out_features`, the embedding size, got None.",
        ),
        ({"queue_size": 0}, ValueError, "`queue_size` must be at least 1, got 0."),
        ({"queue_size": 8, "k": 9}, ValueError, "`k` must lie in [1, 8], got 9."),
        ({"k": 0}, ValueError, "`k` must lie in [1, 16], got 0."),
        ({"momentum": 1.5}, ValueError, "`momentum` must lie in [0, 1], got 1.5."),
        ({"temperature": -1.0}, ValueError, "`temperature` must lie in (0, inf), got -1."),
        ({"temperature": float("inf")}, ValueError, "`temperature` must lie in (0, inf), got inf."),
        ({"alpha": -1.0}, ValueError, "`alpha` must lie in [0, inf), got -1."),
        ({"beta": float("nan")}, ValueError, "`beta` must lie in [0, inf), got nan."),
        ({"preset": "mine"}, ValueError, "`preset` must be one of 'paper', 'official', got 'mine'."),
        (
            {"positives": "max"},
            ValueError,
            "`positives` must be one of 'preset', 'sum', 'mean', 'logsumexp', got 'max'.",
        ),
        ({"key_init": "x"}, ValueError, "`key_init` must be one of 'preset', 'copy', 'independent', got 'x'."),
        ({"drop": "official"}, TypeError, "`drop` must be a module, 'preset' or None, got 'official'. Pass EADM("),
        ({"drop": 0.7}, TypeError, "`drop` must be a module, 'preset' or None, got 0.7. Pass EADM("),
    ],
)
def test_errors_of_the_constructor(options: dict[str, Any], kind: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {
        "encoder": small_encoder(),
        "head": nn.Linear(8, 2),
        "queue_size": 16,
        **options,
    }
    with pytest.raises(kind, match=re.escape(f"AimCLR: {message}")):
        AimCLR(**arguments)


def test_errors_in_the_loop() -> None:
    model = build()
    good, _, _ = draw_views()
    joints = torch.zeros(5, 3, 6, 25, 2)
    with pytest.raises(
        ValueError, match=re.escape("STGCN: `x` must have shape (N, 3, T, 17, M), got (5, 3, 6, 25, 2).")
    ):
        model.embed(good, good, joints)
    with pytest.raises(ValueError, match=re.escape("`x` must have shape (N, C, T, V, M), got (5, 3, 6).")):
        model.embed(good, good, joints[..., 0, 0])
