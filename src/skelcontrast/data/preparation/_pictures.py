"""A picture and an animation of a few prepared samples; for the command, with the extra for plots."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from skelcontrast import _check
from skelcontrast.data.preparation.folder import Prepared

if TYPE_CHECKING:
    from matplotlib.animation import FuncAnimation
    from matplotlib.figure import Figure

SHOWN_FRAMES = 8


def draw_samples(
    folder: Path,
    pictures: Path,
    *,
    count: int,
    plot: Callable[..., "Figure"],
    animate: Callable[..., "FuncAnimation"],
) -> list[Path]:
    """Draw samples, spread evenly over the folder: a strip of frames each, and all of them moving; return the files.

    `plot` and `animate` are `plot_skeleton` and `animate_skeletons` of the room for figures, which is not known here.

    Raises:
        ImportError: If Matplotlib is not installed.
        OSError: If a file cannot be read or written.
        SkeletonFormatError: If the folder is broken.
        ValueError: If `count` is below 1.
    """
    count = _check.integer("inspect", "samples", count, 1)
    prepared = Prepared.read(folder, owner="inspect")
    chosen = np.linspace(0, len(prepared.rows) - 1, min(count, len(prepared.rows))).round().astype(int).tolist()
    layout = prepared.report.layout
    up: Literal["y", "-y"] = "y" if _in_space(prepared) else "-y"
    samples = {prepared.rows[index].name: _sequence(prepared, index) for index in chosen}
    pictures.mkdir(parents=True, exist_ok=True)
    written = []
    for name, x in samples.items():
        written.append(pictures / f"{re.sub('[^A-Za-z0-9._-]', '_', name)}.png")
        plot(x, layout, frames=SHOWN_FRAMES, title=name, up=up).savefig(written[-1])
    written.append(pictures / "samples.gif")
    animate(samples, layout, up=up).save(written[-1], writer="pillow", dpi=80)
    return written


def _in_space(prepared: Prepared) -> bool:
    return prepared.report.shape[1] == 3 and not prepared.report.settings["with_score"]


def _sequence(prepared: Prepared, index: int) -> Tensor:
    """Return a sample as (C, T, V, M) about its middle, without scores, bodies that were centred side by side."""
    x = torch.from_numpy(prepared.sequence(index).astype(np.float32)).permute(1, 0, 2, 3)
    x = x if _in_space(prepared) else x[:2]
    present = (x != 0).any(dim=0).any(dim=1, keepdim=True)  # (T, 1, M)
    if prepared.report.settings["centre"] is not None:
        x = _side_by_side(x, present)
    shown = present.expand(x.shape[1:])
    middle = x[:, shown].mean(dim=1).reshape(-1, 1, 1, 1)
    return torch.where(present, x - middle, 0)


def _side_by_side(x: Tensor, present: Tensor) -> Tensor:
    """Move bodies (C, T, V, M), each of which was centred, so that they no longer stand inside each other."""
    bodies = present.any(dim=0).flatten().nonzero().flatten().tolist()
    widths = x[0].amax(dim=1) - x[0].amin(dim=1)  # (T, M)
    step = 1.5 * widths[present[:, 0]].median()
    offsets = x.new_zeros(len(x), 1, 1, x.shape[-1])
    for place, body in enumerate(bodies):
        offsets[0, ..., body] = (place - (len(bodies) - 1) / 2) * step
    return x + offsets
