"""Which bodies are kept: by their slot in the file, or followed by their ids; against loops over frames."""

import re
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
from tests.reference.ntu import follow

from skelcontrast.data import choose_bodies
from skelcontrast.data.clip import NOBODY, SkeletonClip
from skelcontrast.skeleton import NTU_RGBD_25

T = 30
STANDING = np.stack([np.linspace(-0.3, 0.3, 25), np.linspace(-0.9, 0.9, 25)[np.arange(25) * 7 % 25], np.full(25, 3.0)])
LYING = STANDING[[1, 0, 2]]


def person(pose: npt.NDArray[np.float64] = STANDING, *, motion: float, seed: int = 0) -> npt.NDArray[np.float32]:
    """Return a pose (3, V) over T frames, each joint moving about with this standard deviation: (3, T, V)."""
    moving = np.random.default_rng(seed).normal(scale=motion, size=(3, T, 25))
    return (pose[:, None] + moving).astype(np.float32)


def clip_of(people: dict[int, tuple[npt.NDArray[np.float32], slice]]) -> SkeletonClip:
    """Put people, each with an id and the frames in which it is seen, one behind the other into the file's slots."""
    positions = np.zeros((3, T, 25, len(people)), dtype=np.float32)
    ids = np.full((T, len(people)), NOBODY, dtype=np.int64)
    for t in range(T):
        here = [(who, body) for who, (body, seen) in people.items() if t in range(T)[seen]]
        for slot, (who, body) in enumerate(here):
            positions[:, t, :, slot], ids[t, slot] = body[:, t], who
    return SkeletonClip(positions, ids, NTU_RGBD_25)


ALWAYS = slice(None)
CALM, LIVELY = person(motion=0.01), person(motion=0.1, seed=1)
FLAT = person(LYING, motion=0.3, seed=2)


def test_file_order_takes_the_first_slots_of_every_frame() -> None:
    clip = clip_of({7: (FLAT, slice(0, 9)), 8: (CALM, ALWAYS), 9: (LIVELY, ALWAYS)})
    for count in (1, 2, 3):
        np.testing.assert_array_equal(choose_bodies(clip, count=count), clip.positions[..., :count])
    more = choose_bodies(clip, count=5, policy="file-order")
    assert more.shape == (3, T, 25, 5)
    assert more.dtype == np.float32
    np.testing.assert_array_equal(more[..., :3], clip.positions)
    assert not more[..., 3:].any()
    more[:] = 1
    assert not (clip.positions == 1).all(axis=(0, 1, 2)).any(), "the clip is left as it is"


@pytest.mark.parametrize("seed", range(20))
def test_tracked_agrees_with_loops_over_bodies_and_frames(seed: int) -> None:
    rng = np.random.default_rng(seed)
    frames, slots, names = int(rng.integers(1, 60)), int(rng.integers(1, 5)), int(rng.integers(1, 9))
    ids = np.sort(rng.integers(names, size=(frames, 1)) // 3 + rng.integers(3, size=(frames, slots)), axis=1)
    ids[:, rng.permutation(slots)] = ids.copy()  # an id often twice in a frame, at any slots
    ids[rng.random(ids.shape) < 0.3] = NOBODY
    ids[0, 0] = 3
    stretched = rng.uniform(0.3, 1.0, size=(5,))[ids][:, None, :]  # some ids wide
    size = np.stack([stretched, np.ones_like(stretched), np.ones_like(stretched)])
    positions = (rng.normal(size=(3, frames, 9, slots)) * size).astype(np.float32)
    clip = SkeletonClip(positions, ids, NTU_RGBD_25)
    count = int(rng.integers(1, 4))
    np.testing.assert_array_equal(choose_bodies(clip, count=count, policy="tracked"), follow(positions, ids, count))


def test_the_most_active_come_first_and_keep_their_place() -> None:
    clip = clip_of({7: (CALM, slice(0, 25)), 8: (FLAT, slice(12, 15)), 9: (LIVELY, slice(5, None))})
    assert clip.body_ids[4].tolist() == [7, NOBODY, NOBODY]
    assert clip.body_ids[12].tolist() == [7, 8, 9]
    assert clip.body_ids[28].tolist() == [9, NOBODY, NOBODY]
    chosen = choose_bodies(clip, policy="tracked")
    np.testing.assert_array_equal(chosen[:, 5:, :, 0], LIVELY[:, 5:])
    np.testing.assert_array_equal(chosen[:, :25, :, 1], CALM[:, :25])
    assert not chosen[:, :5, :, 0].any()
    assert not chosen[:, 25:, :, 1].any()


def test_of_two_equally_active_the_first_in_the_file_comes_first() -> None:
    mirrored = CALM * np.array([-1, 1, 1], dtype=np.float32)[:, None, None]
    clip = clip_of({9: (CALM, ALWAYS), 7: (mirrored, ALWAYS), 8: (CALM, ALWAYS)})
    np.testing.assert_array_equal(choose_bodies(clip, count=3, policy="tracked"), clip.positions)


def test_passers_by_and_furniture_are_left_out() -> None:
    clip = clip_of({7: (FLAT, ALWAYS), 8: (LIVELY, slice(3, 14)), 9: (CALM, ALWAYS)})
    chosen = choose_bodies(clip, policy="tracked")
    np.testing.assert_array_equal(chosen[..., 0], CALM)
    assert not chosen[..., 1].any()
    twelve_frames = clip_of({8: (LIVELY, slice(3, 15)), 9: (CALM, ALWAYS)})
    np.testing.assert_array_equal(choose_bodies(twelve_frames, policy="tracked")[:, 3:15, :, 0], LIVELY[:, 3:15])


@pytest.mark.parametrize(("lying", "kept"), [(21, True), (22, False)])
def test_people_may_lie_down_for_a_while(lying: int, kept: bool) -> None:
    falling = LIVELY.copy()
    falling[:, T - lying :] = FLAT[:, T - lying :]
    chosen = choose_bodies(clip_of({7: (falling, ALWAYS), 8: (CALM, ALWAYS)}), policy="tracked")
    np.testing.assert_array_equal(chosen[..., 0], falling if kept else CALM)


@pytest.mark.parametrize(("body", "seen"), [(FLAT, ALWAYS), (LIVELY, slice(4, 6)), (FLAT, slice(0, 1))])
def test_a_rule_that_would_drop_everybody_is_not_applied(body: npt.NDArray[np.float32], seen: slice) -> None:
    chosen = choose_bodies(clip_of({7: (body, seen)}), policy="tracked")
    np.testing.assert_array_equal(chosen[:, seen, :, 0], body[:, seen])


def test_who_is_lost_and_found_under_another_id_stays_in_one_place() -> None:
    clip = clip_of({7: (LIVELY, slice(0, 14)), 8: (CALM, ALWAYS), 9: (LIVELY, slice(16, None))})
    chosen = choose_bodies(clip, policy="tracked")
    np.testing.assert_array_equal(chosen[:, :14, :, 0], LIVELY[:, :14])
    np.testing.assert_array_equal(chosen[:, 16:, :, 0], LIVELY[:, 16:])
    assert not chosen[:, 14:16, :, 0].any()
    np.testing.assert_array_equal(chosen[..., 1], CALM)


def test_skeletons_without_a_height_are_not_judged_by_it() -> None:
    clip = clip_of({7: (FLAT, ALWAYS), 8: (CALM, ALWAYS)})
    flat_world = SkeletonClip(clip.positions[:1], clip.body_ids, NTU_RGBD_25)
    np.testing.assert_array_equal(choose_bodies(flat_world, policy="tracked")[0, ..., 0], FLAT[0])
    picture = SkeletonClip(clip.positions[:2], clip.body_ids, NTU_RGBD_25)
    np.testing.assert_array_equal(choose_bodies(picture, policy="tracked")[..., 0], CALM[:2])


@pytest.mark.parametrize("policy", ["file-order", "tracked"])
def test_a_clip_without_anybody_is_an_error(policy: Any) -> None:
    nobody = SkeletonClip(np.zeros((3, 4, 25, 1), np.float32), np.full((4, 1), NOBODY), NTU_RGBD_25)
    zeros = SkeletonClip(nobody.positions, np.zeros((4, 1), np.int64), NTU_RGBD_25)
    late = SkeletonClip(nobody.positions, np.array([[NOBODY], [0], [0], [0]]), NTU_RGBD_25)
    empty = SkeletonClip(nobody.positions[:, :0], nobody.body_ids[:0], NTU_RGBD_25)
    must = "choose_bodies: `clip` must hold a body that is not all zeros, got "
    for clip, got in (
        (nobody, "nobody in 4 frames"),
        (zeros, f"only zeros for those chosen by '{policy}'"),
        (late, f"only zeros for those chosen by '{policy}'"),
        (empty, "no frames"),
    ):
        with pytest.raises(ValueError, match=re.escape(f"{must}{got}.")):
            choose_bodies(clip, policy=policy)


def test_wrong_arguments_are_named() -> None:
    clip = clip_of({7: (CALM, ALWAYS)})
    with pytest.raises(ValueError, match="choose_bodies: `count` must be at least 1, got 0"):
        choose_bodies(clip, count=0)
    with pytest.raises(ValueError, match="choose_bodies: `policy` must be one of 'file-order', 'tracked', got 'best'"):
        choose_bodies(clip, policy=cast("Any", "best"))
    with pytest.raises(TypeError, match="choose_bodies: `clip` must be a SkeletonClip, got ndarray"):
        choose_bodies(cast("Any", clip.positions))
