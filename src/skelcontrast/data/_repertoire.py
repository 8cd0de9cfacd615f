"""What the synthetic people can do: each action writes joint angles over time."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from skelcontrast.data._rig import (
    CHEST,
    HEAD,
    LEFT_FOREARM,
    LEFT_SHIN,
    LEFT_THIGH,
    LEFT_UPPER_ARM,
    LUMBAR,
    NECK,
    RIGHT_FOREARM,
    RIGHT_HAND,
    RIGHT_SHIN,
    RIGHT_THIGH,
    RIGHT_UPPER_ARM,
    Floats,
)
from skelcontrast.skeleton import NTU_RGBD_25


@dataclass(frozen=True)
class Clock:
    """The time of B performances at T frames, as an action sees it.

    Args:
        progress: (B, T), 0 before the action begins, 1 after it has ended.
        pace: (B, 1), about 1: factor on how often movements repeat.
        phase: (B, 1), where in its cycle a repeated movement begins, in cycles.
    """

    progress: Floats
    pace: Floats
    phase: Floats

    def ease(self, start: float, end: float) -> Floats:
        """Return a soft step from 0 at `start` to 1 at `end`."""
        part = np.clip((self.progress - start) / (end - start), 0, 1)
        return part * part * (3 - 2 * part)

    def bump(self, start: float, end: float) -> Floats:
        """Return a soft rise from 0 at `start` to 1 half-way and back to 0 at `end`."""
        return np.sin(np.pi * np.clip((self.progress - start) / (end - start), 0, 1)) ** 2

    def hold(self, rise: float = 0.25) -> Floats:
        """Return a soft rise to 1, a plateau, and a fall back to 0."""
        return self.ease(0, rise) * (1 - self.ease(1 - rise, 1))

    def sway(self, cycles: float) -> Floats:
        """Return a sine from -1 to 1 that repeats `cycles` times, give or take the pace."""
        return np.sin(2 * np.pi * (cycles * self.pace * self.progress + self.phase))


@dataclass
class Performance:
    """The angles of one person in B performances of T frames, still at rest."""

    clock: Clock
    angles: Floats = field(init=False)
    """Anatomical angles (B, T, V, 3) in degrees: flex, abduct, swing."""
    root: Floats = field(init=False)
    """(B, T, 3): moved forward in metres, lifted in metres, turned to the left in degrees."""

    def __post_init__(self) -> None:
        B, T = self.clock.progress.shape
        self.angles = np.zeros((B, T, NTU_RGBD_25.num_joints, 3))
        self.root = np.zeros((B, T, 3))

    def bend(
        self, *segments: int, flex: Floats | float = 0.0, abduct: Floats | float = 0.0, swing: Floats | float = 0.0
    ) -> None:
        """Add to the angles of some segments."""
        for segment in segments:
            for axis, angle in enumerate((flex, abduct, swing)):
                self.angles[:, :, segment, axis] += angle

    def move(self, *, forward: Floats | float = 0.0, lift: Floats | float = 0.0, turn: Floats | float = 0.0) -> None:
        """Add to the movement of the whole body."""
        for axis, amount in enumerate((forward, lift, turn)):
            self.root[:, :, axis] += amount


def wave(one: Performance) -> None:
    """Forearm up, swaying from side to side."""
    up = one.clock.hold()
    one.bend(RIGHT_UPPER_ARM, flex=95 * up, abduct=75 * up)
    one.bend(RIGHT_FOREARM, flex=up * (75 + 35 * one.clock.sway(3.0)))
    one.bend(LUMBAR, abduct=-4 * up)


def clap(one: Performance) -> None:
    """Hands meet in front of the chest, again and again."""
    up = one.clock.hold(0.2)
    apart = up * (0.5 + 0.5 * one.clock.sway(3.5))
    one.bend(LEFT_UPPER_ARM, RIGHT_UPPER_ARM, flex=45 * up, swing=-20 * up + 40 * apart)
    one.bend(LEFT_FOREARM, RIGHT_FOREARM, flex=60 * up)


def throw(one: Performance) -> None:
    """Overarm: the arm goes back behind the shoulder, then whips forward and down."""
    back, fling = one.clock.bump(0, 0.6), one.clock.bump(0.4, 1)
    one.bend(RIGHT_UPPER_ARM, flex=120 * back + 75 * fling, abduct=70 * back + 5 * fling)
    one.bend(RIGHT_FOREARM, flex=95 * back + 10 * fling)
    one.bend(LEFT_UPPER_ARM, flex=45 * back - 10 * fling)
    one.bend(LUMBAR, CHEST, swing=-15 * back + 18 * fling, flex=-6 * back + 12 * fling)
    one.bend(LEFT_THIGH, flex=18 * fling)
    one.bend(RIGHT_THIGH, flex=-15 * fling)
    one.move(forward=0.15 * one.clock.ease(0.3, 0.7))


def kick(one: Performance) -> None:
    """One leg swings back, then shoots forward."""
    back, strike = one.clock.bump(0, 0.5), one.clock.bump(0.35, 0.95)
    one.bend(RIGHT_THIGH, flex=-25 * back + 80 * strike)
    one.bend(RIGHT_SHIN, flex=70 * back + 8 * strike)
    one.bend(LEFT_SHIN, flex=10 * strike)
    one.bend(LEFT_THIGH, flex=5 * strike)
    one.bend(LUMBAR, flex=8 * back - 14 * strike)
    one.bend(LEFT_UPPER_ARM, RIGHT_UPPER_ARM, abduct=28 * (back + strike))


def squat(one: Performance) -> None:
    """Down with bent knees, arms stretched forward, and up again."""
    down = one.clock.bump(0, 0.5) + one.clock.bump(0.5, 1)
    one.bend(LEFT_THIGH, RIGHT_THIGH, flex=95 * down, abduct=8 * down)
    one.bend(LEFT_SHIN, RIGHT_SHIN, flex=110 * down)
    one.bend(LUMBAR, flex=35 * down)
    one.bend(LEFT_UPPER_ARM, RIGHT_UPPER_ARM, flex=85 * down)


def jump(one: Performance) -> None:
    """Crouch with the arms back, fly with the arms up, land."""
    crouch, flight, land = one.clock.bump(0, 0.45), one.clock.bump(0.35, 0.75), one.clock.bump(0.65, 1)
    one.bend(LEFT_THIGH, RIGHT_THIGH, flex=60 * crouch + 40 * land)
    one.bend(LEFT_SHIN, RIGHT_SHIN, flex=80 * crouch + 15 * flight + 60 * land)
    one.bend(LUMBAR, flex=25 * crouch - 5 * flight + 15 * land)
    one.bend(LEFT_UPPER_ARM, RIGHT_UPPER_ARM, flex=-45 * crouch + 140 * flight, abduct=15 * flight)
    one.move(lift=0.35 * flight)


def walk(one: Performance) -> None:
    """On the spot: knees up in turn, arms against them."""
    going, side = one.clock.hold(0.1), one.clock.sway(2.5)
    for thigh, shin, arm, forearm, sign in (
        (RIGHT_THIGH, RIGHT_SHIN, LEFT_UPPER_ARM, LEFT_FOREARM, 1),
        (LEFT_THIGH, LEFT_SHIN, RIGHT_UPPER_ARM, RIGHT_FOREARM, -1),
    ):
        up = going * np.maximum(0, sign * side)
        one.bend(thigh, flex=45 * up)
        one.bend(shin, flex=65 * up)
        one.bend(arm, flex=28 * going * sign * side)
        one.bend(forearm, flex=25 * going)


def punch(one: Performance) -> None:
    """Fists up, then straight forward, right and left in turn."""
    guard, side = one.clock.hold(0.2), one.clock.sway(2.0)
    for arm, forearm, sign in ((RIGHT_UPPER_ARM, RIGHT_FOREARM, 1), (LEFT_UPPER_ARM, LEFT_FOREARM, -1)):
        strike = guard * np.maximum(0, sign * side) ** 2
        one.bend(arm, flex=25 * guard + 62 * strike, abduct=12 * guard - 10 * strike)
        one.bend(forearm, flex=115 * guard - 108 * strike)
    one.bend(CHEST, swing=18 * guard * side)
    one.bend(LUMBAR, flex=8 * guard)
    one.bend(LEFT_THIGH, flex=14 * guard)
    one.bend(RIGHT_THIGH, flex=-10 * guard)


def bow(one: Performance) -> None:
    """The trunk goes down, stays, and comes up."""
    down = one.clock.hold(0.4)
    one.bend(LUMBAR, flex=48 * down)
    one.bend(CHEST, NECK, flex=16 * down)
    one.bend(LEFT_UPPER_ARM, RIGHT_UPPER_ARM, flex=18 * down)


def _sit(one: Performance, seated: Floats, leaning: Floats) -> None:
    one.bend(LEFT_THIGH, RIGHT_THIGH, flex=88 * seated)
    one.bend(LEFT_SHIN, RIGHT_SHIN, flex=86 * seated)
    one.bend(LUMBAR, flex=35 * leaning + 4 * seated)
    one.bend(LEFT_UPPER_ARM, RIGHT_UPPER_ARM, flex=22 * seated + 15 * leaning)
    one.bend(LEFT_FOREARM, RIGHT_FOREARM, flex=45 * seated)


def sit_down(one: Performance) -> None:
    """From standing to a chair, and stay."""
    _sit(one, one.clock.ease(0.05, 0.8), one.clock.bump(0, 0.85))


def stand_up(one: Performance) -> None:
    """From a chair to standing."""
    _sit(one, 1 - one.clock.ease(0.2, 0.95), one.clock.bump(0.1, 0.95))


def raise_both_arms(one: Performance) -> None:
    """Sideways and up over the head."""
    up = one.clock.hold(0.4)
    one.bend(LEFT_UPPER_ARM, RIGHT_UPPER_ARM, abduct=155 * up)
    one.bend(HEAD, flex=-12 * up)


def point(one: Performance) -> None:
    """One arm straight ahead."""
    up = one.clock.hold(0.3)
    one.bend(RIGHT_UPPER_ARM, flex=88 * up, swing=8 * up)
    one.bend(RIGHT_FOREARM, flex=-8 * up)
    one.bend(CHEST, swing=6 * up)


def drink(one: Performance) -> None:
    """Hand to the mouth, head back."""
    up = one.clock.hold(0.35)
    one.bend(RIGHT_UPPER_ARM, flex=58 * up, abduct=10 * up, swing=-42 * up)
    one.bend(RIGHT_FOREARM, flex=122 * up)
    one.bend(HEAD, NECK, flex=-9 * up)


def shake_hands(one: Performance, other: Performance) -> None:
    """Both hold out the right hand and shake."""
    for person in (one, other):
        up = person.clock.hold(0.3)
        person.bend(RIGHT_UPPER_ARM, flex=38 * up, swing=-20 * up)
        person.bend(RIGHT_FOREARM, flex=up * (35 + 14 * person.clock.sway(3.0)))
        person.bend(RIGHT_HAND, flex=8 * up)
        person.bend(LUMBAR, flex=6 * up)


def push(one: Performance, other: Performance) -> None:
    """One shoves with both hands, the other stumbles back."""
    ready, shove = one.clock.bump(0, 0.55), one.clock.bump(0.3, 0.85)
    one.bend(LEFT_UPPER_ARM, RIGHT_UPPER_ARM, flex=15 * ready + 85 * shove)
    one.bend(LEFT_FOREARM, RIGHT_FOREARM, flex=100 * ready - 8 * shove)
    one.bend(LUMBAR, flex=-5 * ready + 16 * shove)
    one.bend(LEFT_THIGH, flex=22 * shove)
    one.bend(RIGHT_THIGH, flex=-16 * shove)
    fall = other.clock.bump(0.5, 1)
    other.bend(LUMBAR, CHEST, flex=-11 * fall)
    other.bend(LEFT_UPPER_ARM, RIGHT_UPPER_ARM, flex=45 * fall, abduct=25 * fall)
    other.bend(LEFT_THIGH, flex=28 * fall)
    other.bend(RIGHT_THIGH, flex=-14 * fall)
    other.bend(LEFT_SHIN, RIGHT_SHIN, flex=22 * fall)
    other.move(forward=-0.35 * other.clock.ease(0.5, 0.85))


ALONE: dict[str, Callable[[Performance], None]] = {
    "wave": wave,
    "clap": clap,
    "throw": throw,
    "kick": kick,
    "squat": squat,
    "jump": jump,
    "walk in place": walk,
    "punch": punch,
    "bow": bow,
    "sit down": sit_down,
    "stand up": stand_up,
    "raise both arms": raise_both_arms,
    "point": point,
    "drink": drink,
}
"""Actions of one person."""

TOGETHER: dict[str, tuple[Callable[[Performance, Performance], None], float]] = {
    "shake hands": (shake_hands, 1.0),
    "push": (push, 0.75),
}
"""Actions of two people, and how far apart they stand, in metres."""
