"""Retrieval against scikit-learn's average precision and a ranking by hand, and the messages of bad calls."""

import re
from typing import Any

import pytest
import torch
from torch.nn.functional import normalize

from skelcontrast.evaluation import Features, knn_accuracy, retrieval


def draw(rows: int, seed: int, classes: int = 4) -> Features:
    generator = torch.Generator().manual_seed(seed)
    return Features(torch.randn(rows, 6, generator=generator), torch.arange(rows) % classes)


def test_agrees_with_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    gallery, queries = draw(60, 0), draw(25, 1)
    cosine = normalize(queries.features, dim=1) @ normalize(gallery.features, dim=1).T
    own = gallery.labels == queries.labels[:, None]
    pairs = zip(own.numpy(), cosine.numpy(), strict=True)
    expected = sum(metrics.average_precision_score(*pair) for pair in pairs) / 25
    assert retrieval(gallery, queries).mean_average_precision == pytest.approx(expected)


def test_recall_by_hand() -> None:
    gallery, queries = draw(40, 0), draw(30, 1)
    found = retrieval(gallery, queries, k=(1, 3, 40)).recall
    assert retrieval(gallery, queries, k=3).recall == {3: found[3]}
    order = (normalize(queries.features, dim=1) @ normalize(gallery.features, dim=1).T).argsort(dim=1, descending=True)
    for k in (1, 3):
        hits = [
            bool((gallery.labels[row[:k]] == label).any()) for row, label in zip(order, queries.labels, strict=True)
        ]
        assert found[k] == sum(hits) / 30
    assert found[40] == 1.0
    assert found[1] == knn_accuracy(gallery, queries, k=1)


def test_cosines_that_float32_cannot_tell_apart_are_told_apart() -> None:
    gallery, queries = (Features(1 + 1e-4 * one.features, one.labels) for one in (draw(40, 0), draw(30, 1)))
    cosine = normalize(queries.features.double(), dim=1) @ normalize(gallery.features.double(), dim=1).T
    assert retrieval(gallery, queries, k=1).recall[1] == float(
        (gallery.labels[cosine.argmax(dim=1)] == queries.labels).double().mean()
    )


def test_result_does_not_depend_on_chunks_or_length() -> None:
    gallery, queries = draw(50, 0), draw(30, 1)
    longer = Features(queries.features * 7, queries.labels)
    whole, parts = retrieval(gallery, queries), retrieval(gallery, longer, chunk_size=7)
    assert parts.recall == whole.recall
    assert parts.mean_average_precision == pytest.approx(whole.mean_average_precision)


def test_progress_is_shown_where_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    gallery, queries = draw(50, 0), draw(30, 1)
    quiet = retrieval(gallery, queries, chunk_size=7)
    assert capsys.readouterr() == ("", "")
    assert retrieval(gallery, queries, chunk_size=7, progress=True) == quiet
    out, err = capsys.readouterr()
    assert out == ""
    assert "30/30" in err or "30 of 30" in err  # without tqdm


PAIR = draw(8, 0), draw(4, 1)


@pytest.mark.parametrize(
    ("gallery", "queries", "options", "message"),
    [
        (*PAIR, {"k": (1, 9)}, "`k` must lie in [1, 8], got 9. There are no more sequences in the gallery than that."),
        (*PAIR, {"k": ()}, "`k` must name at least one number of neighbours, got none."),
        (*PAIR, {"chunk_size": 0}, "`chunk_size` must be at least 1, got 0."),
        (
            PAIR[0],
            Features(PAIR[1].features, PAIR[1].labels + 1),
            {},
            "`gallery.labels` must hold every class of `queries.labels`, got none of class 4.",
        ),
        (
            PAIR[0],
            Features(torch.rand(4, 5), PAIR[1].labels),
            {},
            "`queries.features` must have shape (N, 6) to match `gallery.features`, got (4, 5).",
        ),
        (
            Features(PAIR[0].features / 0, PAIR[0].labels),
            PAIR[1],
            {},
            "`gallery.features` must be finite, got NaN or infinity in 8 of 8 rows.",
        ),
    ],
)
def test_bad_calls(gallery: Features, queries: Features, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"retrieval: {message}")):
        retrieval(gallery, queries, **{"k": (1, 5), **options})
