"""Sequences in motion: which frames are shown, at what scale, and that the file moves."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from skelcontrast.skeleton import NTU_RGBD_25, SkeletonLayout
from skelcontrast.viz import animate_skeletons

PAIR = SkeletonLayout("pair", ("head", "hand"), ((1, 0),), centre=0, mirror=())


def rising(frames: int, by: float) -> torch.Tensor:
    """Return a sequence whose head stays and whose hand is `by` higher in each frame."""
    x = torch.zeros(2, frames, 2, 1)
    x[0, :, 1, 0], x[1, :, 1, 0] = 1, by * torch.arange(1, frames + 1)
    return x


def hands(animation: Any, step: int) -> list[float]:
    """Return the height of each panel's hand in a picture."""
    figure = animation._fig
    animation._func(step)
    return [float(axes.collections[0].get_segments()[0][0, 1]) for axes in figure.axes if axes.collections]


def test_every_sequence_plays_from_its_beginning_to_its_end() -> None:
    animation: Any = animate_skeletons({"six": rising(6, 1), "three": rising(3, 10)}, PAIR)
    assert [hands(animation, step) for step in range(6)] == [[1, 10], [2, 10], [3, 20], [4, 20], [5, 30], [6, 30]]
    assert hands(animation, 0) == [1, 10]  # and again: nothing stays from the frame before
    few = animate_skeletons({"six": rising(6, 1)}, PAIR, frames=2, frames_per_second=4)
    assert [hands(few, step) for step in range(2)] == [[1], [4]]
    for one in (animation, few):
        one.to_jshtml()


def test_all_panels_have_one_scale_and_a_title() -> None:
    sequences = {"low": rising(4, 1), "high": rising(4, 5), "none": torch.zeros(2, 4, 2, 1)}
    animation: Any = animate_skeletons(sequences, PAIR)
    axes = animation._fig.axes
    assert [one.get_title() for one in axes] == ["low", "high", "none", ""]
    sizes = {round(one.get_ylim()[1] - one.get_ylim()[0], 6) for one in axes[:3]}
    assert len(sizes) == 1
    low, high = axes[0].get_ylim()
    assert low < 1 < 4 < high
    animation.to_jshtml()
    assert not axes[2].collections  # nobody is there


def test_the_file_moves_and_nothing_outside_is_touched(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    x = torch.rand(3, 5, 25, 2)
    x[:, 2, 7, 0] = torch.nan
    before = x.clone()
    animate_skeletons({"one": x}, NTU_RGBD_25).save(tmp_path / "one.gif", writer="pillow", dpi=30)
    with image.open(tmp_path / "one.gif") as found:
        assert found.n_frames == 5
        assert found.info["duration"] == 60  # 1000 / 15, in hundredths of a second
        first = found.convert("RGB").tobytes()
        found.seek(4)
        assert found.convert("RGB").tobytes() != first
    assert torch.equal(x.nan_to_num(), before.nan_to_num())


@pytest.mark.parametrize(
    ("sequences", "options", "kind", "message"),
    [
        ({}, {}, ValueError, "`sequences` must hold at least one sequence, got none."),
        (
            torch.rand(3, 5, 25, 1),
            {},
            TypeError,
            "`sequences` must map titles to sequences, got Tensor. Give a single one a title: {'clip': x}.",
        ),
        ({"a": torch.rand(1, 3, 5, 25, 1)}, {}, ValueError, "`x` must have shape (C, T, 25, M)"),
        ({"a": torch.rand(3, 5, 25, 1)}, {"frames": 0}, ValueError, "`frames` must be at least 1, got 0."),
        ({"a": torch.rand(3, 5, 25, 1)}, {"columns": 0}, ValueError, "`columns` must be at least 1, got 0."),
        (
            {"a": torch.rand(3, 5, 25, 1)},
            {"frames_per_second": 0},
            ValueError,
            "`frames_per_second` must lie in (0, inf), got 0.",
        ),
        ({"a": torch.rand(3, 5, 25, 1)}, {"up": "x"}, ValueError, "`up` must be one of 'y', '-y', 'z', got 'x'."),
    ],
)
def test_bad_calls(sequences: Any, options: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=re.escape(f"animate_skeletons: {message}")):
        animate_skeletons(sequences, NTU_RGBD_25, **options)
