"""Fusion against hand arithmetic, by name in any order, and the messages of streams that do not belong together."""

import re
from typing import Any

import pytest
import torch

from skelcontrast.evaluation import STREAM_WEIGHTS, Scores, fuse, search_weights

NAMES = ("a", "b", "c")
LABELS = torch.tensor([0, 1, 1])


def scores(*rows: tuple[float, float], names: Any = NAMES, labels: Any = LABELS) -> Scores:
    return Scores(torch.tensor(rows, dtype=torch.float32), torch.as_tensor(labels), names)


JOINT = scores((2, 0), (1, 0), (0, 3))
BONE = scores((1, 0), (0, 4), (0, 1))
MOTION = scores((0, 1), (0, 1), (2, 0))


def test_hand_arithmetic_with_the_papers_weights() -> None:
    fused = fuse({"joint": JOINT, "bone": BONE, "motion": MOTION})
    # a: 0.6 (2, 0) + 0.6 (1, 0) + 0.4 (0, 1), and so on
    expected = torch.tensor([[1.8, 0.4], [0.6, 2.8], [0.8, 2.4]])
    torch.testing.assert_close(fused.logits, expected)
    assert fused.accuracy == 1.0
    assert fused.names == NAMES
    assert torch.equal(fused.labels, LABELS)
    assert dict(STREAM_WEIGHTS) == {"joint": 0.6, "bone": 0.6, "motion": 0.4}


def test_order_of_samples_and_of_streams_does_not_matter() -> None:
    order = torch.tensor([2, 0, 1])
    shuffled = Scores(BONE.logits[order], LABELS[order], tuple(NAMES[row] for row in order))
    straight = fuse({"joint": JOINT, "bone": BONE})
    torch.testing.assert_close(fuse({"joint": JOINT, "bone": shuffled}).logits, straight.logits)
    other = fuse({"bone": shuffled, "joint": JOINT})
    assert other.names == ("c", "a", "b")
    torch.testing.assert_close(other.logits, straight.logits[order])


def test_weights_of_ones_own_streams() -> None:
    fused = fuse({"x": JOINT, "y": BONE}, weights={"x": 1.0, "y": 0.0})
    assert torch.equal(fused.logits, JOINT.logits)


def test_inputs_stay_as_they_are() -> None:
    before = JOINT.logits.clone()
    fuse({"joint": JOINT})
    assert torch.equal(JOINT.logits, before)


def test_search_tries_every_combination() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 5
    names = [f"s{row}" for row in range(60)]
    own = torch.nn.functional.one_hot(labels, 5)
    streams = {
        name: Scores(gain * own + torch.randn(60, 5, generator=generator), labels, names)
        for name, gain in (("joint", 1.2), ("bone", 1.0), ("motion", 0.3))
    }
    found = search_weights(streams, steps=4)
    by_hand = {}
    for i in range(5):
        for j in range(5 - i):
            weights = {"joint": i / 4, "bone": j / 4, "motion": (4 - i - j) / 4}
            by_hand[i, j] = fuse(streams, weights=weights).accuracy
    assert len(by_hand) == 15
    assert found.accuracy == max(by_hand.values())
    assert by_hand[int(4 * found.weights["joint"]), int(4 * found.weights["bone"])] == found.accuracy
    assert sum(found.weights.values()) == pytest.approx(1.0)
    assert found.accuracy >= max(stream.accuracy for stream in streams.values())


def test_of_equal_weights_the_most_even_ones_and_alone_all() -> None:
    assert search_weights({"joint": JOINT, "bone": JOINT}).weights == {"joint": 0.5, "bone": 0.5}
    assert search_weights({"joint": JOINT}).weights == {"joint": 1.0}


@pytest.mark.parametrize(
    ("streams", "weights", "kind", "message"),
    [
        ({}, STREAM_WEIGHTS, ValueError, "`streams` must hold at least one stream, got none."),
        (JOINT, STREAM_WEIGHTS, TypeError, "`streams` must be a mapping from names, got Scores."),
        (
            {"joint": JOINT, "bone": BONE._replace(names=("a", "b", "d"))},
            STREAM_WEIGHTS,
            ValueError,
            "`streams['bone']` must hold the samples of the stream 'joint', got no 'c' (1 missing).",
        ),
        (
            {"joint": JOINT, "bone": scores((1, 0), (1, 0), (1, 0), (1, 0), names="abcd", labels=[0, 1, 1, 0])},
            STREAM_WEIGHTS,
            ValueError,
            "`streams['bone']` must hold only the samples of the stream 'joint', got 'd' besides (1 too many).",
        ),
        (
            {"joint": JOINT, "bone": BONE._replace(labels=torch.tensor([0, 1, 0]))},
            STREAM_WEIGHTS,
            ValueError,
            "`streams['bone']` must have the labels of the stream 'joint', got class 0 for 'c' (1 differ).",
        ),
        (
            {"joint": JOINT, "bone": BONE._replace(logits=torch.rand(3, 4))},
            STREAM_WEIGHTS,
            ValueError,
            "`streams['bone']` must score 2 classes, as the stream 'joint' does, got 4.",
        ),
        (
            {"joint": JOINT._replace(names=("a", "b", "a"))},
            STREAM_WEIGHTS,
            ValueError,
            "`streams['joint'].names` must name each sample once, got 'a' twice.",
        ),
        (
            {"joint": JOINT._replace(names=("a", "b"))},
            STREAM_WEIGHTS,
            ValueError,
            "`streams['joint'].names` must name each of the 3 samples, got 2 names.",
        ),
        (
            {"joint": JOINT._replace(logits=JOINT.logits / 0)},
            STREAM_WEIGHTS,
            ValueError,
            "`streams['joint'].logits` must be finite, got NaN or infinity in 3 of 3 rows.",
        ),
        (
            {"joint": JOINT._replace(labels=LABELS[:2])},
            STREAM_WEIGHTS,
            ValueError,
            "`streams['joint'].labels` must have shape (3,) to match its logits, got (2,).",
        ),
        (
            {"joint": JOINT._replace(labels=LABELS.float())},
            STREAM_WEIGHTS,
            TypeError,
            "`streams['joint'].labels` must hold integers, got torch.float32.",
        ),
        (
            {"joints": JOINT},
            STREAM_WEIGHTS,
            ValueError,
            "`weights` must hold a weight for the stream 'joints', got weights for joint, bone, motion.",
        ),
        (
            {"joint": JOINT},
            {},
            ValueError,
            "`weights` must hold a weight for the stream 'joint', got weights for none.",
        ),
        (
            {"joint": JOINT, "bone": BONE.logits},
            STREAM_WEIGHTS,
            TypeError,
            "`streams['bone']` must be Scores, got Tensor.",
        ),
        ({"joint": JOINT}, {"joint": -1}, ValueError, "`weights['joint']` must lie in [0, inf), got -1."),
        ({"joint": JOINT}, {"joint": 0}, ValueError, "`weights` must be above zero for at least one stream, got only"),
    ],
)
def test_bad_calls(streams: Any, weights: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=re.escape(f"fuse: {message}")):
        fuse(streams, weights=weights)


def test_bad_searches() -> None:
    with pytest.raises(ValueError, match=re.escape("search_weights: `steps` must be at least 1, got 0.")):
        search_weights({"joint": JOINT}, steps=0)
    with pytest.raises(ValueError, match=re.escape("search_weights: `validation['bone']` must hold the samples of")):
        search_weights({"joint": JOINT, "bone": BONE._replace(names="xyz")})
