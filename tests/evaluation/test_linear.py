"""The linear probe against PyTorch's own optimiser, its schedule, its seed and the messages of bad calls."""

import random
import re
from typing import Any

import numpy as np
import pytest
import torch
from tests.reference import evaluation as reference
from torch import Tensor

from skelcontrast.evaluation import Features, linear_probe


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


def numpy_words() -> list[int]:
    state: Any = np.random.get_state(legacy=True)  # noqa: NPY002 -- the global generator is what is looked at
    return list(state[1])


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


def test_standardize_leaves_a_constant_feature_alone() -> None:
    train, test = clouds(30, 4, 3, seed=0), clouds(30, 4, 3, seed=1)
    train.features[:, 2] = test.features[:, 2] = 0.1
    result = linear_probe(train, test, standardize=True, lr=0.1)
    assert result.weight.isfinite().all()
    assert result.weight.abs().max() < 10
    assert result.accuracy > 0.8


def test_classes_that_no_training_feature_has() -> None:
    train = Features(torch.eye(2), torch.tensor([0, 1]))
    result = linear_probe(train, Features(torch.eye(2), torch.tensor([0, 4])))
    assert result.weight.shape == (5, 2)
    assert result.bias.shape == (5,)
    assert result.accuracy == 0.5
    assert linear_probe(train, train, num_classes=9).weight.shape == (9, 2)


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
        (EYE, EYE, {"gamma": 2}, ValueError, "`gamma` must lie in (0, 1], got 2."),
        (EYE, EYE, {"momentum": 1.0}, ValueError, "`momentum` must lie in [0, 1), got 1."),
    ],
)
def test_bad_calls(train: Features, test: Features, options: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=re.escape(f"linear_probe: {message}")):
        linear_probe(train, test, **options)
