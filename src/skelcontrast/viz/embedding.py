"""Maps of features: t-SNE, one panel beside the other."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from skelcontrast import _check
from skelcontrast.viz import _style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

MOST_ROWS = 20  # of the legend, which is then as high as the figure
SAME = 1e-9  # largest difference between vectors of length one that are taken for the same


def plot_embedding(
    panels: Mapping[str, tuple[Tensor, Tensor]],
    class_names: Sequence[str] | None = None,
    *,
    perplexity: float = 30.0,
    seed: int = 0,
) -> "Figure":
    """Draw features of the same classes side by side, such as before and after training, by t-SNE.

    Features are brought to length one first, as kNN and the contrastive losses compare directions. Every panel is a
    map of its own, started from the principal components: places and distances between clusters mean little, which
    points are neighbours means something. Features that all point the same way, as those of a collapsed encoder do, are
    one point.

    Args:
        panels: By title, features (N, D) and classes (N,) from 0, such as `evaluation.Features`; N at least 3 and D at
            least 2.
        class_names: Names of the classes, for the legend; their numbers unless given. Of more than 70 classes some look
            alike.
        perplexity: Roughly the number of neighbours that each point looks at, above zero; lowered to (N - 1) / 3 for
            few points.
        seed: Seed of the maps.

    Returns:
        A Matplotlib figure; ``figure.savefig("embedding.png")`` writes it.

    Raises:
        ImportError: If Matplotlib or scikit-learn is not installed.
        TypeError: If `panels` is no mapping to pairs, features are not floating point tensors, or labels not integers.
        ValueError: If shapes do not match, features are not finite, a class has no name, or there is no panel.

    References:
        van der Maaten and Hinton, "Visualizing Data using t-SNE", JMLR 2008.

    Example:
        >>> features, labels = torch.eye(8), torch.arange(8) % 2
        >>> figure = plot_embedding({"before": (features, labels), "after": (features, labels)}, ["sit", "stand"])
        >>> [axes.get_title(loc="left") for axes in figure.axes]
        ['before', 'after']
    """
    owner = "plot_embedding"
    _check.interval(owner, "perplexity", perplexity, 0, open_low=True)
    seed = _check.integer(owner, "seed", seed, 0)
    _check_panels(owner, panels)
    classes = sorted({int(label) for _, labels in panels.values() for label in labels.tolist()})
    if class_names is not None and not 0 <= classes[0] <= classes[-1] < len(class_names):
        got = f"{len(class_names)} for classes {classes[0]} to {classes[-1]}"
        _check.fail(owner, "class_names", "name every class", got)
    names = {label: str(label) if class_names is None else class_names[label] for label in classes}

    _style.require(owner, "sklearn", package="scikit-learn")
    rows = len(names) if len(names) <= 16 else math.ceil(len(names) / max(2, math.ceil(len(names) / MOST_ROWS)))
    columns = [list(names.values())[start : start + rows] for start in range(0, len(names), rows)]
    legend_width = sum(0.35 + 0.066 * max(map(len, column)) for column in columns)
    figure = _style.new_figure(owner, 3.9 * len(panels) + legend_width, 4.1)
    for axes, (name, (features, labels)) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        _style.title(axes, name)
        _draw_map(axes, _t_sne(features, perplexity, seed), labels.cpu(), names)
    handles, texts = _legend_entries(names)
    figure.legend(
        handles, texts, loc="outside right center", ncols=len(columns), frameon=False, fontsize=8.5,
        labelcolor=_style.INK, handletextpad=0.2, columnspacing=0.8,
    )  # fmt: skip
    return figure


def _check_panels(owner: str, panels: object) -> None:
    """Check that there are panels, each of features and classes."""
    if not isinstance(panels, Mapping):
        hint = 'Give the features a title: {"After": features}.'
        _check.fail(owner, "panels", "be a mapping from titles", type(panels).__name__, hint=hint, kind=TypeError)
    if not panels:
        _check.fail(owner, "panels", "hold at least one panel", "none")
    for name, panel in panels.items():
        if not isinstance(panel, tuple | list) or len(panel) != 2:
            must = "be features and labels, such as evaluation.Features"
            _check.fail(owner, f'panels["{name}"]', must, type(panel).__name__, kind=TypeError)
        _check_panel(owner, f'panels["{name}"]', *panel)


def _check_panel(owner: str, name: str, features: Tensor, labels: Tensor) -> None:
    """Check features (N, D) and classes (N,) of one panel."""
    _check.tensor(owner, f"{name} features", features)
    _check.shape(owner, f"{name} features", features, "N D")
    if features.shape[0] < 3 or features.shape[1] < 2:
        must = "have at least 3 rows and 2 columns"
        _check.fail(owner, f"{name} features", must, _check.show(features.shape))
    if not features.isfinite().all():
        _check.fail(owner, f"{name} features", "be finite", "NaN or infinity")
    _check.tensor(owner, f"{name} labels", labels, floating=False)
    _check.shape(owner, f"{name} labels", labels, "N", N=len(features), why="to match the features")
    if labels.is_floating_point() or labels.is_complex():
        _check.fail(owner, f"{name} labels", "be integers", labels.dtype, kind=TypeError)


def _t_sne(features: Tensor, perplexity: float, seed: int) -> npt.NDArray[np.float64]:
    """Return places (N, 2), each axis brought to [0, 1]."""
    from sklearn.manifold import TSNE

    directions = torch.nn.functional.normalize(features.detach().cpu().double(), dim=1).numpy()
    if np.ptp(directions, axis=0).max() < SAME:  # without any variance scikit-learn's start is NaN, and it crashes
        return np.full((len(directions), 2), 0.5)
    perplexity = min(perplexity, (len(directions) - 1) / 3)
    mapping = TSNE(n_components=2, init="pca", perplexity=perplexity, learning_rate="auto", random_state=seed)
    places = np.asarray(mapping.fit_transform(directions), dtype=np.float64)
    low, high = places.min(axis=0), places.max(axis=0)
    return np.asarray((places - low) / np.where(high > low, high - low, 1.0))


def _look(place: int) -> tuple[str, str]:
    """Return colour and marker of a class: first ten colours as discs, then as triangles, and so on."""
    colours, markers = _style.SERIES, _style.MARKERS
    return colours[place % len(colours)], markers[place // len(colours) % len(markers)]


def _draw_map(axes: "Axes", places: npt.NDArray[np.float64], labels: Tensor, names: Mapping[int, str]) -> None:
    """Draw points by class, in a square frame without ticks, as the scales mean nothing."""
    size = float(np.clip(6000 / len(places), 6, 26))
    for place, label in enumerate(names):
        own = (labels == label).numpy()
        colour, marker = _look(place)
        axes.scatter(
            places[own, 0], places[own, 1], s=size, color=colour, marker=marker, alpha=0.8, edgecolors="white",
            linewidths=0.3,
        )  # fmt: skip
    axes.set_xlim(-0.04, 1.04)
    axes.set_ylim(-0.04, 1.04)
    axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(_style.GRID)


def _legend_entries(names: Mapping[int, str]) -> tuple[list["Line2D"], list[str]]:
    """Return one marker and one name per class."""
    from matplotlib.lines import Line2D

    looks = [_look(place) for place in range(len(names))]
    handles = [Line2D([], [], color=colour, marker=marker, markersize=5, linestyle="") for colour, marker in looks]
    return handles, list(names.values())
