"""The linear probe against PyTorch's own optimiser, its schedule, its seed and the messages of bad calls."""

import random
import re
from typing import Any

import numpy as np
import pytest
import torch
from tests.reference import evaluation as reference
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from skelcontrast.evaluation import Features, linear_probe, semi_supervised_indices


def clouds(rows: int, width: int, classes: int, *, seed: int, spread: float = 0.5) -> Features:
    """Gaussian clouds around centres that do not depend on the seed."""
    centres = torch.randn(classes, width, generator=torch.Generator().manual_seed(99))
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(rows) % classes
    return Features(centres[labels] + spread * torch.randn(rows, width, generator=generator), labels)


def drawn(rows: int, width: int, classes: int, epochs: int, size: int, seed: int) -> tuple[Tensor, list[list[Tensor]]]:
    """Repeat the documented draws: weights from N(0, 0.02), then one order per epoch."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.empty(classes, width).normal_(0, 0.02, generator=generator)
    orders = [torch.randperm(rows, generator=generator) for _ in range(epochs)]
    return weight, [[order[start : start + size] for start in range(0, rows, size)] for order in orders]


class Subnormal(TorchDispatchMode):
    """Counts the numbers below the normal ones in products of matrices, which take a CPU far longer."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch says no type there
        self.products, self.found = 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.ops.aten.addmm.out, torch.ops.aten.addmm_.default):
            self.products += 1
            factors = [x for x in args if isinstance(x, Tensor)][1:]
            self.found += sum(int(((x != 0) & (x.abs() < torch.finfo(x.dtype).tiny)).sum()) for x in factors)
        return func(*args, **(kwargs or {}))


def numpy_words() -> list[int]:
    state: Any = np.random.get_state(legacy=True)  # noqa: NPY002 -- the global generator is what is looked at
    return list(state[1])


def test_probabilities_that_are_almost_zero_do_not_slow_it_down() -> None:
    train = clouds(400, 64, 20, seed=0, spread=2.0)
    with Subnormal() as watched:
        result = linear_probe(train, train, epochs=3, batch_size=50, standardize=True)
    assert watched.products == 2 * 3 * 8  # the logits and the gradient, 8 steps in each epoch
    probabilities = torch.softmax(result.logits, dim=1)
    assert ((probabilities > 0) & (probabilities < torch.finfo(torch.float32).tiny)).any()
    assert watched.found == 0


@pytest.mark.parametrize(("rows", "batch_size", "momentum"), [(40, 8, 0.9), (43, 8, 0.9), (5, 128, 0.0)])
def test_agrees_with_the_oracle(rows: int, batch_size: int, momentum: float) -> None:
    train, test = clouds(rows, 6, 4, seed=0), clouds(20, 6, 4, seed=1)
    options: dict[str, Any] = {"lr": 0.3, "milestones": (3, 5), "gamma": 0.1, "momentum": momentum}
    result = linear_probe(train, test, num_classes=4, epochs=6, batch_size=batch_size, seed=3, **options)
    weight, batches = drawn(rows, 6, 4, 6, batch_size, 3)
    expected_weight, expected_bias = reference.train_linear(train.features, train.labels, weight, batches, **options)
    torch.testing.assert_close(result.weight.double(), expected_weight, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(result.bias.double(), expected_bias, rtol=1e-4, atol=1e-5)
    logits = test.features.double() @ expected_weight.T + expected_bias
    assert torch.equal(result.predictions, logits.argmax(dim=1))
    assert result.accuracy == float((logits.argmax(dim=1) == test.labels).double().mean())


def test_separable_clouds_are_learnt_with_the_released_schedule() -> None:
    assert linear_probe(clouds(200, 32, 5, seed=0), clouds(100, 32, 5, seed=1)).accuracy == 1.0


def test_last_epoch_counts_not_the_best() -> None:
    train, test = clouds(60, 2, 6, seed=0, spread=1.0), clouds(60, 2, 6, seed=1, spread=1.0)
    by_length = [linear_probe(train, test, epochs=epochs, milestones=()).accuracy for epochs in range(1, 13)]
    assert by_length[-1] < max(by_length)


def test_seed_decides_and_the_global_generators_stay() -> None:
    train, test = clouds(50, 8, 3, seed=0), clouds(10, 8, 3, seed=1)
    before = torch.get_rng_state(), random.getstate(), numpy_words()
    first, again, other = (linear_probe(train, test, epochs=2, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.weight, again.weight)
    assert not torch.equal(first.weight, other.weight)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert numpy_words() == before[2]


def test_standardized_probe_does_not_see_scale_and_shift() -> None:
    train, test = clouds(80, 8, 4, seed=0), clouds(40, 8, 4, seed=1)
    scale, shift = torch.logspace(-3, 3, 8), torch.linspace(-5, 5, 8)
    moved_train, moved_test = ((part.features * scale + shift, part.labels) for part in (train, test))
    plain = linear_probe(train, test, standardize=True, lr=0.1)
    moved = linear_probe(Features(*moved_train), Features(*moved_test), standardize=True, lr=0.1)
    assert torch.equal(plain.predictions, moved.predictions)
    torch.testing.assert_close(plain.weight, moved.weight * scale, rtol=2e-2, atol=2e-3)
    logits = moved_test[0] @ moved.weight.T + moved.bias  # in the features' own scale
    assert torch.equal(logits.argmax(dim=1), moved.predictions)


def test_standardized_is_zero_mean_and_unit_variance_over_the_training_set() -> None:
    train, test = clouds(12, 3, 3, seed=0), clouds(12, 3, 3, seed=1)
    train.features[:, 1] *= 1e-5  # small, but not constant
    mean = train.features.double().mean(dim=0)
    scale = (train.features.double() - mean).square().mean(dim=0).sqrt()
    by_hand = [Features(((part.features - mean) / scale).float(), part.labels) for part in (train, test)]
    expected = linear_probe(*by_hand, lr=0.1, epochs=5)
    found = linear_probe(train, test, standardize=True, lr=0.1, epochs=5)
    torch.testing.assert_close(found.logits, expected.logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.weight * scale.float(), expected.weight, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("constant", [0.0, 0.1, -0.1, 1000.1])
def test_standardize_leaves_a_constant_feature_alone(constant: float) -> None:
    train, test = clouds(30, 4, 3, seed=0), clouds(30, 4, 3, seed=1)
    train.features[:, 2] = test.features[:, 2] = constant
    result = linear_probe(train, test, standardize=True, lr=0.1)
    assert result.weight.isfinite().all()
    assert result.weight.abs().max() < 10
    assert result.accuracy > 0.8


def test_training_classes_that_no_test_feature_has() -> None:
    train = Features(torch.eye(5, 2), torch.tensor([0, 1, 4, 4, 4]))
    result = linear_probe(train, Features(torch.eye(2), torch.tensor([0, 1])))
    assert result.weight.shape == (5, 2)
    assert result.bias.shape == (5,)
    assert linear_probe(train, train, num_classes=9).weight.shape == (9, 2)


def overlapping() -> tuple[Features, Features]:
    return clouds(120, 2, 6, seed=0, spread=1.0), clouds(90, 2, 6, seed=1, spread=1.0)


def test_a_rate_does_not_depend_on_the_rates_beside_it() -> None:
    """Everything is divided by powers of two only, so that even rounding is the same."""
    train, test = overlapping()
    alone = {lr: linear_probe(train, test, lr=lr, epochs=8, select="test-best", every=8) for lr in (0.5, 2.0)}
    together = linear_probe(train, test, lr=(0.5, 2.0), epochs=8, select="test-best", every=8)
    assert together.choices == {lr: one.accuracy for lr, one in alone.items()}
    torch.testing.assert_close(together.weight, alone[together.setting].weight)


def test_half_precision_features_are_trained_on_in_float32() -> None:
    narrow = [Features(part.features.bfloat16(), part.labels) for part in overlapping()]
    wide = [Features(part.features.float(), part.labels) for part in narrow]
    expected = linear_probe(*wide, epochs=3)
    for train, test in (narrow, (narrow[0], wide[1]), (wide[0], narrow[1])):
        found = linear_probe(train, test, epochs=3)
        assert torch.equal(found.weight, expected.weight)
        assert torch.equal(found.logits, expected.logits)


def test_one_overflowing_rate_spoils_no_other() -> None:
    train, test = overlapping()
    found = linear_probe(train, test, lr=(1e38, 0.5), epochs=8, select="test-best")
    assert found.setting == 0.5
    assert found.choices[1e38] == 0.0
    assert found.choices[0.5] == linear_probe(train, test, lr=0.5, epochs=8, select="test-best").accuracy


def test_a_classifier_of_which_some_weights_have_overflown_is_never_right() -> None:
    large = torch.tensor([1.0, 1e3])  # whose weights leave float32 in the first step, the others' do not
    train, test = (Features(x * large, labels) for x, labels in overlapping())
    found = linear_probe(train, test, lr=(1e38, 1e-6), epochs=1, batch_size=len(train.labels), select="test-best")
    assert found.setting == 1e-6
    assert found.choices[1e38] == 0.0


def test_test_best_is_the_best_of_the_epochs_looked_at() -> None:
    train, test = overlapping()
    by_length = {n: linear_probe(train, test, epochs=n, milestones=()).accuracy for n in range(1, 12)}
    best = linear_probe(train, test, epochs=11, milestones=(), select="test-best", every=2)
    looked_at = {n: by_length[n] for n in (2, 4, 6, 8, 10, 11)}
    assert best.accuracy == max(looked_at.values()) == best.choices[3.0]
    assert best.epoch == next(n for n, accuracy in looked_at.items() if accuracy == best.accuracy)
    assert best.accuracy == float((best.predictions == test.labels).double().mean())
    assert best.accuracy > by_length[11]


def test_of_equally_good_epochs_and_rates_the_first_is_taken() -> None:
    train, test = clouds(60, 16, 3, seed=0, spread=0.1), clouds(30, 16, 3, seed=1, spread=0.1)
    found = linear_probe(train, test, lr=(0.5, 0.1), epochs=6, every=2, select="test-best")
    assert found.choices == {0.5: 1.0, 0.1: 1.0}
    assert (found.setting, found.epoch) == (0.5, 2)


def test_validation_chooses_without_the_test_set() -> None:
    train, test = overlapping()
    rates = (1e-4, 0.05, 5.0)
    found = linear_probe(train, test, lr=rates, select="validation", validation_share=0.3, epochs=10)
    other = linear_probe(train, Features(test.features, test.labels.flip(0)), lr=rates, select="validation",
                         validation_share=0.3, epochs=10)  # fmt: skip
    assert torch.equal(found.weight, other.weight)
    assert found.choices == other.choices
    # By hand: hold out 30 % of each class, train each rate on the rest, look every fifth epoch.
    kept = semi_supervised_indices(train.labels, 0.7)
    out = torch.ones(120, dtype=torch.bool)
    out[kept] = False
    parts = Features(train.features[kept], train.labels[kept]), Features(train.features[out], train.labels[out])
    by_hand = {lr: linear_probe(*parts, lr=lr, select="test-best", epochs=10) for lr in rates}
    assert found.choices == {lr: one.accuracy for lr, one in by_hand.items()}
    assert found.setting == max(rates, key=lambda lr: by_hand[lr].accuracy)
    assert found.epoch == by_hand[found.setting].epoch
    # And then the whole training set, for as many epochs.
    again = linear_probe(train, test, lr=found.setting, epochs=found.epoch)
    assert torch.equal(found.weight, again.weight)
    assert found.accuracy == again.accuracy


def test_logits_are_those_of_the_classifier() -> None:
    train, test = overlapping()
    for standardize in (False, True):
        found = linear_probe(train, test, epochs=3, standardize=standardize)
        torch.testing.assert_close(found.logits, test.features @ found.weight.T + found.bias, rtol=1e-4, atol=1e-4)
        assert torch.equal(found.logits.argmax(dim=1), found.predictions)
        assert (found.setting, found.epoch, found.choices) == (3.0, 3, {})


def test_input_is_not_changed_and_may_require_a_gradient() -> None:
    train, test = clouds(20, 4, 3, seed=0), clouds(20, 4, 3, seed=1)
    before = train.features.clone()
    result = linear_probe(Features(train.features.requires_grad_(), train.labels), test, epochs=2, standardize=True)
    assert torch.equal(train.features, before)
    assert not result.weight.requires_grad


def test_overflow_is_an_error() -> None:
    train = clouds(20, 4, 3, seed=0)
    huge = Features(train.features * 1e30, train.labels)
    message = "linear_probe: `lr` must be low enough for these features, got weights that are not finite at 3. Use"
    with pytest.raises(RuntimeError, match=re.escape(message)):
        linear_probe(huge, huge, epochs=3)


EYE = Features(torch.eye(3), torch.arange(3))


@pytest.mark.parametrize(
    ("train", "test", "options", "kind", "message"),
    [
        (
            EYE,
            Features(torch.ones(2, 4), torch.zeros(2).long()),
            {},
            ValueError,
            "`test.features` must have shape (N, 3)",
        ),
        (
            Features(torch.eye(3), torch.arange(2)),
            EYE,
            {},
            ValueError,
            "`train.labels` must have shape (3,) to match its",
        ),
        (
            Features(torch.eye(3), torch.rand(3)),
            EYE,
            {},
            TypeError,
            "`train.labels` must hold integers, got torch.float32",
        ),
        (
            EYE,
            Features(torch.eye(3), EYE.labels.to(torch.uint16)),
            {},
            TypeError,
            "`test.labels` must hold signed integers or uint8, got torch.uint16. Use `.long()`.",
        ),
        (
            Features(torch.eye(3) / 0, EYE.labels),
            EYE,
            {},
            ValueError,
            "`train.features` must be finite, got NaN or inf",
        ),
        (
            EYE,
            Features(torch.eye(3), EYE.labels - 1),
            {},
            ValueError,
            "`test.labels` must lie in [0, 2], got labels from -1",
        ),
        (EYE, EYE, {"num_classes": 2}, ValueError, "`train.labels` must lie in [0, 1], got labels from 0 to 2."),
        (EYE, EYE, {"num_classes": 0}, ValueError, "`num_classes` must be at least 1, got 0."),
        (EYE, EYE, {"epochs": 0}, ValueError, "`epochs` must be at least 1, got 0."),
        (EYE, EYE, {"batch_size": 0}, ValueError, "`batch_size` must be at least 1, got 0."),
        (EYE, EYE, {"lr": 0.0}, ValueError, "`lr` must lie in (0, inf), got 0."),
        (EYE, EYE, {"milestones": (8, -5)}, ValueError, "`milestones[1]` must be at least 0, got -5."),
        (EYE, EYE, {"milestones": (2.5,)}, TypeError, "`milestones[0]` must be an integer, got 2.5."),
        (EYE, EYE, {"gamma": 2}, ValueError, "`gamma` must lie in (0, 1], got 2."),
        (EYE, EYE, {"momentum": 1.0}, ValueError, "`momentum` must lie in [0, 1), got 1."),
        (EYE, EYE, {"every": 0}, ValueError, "`every` must be at least 1, got 0."),
        (EYE, EYE, {"seed": -1}, ValueError, "`seed` must be at least 0, got -1."),
        (EYE, EYE, {"lr": ()}, ValueError, "`lr` must name at least one number, got none."),
        (EYE, EYE, {"lr": (1, 0)}, ValueError, "`lr` must lie in (0, inf), got 0."),
        (
            EYE,
            EYE,
            {"lr": (1, 2)},
            ValueError,
            '`lr` must be one number with select="last", got 2 of them. Pass select="validation" to choose',
        ),
        (EYE, EYE, {"select": "best"}, ValueError, "`select` must be one of 'last', 'validation', 'test-best', got"),
        (
            EYE,
            EYE,
            {"select": "validation"},
            ValueError,
            "`validation_share` must hold out at least one sample, got 0.1 of 3 samples, which is none of any class",
        ),
        (
            EYE,
            EYE,
            {"select": "validation", "validation_share": 1},
            ValueError,
            "`validation_share` must lie in (0, 1), got 1.",
        ),
        (
            Features(torch.eye(3), torch.tensor([0, 1, 3])),
            EYE,
            {},
            ValueError,
            "`train.labels` must hold every class of `test.labels`, got none of class 2.",
        ),
        (
            Features(torch.zeros(0, 3), torch.zeros(0).long()),
            EYE,
            {},
            ValueError,
            "`train.features` must hold at least one row and one column, got (0, 3).",
        ),
    ],
)
def test_bad_calls(train: Features, test: Features, options: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=re.escape(f"linear_probe: {message}")):
        linear_probe(train, test, **options)
