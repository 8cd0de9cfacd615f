"""Plots of how an operation grows; needs the extra `plots`."""

from collections import defaultdict
from pathlib import Path
from typing import Any


def plot_growth(table: dict[str, Any], target: Path) -> None:
    """Draw seconds and peak memory of every form over the size that grows, both axes in powers.

    Args:
        table: A table whose rows hold a "value" each, with the letter of the axis.
        target: The picture's file.
    """
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import FuncFormatter, NullFormatter

    series: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in table["rows"]:
        series[row["form"]].append(row)
    figure, (seconds, memory) = plt.subplots(1, 2, figsize=(8.5, 3.2), layout="constrained")
    for form, rows in series.items():
        values = [row["value"] for row in rows]
        spreads = [row["seconds"]["both"] for row in rows]
        (drawn,) = seconds.plot(values, [spread["median"] * 1e3 for spread in spreads], "o-", label=form)
        low, high = ([spread[name] * 1e3 for spread in spreads] for name in ("low", "high"))
        seconds.fill_between(values, low, high, alpha=0.2, color=drawn.get_color())
        memory.plot(values, [row["bytes"] / 2**20 for row in rows], "o-", label=form)
    ticks = sorted({row["value"] for row in table["rows"]})
    for axes, name in ((seconds, "ms, forward and backward"), (memory, "MiB beyond the inputs")):
        axes.set(xscale="log", yscale="log", xlabel=table["axis"], ylabel=name)
        axes.set_xticks(ticks, labels=[f"{tick:,}" for tick in ticks], rotation=30, ha="right")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        axes.grid(alpha=0.3)
    seconds.legend()
    figure.suptitle(table["title"])
    figure.savefig(target, dpi=120, metadata={"Software": ""})
    plt.close(figure)
