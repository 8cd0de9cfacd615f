"""What the drop layer takes away: rings around joints, grey bodies in frames, and the masks that do not fit."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.colors import to_hex

from skelcontrast.nn import EADM, STGCN, DropMasks
from skelcontrast.skeleton import NTU_RGBD_25, SkeletonLayout
from skelcontrast.viz import _style, plot_drops

ARM = SkeletonLayout("arm", ("shoulder", "elbow", "wrist"), ((1, 0), (2, 1)), centre=0, mirror=())


def strip(x: torch.Tensor, masks: DropMasks, **options: Any) -> tuple[list[str], list[list[float]]]:
    """Return the colour of each drawn body, and the share that each joint loses, of bodies that have rings."""
    axes: Any = plot_drops(x, masks, ARM, **options).axes[0]
    colours = [to_hex(part.get_color()[0]) for part in axes.collections if hasattr(part, "get_segments")]
    rings = [part for part in axes.collections if len(part.get_edgecolor()) and not len(part.get_facecolor())]
    rings = [part for part in rings if not hasattr(part, "get_segments")]
    assert all(to_hex(colour) == _style.RING for part in rings for colour in part.get_edgecolor())
    return colours, [[round(float(colour[3]), 4) for colour in part.get_edgecolor()] for part in rings]


def test_joints_have_rings_and_bodies_of_dropped_frames_are_grey() -> None:
    x = torch.rand(3, 4, 3, 2) + 1
    spatial = torch.tensor([[True, False, True], [True, True, True]]).reshape(2, 1, 1, 3)
    temporal = torch.tensor([[True, False], [True, True]]).reshape(2, 1, 2, 1)  # of two frames each
    colours, rings = strip(x, DropMasks(spatial, temporal))
    body, gone = _style.TRUNK, _style.GHOST
    assert colours == [body, body, body, body, gone, body, gone, body]
    assert rings == [[0, 1, 0], [0, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]]
    x[..., 1] = 0  # absent
    assert strip(x, DropMasks(spatial, temporal), frames=2) == ([body, gone], [[0, 1, 0]])


def test_of_single_elements_the_share_of_the_channels_counts() -> None:
    spatial = torch.tensor([True, True, False]).reshape(1, 1, 1, 3)
    temporal = torch.tensor([[True, False, True], [True, True, True], [True, False, True], [True, False, False]])
    masks = DropMasks(spatial, temporal.reshape(1, 4, 1, 3))
    assert strip(torch.rand(3, 5, 3, 1), masks, frames=1)[1] == [[0, 0.75, 1]]


@pytest.mark.parametrize("drop", [EADM(drop_share=0.3), EADM.preset("official")], ids=["frames", "elements"])
def test_masks_of_an_encoder(drop: EADM, tmp_path: Path) -> None:
    x = torch.rand(3, 21, 25, 2)
    masks = drop.masks(STGCN(NTU_RGBD_25).feature_map(x[None]))
    figure = plot_drops(x, masks, NTU_RGBD_25, title="dropped")
    assert figure.axes[0].get_title(loc="left") == "dropped"
    figure.savefig(tmp_path / "drops.png", dpi=50)
    assert (tmp_path / "drops.png").stat().st_size > 2000


@pytest.mark.parametrize(
    ("masks", "options", "kind", "message"),
    [
        (
            torch.ones(1),
            {},
            TypeError,
            "`masks` must be a pair of masks, got Tensor. Pass what `EADM.masks` returns.",
        ),
        (
            DropMasks(torch.ones(4, 1, 1, 3, dtype=torch.bool), torch.ones(4, 1, 2, 1, dtype=torch.bool)),
            {},
            ValueError,
            "`masks` must have shape (2, T, 3) to match `x`, got (4, 2, 3). Pass masks of this sequence alone, a row",
        ),
        (
            DropMasks(torch.ones(2, 3), torch.ones(2, 1, 2, 1)),
            {},
            ValueError,
            "`masks[0]` must have shape (M, 1, 1, V), got (2, 3).",
        ),
        (
            DropMasks(torch.ones(2, 1, 1, 3), torch.ones(4, 1, 2, 1)),
            {},
            ValueError,
            "`masks[1]` must have shape (2, C, T, 1) to match `masks[0]`, got (4, 1, 2, 1).",
        ),
        (
            DropMasks(torch.ones(2, 1, 1, 3), torch.ones(2, 8, 2, 4)),
            {},
            ValueError,
            "`masks[1]` must have shape (2, C, T, 3) to match `masks[0]`, got (2, 8, 2, 4).",
        ),
        (None, {"frames": 0}, ValueError, "`frames` must be at least 1, got 0."),
    ],
)
def test_bad_calls(masks: Any, options: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=re.escape(f"plot_drops: {message}")):
        plot_drops(torch.rand(3, 5, 3, 2), masks, ARM, **options)
