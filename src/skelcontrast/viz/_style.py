"""The look that all figures share: colours, a clean canvas, and the import of the optional plotting library."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#2f3640"
MUTED = "#7b8490"
GRID = "#e6e9ed"
GHOST = "#c9ced6"
RING = "#c0392b"
LEFT, RIGHT, TRUNK = "#2a6fbb", "#d9662b", "#4a5260"
SERIES = ("#2a6fbb", "#d9662b", "#3d9970", "#8e5ea2", "#b08a1e", "#c2446e", "#4a5260", "#5aa7c7", "#8a6d5c", "#9aa83a")
MARKERS = ("o", "^", "s", "D", "v", "P", "X")


def require(owner: str, module: str, *, package: str = "Matplotlib") -> None:
    """Say how to get an optional package where it is not installed."""
    try:
        import_module(module)
    except ImportError as error:
        install = '`pip install "skelcontrast[plots]"`, or in a checkout `pip install -e ".[plots]"`'
        raise ImportError(f"{owner}: this figure needs {package}. Install it with {install}.") from error


def new_figure(owner: str, width: float, height: float) -> "Figure":
    """Return an empty figure, in inches, that belongs to no window and to no global state."""
    require(owner, "matplotlib")
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    # Room for letters that come out larger where the figure is saved at another resolution.
    layout = ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.08)
    return Figure(figsize=(width, height), dpi=150, facecolor="white", layout=layout)


def cycle(count: int) -> list[str]:
    """Return so many colours, from the first again after the last."""
    return [SERIES[place % len(SERIES)] for place in range(count)]


def title(axes: "Axes", text: str, note: str = "") -> None:
    """Write a title in bold and a note beside it in grey, both flush left."""
    axes.set_title(text, loc="left", fontsize=10, fontweight="bold", color=INK, pad=6)
    if note:
        axes.set_title(note, loc="right", fontsize=8, color=MUTED, pad=6)


def plain_axes(axes: "Axes") -> None:
    """Leave of the frame two quiet lines, and draw a light grid behind the data."""
    for side, spine in axes.spines.items():
        spine.set_visible(side in {"left", "bottom"})
        spine.set_color(GHOST)
    axes.tick_params(colors=MUTED, labelcolor=INK, labelsize=8, length=3, width=0.8)
    axes.set_axisbelow(True)
    axes.grid(visible=True, color=GRID, linewidth=0.8)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(INK)
        label.set_fontsize(9)
