"""The classifier loop: its arithmetic, its policies, what it leaves alone, how it goes on, and its messages."""

import copy
import random
import re
from typing import Any

import numpy as np
import pytest
import torch
from tests.reference import evaluation as reference
from torch import Tensor, nn

from skelcontrast import augment, checkpoint
from skelcontrast.data import SkeletonDataset, SkeletonLoader
from skelcontrast.evaluation import train_classifier
from skelcontrast.nn import STGCN
from skelcontrast.skeleton import SkeletonLayout, to_stream

ARM = SkeletonLayout("arm", ("shoulder", "elbow", "wrist"), ((1, 0), (2, 1)), centre=0, mirror=())
POSES = torch.randn(3, 3, 1, 3, 1, generator=torch.Generator().manual_seed(99))


def clips(count: int, seed: int = 0, *, classes: int = 3, layout: SkeletonLayout | None = ARM) -> SkeletonDataset:
    """Return noisy poses, a few frames each, the class of the pose in turn."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    x = POSES[labels].expand(count, 3, 4, 3, 1) + 0.3 * torch.randn(count, 3, 4, 3, 1, generator=generator)
    return SkeletonDataset(x, labels, names=[str(n) for n in range(count)], layout=layout, num_classes=3)


TRAIN, TEST = clips(36), clips(15, 1)


def flat_encoder(width: int = 8) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(36, width), nn.Tanh())


def small_encoder(dropout: float = 0.5) -> STGCN:
    torch.manual_seed(0)
    return STGCN(ARM, channels=(4, 8), strides=(1, 1), dropout=dropout)


def numbers(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_frozen_encoder_is_the_linear_oracle() -> None:
    """Parameters that need no gradient are not trained; what is left is softmax regression on known batches."""
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(36, 5)).requires_grad_(False)
    layer = nn.utils.skip_init(nn.Linear, 5, 3)
    weight = torch.randn(3, 5)
    layer.load_state_dict({"weight": weight, "bias": torch.zeros(3)})
    options: dict[str, Any] = {"lr": 0.3, "milestones": (2, 3), "gamma": 0.1, "momentum": 0.9}
    result = train_classifier(
        encoder, TRAIN, TEST, layer=layer, epochs=4, batch_size=8, weight_decay=0, seed=3, **options
    )
    features = encoder(TRAIN.tensor())
    loader = SkeletonLoader(TRAIN, 8, seed=3)
    batches = [[batch.rows for batch in loader] for _ in range(4)]
    assert [len(epoch) for epoch in batches] == [4] * 4  # the last 4 of 36 are left out
    expected_weight, expected_bias = reference.train_linear(features, TRAIN.labels, weight, batches, **options)
    trained = result.classifier[1]  # type: ignore[index]  # a Sequential of encoder and layer
    torch.testing.assert_close(trained.weight.detach().double(), expected_weight, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(trained.bias.detach().double(), expected_bias, rtol=1e-4, atol=1e-5)
    logits = encoder(TEST.tensor()).double() @ expected_weight.T + expected_bias
    torch.testing.assert_close(result.logits.double(), logits, rtol=1e-4, atol=1e-4)
    assert result.accuracy == float((logits.argmax(1) == TEST.labels).double().mean())
    assert [record["lr"] for record in result.log] == pytest.approx([0.3, 0.3, 0.03, 0.003])


@pytest.mark.parametrize(("nesterov", "weight_decay"), [(False, 0.1), (True, 0.0)])
def test_one_step_of_the_whole_model(nesterov: bool, weight_decay: float) -> None:
    encoder, layer = flat_encoder(), nn.Linear(8, 3)
    model = copy.deepcopy(nn.Sequential(encoder, layer)).double()
    result = train_classifier(
        encoder, TRAIN, TEST, layer=layer, epochs=1, lr=0.2, nesterov=nesterov, weight_decay=weight_decay
    )
    log_p = model(TRAIN.tensor().double()).log_softmax(1)
    loss = -log_p[torch.arange(36), TRAIN.labels].mean()
    loss.backward()
    assert result.log[0]["loss"] == pytest.approx(loss.item(), rel=1e-5)
    for (name, found), start in zip(result.classifier.named_parameters(), model.parameters(), strict=True):
        assert start.grad is not None
        step = (start.grad + weight_decay * start) * (1.9 if nesterov else 1)
        torch.testing.assert_close(found.double(), start - 0.2 * step, rtol=1e-4, atol=1e-6, msg=name)


def test_learns_and_says_top1_and_top5() -> None:
    result = train_classifier(small_encoder(0.0), TRAIN, TEST, epochs=8, lr=0.2, batch_size=12)
    assert result.accuracy > 0.8
    assert result.top5 == 1  # of three classes
    assert result.log[-1]["loss"] < result.log[0]["loss"]
    assert result.logits.shape == (15, 3)
    assert (result.log[-1]["top1"], result.log[-1]["top5"]) == (result.accuracy, result.top5)


def test_top5_of_many_classes() -> None:
    data = SkeletonDataset(torch.zeros(24, 1, 1, 8, 1), torch.arange(24) % 8, names=[str(n) for n in range(24)])
    # Scores rise with the class, whatever is shown: only the last five of eight are among the five highest.
    layer = nn.Linear(8, 8).requires_grad_(False)
    layer.load_state_dict({"weight": torch.zeros(8, 8), "bias": torch.arange(8.0)})
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(8, 8))
    result = train_classifier(encoder, data, data, layer=layer, epochs=1, lr=0.1)
    assert (result.accuracy, result.top5) == (1 / 8, 5 / 8)


def test_last_epoch_counts_and_every_third_is_measured() -> None:
    result = train_classifier(flat_encoder(), TRAIN, TEST, layer=nn.Linear(8, 3), epochs=5, lr=0.1, eval_every=3)
    assert ["top1" in record for record in result.log] == [False, False, True, False, True]
    assert result.log[-1]["top1"] == result.accuracy


def test_the_given_encoder_and_layer_stay_as_they_are() -> None:
    encoder, layer = small_encoder(), nn.Linear(8, 3)
    encoder.blocks[0].eval()
    before, modes = (numbers(encoder), numbers(layer)), [module.training for module in encoder.modules()]
    result = train_classifier(encoder, TRAIN, TEST, layer=layer, epochs=1, lr=0.1)
    assert same(before[0], numbers(encoder))
    assert same(before[1], numbers(layer))
    assert modes == [module.training for module in encoder.modules()]
    assert not same(before[0], numbers(result.classifier[0]))  # type: ignore[index]  # as above


def test_a_new_layer_starts_small_and_by_the_seed() -> None:
    encoder = STGCN(ARM, channels=(64,), strides=(1,))
    weights = []
    for seed in (0, 0, 1):
        result = train_classifier(encoder, TRAIN, TEST, epochs=1, lr=1e-12, seed=seed)
        state = numbers(result.classifier)
        weights.append(state["1.weight"])
        assert state["1.weight"].std().item() == pytest.approx(0.02, rel=0.2)  # of 192 numbers: four standard errors
        assert state["1.bias"].abs().max() < 1e-9
    torch.testing.assert_close(weights[0], weights[1])
    assert not torch.allclose(weights[0], weights[2], atol=1e-3)


def test_policies_of_batch_norm() -> None:
    encoder = small_encoder(0.5)
    trained, frozen = (
        train_classifier(encoder, TRAIN, TEST, epochs=1, lr=0.1, batch_norm=policy) for policy in ("train", "frozen")
    )
    for result, moves in ((trained, True), (frozen, False)):
        state = {name.removeprefix("0."): value for name, value in numbers(result.classifier).items()}
        for name, value in encoder.state_dict().items():
            if "running" in name or "num_batches" in name:
                assert torch.equal(value, state[name]) != moves, name
        assert not torch.equal(state["data_bn.weight"], encoder.data_bn.weight)  # its parameters are trained
    # Frozen as released means no dropout either, so the loss of the only step is that of the evaluated model.
    layer = nn.Linear(8, 3)
    result = train_classifier(encoder, TRAIN, TEST, layer=layer, epochs=1, lr=0.1, batch_norm="frozen")
    expected = nn.functional.cross_entropy(layer(encoder.eval()(TRAIN.tensor())), TRAIN.labels)
    assert result.log[0]["loss"] == pytest.approx(expected.item(), rel=1e-5)


def test_seed_decides_and_the_global_generators_stay() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state(), random.getstate()
    encoder = copy.deepcopy(small_encoder())
    torch.set_rng_state(before[0])
    arguments: Any = {"epochs": 2, "lr": 0.1, "batch_size": 12, "augmentation": augment.normal()}
    first = train_classifier(encoder, TRAIN, TEST, seed=0, **arguments)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    torch.manual_seed(6)
    again, other = (train_classifier(encoder, TRAIN, TEST, seed=seed, **arguments) for seed in (0, 1))
    assert same(numbers(first.classifier), numbers(again.classifier))
    assert first.log == again.log
    assert not same(numbers(first.classifier), numbers(other.classifier))


class Recorder(nn.Module):
    """Keeps what it sees in training."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []
        self.out_features = 36

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            SEEN.append(x)
        return x.flatten(1)


SEEN: list[Tensor] = []


def test_augmentation_draws_anew_every_epoch_and_comes_before_the_stream() -> None:
    SEEN.clear()
    shear = augment.Shear(0.5)
    train_classifier(
        Recorder(), TRAIN, TEST, epochs=2, lr=0.1, batch_size=18, stream="bone", augmentation=shear, seed=4
    )
    loader = SkeletonLoader(TRAIN, 18, seed=4)
    expected = [to_stream(shear(batch.x, batch.generator), "bone", ARM) for _ in range(2) for batch in loader]
    assert len(SEEN) == 4
    assert all(torch.equal(found, wanted) for found, wanted in zip(SEEN, expected, strict=True))


def test_without_augmentation_the_sequences_are_seen_as_they_are() -> None:
    SEEN.clear()
    few = TRAIN.subset([0, 1, 2])  # fewer than a batch are a batch
    train_classifier(Recorder(), few, TEST, epochs=1, lr=0.1)
    (seen,) = SEEN
    assert sorted(x.sum().item() for x in seen) == pytest.approx(sorted(x.sum().item() for x in few.tensor()))


def test_a_feature_size_of_numpy_is_one_with_an_integer() -> None:
    plain, of_numpy = Recorder(), Recorder()
    of_numpy.out_features = np.int64(36)  # type: ignore[assignment]  # an encoder's own size may be one of NumPy's
    logits = [train_classifier(encoder, TRAIN, TEST, epochs=1, lr=0.1).logits for encoder in (plain, of_numpy)]
    assert torch.equal(*logits)


def test_an_encoder_in_float64_is_trained_in_it() -> None:
    results = [
        train_classifier(small_encoder(0.0).to(dtype), TRAIN, TEST, epochs=2, lr=0.1)
        for dtype in (torch.float32, torch.float64)
    ]
    assert {one.dtype for one in results[1].classifier.parameters()} == {torch.float64}
    torch.testing.assert_close(results[1].logits, results[0].logits, rtol=0, atol=1e-3)


def test_resumed_run_ends_with_the_same_bits(tmp_path: Any) -> None:
    encoder, path = small_encoder(), tmp_path / "last.pt"
    arguments: Any = {"lr": 0.1, "milestones": (2,), "batch_size": 12, "augmentation": augment.normal()}
    whole = train_classifier(encoder, TRAIN, TEST, epochs=4, **arguments)

    def stop_after_two(state: dict[str, Any]) -> None:
        checkpoint.save(path, state)
        if len(state["log"]) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_classifier(encoder, TRAIN, TEST, epochs=4, on_epoch=stop_after_two, **arguments)
    torch.manual_seed(8)  # the global generators have no part in it
    resumed = train_classifier(encoder, TRAIN, TEST, epochs=4, resume=checkpoint.load(path), **arguments)
    assert same(numbers(whole.classifier), numbers(resumed.classifier))
    assert resumed.log == whole.log
    assert torch.equal(resumed.logits, whole.logits)


def test_progress_is_shown_where_it_is_asked_for_and_goes_on_where_a_run_does(
    capsys: pytest.CaptureFixture[str],
) -> None:
    train, test, encoder, states = clips(12), clips(6, seed=1), flat_encoder(), list[dict[str, Any]]()
    options: dict[str, Any] = {"lr": 0.01, "batch_size": 4, "layer": nn.Linear(8, 3)}
    quiet = train_classifier(encoder, train, test, epochs=2, **options)
    assert capsys.readouterr() == ("", "")
    shown = train_classifier(encoder, train, test, epochs=2, progress=True, on_epoch=states.append, **options)
    assert torch.equal(shown.logits, quiet.logits)
    out, err = capsys.readouterr()
    assert out == ""
    assert "24/24" in err or "24 of 24" in err  # without tqdm
    train_classifier(encoder, train, test, epochs=4, progress=True, resume=states[-1], **options)
    err = capsys.readouterr().err
    assert "24/48" in err or "32 of 48" in err
    assert not any(f" {number}{between}48" in err for number in (0, 8, 16) for between in ("/", " of "))
    assert "48/48" in err or "48 of 48" in err


def test_a_state_may_be_resumed_more_than_once(tmp_path: Any) -> None:
    arguments: Any = {"lr": 0.1, "batch_size": 12, "layer": nn.Linear(8, 3)}
    path, encoder = tmp_path / "last.pt", flat_encoder()
    train_classifier(encoder, TRAIN, TEST, epochs=1, on_epoch=lambda state: checkpoint.save(path, state), **arguments)
    state = checkpoint.load(path)
    first, second = (train_classifier(encoder, TRAIN, TEST, epochs=3, resume=state, **arguments) for _ in range(2))
    assert torch.equal(first.logits, second.logits)
    stored = checkpoint.load(path)
    for index, kept in stored["optimizer"]["state"].items():
        assert torch.equal(kept["momentum_buffer"], state["optimizer"]["state"][index]["momentum_buffer"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weight_decay": 0.5}, "`weight_decay` must be that of the run that is resumed, 0.0001, got 0.5."),
        ({"momentum": 0.8}, "`momentum` must be that of the run that is resumed, 0.9, got 0.8."),
        ({"nesterov": True}, "`nesterov` must be that of the run that is resumed, False, got True."),
    ],
)
def test_other_options_of_sgd_do_not_go_on(changes: dict[str, Any], message: str) -> None:
    states: list[dict[str, Any]] = []
    train_classifier(small_encoder(), TRAIN, TEST, epochs=1, lr=0.1, on_epoch=states.append)
    with pytest.raises(ValueError, match=f"^{re.escape(f'train_classifier: {message}')}"):
        train_classifier(small_encoder(), TRAIN, TEST, epochs=2, lr=0.1, resume=states[0], **changes)


def test_a_state_of_other_trained_parameters_does_not_go_on() -> None:
    states: list[dict[str, Any]] = []
    arguments: Any = {"lr": 0.1, "layer": nn.Linear(8, 3)}
    train_classifier(flat_encoder(), TRAIN, TEST, epochs=1, on_epoch=states.append, **arguments)
    frozen = flat_encoder().requires_grad_(False)
    message = '`resume` must fit this encoder and layer, got a state where "optimizer" must have parameter groups of '
    with pytest.raises(ValueError, match=f"^{re.escape(f'train_classifier: {message}sizes [2], got [4].')}"):
        train_classifier(frozen, TRAIN, TEST, epochs=2, resume=states[0], **arguments)


def test_resuming_what_is_over_only_measures() -> None:
    states: list[dict[str, Any]] = []
    done = train_classifier(small_encoder(), TRAIN, TEST, epochs=1, lr=0.1, on_epoch=states.append)
    again = train_classifier(small_encoder(), TRAIN, TEST, epochs=1, lr=0.1, resume=states[0])
    assert torch.equal(done.logits, again.logits)
    assert again.log == done.log


def test_rate_as_a_function_of_the_epoch() -> None:
    result = train_classifier(
        flat_encoder(), TRAIN, TEST, layer=nn.Linear(8, 3), epochs=3, lr=lambda epoch: 0.1 / (epoch + 1)
    )
    assert [record["lr"] for record in result.log] == [0.1, 0.05, 0.1 / 3]


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"epochs": 0}, ValueError, "`epochs` must be at least 1, got 0."),
        ({"lr": 0.0}, ValueError, "`lr` must lie in (0, inf), got 0."),
        ({"milestones": (-1,)}, ValueError, "`milestones[0]` must be at least 0, got -1."),
        ({"gamma": 0.0}, ValueError, "`gamma` must lie in (0, 1], got 0."),
        ({"batch_size": 0}, ValueError, "`batch_size` must be at least 1, got 0."),
        ({"momentum": 1.0}, ValueError, "`momentum` must lie in [0, 1), got 1."),
        ({"weight_decay": -0.1}, ValueError, "`weight_decay` must lie in [0, inf), got -0.1."),
        ({"eval_every": 0}, ValueError, "`eval_every` must be at least 1, got 0."),
        ({"seed": 0.5}, TypeError, "`seed` must be an integer, got 0.5."),
        ({"nesterov": True, "momentum": 0.0}, ValueError, "`momentum` must be above 0 with `nesterov`, got 0.0."),
        ({"batch_norm": "off"}, ValueError, "`batch_norm` must be one of 'train', 'frozen', got 'off'."),
        ({"stream": "joints"}, ValueError, "`stream` must be one of 'joint', 'bone', 'motion', got 'joints'."),
        ({"train": TRAIN.tensor()}, TypeError, "`train` must be a SkeletonDataset, got Tensor."),
        ({"test": None}, TypeError, "`test` must be a SkeletonDataset, got NoneType."),
        (
            {"train": clips(4, classes=1)},
            ValueError,
            "`train.labels` must hold every class of `test.labels`, got none of class 1, 2.",
        ),
        (
            {"train": clips(9, layout=None), "stream": "motion"},
            ValueError,
            "`layout` must be given for the motion stream, got None. `train` names no layout.",
        ),
        (
            {"layer": None},
            TypeError,
            "`encoder` must have an integer `out_features`, the feature size, where no `layer` is given, got None.",
        ),
        (
            {"lr": lambda epoch: float("inf"), "epochs": 3, "eval_every": 3},
            RuntimeError,
            "`lr` must be low enough for this encoder, got a loss in epoch 2 that is not finite.",
        ),
        (
            {"lr": lambda epoch: float("inf")},
            RuntimeError,
            "`lr` must be low enough for this encoder, got a logit that is not finite.",
        ),
        (
            {"resume": {"classifier": {}}},
            ValueError,
            "`resume` must hold classifier, optimizer and log, got a mapping without optimizer, log.",
        ),
        (
            {"resume": {"classifier": {"1.bias": torch.zeros(4)}, "optimizer": {}, "log": []}},
            ValueError,
            '`resume` must fit this encoder and layer, got a state where classifier["0.1.weight"] is missing; ',
        ),
    ],
)
def test_bad_calls(changes: dict[str, Any], kind: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {"encoder": flat_encoder(), "train": TRAIN, "test": TEST, "layer": nn.Linear(8, 3)}
    arguments |= {"epochs": 1, "lr": 0.1, **changes}
    with pytest.raises(kind, match=f"^{re.escape(f'train_classifier: {message}')}"):
        train_classifier(**arguments)
