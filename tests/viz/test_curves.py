"""Curves: the drawn numbers are those of the log, gaps and seeds included."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skelcontrast.viz import plot_curves, plot_runs

LOG: list[dict[str, float | None]] = [
    {"epoch": 1, "total": 9.0, "info_nce": 5.0, "knn": None},
    {"epoch": 2, "total": 8.0, "info_nce": 4.0, "knn": 0.25},
    {"epoch": 3, "total": float("nan"), "nnm": 6.0},
    {"epoch": 4, "total": 7.0, "nnm": 5.0, "knn": 0.5},
]


def drawn(axes: Any) -> dict[str, list[list[float]]]:
    return {line.get_label(): line.get_xydata().tolist() for line in axes.lines if not line.get_label().startswith("_")}


def test_losses_and_accuracies_of_a_log(tmp_path: Path) -> None:
    figure = plot_curves(LOG, loss_levels={"uniform": 9.5}, accuracy_levels={"untrained": 0.125})
    losses, accuracies = figure.axes
    assert drawn(losses) == {
        "total": [[1, 9], [2, 8], [4, 7]],
        "InfoNCE": [[1, 5], [2, 4]],
        "NNM": [[3, 6], [4, 5]],
    }
    assert drawn(accuracies) == {"kNN": [[2, 25], [4, 50]]}
    levels = [(axes.texts[0].get_text(), np.asarray(axes.lines[-1].get_ydata())[0]) for axes in figure.axes]
    assert levels == [("uniform", 9.5), ("untrained", 12.5)]
    assert len({line.get_color() for axes in figure.axes for line in axes.lines[:-1]}) == 4
    figure.savefig(tmp_path / "curves.png", dpi=50)
    assert (tmp_path / "curves.png").stat().st_size > 2000


def test_every_training_loop_has_its_curves() -> None:
    streams = {"total": 9.0, "cross": 3.0, "joint": 4.0, "bone": 5.0, "knn_joint": 0.25, "knn_bone": 0.5}
    losses, accuracies = plot_curves([{"epoch": 1, **streams}]).axes
    assert list(drawn(losses)) == ["total", "cross-stream", "joint", "bone"]
    assert drawn(accuracies) == {"kNN joint": [[1, 25]], "kNN bone": [[1, 50]]}
    losses, accuracies = plot_curves([{"epoch": 1, "loss": 2.0, "top1": 0.25, "top5": 0.5}]).axes
    assert drawn(losses) == {"cross-entropy": [[1, 2]]}
    assert drawn(accuracies) == {"top-1": [[1, 25]], "top-5": [[1, 50]]}


def test_a_panel_without_curves_is_left_out() -> None:
    assert [axes.get_title(loc="left") for axes in plot_curves(LOG, accuracies=()).axes] == ["Loss"]
    assert [axes.get_title(loc="left") for axes in plot_curves(LOG, losses=()).axes] == ["Accuracy, %"]


def test_health_has_a_panel_for_every_value() -> None:
    log = [{**record, "uniformity": -float(record["epoch"] or 0), "alignment": 0.5} for record in LOG]
    figure = plot_curves(log)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["Loss", "Accuracy, %", "Alignment", "Uniformity"]
    assert drawn(figure.axes[3]) == {"uniformity": [[1, -1], [2, -2], [3, -3], [4, -4]]}
    assert [axes.get_legend() is None for axes in figure.axes] == [False, False, True, True]
    own = plot_curves(log, losses=(), accuracies=(), health=["uniformity"])
    assert [axes.get_title(loc="left") for axes in own.axes] == ["Uniformity"]
    many = plot_curves([{"epoch": 1, **{f"value_{n}": 1.0 for n in range(6)}}], health=[f"value_{n}" for n in range(6)])
    assert {axes.get_subplotspec().get_geometry()[:2] for axes in many.axes} == {(2, 4)}  # type: ignore[union-attr]


def test_other_names_and_steps() -> None:
    figure = plot_curves([{"step": 10, "cross": 3.0}], losses=["cross"], step="step")
    assert drawn(figure.axes[0]) == {"cross-stream": [[10, 3]]}
    assert figure.axes[0].get_xlabel() == "step"


def test_long_curves_have_no_dots() -> None:
    long = [{"epoch": epoch, "total": 1.0, **({"d3m": 1.0} if epoch > 90 else {})} for epoch in range(100)]
    assert [line.get_marker() for line in plot_curves(long).axes[0].lines] == ["", ""]
    assert [line.get_marker() for line in plot_curves(long[:9]).axes[0].lines] == ["o"]


def test_runs_show_mean_and_range_over_seeds() -> None:
    first = [{"epoch": 1, "knn": 0.2}, {"epoch": 2, "knn": 0.4}, {"epoch": 3, "knn": 0.9}]
    second = [{"epoch": 1, "knn": 0.4}, {"epoch": 2, "knn": 0.8}]
    figure = plot_runs({"AimCLR": [first, second], "other": [second]}, levels={"untrained": 0.1})
    (axes,) = figure.axes
    found = drawn(axes)
    assert list(found) == ["AimCLR (2 seeds)", "other"]
    for place, expected in zip(found["AimCLR (2 seeds)"], [[1, 30], [2, 60]], strict=True):
        assert place == pytest.approx(expected)
    band = axes.collections[0].get_paths()[0].get_extents()
    assert (band.ymin, band.ymax) == pytest.approx((20, 80))
    assert axes.get_title(loc="left") == "kNN accuracy, %"


def test_runs_of_a_loss_are_not_in_per_cent() -> None:
    axes = plot_runs({"a": [LOG]}, value="total", accuracy=False, levels={"uniform": 9.5}).axes[0]
    assert drawn(axes) == {"a": [[1, 9], [2, 8], [4, 7]]}
    assert axes.get_title(loc="left") == "total"
    assert axes.texts[0].get_text() == "uniform"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: plot_curves([]),
            "`log` must hold one of total, info_nce, nnm, d3m, cross, joint, motion, bone, loss, knn, knn_joint, ",
        ),
        (lambda: plot_curves([{"epoch": 1, "lr": 0.1}]), "got records of epoch, lr. Name others in `losses`,"),
        (lambda: plot_curves([{"epoch": 1, "total": 1}, {"total": 2}]), "`log[1]` must hold `epoch`, got only total."),
        (lambda: plot_runs({}), "plot_runs: `runs` must hold at least one run, got none."),
        (lambda: plot_runs({"a": []}), '`runs["a"]` must hold logs with `knn` at the same steps, got 0 without.'),
        (
            lambda: plot_runs({"a": [[{"epoch": 1, "knn": 0.1}], [{"epoch": 2, "knn": 0.1}]]}),
            '`runs["a"]` must hold logs with `knn` at the same steps, got 2 without.',
        ),
        (lambda: plot_runs({"a": [[{"knn": 0.1}]]}), '`runs["a"][0]` must hold `epoch`, got only knn.'),
    ],
)
def test_bad_calls(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


def test_what_is_no_log_is_named() -> None:
    wrong: Any = "runs/a/log.jsonl"
    with pytest.raises(TypeError, match=r"plot_curves: `log\[0\]` must be a mapping .*, got str\. A log is `"):
        plot_curves(wrong)
    wrong = LOG
    with pytest.raises(TypeError, match=r'plot_runs: `runs\["a"\]\[0\]` must be a mapping .* takes a list of logs\.'):
        plot_runs({"a": wrong})
