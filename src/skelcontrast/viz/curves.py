"""Training curves: losses and accuracies of one run, or one value of several runs."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from skelcontrast import _check
from skelcontrast.viz import _style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Log: TypeAlias = Sequence[Mapping[str, float | None]]
Curve: TypeAlias = list[tuple[float, float]]
DOTS_UP_TO = 40  # points of a curve, beyond which dots run into each other
STREAMS = ("joint", "motion", "bone")
SPOKEN = {"info_nce": "InfoNCE", "nnm": "NNM", "d3m": "D3M", "cross": "cross-stream", "loss": "cross-entropy"}
SPOKEN |= {"knn": "kNN", "top1": "top-1", "top5": "top-5", **{f"knn_{stream}": f"kNN {stream}" for stream in STREAMS}}
LOSSES = ("total", "info_nce", "nnm", "d3m", "cross", *STREAMS, "loss")
ACCURACIES = ("knn", *(f"knn_{stream}" for stream in STREAMS), "linear", "top1", "top5")
HEALTH = (
    "alignment",
    "uniformity",
    "effective_rank",
    "least_spread",
    "neighbor_precision",
    "own_key_share",
    "dropped_joints",
    "dropped_frames",
)
COLUMNS = 4  # panels beside each other


def plot_curves(
    log: Log,
    *,
    losses: Sequence[str] = LOSSES,
    accuracies: Sequence[str] = ACCURACIES,
    health: Sequence[str] = HEALTH,
    step: str = "epoch",
    loss_levels: Mapping[str, float] | None = None,
    accuracy_levels: Mapping[str, float] | None = None,
) -> "Figure":
    """Draw the losses of one run and, beside them, its accuracies and what tells of its health.

    Args:
        log: Records of the run in order, as read by ``[json.loads(line) for line in open("log.jsonl")]``. A record need
            not hold every value: a curve joins the records that have it, and is drawn from the first to the last.
        losses: Which values are losses; one that no record has is left out. Unless given, those of the training loops
            in ``examples/``: of one stream, of several (each stream's own by its name), and of training with labels.
        accuracies: Which values are accuracies in [0, 1], drawn in per cent; one that no record has is left out.
        health: Which values tell of the health of the run, each drawn in a panel of its own, since their scales differ;
            one that no record has is left out.
        step: Which value goes on the horizontal axis.
        loss_levels: Losses to mark with a dashed line, by name, such as that of a uniform prediction.
        accuracy_levels: Accuracies to mark with a dashed line, by name, such as that before training.

    Returns:
        A Matplotlib figure; ``figure.savefig("curves.png")`` writes it.

    Raises:
        ImportError: If Matplotlib is not installed.
        TypeError: If a record is no mapping.
        ValueError: If a record lacks `step`, or no record has any of the values.

    Example:
        >>> log = [{"epoch": 1, "total": 9.0}, {"epoch": 2, "total": 7.5, "knn": 0.25}]
        >>> figure = plot_curves(log)
        >>> [axes.lines[0].get_xydata().tolist() for axes in figure.axes]
        [[[1.0, 9.0], [2.0, 7.5]], [[2.0, 25.0]]]
    """
    owner = "plot_curves"
    panels = [
        ("Loss", _curves(owner, "log", log, losses, step, 1.0), loss_levels or {}),
        ("Accuracy, %", _curves(owner, "log", log, accuracies, step, 100.0), _percent(accuracy_levels)),
    ]
    panels = [panel for panel in panels if panel[1]]
    described = len(panels)  # panels that need a legend: those of several curves
    panels += [
        (name.replace("_", " ").capitalize(), {name: curve}, {})
        for name, curve in _curves(owner, "log", log, health, step, 1.0).items()
    ]
    if not panels:
        held = ", ".join(sorted({name for record in log for name in record})) or "nothing"
        wanted = ", ".join([*losses, *accuracies, *health])
        hint = "Name others in `losses`, `accuracies` or `health`."
        _check.fail(owner, "log", f"hold one of {wanted}", f"records of {held}", hint=hint)
    columns = min(len(panels), COLUMNS)
    rows = math.ceil(len(panels) / columns)
    figure = _style.new_figure(owner, (4.6 if columns <= 2 else 3.4) * columns + 0.4, 3.2 if rows == 1 else 2.7 * rows)
    colours = iter(_style.cycle(sum(len(curves) for _, curves, _ in panels)))
    for place, (name, curves, levels) in enumerate(panels, start=1):
        axes = figure.add_subplot(rows, columns, place)
        dots = max(map(len, curves.values())) <= DOTS_UP_TO
        for curve_name, curve in curves.items():
            _draw(axes, curve, next(colours), SPOKEN.get(curve_name, curve_name), dots=dots)
        _finish(axes, name, step, levels, legend=place <= described)
    return figure


def plot_runs(
    runs: Mapping[str, Sequence[Log]],
    *,
    value: str = "knn",
    step: str = "epoch",
    accuracy: bool = True,
    levels: Mapping[str, float] | None = None,
) -> "Figure":
    """Draw one value of several runs, each repeated with some seeds: the mean as a line, lowest to highest as a band.

    Args:
        runs: For each name, one log per seed, as for `plot_curves`. Steps that not every seed has are left out.
        value: Which value of the records to draw.
        step: Which value goes on the horizontal axis.
        accuracy: Whether the value is an accuracy in [0, 1], to be drawn in per cent.
        levels: Values to mark with a dashed line, by name.

    Returns:
        A Matplotlib figure; ``figure.savefig("runs.png")`` writes it.

    Raises:
        ImportError: If Matplotlib is not installed.
        TypeError: If a record is no mapping.
        ValueError: If a record lacks `step`, or the seeds of a run have no step with the value in common.

    Example:
        >>> first, second = [{"epoch": 5, "knn": 0.25}], [{"epoch": 5, "knn": 0.5}]
        >>> figure = plot_runs({"AimCLR": [first, second]})
        >>> figure.axes[0].lines[0].get_xydata().tolist()
        [[5.0, 37.5]]
    """
    owner, factor = "plot_runs", 100.0 if accuracy else 1.0
    if not runs:
        _check.fail(owner, "runs", "hold at least one run", "none")
    means: dict[str, Curve] = {}
    bands: dict[str, list[tuple[float, float, float]]] = {}
    for name, logs in runs.items():
        argument = f'runs["{name}"]'
        seeds = [dict(_curves(owner, argument, log, [value], step, factor).get(value, [])) for log in logs]
        shared = sorted(set.intersection(*(set(seed) for seed in seeds))) if seeds else []
        if not shared:
            _check.fail(owner, argument, f"hold logs with `{value}` at the same steps", f"{len(logs)} without")
        at = {place: [seed[place] for seed in seeds] for place in shared}
        means[name] = [(place, sum(values) / len(values)) for place, values in at.items()]
        bands[name] = [(place, min(values), max(values)) for place, values in at.items()]
    figure = _style.new_figure(owner, 5.6, 3.4)
    axes = figure.add_subplot()
    for colour, (name, band) in zip(_style.cycle(len(runs)), bands.items(), strict=True):
        places, low, high = zip(*band, strict=True)
        axes.fill_between(places, low, high, color=colour, alpha=0.15, linewidth=0)
        seeds_said = f" ({len(runs[name])} seeds)" if len(runs[name]) > 1 else ""
        _draw(axes, means[name], colour, name + seeds_said, dots=len(band) <= DOTS_UP_TO)
    spoken = SPOKEN.get(value, value)
    title, marked = (f"{spoken} accuracy, %", _percent(levels)) if accuracy else (spoken, levels or {})
    _finish(axes, title, step, marked, legend=False)
    # Below the curves, which several bands leave no room among.
    figure.legend(loc="outside lower center", ncols=2, edgecolor="none", fontsize=8.5, labelcolor=_style.INK)
    return figure


def _curves(owner: str, argument: str, log: Log, names: Sequence[str], step: str, factor: float) -> dict[str, Curve]:
    """Return (step, value) pairs of each named value, without those that are missing, None or NaN."""
    found: dict[str, Curve] = {}
    for index, record in enumerate(log):
        _check_record(owner, f"{argument}[{index}]", record)
        at = record.get(step)
        if at is None:
            _check.fail(owner, f"{argument}[{index}]", f"hold `{step}`", f"only {', '.join(record) or 'nothing'}")
        for name in names:
            value = record.get(name)
            if value is not None and not math.isnan(value):
                found.setdefault(name, []).append((float(at), factor * value))
    return {name: found[name] for name in names if name in found}


def _check_record(owner: str, name: str, record: object) -> None:
    """Check that a record is a mapping: a log may have been given as a path, or not in a list."""
    hint = "A log is `[json.loads(line) for line in open(path)]`, and `plot_runs` takes a list of logs."
    _check.mapping(owner, name, record, of="names to values", hint=hint)


def _percent(levels: Mapping[str, float] | None) -> dict[str, float]:
    return {name: 100 * level for name, level in (levels or {}).items()}


def _draw(axes: "Axes", curve: Curve, colour: str, name: str, *, dots: bool) -> None:
    steps, values = zip(*curve, strict=True)
    axes.plot(steps, values, color=colour, linewidth=1.6, marker="o" if dots else "", markersize=3.2, label=name)


def _finish(axes: "Axes", name: str, step: str, levels: Mapping[str, float], *, legend: bool) -> None:
    """Add levels, legend, title and grid."""
    from matplotlib.ticker import MaxNLocator

    for level_name, level in levels.items():
        axes.axhline(level, color=_style.MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        axes.annotate(
            level_name, (1, level), xycoords=("axes fraction", "data"), xytext=(-2, 2), textcoords="offset points",
            ha="right", va="bottom", fontsize=8, color=_style.MUTED,
        )  # fmt: skip
    _style.plain_axes(axes)
    _style.title(axes, name)
    axes.set_xlabel(step)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.margins(x=0.03, y=0.12)
    if legend:
        axes.legend(edgecolor="none", framealpha=0.9, fontsize=8.5, labelcolor=_style.INK, handlelength=1.6)
