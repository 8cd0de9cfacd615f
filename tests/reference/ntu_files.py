"""Files as the NTU RGB+D data sets have them, made from animated people: for tests, benchmarks and demonstrations."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from einops import rearrange

from skelcontrast.data import SyntheticActions
from skelcontrast.data.clip import NOBODY, SkeletonClip
from skelcontrast.data.synthetic import ACTIONS
from skelcontrast.skeleton import NTU_RGBD_25

CAMERAS = 3
REPLICATIONS = 2
FIRST_BODY_ID = 72057594037927936  # sensors count bodies from here: 17 digits, more than a float holds
PEOPLE = 4  # who acts in the generated files, over and over

SWAP, PASSER_BY, GAP, EMPTY = 7, 13, 19, 24
"""Files whose position modulo 25 is this: two people who change slots half-way; a third, flat body for a few frames;
some frames without anybody (in the first file of the kind, all frames); no frames at all."""


def write_ntu(path: Path, clip: SkeletonClip, *, newline: str = "\r\n") -> None:
    """Write a `.skeleton` file.

    Positions are written with nine digits, so that they are read back bit for bit. Only bodies that are there
    (`body_ids` not -1) are written, in the order of their slots. Pixels follow from the positions; lean and orientation
    mean nothing. Without `tracking` all joints are tracked.
    """
    positions = rearrange(clip.positions, "c t v m -> t m v c").astype(np.float64)
    tracking = np.full(positions.shape[:3], 2) if clip.tracking is None else rearrange(clip.tracking, "t v m -> t m v")
    values = np.concatenate([positions, _pixels(positions), _turns(positions), tracking[..., None]], axis=-1)
    joint = " ".join(["%.9g"] * 3 + ["%.7g"] * 8 + ["%d"])
    joints = newline.join([joint] * positions.shape[2])
    lines = [str(len(positions))]
    for ids, bodies in zip(clip.body_ids.tolist(), values, strict=True):
        here = [slot for slot, who in enumerate(ids) if who != NOBODY]
        lines.append(str(len(here)))
        for slot in here:
            lines.append(f"{ids[slot]} 0 1 0 0 1 0 0.02719513 -0.1345724 2")
            lines.append(str(positions.shape[2]))
            lines.append(joints % tuple(bodies[slot].ravel().tolist()))
    path.write_bytes((newline.join(lines) + newline).encode("ascii"))


def make_ntu_folder(
    folder: Path,
    *,
    count: int,
    frames: int = 100,
    shortest: int | None = None,
    seed: int = 0,
    actions: int = 60,
    subjects: int = 40,
) -> list[Path]:
    """Write `count` files of people of `SyntheticActions` with names in the form of NTU's; return the paths in order.

    Names are drawn at random, all different: performers from 1 to `subjects`, each in the setup of the same number
    modulo 17 (32 for more than 60 actions), 3 cameras, 2 replications, actions from 1 to `actions`; action a shows the
    a-th of the animated ones, modulo 16. The files hold `frames` frames each, or, with `shortest`, a number from there
    to `frames`. For special files among them see `SWAP` and its neighbours.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    sizes = (actions, subjects, CAMERAS, REPLICATIONS)
    drawn = np.unravel_index(rng.choice(int(np.prod(sizes)), size=count, replace=False), sizes)
    setups = 17 if actions <= 60 else 32
    paths = []
    for index, (action, performer, camera, replication) in enumerate(
        zip(*(one.tolist() for one in drawn), strict=True)
    ):
        kind = index % 25
        length = frames if shortest is None else int(rng.integers(shortest, frames + 1))
        acted = ACTIONS.index("push") if kind == SWAP else action % len(ACTIONS)
        scene = _scenes(frames)[acted, performer % PEOPLE, camera, :, :length]
        stands = rng.normal(scale=(0.3, 0.05, 0.3)).astype(np.float32)
        name = f"S{performer % setups + 1:03}C{camera + 1:03}P{performer + 1:03}R{replication + 1:03}A{action + 1:03}"
        paths.append(folder / f"{name}.skeleton")
        write_ntu(paths[-1], _clip(scene, stands, kind, rng, nobody=index == GAP))
    return paths


def _clip(
    scene: npt.NDArray[np.float32],
    stands: npt.NDArray[np.float32],
    kind: int,
    rng: np.random.Generator,
    *,
    nobody: bool = False,
) -> SkeletonClip:
    """Make a clip of a scene (C, T, V, 2) that is moved to where the people stand (C,)."""
    scene = scene[:, : 0 if kind == EMPTY else None]
    C, T, V, _ = scene.shape
    ids = np.tile(FIRST_BODY_ID + rng.choice(50_000, size=3, replace=False), (T, 1))
    ids[:, 2] = NOBODY
    ids[:, :2][~scene.any(axis=(0, 2))] = NOBODY
    positions = np.concatenate([scene + stands[:, None, None, None], np.zeros((C, T, V, 1), np.float32)], axis=-1)
    if kind == SWAP:
        half = slice(T // 2, T)
        positions[:, half, :, :2] = positions[:, half, :, 1::-1]
        ids[half, :2] = ids[half, 1::-1]
    if kind == PASSER_BY:
        brief = slice(T // 4, T // 4 + max(1, T // 15))
        ids[brief, 2] = FIRST_BODY_ID + 60_000
        flat = rng.normal(loc=[0, 0, 2], scale=[1.0, 0.1, 0.1], size=(V, 3))
        positions[:, brief, :, 2] = rearrange(flat, "v c -> c 1 v")
    if kind == GAP:
        ids[slice(None) if nobody else slice(T // 3, T // 2)] = NOBODY
    there = rearrange(ids != NOBODY, "t m -> t 1 m")
    return SkeletonClip(np.where(there, positions, 0).astype(np.float32), ids, NTU_RGBD_25)


@lru_cache(maxsize=4)
def _scenes(frames: int) -> npt.NDArray[np.float32]:
    """Return scenes (action, person, camera, C, T, V, M) in camera space."""
    made = SyntheticActions(subjects=PEOPLE, repetitions=1, frames=frames, centred=False).tensor().numpy()
    return rearrange(made, "(a s camera) c t v m -> a s camera c t v m", a=len(ACTIONS), s=PEOPLE, camera=CAMERAS)


def _pixels(positions: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return depth and colour pixels (T, M, V, 4) of a pinhole camera."""
    depth = np.where(positions[..., 2:] == 0, 1, positions[..., 2:])
    across = positions[..., :2] / depth
    return np.concatenate([[258, 205] + [367, -367] * across, [960, 540] + [1060, -1060] * across], axis=-1)


def _turns(positions: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return unit quaternions (T, M, V, 4) that drift a little from frame to frame."""
    axes = np.random.default_rng(0).normal(size=(positions.shape[2], 4))
    turns = axes + 0.1 * positions[..., [0, 1, 2, 0]]
    unit: npt.NDArray[np.float64] = turns / np.linalg.norm(turns, axis=-1, keepdims=True)
    return unit
