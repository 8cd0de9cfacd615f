"""A dataset from recordings of different lengths: the same as preparing each by itself."""

import re
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from skelcontrast.data import centre, fill_missing, from_clips, resample
from skelcontrast.data.own import OTHER_ORDERS
from skelcontrast.skeleton import COCO_17, UTD_MHAD_20

RNG = np.random.default_rng(0)
LONG, SHORT = RNG.normal(size=(3, 61, 20, 2)), RNG.normal(size=(3, 40, 20))


def prepared(clip: Any, frames: int, joint: str | None = None) -> torch.Tensor:
    x = torch.as_tensor(clip)[None]
    return resample(centre(x, UTD_MHAD_20, joint=joint), frames)[0].float()


def test_each_recording_is_prepared_by_itself() -> None:
    dataset = from_clips([LONG, SHORT], [1, 0], layout=UTD_MHAD_20, frames=30, subjects=[3, 7])
    x = dataset.tensor()
    assert dataset.shape == (2, 3, 30, 20, 2)
    assert torch.equal(x[0], prepared(LONG, 30))
    assert torch.equal(x[1, ..., :1], prepared(SHORT[..., None], 30))
    assert not x[1, ..., 1].any(), "the body that is missing is absent"
    assert dataset.labels.tolist() == [1, 0]
    assert dataset.names == ("0", "1")
    assert dataset.subjects is not None
    assert dataset.subjects.tolist() == [3, 7]


def test_recordings_are_in_memory_one_at_a_time() -> None:
    read: list[weakref.ref[Any]] = []

    class Recordings(Sequence[torch.Tensor]):
        def __len__(self) -> int:
            return 5

        def __getitem__(self, row: Any) -> Any:
            if row == len(self):
                raise IndexError
            assert sum(one() is not None for one in read) <= 1, "the one before may not be gone yet"
            clip = np.full((3, 10 + row, 20, 1), float(row))
            read.append(weakref.ref(clip))
            return torch.from_numpy(clip)

    dataset = from_clips(Recordings(), range(5), layout=UTD_MHAD_20, frames=4, centred=False)
    assert dataset.tensor()[:, 0, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]


def test_joints_that_were_not_seen_are_filled_before_all_else() -> None:
    marked = SHORT.copy()
    marked[:, 10:20, 4] = np.nan
    dataset = from_clips([marked, LONG], [0, 1], layout=UTD_MHAD_20, frames=30, missing="fill")
    filled = fill_missing(torch.from_numpy(marked)[None, ..., None], UTD_MHAD_20)[0]
    assert torch.equal(dataset.tensor()[0, ..., :1], prepared(filled, 30))
    assert torch.equal(dataset.tensor()[1], prepared(LONG, 30))
    with pytest.raises(
        ValueError, match=r"`clips\[0\]` must hold finite numbers only, got NaN or infinity in frame 2\.$"
    ):
        from_clips([np.where(SHORT[0, 2, 0] == SHORT, np.inf, SHORT)], [0], layout=UTD_MHAD_20, missing="fill")
    with pytest.raises(ValueError, match="from_clips: `missing` must be one of 'refuse', 'fill', got 'drop'"):
        from_clips([SHORT], [0], layout=UTD_MHAD_20, missing="drop")  # type: ignore[arg-type]  # on purpose


def test_the_orders_of_axes_that_errors_name_are_turned_right() -> None:
    for order, places in OTHER_ORDERS.items():
        names = order.split()
        clip = LONG if "M" in names else SHORT
        turned = clip.transpose([("C", "T", "V", "M").index(name) for name in names])
        assert np.array_equal(turned.transpose(places), clip), order


def test_options_reach_the_dataset() -> None:
    kept = from_clips([LONG], [0], layout=UTD_MHAD_20, frames=61, centred=False, names=["one"], class_names=["wave"])
    torch.testing.assert_close(kept.tensor()[0], torch.from_numpy(LONG).float(), rtol=0, atol=1e-6)
    assert (kept.names, kept.class_names) == (("one",), ("wave",))
    filmed = from_clips(
        [LONG, SHORT], [0, 1], layout=UTD_MHAD_20, subjects=[5, 6], cameras=[3, 1], protocols={"first": [True, False]}
    )
    for train, test in (filmed.split("first"), filmed.cross_view([3]), filmed.cross_subject([5])):
        assert (train.names, test.names) == (("0",), ("1",))
    moved = from_clips([LONG], [0], layout=UTD_MHAD_20, frames=5, origin="head")
    assert torch.equal(moved.tensor()[0], prepared(LONG, 5, "head"))
    with pytest.raises(ValueError, match=r"from_clips: `origin` must be one of 'head', .*, got 'nose'\."):
        from_clips([LONG], [0], layout=UTD_MHAD_20, origin="nose")
    with pytest.raises(ValueError, match=r"from_clips: `origin` must be absent when `centred` is False, got 'head'\."):
        from_clips([LONG], [0], layout=UTD_MHAD_20, origin="head", centred=False)


@pytest.mark.parametrize(
    "same",
    [
        torch.from_numpy(LONG),
        LONG.astype(">f8"),
        np.lib.stride_tricks.as_strided(LONG, writeable=False),
        LONG.transpose(3, 2, 1, 0).copy().transpose(3, 2, 1, 0),
    ],
    ids=["tensor", "big-endian", "read-only", "strided"],
)
def test_every_kind_of_array(same: Any) -> None:
    expected = from_clips([LONG], [0], layout=UTD_MHAD_20).tensor()
    assert torch.equal(from_clips([same], [0], layout=UTD_MHAD_20).tensor(), expected)


def test_recordings_may_come_one_by_one() -> None:
    expected = from_clips([LONG, SHORT], [0, 1], layout=UTD_MHAD_20)
    found = from_clips((clip for clip in (LONG, SHORT)), [0, 1], layout=UTD_MHAD_20)
    assert torch.equal(found.tensor(), expected.tensor())
    assert found.names == ("0", "1")
    with pytest.raises(ValueError, match=r"from_clips: `clips` must hold at least one recording, got none\."):
        from_clips(iter(()), [], layout=UTD_MHAD_20)


def test_half_precision() -> None:
    dataset = from_clips([SHORT.astype(np.float16)], [0], layout=UTD_MHAD_20, frames=40)
    torch.testing.assert_close(dataset.tensor()[0], prepared(SHORT[..., None], 40), rtol=0, atol=5e-3)


BROKEN = SHORT.copy()
BROKEN[1, 7, 3] = BROKEN[0, 30, 2] = np.nan


@pytest.mark.parametrize(
    ("clips", "kind", "text"),
    [
        ([], ValueError, "`clips` must hold at least one recording, got none."),
        ([LONG, "no"], TypeError, "`clips[1]` must be a numpy.ndarray or a torch.Tensor, got str."),
        ([LONG.astype(int)], TypeError, "got int64. Pass `clips[0].astype(numpy.float32)`."),
        ([np.array(["no"])], TypeError, "`clips[0]` must be floating point, got <U2."),
        ([torch.ones(3, 4, 20, 1, dtype=torch.int32)], TypeError, "`clips[0]` must be floating point, got torch.int32"),
        (
            [np.zeros((3, 4, 25, 1))],
            ValueError,
            "`clips[0]` must have shape (C, T, 20, M) or (C, T, 20), C 2 or 3 and none 0, for layout 'UTD_MHAD_20',",
        ),
        ([np.zeros((3, 0, 20, 1))], ValueError, "for layout 'UTD_MHAD_20', got (3, 0, 20, 1)."),
        (
            [SHORT.transpose(1, 2, 0)],
            ValueError,
            "got (40, 20, 3). Is it (T, V, C)? Pass `clip.transpose(2, 0, 1)`.",
        ),
        (
            [SHORT[:2].transpose(1, 2, 0)],
            ValueError,
            "got (40, 20, 2). Is it (T, V, C)? Pass `clip.transpose(2, 0, 1)`.",
        ),
        (
            [torch.from_numpy(SHORT).permute(1, 0, 2)],
            ValueError,
            "got (40, 3, 20). Is it (T, C, V)? Pass `clip.permute(1, 0, 2)`.",
        ),
        (
            [LONG[..., :1].transpose(3, 1, 2, 0)],
            ValueError,
            "got (1, 61, 20, 3). Is it (M, T, V, C)? Pass `clip.transpose(3, 1, 2, 0)`.",
        ),
        (
            [LONG.transpose(1, 2, 0, 3)],
            ValueError,
            "got (61, 20, 3, 2). Is it (T, V, C, M)? Pass `clip.transpose(2, 0, 1, 3)`.",
        ),
        ([LONG, LONG[:2]], ValueError, "`clips[1]` must have the 3 coordinates of clips[0], got (2, 61, 20, 2)."),
        (
            [SHORT, BROKEN],
            ValueError,
            "`clips[1]` must hold finite numbers only, got NaN or infinity in frame 7. Joints that were",
        ),
    ],
)
def test_wrong_recordings(clips: Any, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=re.escape(text)):
        from_clips(clips, [0] * len(clips), layout=UTD_MHAD_20)


def test_wrong_options() -> None:
    with pytest.raises(TypeError, match="from_clips: `layout` must be a SkeletonLayout"):
        from_clips([LONG], [0], layout="ntu")  # type: ignore[arg-type]  # on purpose
    with pytest.raises(ValueError, match=r"from_clips: `frames` must be at least 1, got 0\."):
        from_clips([LONG], [0], layout=UTD_MHAD_20, frames=0)
    with pytest.raises(ValueError, match="`labels` must have one entry for each of the 1 sequences"):
        from_clips([np.zeros((2, 5, 17))], [0, 1], layout=COCO_17)
