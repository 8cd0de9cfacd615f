"""Reader for the annotation pickles of pyskl and mmaction2."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, overload

import numpy as np
import numpy.typing as npt
from einops import rearrange

from skelcontrast import _check
from skelcontrast.data._array import Array
from skelcontrast.data.clip import SkeletonClip, SkeletonFormatError
from skelcontrast.data.readers._reading import brief, checked_label, clip_of, different_names, finite_float32
from skelcontrast.data.readers._unpickle import load_plain
from skelcontrast.skeleton import COCO_17, NTU_RGBD_25, SkeletonLayout
from skelcontrast.skeleton.layout import check_layout

OWNER = "read_annotations"
NO_LINE = re.compile("[\0\n\r\ud800-\udfff]")  # with these in a name, the table of a prepared folder is not read again


@dataclass(frozen=True, eq=False)
class Annotations:
    """What an annotation pickle holds."""

    names: tuple[str, ...]
    """Name of each sequence, its ``frame_dir``; all different."""
    labels: npt.NDArray[np.int64]
    """Class of each sequence (N,), from 0."""
    clips: Sequence[SkeletonClip]
    """Each sequence as a clip, made and checked when it is asked for: a broken one raises `SkeletonFormatError`."""
    splits: Mapping[str, tuple[str, ...]]
    """Names of the sequences in each split, all of them in `names`; splits such as ``xsub_train``."""
    missing: tuple[str, ...]
    """Names that a split lists and that no annotation has, sorted. They are left out of `splits`."""


def read_annotations(
    path: Path | str, *, layout: SkeletonLayout = NTU_RGBD_25, with_score: bool = False
) -> Annotations:
    """Read an annotation pickle of pyskl or mmaction2: many sequences with labels and splits in one file.

    The pickle holds ``{"split": {name: [ids]}, "annotations": [...]}``, or the list of annotations alone. Of each
    annotation ``frame_dir``, ``label``, ``keypoint`` (M, T, V, C), ``total_frames`` and ``keypoint_score`` (M, T, V)
    are read, the last two where they are there. Positions are those of the file: metres, or pixels for poses in
    images. A body whose joints are all zero in a frame is absent there.

    Nothing that the pickle asks for is imported or run: one that holds anything but lists, tuples, dicts, strings,
    numbers, and NumPy scalars and arrays is refused.

    Args:
        path: The file. All of it is held in memory as it is, most often in float16.
        layout: The skeleton; `COCO_17` for most poses from images.
        with_score: Whether ``keypoint_score`` becomes a third coordinate of positions in the plane, as networks for
            poses in images take it.

    Returns:
        The sequences. Clips are (C, T, V, M) with the C and the M of the file: C is 3, or 2 for positions in the plane
        without score.

    Raises:
        OSError: If the file cannot be opened.
        SkeletonFormatError: If the pickle is broken or refers to anything else than plain values, has another form, or
            names repeat; the message names file and annotation. A clip raises it for keypoints of a wrong shape or
            kind, or NaN and infinity in them.
        TypeError: If `layout` is not a `SkeletonLayout`.

    Example:
        >>> import pickle, tempfile
        >>> path = Path(tempfile.mkdtemp()) / "poses.pkl"
        >>> keypoint = np.ones((1, 30, 17, 2), dtype=np.float16)
        >>> annotation = {"frame_dir": "v1", "label": 4, "keypoint": keypoint, "total_frames": 30}
        >>> _ = path.write_bytes(pickle.dumps({"split": {"train": ["v1"]}, "annotations": [annotation]}))
        >>> poses = read_annotations(path, layout=COCO_17)
        >>> poses.names, poses.labels, poses.splits, poses.clips[0].positions.shape
        (('v1',), array([4]), {'train': ('v1',)}, (2, 30, 17, 1))
    """
    check_layout(OWNER, layout)
    content = load_plain(OWNER, Path(path))
    file = _File(Path(path), layout, with_score)
    if isinstance(content, list):
        content = {"split": {}, "annotations": content}
    if not isinstance(content, dict) or not {"split", "annotations"} <= set(content):
        file.refuse("hold a dict with the keys 'split' and 'annotations', or a list of annotations", brief(content))
    annotations = file.annotations(content["annotations"])
    names = tuple(file.name(annotation, index) for index, annotation in enumerate(annotations))
    known = set(different_names(OWNER, file.path, names, "annotations"))
    listed = file.splits(content["split"])
    return Annotations(
        names=names,
        labels=np.array([file.label(a, n) for a, n in zip(annotations, names, strict=True)], dtype=np.int64),
        clips=_Clips(file, names, annotations),
        splits={split: tuple(name for name in ids if name in known) for split, ids in listed.items()},
        missing=tuple(sorted({name for ids in listed.values() for name in ids} - known)),
    )


@dataclass(frozen=True, eq=False)
class _File:
    """Takes an annotation pickle apart."""

    path: Path
    layout: SkeletonLayout
    with_score: bool

    def refuse(self, must: str, got: object, hint: str = "") -> NoReturn:
        raise SkeletonFormatError(OWNER, self.path, must, got, hint=hint)

    def annotations(self, values: object) -> list[dict[object, object]]:
        if not isinstance(values, list | tuple) or not values:
            got = "none" if isinstance(values, list | tuple) else brief(values)
            self.refuse("hold a list of annotations, at least one", got)
        for index, value in enumerate(values):
            if not isinstance(value, dict):
                self.refuse(f"hold a dict as annotation {index}", brief(value))
        return list(values)

    def name(self, annotation: dict[object, object], index: int) -> str:
        name = annotation.get("frame_dir")
        if not isinstance(name, str) or not name:
            self.refuse(f"hold a name under 'frame_dir' in annotation {index}", brief(name))
        if NO_LINE.search(name):
            self.refuse(f"hold one line of text under 'frame_dir' in annotation {index}", brief(name))
        return name

    def label(self, annotation: dict[object, object], name: str) -> int:
        return checked_label(OWNER, self.path, annotation.get("label"), f"under 'label' in annotation {brief(name)}")

    def splits(self, values: object) -> dict[str, tuple[str, ...]]:
        if not isinstance(values, dict):
            self.refuse("hold a dict under 'split'", brief(values))
        found = {}
        for split, ids in values.items():
            plain = ids.tolist() if isinstance(ids, np.ndarray) and ids.ndim == 1 else ids
            if not isinstance(split, str) or not isinstance(plain, list | tuple):
                self.refuse("hold lists of names under 'split'", f"{brief(plain)} under {brief(split)}")
            found[split] = different_names(OWNER, self.path, plain, f"split {brief(split)}")
        return found

    def clip(self, annotation: dict[object, object], name: str) -> SkeletonClip:
        where = f" in annotation {brief(name)}"
        keypoint = self._numbers(annotation.get("keypoint"), "keypoint", where)
        V = self.layout.num_joints
        if keypoint.ndim != 4 or keypoint.shape[2] != V or keypoint.shape[3] not in (2, 3) or len(keypoint) == 0:
            hint = "Pass layout=COCO_17." if keypoint.shape[2:3] == (COCO_17.num_joints,) else ""
            must = f"hold keypoint of shape (M, T, {V}, 2 or 3) for layout '{self.layout.name}', M at least 1,{where}"
            self.refuse(must, _check.show(keypoint.shape), hint)
        frames = annotation.get("total_frames", keypoint.shape[1])
        if not isinstance(frames, int | np.integer) or frames != keypoint.shape[1]:
            self.refuse(f"hold total_frames equal to the {keypoint.shape[1]} frames of keypoint{where}", brief(frames))
        if self.with_score:
            keypoint = np.concatenate([keypoint, self._score(annotation, keypoint, where)], axis=3)
        positions = finite_float32(OWNER, self.path, rearrange(keypoint, "m t v c -> c t v m"), where=where)
        return clip_of(positions, self.layout)

    def _score(self, annotation: dict[object, object], keypoint: Array, where: str) -> Array:
        score = self._numbers(annotation.get("keypoint_score"), "keypoint_score", where)
        if keypoint.shape[3] != 2:
            self.refuse(f"hold positions in the plane where scores become a coordinate{where}", "positions in space")
        if score.shape != keypoint.shape[:3]:
            must = f"hold keypoint_score of shape {_check.show(keypoint.shape[:3])}{where}"
            self.refuse(must, _check.show(score.shape))
        return score[..., None]

    def _numbers(self, value: object, key: str, where: str) -> Array:
        if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
            self.refuse(f"hold an array of floating point under {key!r}{where}", brief(value))
        return np.asarray(value)


class _Clips(Sequence[SkeletonClip]):
    """The clips of a file, each made when it is asked for."""

    def __init__(self, file: _File, names: Sequence[str], annotations: Sequence[dict[object, object]]) -> None:
        self._file = file
        self._named = list(zip(annotations, names, strict=True))

    def __len__(self) -> int:
        return len(self._named)

    @overload
    def __getitem__(self, index: int) -> SkeletonClip: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[SkeletonClip]: ...

    def __getitem__(self, index: int | slice) -> SkeletonClip | Sequence[SkeletonClip]:
        if isinstance(index, slice):
            return [self._file.clip(annotation, name) for annotation, name in self._named[index]]
        return self._file.clip(*self._named[index])
