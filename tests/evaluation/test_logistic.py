"""The logistic probe against scikit-learn, its choice of a penalty and the messages of bad calls."""

import re
from typing import Any

import pytest
import torch

from skelcontrast.evaluation import Features, logistic_probe, semi_supervised_indices


def clouds(rows: int, *, seed: int, width: int = 6, classes: int = 4) -> Features:
    """Overlapping clouds, in float64."""
    centres = torch.randn(classes, width, generator=torch.Generator().manual_seed(99))
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(rows) % classes
    return Features((centres[labels] + torch.randn(rows, width, generator=generator)).double(), labels)


def single(part: Features) -> Features:
    return Features(part.features.float(), part.labels)


@pytest.mark.parametrize("l2", [1.0, 1e-2, 1e-4])
def test_agrees_with_scikit_learn(l2: float) -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    train, test = clouds(200, seed=0), clouds(80, seed=1)
    solver = linear.LogisticRegression(C=1 / (200 * l2), tol=1e-10, max_iter=10_000)
    solver.fit(train.features.numpy(), train.labels.numpy())
    found = logistic_probe(train, test, l2=l2, standardize=False, tolerance=1e-8)
    assert found.logits.dtype == torch.float64
    expected = torch.from_numpy(solver.decision_function(test.features.numpy()))
    torch.testing.assert_close(found.weight, torch.from_numpy(solver.coef_), rtol=1e-4, atol=1e-5)
    # Biases are the same up to a constant that all share.
    torch.testing.assert_close(
        found.logits - found.logits.mean(dim=1, keepdim=True),
        expected - expected.mean(dim=1, keepdim=True),
        rtol=1e-4,
        atol=1e-5,
    )
    assert found.predictions.tolist() == solver.predict(test.features.numpy()).tolist()
    assert found.accuracy == solver.score(test.features.numpy(), test.labels.numpy())


def test_single_precision_finds_the_same_minimum() -> None:
    train, test = clouds(300, seed=0), clouds(80, seed=1)
    exact, found = logistic_probe(train, test, tolerance=1e-9), logistic_probe(single(train), single(test))
    torch.testing.assert_close(found.logits.double(), exact.logits, rtol=2e-3, atol=2e-3)
    assert found.logits.dtype == torch.float32
    assert found.epoch > 5


def test_autocast_does_not_reach_the_fit() -> None:
    train, test = single(clouds(120, seed=0)), single(clouds(80, seed=1))
    expected = logistic_probe(train, test, l2=(1e-1, 1e-3))
    with torch.autocast("cpu", torch.bfloat16):
        found = logistic_probe(train, test, l2=(1e-1, 1e-3))
    assert torch.equal(found.logits, expected.logits)
    assert found.choices == expected.choices


def test_standardized_probe_does_not_see_scale_and_shift() -> None:
    train, test = clouds(200, seed=0), clouds(80, seed=1)
    scale, shift = torch.logspace(-3, 3, 6).double(), torch.linspace(-5, 5, 6).double()
    moved = [Features(part.features * scale + shift, part.labels) for part in (train, test)]
    plain, other = logistic_probe(train, test, tolerance=1e-8), logistic_probe(*moved, tolerance=1e-8)
    torch.testing.assert_close(other.weight * scale, plain.weight, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(moved[1].features @ other.weight.T + other.bias, other.logits)


def test_the_penalty_is_chosen_on_the_held_out_part() -> None:
    train, test = clouds(160, seed=0), clouds(80, seed=1)
    penalties = (10.0, 1e-2, 1e-6)
    found = logistic_probe(train, test, l2=penalties, validation_share=0.5, standardize=False, seed=1)
    kept = semi_supervised_indices(train.labels, 0.5, seed=1)
    out = torch.ones(160, dtype=torch.bool)
    out[kept] = False
    parts = Features(train.features[kept], train.labels[kept]), Features(train.features[out], train.labels[out])
    by_hand = {l2: logistic_probe(*parts, l2=l2, standardize=False).accuracy for l2 in penalties}
    assert found.choices == by_hand
    assert found.setting == max(penalties, key=by_hand.__getitem__) == 1e-2  # neither the first nor the largest
    assert torch.equal(found.weight, logistic_probe(train, test, l2=found.setting, standardize=False).weight)


def test_the_result_asks_for_no_gradient() -> None:
    for part in (PAIR, tuple(single(part) for part in PAIR)):
        found = logistic_probe(*part)
        assert not any(tensor.requires_grad for tensor in (found.weight, found.bias, found.logits))


def test_absent_class_numbers_get_a_row() -> None:
    train, test = clouds(40, seed=0), clouds(20, seed=1)
    assert logistic_probe(train, test, num_classes=7).weight.shape == (7, 6)


PAIR = (clouds(12, seed=0), clouds(12, seed=1))


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"l2": 0.0}, ValueError, "`l2` must lie in (0, inf), got 0."),
        ({"l2": []}, ValueError, "`l2` must name at least one number, got none."),
        ({"l2": "strong"}, TypeError, "`l2` must be a number, got 's'."),
        ({"tolerance": 0}, ValueError, "`tolerance` must lie in (0, inf), got 0."),
        ({"max_iterations": 0}, ValueError, "`max_iterations` must be at least 1, got 0."),
        ({"l2": (1.0, 2.0), "validation_share": 0.0}, ValueError, "`validation_share` must lie in (0, 1), got 0."),
        (
            {"max_iterations": 1, "tolerance": 1e-9},
            RuntimeError,
            "`max_iterations` must let the fit converge, got a gradient of ",
        ),
    ],
)
def test_bad_calls(options: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=re.escape(f"logistic_probe: {message}")):
        logistic_probe(*PAIR, **options)


def test_bad_labels() -> None:
    train, test = PAIR
    message = "logistic_probe: `test.labels` must lie in [0, 3], got labels from 1 to 4."
    with pytest.raises(ValueError, match=re.escape(message)):
        logistic_probe(train, Features(test.features, test.labels + 1), num_classes=4)
