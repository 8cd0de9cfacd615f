"""Bars: heights are means, lines are ranges, and a missing group leaves its place empty."""

import re
from typing import Any

import pytest

from skelcontrast.viz import plot_bars


def test_heights_ranges_and_places() -> None:
    figure = plot_bars({"one": {"joint": [0.25, 0.75], "bone": [0.5]}, "two": {"bone": [1.0]}}, title="kNN")
    (axes,) = figure.axes
    bars: list[Any] = list(axes.patches)
    assert [bar.get_height() for bar in bars] == pytest.approx([50, 50, 100])
    assert [bar.get_x() + bar.get_width() / 2 for bar in bars] == pytest.approx([-0.2, 0.8, 1.2])
    assert axes.lines[0].get_ydata().tolist() == pytest.approx([25, 75])  # type: ignore[union-attr]  # an array
    assert [label.get_text() for label in axes.get_xticklabels()] == ["joint", "bone"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["one", "two"]
    assert [text.get_text() for text in axes.texts] == ["50.0", "50.0", "100.0"]
    assert axes.get_title(loc="left") == "kNN"


@pytest.mark.parametrize(
    ("accuracies", "message"),
    [
        ({}, "plot_bars: `accuracies` must hold at least one accuracy, got none."),
        ({"one": {}}, "plot_bars: `accuracies` must hold at least one accuracy, got none."),
        ({"one": {"joint": []}}, "`accuracies['one']['joint']` must hold at least one accuracy, got none."),
        ({"one": {"joint": [50.0]}}, "accuracies['one']['joint']"),
    ],
)
def test_bad_input_is_named(accuracies: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        plot_bars(accuracies)


@pytest.mark.parametrize(
    ("accuracies", "message"),
    [
        (
            {"a": {"x": 0.5}},
            "`accuracies['a']['x']` must hold an accuracy for each seed, got 0.5. Put a single one in a list.",
        ),
        ({"a": 0.5}, "plot_bars: `accuracies['a']` must be a mapping from groups, got 0.5."),
        ({"a": {"x": ["b"]}}, "`accuracies['a']['x']` must be a number, got 'b'."),
    ],
)
def test_what_is_no_accuracy_is_named(accuracies: Any, message: str) -> None:
    with pytest.raises(TypeError, match=re.escape(message)):
        plot_bars(accuracies)
