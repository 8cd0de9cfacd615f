"""The grid of augmentations: which panels there are, what they show, and that nothing outside is touched."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from skelcontrast import augment
from skelcontrast.skeleton import COCO_17, NTU_RGBD_25
from skelcontrast.viz import plot_augmentations
from skelcontrast.viz.augmentations import _eight, _liveliest, _strong_draw


@pytest.fixture
def x() -> Tensor:
    return torch.rand(3, 20, 25, 1)


def test_panels_and_picture(x: Tensor, tmp_path: Path) -> None:
    before = x.clone(), torch.get_rng_state()
    figure = plot_augmentations(x, NTU_RGBD_25, frames=2)
    titles = [axes.get_title(loc="left") for axes in figure.axes[::2]]
    assert titles == [
        "Original", "Shear", "Temporal crop", "Spatial flip", "Rotation",
        "Gaussian noise", "Gaussian blur", "Axis mask", "Temporal flip", "Extreme view",
    ]  # fmt: skip
    figure.savefig(tmp_path / "grid.png", dpi=40)
    assert (tmp_path / "grid.png").stat().st_size > 5000
    assert torch.equal(x, before[0])
    assert torch.equal(torch.get_rng_state(), before[1])


def test_paths_show_the_liveliest_coordinate_before_and_after(x: Tensor) -> None:
    x[1, :, 7, 0] = torch.linspace(-5, 5, 20)
    assert _liveliest(x) == (1, 7, 0)
    figure = plot_augmentations(x, NTU_RGBD_25, augmentations={"backwards": augment.TemporalFlip(p=1)}, frames=1)
    path = figure.axes[3]
    before, after = (torch.as_tensor(line.get_ydata()) for line in path.lines)
    assert torch.equal(before, x[1, :, 7, 0])
    assert torch.equal(after, before.flip(0))
    assert figure.axes[1].get_title(loc="right") == "left hand, y"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_sequences_of_a_network(x: Tensor, dtype: torch.dtype) -> None:
    figure = plot_augmentations(x.to(dtype).requires_grad_(), NTU_RGBD_25, frames=1)
    assert len(figure.axes) == 20


def test_liveliest_counts_axes_right() -> None:
    x = torch.zeros(2, 4, 3, 2)
    x[1, 2, 2, 1] = 1
    assert _liveliest(x) == (1, 2, 1)


def test_the_draw_shown_is_the_fourth_strongest_of_sixteen() -> None:
    def push(batch: Tensor, generator: torch.Generator) -> Tensor:
        amounts = torch.randperm(len(batch), generator=generator).float()
        return batch + amounts[:, None, None, None, None]

    x = torch.zeros(3, 2, 4, 1)
    shown = _strong_draw(x, push, torch.Generator().manual_seed(0))
    assert shown.unique().tolist() == [12.0]  # of 0 to 15


def test_presets_differ_as_they_do_elsewhere() -> None:
    paper, official = _eight(COCO_17, "paper"), _eight(COCO_17, "official")
    assert paper["Spatial flip"] == augment.SpatialFlip(COCO_17, p=1)
    assert official["Spatial flip"] == augment.SpatialFlip(COCO_17, p=1, mirror_axis=None)
    assert official["Gaussian blur"] == augment.GaussianBlur(p=1, normalize=False)
    assert official["Gaussian noise"] == augment.GaussianNoise(p=1, bodies="all")
    assert official["Extreme view"] == augment.extreme(COCO_17, preset="official")


def test_two_coordinates_and_a_body_that_stands_still() -> None:
    figure = plot_augmentations(torch.ones(2, 3, 17, 1), COCO_17, preset="official", up="-y", frames=9)
    assert len(figure.axes) == 20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"augmentations": {}}, "plot_augmentations: `augmentations` must name at least one augmentation, got none."),
        ({"frames": 0}, "plot_augmentations: `frames` must be at least 1, got 0."),
        ({"preset": "papers"}, "extreme: `preset` must be one of 'paper', 'official', got 'papers'."),
    ],
)
def test_bad_calls(x: Tensor, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        plot_augmentations(x, NTU_RGBD_25, **options)
    with pytest.raises(
        TypeError, match=r"plot_augmentations: `augmentations` must be a mapping from titles, got list\."
    ):
        plot_augmentations(x, NTU_RGBD_25, augmentations=[augment.Shear()])  # type: ignore[arg-type]  # on purpose
    with pytest.raises(ValueError, match=r"plot_augmentations: `x` must have shape \(C, T, 17, M\)"):
        plot_augmentations(x, COCO_17)
    with pytest.raises(TypeError, match=r"plot_augmentations: `layout` must be a SkeletonLayout, got 'NTU_RGBD_25'"):
        plot_augmentations(x, "NTU_RGBD_25")  # type: ignore[arg-type]  # on purpose
