"""Writes small data sets the way their authors publish them, with animated people in them: what the readers read.

Every folder is the same for the same seed. Actions are numbered as the data sets number them, but what is seen is one
of the actions of `SyntheticActions`, so that a classifier can learn to tell them apart.
"""

import json
import pickle
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import cycle, islice, product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from skelcontrast.data import SyntheticActions
from skelcontrast.skeleton import COCO_17, KINECT_V1_20, NTU_RGBD_25, UTD_MHAD_20, SkeletonLayout

Array = npt.NDArray[Any]

PERFORMED_FRAMES = 48
VIEWS = "LMR"
PKU_ACTIONS = (1, 5, 8, 15)  # wave, squat, punch and, in pairs, shake hands
NW_UCLA_CODES = (1, 2, 3, 4, 5, 6, 8, 9, 11, 12)
# Which NTU joint stands for each joint of another skeleton.
JOINTS: dict[str, list[int]] = {
    NTU_RGBD_25.name: list(range(25)),
    KINECT_V1_20.name: [0, 1, 20, *range(3, 20)],
    UTD_MHAD_20.name: [3, 20, 1, 0, *range(4, 20)],
    COCO_17.name: [3, 3, 3, 3, 3, 4, 8, 5, 9, 6, 10, 12, 16, 13, 17, 14, 18],
}


@lru_cache(maxsize=2)
def _performances(subjects: int, seed: int) -> tuple[Array, dict[tuple[int, int, int], int]]:
    """Return clips (N, T, M, V, C) in metres and which clip shows (action, subject, camera), all counted from 1."""
    people = SyntheticActions(subjects=subjects, repetitions=1, frames=PERFORMED_FRAMES, seed=seed, centred=False)
    assert people.subjects is not None
    assert people.cameras is not None
    shown = zip((people.labels + 1).tolist(), people.subjects.tolist(), people.cameras.tolist(), strict=True)
    clips = people.tensor().numpy().transpose(0, 2, 4, 3, 1)
    return clips, {key: index for index, key in enumerate(shown)}


def performance(action: int, subject: int, camera: int, frames: int, *, subjects: int = 8, seed: int = 0) -> Array:
    """Return an action of `SyntheticActions`, (T, M, V, C) in metres from the camera, all numbers from 1."""
    clips, found = _performances(subjects, seed)
    moments = np.linspace(0, PERFORMED_FRAMES - 1, frames).round().astype(int)
    clip: Array = clips[found[action, subject, camera]][moments]
    return clip


def write_pku_mmd(path: Path, rows: Array) -> None:
    """Write rows (T, 150) as PKU-MMD does: numbers behind one another, and a blank before every row but the first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (" ".join(f"{number:.7g}" for number in row) for row in rows.tolist())
    path.write_text("\n ".join(lines) + "\n", encoding="ascii")


def write_pku_mmd_labels(path: Path, intervals: Iterable[Sequence[int]]) -> None:
    """Write rows action,start,end,confidence."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(",".join(map(str, interval)) + "\n" for interval in intervals), encoding="ascii")


def write_pku_mmd_split(path: Path, training: Sequence[str], others: Sequence[str]) -> None:
    """Write the two lists of names, each behind its header line."""
    path.write_text(f"Training videos: \n{', '.join(training)}\nValidation videos: \n{', '.join(others)}\n", "ascii")


def make_pku_folder(folder: Path, *, recordings: int = 8, frames: int = 300, seed: int = 0) -> Path:
    """Write ``Data/*.txt``, ``Label/*.txt``, ``cross-subject.txt`` and ``cross-view.txt``.

    Three recordings, ``0002-L``, ``0002-M`` and ``0002-R``, show the same from three cameras, then comes ``0003-L``.
    Four actions (numbers 1, 5, 8, 15; in 15 a second body appears) take turns, 40 frames each, with 8 frames of waiting
    between them, during which nobody is there before the first. Even recordings train, and views M and R.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{2 + index // 3:04}-{VIEWS[index % 3]}" for index in range(recordings)]
    for name in names:
        rows, intervals = _recording(int(name[:4]), 1 + VIEWS.index(name[-1]), frames, seed)
        write_pku_mmd(folder / "Data" / f"{name}.txt", rows)
        write_pku_mmd_labels(folder / "Label" / f"{name}.txt", intervals)
    even, turned = [n for n in names if int(n[:4]) % 2 == 0], [n for n in names if n[-1] != "L"]
    for protocol, training in (("subject", even), ("view", turned)):
        write_pku_mmd_split(folder / f"cross-{protocol}.txt", training, [n for n in names if n not in training])
    return folder


def _recording(number: int, camera: int, frames: int, seed: int) -> tuple[Array, list[tuple[int, int, int, int]]]:
    acting, waiting = 40, 8
    people = np.zeros((frames, 2, 25, 3), dtype=np.float32)
    intervals: list[tuple[int, int, int, int]] = []
    turns = islice(cycle(PKU_ACTIONS), number % 4, None)  # another order in each recording
    for action, start in zip(turns, range(waiting, frames - acting + 1, acting + waiting), strict=False):
        end = start + acting
        people[start:end] = performance(action, 1 + number % 8, camera, acting, seed=seed)
        people[end : end + waiting, 0] = people[end - 1, 0]
        intervals.append((action, start, end, 1 + len(intervals) % 2))
    return people.reshape(frames, 150), intervals


def write_nw_ucla(path: Path, skeletons: Any, label: int = 1) -> None:
    """Write skeletons [T][20][3] as the published JSON files have them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"file_name": path.stem, "skeletons": skeletons, "label": label}), encoding="ascii")


def make_nw_ucla_folder(folder: Path, *, subjects: int = 2, seed: int = 0) -> Path:
    """Write ``a01_s01_e00_v01.json`` and so on: ten actions, each by `subjects` people seen from three views.

    Lengths go from 1 frame up to 30.
    """
    rng = np.random.default_rng(seed)
    for (label, code), subject, view in product(enumerate(NW_UCLA_CODES, 1), range(1, subjects + 1), (1, 2, 3)):
        frames = 1 if (code, subject, view) == (12, 1, 3) else int(rng.integers(12, 31))
        people = performance(label, subject, view, frames, seed=seed)[:, 0, JOINTS[KINECT_V1_20.name]]
        write_nw_ucla(folder / f"a{code:02}_s{subject:02}_e00_v{view:02}.json", people.round(6).tolist(), label)
    return folder


def make_annotations(path: Path, *, count: int = 20, layout: SkeletonLayout = NTU_RGBD_25, seed: int = 0) -> Path:
    """Write a pickle in the form of pyskl and mmaction2: positions in metres, or with `COCO_17` in pixels.

    Names are those of NTU RGB+D, lengths go from 20 frames to 40, keypoints are float16, poses in pixels have a score
    for each joint and a second body only where there is one. Odd subjects are in split ``xsub_train``, the others in
    ``xsub_val``; the cameras 2 and 3 in ``xview_train``, the others in ``xview_val``.
    """
    rng = np.random.default_rng(seed)
    annotations = list(islice(_annotated(layout, rng, seed), count))
    names = [annotation["frame_dir"] for annotation in annotations]
    odd = [name for name in names if int(name[9:12]) % 2 == 1]
    turned = [name for name in names if int(name[5:8]) > 1]
    split = {
        "xsub_train": odd,
        "xsub_val": [name for name in names if name not in odd],
        "xview_train": turned,
        "xview_val": [name for name in names if name not in turned],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps({"split": split, "annotations": annotations}, protocol=4))
    return path


def _annotated(layout: SkeletonLayout, rng: np.random.Generator, seed: int) -> Iterator[dict[str, Any]]:
    for subject, camera, label in product(range(1, 9), (1, 2, 3), range(len(PKU_ACTIONS))):
        action, frames = PKU_ACTIONS[label], int(rng.integers(20, 41))
        people = performance(action, subject, camera, frames, seed=seed)[:, :, JOINTS[layout.name]]
        annotation: dict[str, Any] = {
            "frame_dir": f"S001C{camera:03}P{subject:03}R001A{action:03}",
            "label": label,
            "total_frames": frames,
        }
        if layout == COCO_17:
            present = people[:, : 1 + bool(people[:, 1].any())]
            pixels = np.array([960, 540]) + 1000 * present[..., :2] * [1, -1] / present[..., 2:]
            score = rng.uniform(0.5, 1, pixels.shape[:-1])
            annotation.update(
                keypoint=pixels.transpose(1, 0, 2, 3).astype(np.float16),
                keypoint_score=score.transpose(1, 0, 2).astype(np.float16),
                img_shape=(1080, 1920),
                original_shape=(1080, 1920),
            )
        else:
            annotation["keypoint"] = people.transpose(1, 0, 2, 3).astype(np.float16)
        yield annotation


def make_utd_mhad_folder(folder: Path, *, actions: int = 3, subjects: int = 4, trials: int = 1, seed: int = 0) -> Path:
    """Write ``a1_s1_t1_skeleton.mat`` and so on: float64 (20, 3, T) in metres, 41 to 60 frames. Needs SciPy."""
    from scipy.io import savemat

    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    numbers = product(*(range(1, highest + 1) for highest in (actions, subjects, trials)))
    for action, subject, trial in numbers:
        people = performance(action, subject, 1 + trial % 3, int(rng.integers(41, 61)), seed=seed)
        skeleton = people[:, 0, JOINTS[UTD_MHAD_20.name]].transpose(1, 2, 0).astype(np.float64)
        savemat(folder / f"a{action}_s{subject}_t{trial}_skeleton.mat", {"d_skel": skeleton})
    return folder
