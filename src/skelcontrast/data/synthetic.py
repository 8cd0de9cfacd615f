"""Animated people: a data set that needs no download."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from einops import rearrange

from skelcontrast import _check
from skelcontrast.data._repertoire import ALONE, TOGETHER, Clock, Performance
from skelcontrast.data._rig import (
    ARMS,
    LEFT_FOREARM,
    LEFT_UPPER_ARM,
    LEGS,
    REST,
    RIGHT_FOREARM,
    RIGHT_UPPER_ARM,
    SEGMENTS,
    TRUNK,
    Floats,
    mirrored,
    pose_bodies,
    rotation,
)
from skelcontrast.data.dataset import SkeletonDataset
from skelcontrast.data.geometry import centre
from skelcontrast.skeleton import NTU_RGBD_25

OWNER = "SyntheticActions"
ACTIONS = (*ALONE, *TOGETHER)
LEFT_HANDED = 0.2  # share of the subjects
CAMERA_DISTANCE = 3.0  # metres
CAMERA_HEIGHT = 1.0
SENSOR_NOISE = 0.008  # standard deviation of a coordinate, metres

Flags: TypeAlias = npt.NDArray[np.bool_]
Indices: TypeAlias = npt.NDArray[np.int64]


class SyntheticActions(SkeletonDataset):
    """Clips of procedurally animated people in 16 everyday actions, made in a moment and the same for the same seed.

    Each subject performs each action some times, and every camera records each performance, as in NTU RGB+D. Subjects
    differ in bone lengths, posture, tempo, reach of their movements, and about one in five is left-handed. Performances
    differ in onset, phase, speed and facing; cameras differ in yaw. Positions carry sensor noise of 8 mm. "shake hands"
    and "push" have two bodies; everywhere else the second is absent, all zeros.

    Names are in the form of NTU's. The protocol ``"cross-subject"`` trains on subjects 1, 3, 5 and so on,
    ``"cross-view"`` on all cameras but the first. The set is made for trying things out and for tests; it says little
    about accuracy on recorded people.

    Args:
        subjects: Number of people, at least 1.
        repetitions: How often each subject performs each action, at least 1.
        camera_yaw_degrees: Yaw of each camera, -180 to 180. 0 sees people from the front, 90 from the side.
        frames: Frames T of a clip, at least 1; a clip lasts about 2.5 seconds, whatever the number of frames.
        seed: Seed of everything that varies, at least 0.
        centred: Whether the spine's shoulder joint of each body is put at the origin in every frame (see `centre`).
            Otherwise positions are metres from the camera: x to the right of a person who faces it, y up, z away.

    Raises:
        TypeError: If a number is of the wrong kind.
        ValueError: If a number is out of range, or there is no camera.

    Example:
        >>> clips = SyntheticActions(subjects=4, repetitions=1)
        >>> clips
        SyntheticActions(192 sequences, C=3, T=50, V=25, M=2, 16 classes, 4 subjects, 3 cameras)
        >>> train, test = clips.split("cross-subject")
        >>> sorted(set(train.subjects.tolist())), len(test)
        ([1, 3], 96)
        >>> clips.class_names[clips[0].label], clips[0].name
        ('wave', 'S001C001P001R001A001')
    """

    def __init__(
        self,
        *,
        subjects: int = 8,
        repetitions: int = 2,
        camera_yaw_degrees: Sequence[float] = (-45.0, 0.0, 45.0),
        frames: int = 50,
        seed: int = 0,
        centred: bool = True,
    ) -> None:
        subjects = _check.integer(OWNER, "subjects", subjects, 1)
        repetitions = _check.integer(OWNER, "repetitions", repetitions, 1)
        frames = _check.integer(OWNER, "frames", frames, 1)
        seed = _check.integer(OWNER, "seed", seed, 0)
        if len(camera_yaw_degrees) == 0:
            _check.fail(OWNER, "camera_yaw_degrees", "name at least one camera", "none")
        yaws = [_check.interval(OWNER, "camera_yaw_degrees", yaw, -180, 180) for yaw in camera_yaw_degrees]

        rng = np.random.default_rng(seed)
        people = _People.draw(subjects, rng)
        scenes = np.concatenate([_perform(action, people, repetitions, frames, rng) for action in ACTIONS])
        clips = rearrange([_record(scenes, yaw, rng) for yaw in yaws], "camera b c t v m -> (b camera) c t v m")
        data = torch.from_numpy(clips).float()
        shot = list(product(range(len(ACTIONS)), range(subjects), range(repetitions), range(len(yaws))))
        action, subject, _, camera = np.array(shot).T
        super().__init__(
            centre(data, NTU_RGBD_25) if centred else data,
            action,
            names=[f"S001C{c + 1:03}P{p + 1:03}R{r + 1:03}A{a + 1:03}" for a, p, r, c in shot],
            subjects=subject + 1,
            cameras=camera + 1,
            layout=NTU_RGBD_25,
            class_names=ACTIONS,
            protocols={"cross-subject": subject % 2 == 0, "cross-view": camera > 0},
        )


@dataclass(frozen=True)
class _People:
    """What stays the same about each of some people; the first axis of each field goes over them."""

    bones: Floats
    """(S, V, 3) metres."""
    posture: Floats
    """(S, 1, V, 3) degrees: anatomical angles at rest."""
    tempo: Floats
    """(S, 1), about 1: how quickly they act."""
    reach: Floats
    """(S, 1, 1, 1), about 1: how far they move, a factor on all angles of an action."""
    left_handed: Flags
    """(S,)"""

    @classmethod
    def draw(cls, count: int, rng: np.random.Generator) -> "_People":
        posture = np.zeros((count, 1, NTU_RGBD_25.num_joints, 3))
        posture[:, :, SEGMENTS] = rng.normal(scale=4.0, size=(count, 1, len(SEGMENTS), 3))
        posture[:, :, TRUNK] /= 2
        posture[:, :, [LEFT_UPPER_ARM, RIGHT_UPPER_ARM], 1] += 8
        posture[:, :, [LEFT_FOREARM, RIGHT_FOREARM], 0] += 14
        bones = REST * rng.uniform(0.85, 1.15, size=(count, 1, 1))
        for part in (TRUNK, ARMS, LEGS):
            bones[:, part] *= rng.uniform(0.9, 1.1, size=(count, 1, 1))
        bones[:, :, 0] *= rng.uniform(0.85, 1.15, size=(count, 1))  # narrow or broad shoulders and hips
        return cls(
            bones=bones,
            posture=posture,
            tempo=rng.uniform(0.8, 1.3, size=(count, 1)),
            reach=rng.uniform(0.75, 1.15, size=(count, 1, 1, 1)),
            left_handed=rng.random(count) < LEFT_HANDED,
        )

    def choose(self, who: Indices) -> "_People":
        return _People(self.bones[who], self.posture[who], self.tempo[who], self.reach[who], self.left_handed[who])

    def pose(self, acted: Performance, rng: np.random.Generator, *, own_hand: bool = True) -> Floats:
        """Return positions (B, T, V, 3) of these people, each in their own build and manner.

        With `own_hand` the left-handed do with the left what others do with the right.
        """
        with_left = (self.left_handed & own_hand)[:, None, None, None]
        angles = np.where(with_left, mirrored(acted.angles), acted.angles)
        angles = angles * self.reach * rng.uniform(0.9, 1.1, size=self.reach.shape)
        return pose_bodies(angles + self.posture + _restless(acted.angles.shape, rng), acted.root, self.bones)


def _restless(shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
    """Return the slow drift of the angles (B, T, V, 3) of people who do not stand like statues, in degrees."""
    B, T, V, axes = shape
    time = np.linspace(0, 1, T)[None, :, None, None]
    drift = np.zeros(shape)
    for cycles in (1, 2):
        strength = rng.normal(scale=2.5 / cycles, size=(B, 1, V, axes))
        drift += strength * np.sin(2 * np.pi * (cycles * time + rng.random((B, 1, V, axes))))
    return drift


def _clock(people: _People, frames: int, rng: np.random.Generator) -> Clock:
    B = len(people.tempo)
    time = (np.arange(frames) + 0.5) / frames
    onset = rng.uniform(0.0, 0.2, size=(B, 1))
    duration = np.minimum(rng.uniform(0.65, 0.85, size=(B, 1)) / people.tempo, 1 - onset)
    progress = np.clip((time - onset) / duration, 0, 1)
    return Clock(progress, pace=rng.uniform(0.8, 1.25, size=(B, 1)), phase=rng.random((B, 1)))


def _perform(name: str, people: _People, repetitions: int, frames: int, rng: np.random.Generator) -> Floats:
    """Return every subject's performances of an action in the room, (B, 2, T, V, 3); an absent body is NaN."""
    count = len(people.tempo)
    who = np.repeat(np.arange(count), repetitions)
    actors = people.choose(who)
    clock = _clock(actors, frames, rng)
    one, facing = Performance(clock), rng.normal(scale=12.0, size=len(who))
    if name in ALONE:
        ALONE[name](one)
        first = actors.pose(one, rng)
        return _turn(np.stack([first, np.full_like(first, np.nan)], axis=1), facing)
    act, distance = TOGETHER[name]
    other = Performance(clock)
    act(one, other)
    partners = people.choose((who + rng.integers(1, max(2, count), size=len(who))) % count)
    first, second = actors.pose(one, rng, own_hand=False), partners.pose(other, rng, own_hand=False)
    bodies = np.stack([first, second * np.array([-1, 1, -1])], axis=1)  # the second turned by 180 degrees
    bodies[..., 2] += np.array([0.5, -0.5])[:, None, None] * distance  # face to face along z, about the middle
    return _turn(bodies, facing + rng.choice([-90.0, 90.0], size=len(who)))  # seen from the side


def _turn(bodies: Floats, degrees: Floats) -> Floats:
    """Turn scenes (B, 2, T, V, 3) to the left about the vertical."""
    angles = np.zeros((len(degrees), 3))
    angles[:, 2] = np.deg2rad(degrees)
    turned: Floats = np.einsum("bij,bmtvj->bmtvi", rotation(angles), bodies)
    return turned


def _record(scenes: Floats, yaw: float, rng: np.random.Generator) -> Floats:
    """Return what a camera sees, (B, 3, T, V, 2)."""
    seen = _turn(scenes, np.full(len(scenes), yaw)) + np.array([0, -CAMERA_HEIGHT, CAMERA_DISTANCE])
    seen += rng.normal(scale=SENSOR_NOISE, size=seen.shape)
    return rearrange(np.nan_to_num(seen, nan=0.0), "b m t v c -> b c t v m")
