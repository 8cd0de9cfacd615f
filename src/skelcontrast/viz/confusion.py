"""Confusion matrices: which class is taken for which."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from skelcontrast import _check
from skelcontrast.viz import _style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

NUMBERS_UP_TO = 30  # classes, beyond which per cents in the cells are too small to read
NAMES_UP_TO = 60


def plot_confusion(counts: Tensor, class_names: Sequence[str] | None = None, *, title: str = "Confusion") -> "Figure":
    """Draw a confusion matrix, every row as shares of its class.

    Up to 30 classes, cells hold their per cent unless it rounds to 0; up to 60, the axes hold the names. A row without
    samples stays empty.

    Args:
        counts: Matrix (C, C) of counts, such as `evaluation.confusion_matrix` returns: the row is the true class, the
            column the predicted one.
        class_names: Names of the classes; their numbers unless given.
        title: Title of the figure; the accuracy stands beside it.

    Returns:
        A Matplotlib figure; ``figure.savefig("confusion.png")`` writes it.

    Raises:
        ImportError: If Matplotlib is not installed.
        TypeError: If `counts` is not a tensor.
        ValueError: If it is not square, is empty, holds a negative number or NaN, or a class has no name.

    Example:
        >>> import torch
        >>> figure = plot_confusion(torch.tensor([[3, 1], [0, 4]]), ["sit", "stand"])
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['75', '25', '100']
    """
    owner = "plot_confusion"
    rows = _check.shape(owner, "counts", _check.tensor(owner, "counts", counts, floating=False), "C C").shape[0]
    _check.shape(owner, "counts", counts, "C C", C=rows, hint="The row is the true class, the column the predicted.")
    matrix = counts.detach().cpu().double()
    if rows == 0 or not (matrix >= 0).all():  # NaN fails the comparison
        must = "hold counts, at least 0, of at least one class"
        _check.fail(owner, "counts", must, "none" if rows == 0 else f"{float(matrix.min()):g}")
    if class_names is not None and len(class_names) != rows:
        _check.fail(owner, "class_names", f"name the {rows} classes", f"{len(class_names)} names")
    names = [str(label) for label in range(rows)] if class_names is None else list(class_names)
    least = torch.finfo(matrix.dtype).tiny  # of a class without samples
    share = matrix / matrix.sum(dim=1, keepdim=True).clamp_min(least)
    accuracy = float(matrix.trace() / matrix.sum().clamp_min(least))

    side = min(max(2.2, 0.27 * rows), 9.0)
    margin = 0.062 * max(map(len, names)) + 0.5 if rows <= NAMES_UP_TO else 0.6
    figure = _style.new_figure(owner, side + margin, side + margin)
    axes = figure.add_subplot()
    axes.imshow(share.sqrt().numpy(), cmap=_colours(), vmin=0, vmax=1)  # by the root, or few confusions would not show
    _style.title(axes, title, f"accuracy {accuracy:.1%}")
    _label(axes, names, min(8.5, 62 * side / rows))
    if rows <= NUMBERS_UP_TO:
        size = min(8.0, 30 * side / rows)
        for row, column in (share > 0.005).nonzero().tolist():
            value = float(share[row, column])
            colour = "white" if value > 0.3 else _style.INK
            axes.text(column, row, f"{100 * value:.0f}", ha="center", va="center", fontsize=size, color=colour)
    return figure


def _colours() -> "Colormap":
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("shares", ["#ffffff", "#b9d0ea", _style.SERIES[0], "#12345c"])


def _label(axes: "Axes", names: Sequence[str], size: float) -> None:
    """Name the classes on both axes, or where they are too many only number them."""
    if len(names) <= NAMES_UP_TO:
        axes.set_xticks(range(len(names)), names, rotation=90 if max(map(len, names)) > 3 else 0)
        axes.set_yticks(range(len(names)), names)
    axes.tick_params(colors=_style.MUTED, labelcolor=_style.INK, labelsize=size, length=2, width=0.6)
    axes.set_xlabel("predicted", fontsize=9, color=_style.INK)
    axes.set_ylabel("true", fontsize=9, color=_style.INK)
    for spine in axes.spines.values():
        spine.set_color(_style.GHOST)
