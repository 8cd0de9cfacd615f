"""Figures: skeletons, augmentations, training curves, accuracies and maps of features. Needs the extra `plots`.

Every function returns a Matplotlib figure (or animation) that belongs to no window and no global state; the caller
saves it.
"""

from skelcontrast.viz.animation import animate_skeletons
from skelcontrast.viz.augmentations import plot_augmentations
from skelcontrast.viz.bars import plot_bars
from skelcontrast.viz.confusion import plot_confusion
from skelcontrast.viz.curves import plot_curves, plot_runs
from skelcontrast.viz.drops import plot_drops
from skelcontrast.viz.embedding import plot_embedding
from skelcontrast.viz.skeletons import draw_skeleton, plot_skeleton

__all__ = [
    "animate_skeletons",
    "draw_skeleton",
    "plot_augmentations",
    "plot_bars",
    "plot_confusion",
    "plot_curves",
    "plot_drops",
    "plot_embedding",
    "plot_runs",
    "plot_skeleton",
]
