"""What each augmentation does to one sequence, beside the sequence as it was."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from skelcontrast import _check, augment
from skelcontrast.augment.presets import Preset
from skelcontrast.skeleton import SkeletonLayout
from skelcontrast.viz import _style
from skelcontrast.viz._projection import Box, Up, check_sequence, spread
from skelcontrast.viz.skeletons import draw_strip

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DRAWS = 16
Augmentation: TypeAlias = Callable[[Tensor, torch.Generator], Tensor]


def plot_augmentations(
    x: Tensor,
    layout: SkeletonLayout,
    *,
    preset: Preset = "paper",
    augmentations: Mapping[str, Augmentation] | None = None,
    frames: int = 6,
    seed: int = 0,
    view_degrees: tuple[float, float] = (20.0, 8.0),
    up: Up = "y",
) -> "Figure":
    """Draw what each augmentation makes of a sequence, over the sequence as it was, in grey.

    Every panel shows the same frames and, to their right, the coordinate that moves most in the sequence over time,
    where noise, blur and changes of time are best seen. Each of the eight augmentations is applied for certain (p = 1),
    the extreme view as the preset has it. Of 16 draws the panel shows the one that moves the joints fourth most: strong
    enough to be seen, and no outlier.

    Args:
        x: One sequence (C, T, V, M), of two or three coordinates.
        layout: The skeleton; V must be its number of joints.
        preset: Whose augmentations, the paper's or the released code's.
        augmentations: Others in their place, by title: transforms, or any functions of a batch and a generator.
        frames: Number of frames to draw, at least 1.
        seed: Seed of the draws.
        view_degrees: How far the camera is turned about the vertical and raised above the horizontal.
        up: Which coordinate points up: y, as in data from Kinect; -y, as in pixels; z.

    Returns:
        A Matplotlib figure; ``figure.savefig("augmentations.png")`` writes it.

    Raises:
        ImportError: If Matplotlib is not installed.
        TypeError: If `x` is not a floating point tensor, `layout` no `SkeletonLayout`, or `augmentations` no mapping.
        ValueError: If its shape does not fit the layout, an option is out of range, or there is nothing to draw.

    References:
        Guo et al., AAAI 2022, Section 3.2, the eight augmentations of the extreme view.

    Example:
        >>> from skelcontrast.skeleton import NTU_RGBD_25
        >>> figure = plot_augmentations(torch.rand(3, 50, 25, 1), NTU_RGBD_25, frames=2)
        >>> [axes.get_title(loc="left") for axes in figure.axes[::2]][:3]
        ['Original', 'Shear', 'Temporal crop']
    """
    owner = "plot_augmentations"
    x = check_sequence(owner, x, layout).detach().float()
    frames = _check.integer(owner, "frames", frames, 1)
    if augmentations is None:
        augmentations = _eight(layout, preset)
    if not isinstance(augmentations, Mapping):
        _check.fail(owner, "augmentations", "be a mapping from titles", type(augmentations).__name__, kind=TypeError)
    if not augmentations:
        _check.fail(owner, "augmentations", "name at least one augmentation", "none")
    generator = torch.Generator(x.device)
    drawn = {"Original": x}
    for name, augmentation in augmentations.items():
        drawn[name] = _strong_draw(x, augmentation, generator.manual_seed(seed))

    chosen = spread(x.shape[1], frames)
    box = Box.around(owner, [sequence[:, chosen] for sequence in drawn.values()], view_degrees, up)
    box = box.within(Box.around(owner, [x[:, chosen]], view_degrees, up), times=1.8)
    rows = (len(drawn) + 1) // 2
    strip_height = 1.35
    strip_width = strip_height * box.width / box.height * len(chosen)
    figure = _style.new_figure(owner, 2 * (strip_width + 1.9) + 0.4, rows * (strip_height + 0.45))
    grid = figure.add_gridspec(rows, 5, width_ratios=[strip_width, 1.5, 0.3, strip_width, 1.5])
    coordinate, joint, body = _liveliest(x)
    paths = torch.stack([sequence[coordinate, :, joint, body].cpu() for sequence in drawn.values()])
    low, high = paths.min().item(), paths.max().item()
    margin = 0.08 * (high - low) or 1.0
    for place, (name, sequence) in enumerate(drawn.items()):
        row, column = place % rows, 3 * (place // rows)
        strip, path = figure.add_subplot(grid[row, column]), figure.add_subplot(grid[row, column + 1])
        if place:
            draw_strip(strip, x, layout, chosen, box, view_degrees=view_degrees, up=up, colour=_style.GHOST, scale=0.7)
        draw_strip(strip, sequence, layout, chosen, box, view_degrees=view_degrees, up=up, scale=0.7)
        _style.title(strip, name)
        _draw_path(path, paths[0], paths[place], (low - margin, high + margin))
        if not place:
            _style.title(path, "", f"{layout.joints[joint]}, {'xyz'[coordinate]}")
        if row == rows - 1 or place == len(drawn) - 1:
            path.set_xlabel("frame")
        else:
            path.set_xticklabels([])
    key = "grey: the original     blue: left side     orange: right side"
    figure.supxlabel(key, fontsize=8.5, color=_style.MUTED)
    return figure


def _eight(layout: SkeletonLayout, preset: Preset) -> dict[str, Augmentation]:
    """Return each augmentation of the paper on its own, always applied, and all of them together."""
    extreme = augment.extreme(layout, preset=preset)
    official = preset == "official"
    return {
        "Shear": augment.Shear(),
        "Temporal crop": augment.TemporalCrop(),
        "Spatial flip": augment.SpatialFlip(layout, p=1, mirror_axis=None if official else 0),
        "Rotation": augment.Rotate(),
        "Gaussian noise": augment.GaussianNoise(p=1, bodies="all" if official else "present"),
        "Gaussian blur": augment.GaussianBlur(p=1, normalize=not official),
        "Axis mask": augment.AxisMask(p=1),
        "Temporal flip": augment.TemporalFlip(p=1),
        "Extreme view": extreme,
    }


def _strong_draw(x: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """Return a sequence (C, T, V, M) as augmented by one of several draws, chosen by how far it moves the joints."""
    batch = x[None].expand(DRAWS, *x.shape)
    augmented = augmentation(batch.clone(), generator)
    distance = (augmented - batch).float().square().sum(dim=1).sqrt().flatten(1).mean(dim=1)
    return augmented[distance.argsort(stable=True)[-DRAWS // 4]]


def _liveliest(x: Tensor) -> tuple[int, int, int]:
    """Return the coordinate, joint and body that varies most over time."""
    spread_over_time = x.detach().float().var(dim=1, correction=0)  # (C, V, M)
    coordinate, joint, body = torch.unravel_index(spread_over_time.argmax(), spread_over_time.shape)
    return int(coordinate), int(joint), int(body)


def _draw_path(axes: "Axes", before: Tensor, after: Tensor, limits: tuple[float, float]) -> None:
    """Draw one coordinate over time, as it was and as it became."""
    _style.plain_axes(axes)
    axes.plot(before.numpy(), color=_style.GHOST, linewidth=1.8)
    axes.plot(after.numpy(), color=_style.INK, linewidth=1.1)
    axes.set_ylim(*limits)
    axes.set_xlim(0, max(len(before) - 1, 1))
    axes.set_yticks([])
