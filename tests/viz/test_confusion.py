"""Confusion matrices: shares of rows, names, the accuracy, and the messages of bad calls."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from skelcontrast.viz import plot_confusion

COUNTS = torch.tensor([[6, 2, 0], [0, 0, 0], [1, 0, 199]])


def test_rows_are_shares_of_their_class(tmp_path: Path) -> None:
    figure = plot_confusion(COUNTS, ["sit", "stand", "fall over"])
    (axes,) = figure.axes
    drawn = np.asarray(axes.images[0].get_array()) ** 2
    expected = [[0.75, 0.25, 0.0], [0.0, 0.0, 0.0], [0.005, 0.0, 0.995]]
    np.testing.assert_allclose(drawn, expected, atol=1e-12)
    found = {(int(text.get_position()[1]), int(text.get_position()[0])): text.get_text() for text in axes.texts}
    assert found == {(0, 0): "75", (0, 1): "25", (2, 2): "100"}  # half a per cent is drawn, not written
    assert axes.get_title(loc="left") == "Confusion"
    assert axes.get_title(loc="right") == "accuracy 98.6%"  # 205 of 208
    for ticks in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert [tick.get_text() for tick in ticks] == ["sit", "stand", "fall over"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")
    figure.savefig(tmp_path / "confusion.png", dpi=50)
    assert (tmp_path / "confusion.png").stat().st_size > 1000


@pytest.mark.parametrize(("classes", "numbers", "names"), [(30, True, True), (31, False, True), (61, False, False)])
def test_many_classes_have_fewer_words(classes: int, numbers: bool, names: bool) -> None:
    axes = plot_confusion(torch.eye(classes), [f"action {n}" for n in range(classes)]).axes[0]
    assert (len(axes.texts) == classes) == numbers
    assert (axes.get_yticklabels()[-1].get_text() == f"action {classes - 1}") == names


def test_counts_can_be_fractions() -> None:
    axes = plot_confusion(torch.tensor([[0.3, 0.1], [0.0, 0.0]])).axes[0]
    assert [text.get_text() for text in axes.texts] == ["75", "25"]
    assert axes.get_title(loc="right").startswith("accuracy 75.0%")


def test_without_names_classes_are_numbered() -> None:
    axes = plot_confusion(torch.eye(3, dtype=torch.int32), title="Joint").axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0", "1", "2"]
    assert axes.get_title(loc="left") == "Joint"


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (([[1, 0], [0, 1]],), TypeError, "`counts` must be a torch.Tensor, got list."),
        ((torch.ones(4),), ValueError, "`counts` must have shape (C, C), got (4,)."),
        (
            (torch.ones(2, 3),),
            ValueError,
            "`counts` must have shape (2, 2), got (2, 3). The row is the true class, the column the predicted.",
        ),
        ((torch.ones(0, 0),), ValueError, "`counts` must hold counts, at least 0, of at least one class, got none."),
        ((-torch.eye(2),), ValueError, "`counts` must hold counts, at least 0, of at least one class, got -1."),
        ((torch.eye(2) / 0,), ValueError, "`counts` must hold counts, at least 0, of at least one class, got nan."),
        ((torch.eye(2), ["sit"]), ValueError, "`class_names` must name the 2 classes, got 1 names."),
    ],
)
def test_bad_calls(arguments: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=f"^{re.escape(f'plot_confusion: {message}')}$"):
        plot_confusion(*arguments)
