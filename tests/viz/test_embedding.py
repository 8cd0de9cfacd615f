"""Maps of features: clusters stay clusters, a seed repeats them, every class has its own look."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from skelcontrast.viz import plot_embedding
from skelcontrast.viz.embedding import _look, _t_sne


def clusters(classes: int, each: int) -> tuple[Tensor, Tensor]:
    labels = torch.arange(classes).repeat_interleave(each)
    return 20 * torch.eye(classes, 16)[labels] + torch.rand(classes * each, 16), labels


def test_clusters_stay_clusters_and_a_seed_repeats_them() -> None:
    features, labels = clusters(3, 10)
    before = torch.get_rng_state()
    places = torch.from_numpy(_t_sne(features, 30.0, 0))
    assert torch.equal(places, torch.from_numpy(_t_sne(features * 128, 30.0, 0)))  # lengths do not matter
    distance = torch.cdist(places, places).fill_diagonal_(torch.inf)
    assert torch.equal(labels[distance.argmin(dim=1)], labels)
    assert places.amin(dim=0).tolist() == [0, 0]
    assert places.amax(dim=0).tolist() == [1, 1]
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("row", [torch.zeros(5), torch.ones(5), torch.rand(5)])
def test_features_of_a_collapsed_encoder_are_one_point(row: Tensor) -> None:
    places = _t_sne(row * torch.rand(20, 1).double(), 30.0, 0)
    assert np.unique(places, axis=0).tolist() == [[0.5, 0.5]]


def test_panels_legend_and_picture(tmp_path: Path) -> None:
    features, labels = clusters(3, 5)
    panels = {"before": (torch.rand(15, 16), labels), "after": (features, labels)}
    figure = plot_embedding(panels, ["sit", "stand", "walk"], perplexity=4)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["before", "after"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["sit", "stand", "walk"]
    for axes in figure.axes:
        assert [len(np.asarray(points.get_offsets())) for points in axes.collections] == [5, 5, 5]
    figure.savefig(tmp_path / "map.png", dpi=50)
    assert (tmp_path / "map.png").stat().st_size > 2000


def test_many_classes_without_names() -> None:
    figure = plot_embedding({"all": clusters(16, 2)}, perplexity=3)
    many = plot_embedding({"all": (torch.rand(40, 4), torch.arange(40) // 2)}, perplexity=3)
    assert figure.legends[0]._ncols == 1  # type: ignore[attr-defined]  # there is no public way to ask
    assert many.legends[0]._ncols == 2  # type: ignore[attr-defined]  # as above
    assert [text.get_text() for text in many.legends[0].get_texts()] == [str(label) for label in range(20)]
    assert len({_look(place) for place in range(70)}) == 70


@pytest.mark.parametrize("classes", [16, 17, 40, 41, 60, 120])
def test_the_legend_lies_in_the_figure(classes: int) -> None:
    names = [f"put something on {label}" for label in range(classes)]
    figure = plot_embedding({"all": (torch.rand(classes, 4), torch.arange(classes))}, names, perplexity=3)
    figure.canvas.draw()
    legend, box = figure.legends[0].get_window_extent(), figure.bbox
    assert box.x0 <= legend.x0 < legend.x1 <= box.x1
    assert box.y0 <= legend.y0 < legend.y1 <= box.y1


GOOD = (torch.rand(6, 4), torch.arange(6) % 2)


@pytest.mark.parametrize(
    ("panels", "options", "kind", "message"),
    [
        ({}, {}, ValueError, "`panels` must hold at least one panel, got none."),
        ({"a": GOOD}, {"perplexity": 0}, ValueError, "`perplexity` must lie in (0, inf), got 0."),
        ({"a": GOOD}, {"seed": -1}, ValueError, "`seed` must be at least 0, got -1."),
        (
            {"a": GOOD},
            {"class_names": ["x"]},
            ValueError,
            "must name every class, got 1 for classes 0 to 1.",
        ),
        ({"a": (GOOD[0], GOOD[1] - 1)}, {"class_names": ["x"]}, ValueError, "got 1 for classes -1 to 0."),
        (
            {"a": (GOOD[0], GOOD[1][:5])},
            {},
            ValueError,
            '`panels["a"] labels` must have shape (6,) to match the',
        ),
        (
            {"a": (torch.rand(2, 4), GOOD[1])},
            {},
            ValueError,
            '`panels["a"] features` must have at least 3 rows and',
        ),
        ({"a": (torch.rand(6), GOOD[1])}, {}, ValueError, '`panels["a"] features` must have shape (N, D), got (6,).'),
        ({"a": (GOOD[0] / 0, GOOD[1])}, {}, ValueError, '`panels["a"] features` must be finite, got NaN or infinity.'),
        ({"a": (GOOD[0], GOOD[1] / 2)}, {}, TypeError, '`panels["a"] labels` must be integers, got torch.float32.'),
        (GOOD, {}, TypeError, "`panels` must be a mapping from titles, got tuple. Give the features a title"),
        (
            {"a": GOOD[0]},
            {},
            TypeError,
            '`panels["a"]` must be features and labels, such as evaluation.Features, got ',
        ),
        ({"a": (GOOD[1], GOOD[1])}, {}, TypeError, '`panels["a"] features` must be floating point, got torch.int64.'),
    ],
)
def test_bad_calls(panels: Any, options: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=re.escape(f"{message}")) as caught:
        plot_embedding(panels, **options)
    assert str(caught.value).startswith("plot_embedding: ")
