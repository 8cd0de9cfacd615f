"""Accuracies of several encoders side by side, as bars."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from skelcontrast import _check
from skelcontrast.viz import _style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 0.8  # of a group of bars, where groups are 1 apart


def plot_bars(accuracies: Mapping[str, Mapping[str, Sequence[float]]], *, title: str = "") -> "Figure":
    """Draw accuracies in groups of bars: the mean over seeds as a bar, lowest to highest as a line through its end.

    Args:
        accuracies: By name, such as the method, and by group, such as the stream: accuracies in [0, 1], one per seed.
            A name may lack a group; its place stays empty.
        title: Title of the figure.

    Returns:
        A Matplotlib figure; ``figure.savefig("bars.png")`` writes it.

    Raises:
        ImportError: If Matplotlib is not installed.
        TypeError: If a name has no mapping, a group no accuracies for its seeds, or an accuracy is no number.
        ValueError: If there is nothing to draw, or an accuracy is not in [0, 1].

    References:
        AimCLR, Figure 3, which shows kNN accuracies like this.

    Example:
        >>> figure = plot_bars({"SkeletonCLR": {"joint": [0.5]}, "AimCLR": {"joint": [0.5, 0.75]}})
        >>> [float(bar.get_height()) for bar in figure.axes[0].patches]
        [50.0, 62.5]
    """
    owner = "plot_bars"
    for name, by_group in accuracies.items():
        _check_kind(f"accuracies[{name!r}]", by_group, Mapping, "be a mapping from groups")
        for group, values in by_group.items():
            where = f"accuracies[{name!r}][{group!r}]"
            _check_kind(where, values, Collection, "hold an accuracy for each seed")
            if len(values) == 0:
                _check.fail(owner, where, "hold at least one accuracy", "none")
            for value in values:
                _check.interval(owner, where, value, 0, 1)
    groups = list(dict.fromkeys(group for by_group in accuracies.values() for group in by_group))
    if not groups:
        _check.fail(owner, "accuracies", "hold at least one accuracy", "none")
    figure = _style.new_figure(owner, max(4.0, 1.2 + 0.45 * len(groups) * len(accuracies)), 3.2)
    axes = figure.add_subplot()
    width = WIDTH / len(accuracies)
    for place, (colour, (name, by_group)) in enumerate(
        zip(_style.cycle(len(accuracies)), accuracies.items(), strict=True)
    ):
        shift = (place - (len(accuracies) - 1) / 2) * width
        at = [groups.index(group) + shift for group in by_group]
        means = [100 * math.fsum(values) / len(values) for values in by_group.values()]
        axes.bar(at, means, 0.9 * width, color=colour, label=name)
        for x, mean, values in zip(at, means, by_group.values(), strict=True):
            low, high = 100 * min(values), 100 * max(values)
            axes.plot([x, x], [low, high], color=_style.INK, linewidth=1)
            axes.annotate(
                f"{mean:.1f}", (x, max(high, mean)), xytext=(0, 3), textcoords="offset points",
                ha="center", fontsize=7.5, color=_style.INK,
            )  # fmt: skip
    _style.plain_axes(axes)
    axes.grid(visible=False, axis="x")
    axes.set_xticks(range(len(groups)), groups)
    axes.set_ylabel("accuracy, %")
    axes.margins(y=0.12)
    _style.title(axes, title)
    figure.legend(loc="outside lower center", ncols=4, edgecolor="none", fontsize=8.5, labelcolor=_style.INK)
    return figure


def _check_kind(where: str, value: object, kind: type, must: str) -> None:
    if not isinstance(value, kind):
        hint = "Put a single one in a list." if kind is Collection else ""
        _check.fail("plot_bars", where, must, repr(value), hint=hint, kind=TypeError)
