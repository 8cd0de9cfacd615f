"""Which of the bodies of a recording are kept, and in which order."""

from collections.abc import Callable
from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from skelcontrast import _check
from skelcontrast.data.clip import NOBODY, SkeletonClip

BodyPolicy: TypeAlias = Literal["file-order", "tracked"]

FEWEST_FRAMES = 12  # 0.4 seconds at 30 frames a second
WIDEST = 0.8  # width over height of a frame that is taken for a person
WIDE_FRAMES = 0.7  # share of wide frames above which a body is taken for none


def choose_bodies(clip: SkeletonClip, *, count: int = 2, policy: BodyPolicy = "file-order") -> npt.NDArray[np.float32]:
    """Choose `count` bodies of a recording, each in a place of its own.

    With ``"file-order"``, place m holds whatever stands at slot m of the file in each frame, and later slots are left
    out, as in the released code. When two people change their order in the file, they change places; a chair that the
    sensor takes for a person takes a place.

    With ``"tracked"`` a place follows a person:

    1. Everything under one body id is one track, gaps included. If a frame has an id twice, its first slot counts.
    2. Tracks of fewer than 12 frames are dropped: the sensor sees a person for a moment in a reflection or a coat.
    3. Then tracks are dropped whose width is above 0.8 of their height in over 0.7 of their frames: furniture is that
       wide, while people are only as long as they lie or stretch out their arms. Width and height are the extents of
       the joints along x and y.
    4. The others are ranked by motion, the variance of each coordinate of each joint over time, summed; the
       most active comes first, equals in the order of the file.
    5. In that order each goes to the first place that is free in all its frames, or is left out. So a person whom the
       sensor loses and finds again under another id stays in one place.

    A rule that would drop everybody, as 3 in a recording of someone who falls, is not applied. People are told apart by
    their ids alone: two who exchange ids exchange places.

    No frame is dropped. Where nobody stands in a place, it is zero; there may be frames with nobody in any place.

    Args:
        clip: The recording: a body where `body_ids` is not -1.
        count: Number of places M', at least 1.
        policy: How they are chosen.

    Returns:
        Positions (C, T, V, `count`), float32, a new array.

    Raises:
        TypeError: If `clip` is no `SkeletonClip` or `count` no integer.
        ValueError: If `count` is below 1, `policy` is none of the two, or nobody is left: the recording has no frames,
            no bodies, or only zeros as positions of those chosen.

    References:
        ``"file-order"``: the preparation of NTU RGB+D in the released AimCLR code. The limits of 2 and 3 are near
        those that preparations of NTU RGB+D commonly use.

    Example:
        Two people of one joint, ids 7 and 8, change slots in the second frame of three. The second moves.

        >>> from skelcontrast.skeleton import SkeletonLayout
        >>> dot = SkeletonLayout("dot", ("dot",), (), centre=0, mirror=())
        >>> x = np.array([[5, 1], [2, 5], [5, 3]], dtype=np.float32).reshape(1, 3, 1, 2)
        >>> clip = SkeletonClip(x, np.array([[7, 8], [8, 7], [7, 8]]), dot)
        >>> choose_bodies(clip)[0, :, 0].T.tolist()
        [[5.0, 2.0, 5.0], [1.0, 5.0, 3.0]]
        >>> choose_bodies(clip, policy="tracked")[0, :, 0].T.tolist()
        [[1.0, 2.0, 3.0], [5.0, 5.0, 5.0]]
    """
    if not isinstance(clip, SkeletonClip):
        _check.fail("choose_bodies", "clip", "be a SkeletonClip", type(clip).__name__, kind=TypeError)
    count = _check.integer("choose_bodies", "count", count, 1)
    _check.choice("choose_bodies", "policy", policy, get_args(BodyPolicy))
    C, T, V, _ = clip.positions.shape
    chosen = np.zeros((C, T, V, count), dtype=np.float32)
    if policy == "file-order":
        first = clip.positions[..., :count]
        chosen[..., : first.shape[-1]] = first
    else:
        for place, track in _places(_plausible(_tracks(clip)), count):
            chosen[:, track.frames, :, place] = track.positions
    if not chosen.any():
        _check.fail("choose_bodies", "clip", "hold a body that is not all zeros", _what_is_there(clip, policy))
    return chosen


class _Track(NamedTuple):
    """What goes under one body id; n frames."""

    frames: npt.NDArray[np.int64]
    """(n,), increasing."""
    positions: npt.NDArray[np.float32]
    """(n, C, V)."""

    def motion(self) -> float:
        return float(self.positions.var(axis=0, dtype=np.float64).sum())

    def long(self) -> bool:
        return len(self.frames) >= FEWEST_FRAMES

    def upright(self) -> bool:
        extents = np.ptp(self.positions.astype(np.float64), axis=2)
        if extents.shape[1] < 2:
            return True  # nothing is known of the height
        wide = extents[:, 0] > WIDEST * extents[:, 1]
        return float(wide.mean()) <= WIDE_FRAMES


def _tracks(clip: SkeletonClip) -> list[_Track]:
    """Return what goes under each id, in the order in which the ids first appear in the file."""
    frames, slots = np.nonzero(clip.body_ids != NOBODY)  # frame by frame, slot by slot
    _, first, which = np.unique(clip.body_ids[frames, slots], return_index=True, return_inverse=True)
    by_id = np.split(np.argsort(which, kind="stable"), np.bincount(which).cumsum()[:-1])
    tracks = []
    for rows in (by_id[index] for index in np.argsort(first)):
        seen, once = np.unique(frames[rows], return_index=True)
        tracks.append(_Track(seen, clip.positions[:, seen, :, slots[rows[once]]]))
    return tracks


def _plausible(tracks: list[_Track]) -> list[_Track]:
    """Return the tracks that may be people; a rule that none meets says nothing."""
    rules: tuple[Callable[[_Track], bool], ...] = (_Track.long, _Track.upright)
    for rule in rules:
        tracks = [track for track in tracks if rule(track)] or tracks
    return tracks


def _places(tracks: list[_Track], count: int) -> list[tuple[int, _Track]]:
    """Give each track, the most active first, the first of `count` places that is free in all its frames, if any."""
    taken: list[set[int]] = [set() for _ in range(count)]
    placed = []
    for track in sorted(tracks, key=_Track.motion, reverse=True):  # stable
        frames = set(track.frames.tolist())
        place = next((place for place in range(count) if taken[place].isdisjoint(frames)), None)
        if place is not None:
            taken[place] |= frames
            placed.append((place, track))
    return placed


def _what_is_there(clip: SkeletonClip, policy: BodyPolicy) -> str:
    if not len(clip.body_ids):
        return "no frames"
    if (clip.body_ids == NOBODY).all():
        return f"nobody in {len(clip.body_ids)} frames"
    return f"only zeros for those chosen by {policy!r}"
