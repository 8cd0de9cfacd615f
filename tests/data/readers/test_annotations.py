"""The reader of annotation pickles: what pyskl and mmaction2 write, and what must not be taken for it."""

import pickle
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.reference import raw_files

from skelcontrast.data import SkeletonFormatError, read_annotations
from skelcontrast.skeleton import COCO_17, KINECT_V1_20, NTU_RGBD_25


def annotation(name: str = "v0", label: object = 0, **others: Any) -> dict[str, Any]:
    keypoint = np.random.default_rng(0).normal(size=(1, 4, 17, 2)).astype(np.float16)
    return {"frame_dir": name, "label": label, "keypoint": keypoint, "total_frames": 4, **others}


def write(folder: Path, content: Any = None, *, split: Any = None, protocol: int = 4) -> Path:
    if isinstance(content, dict | list) and split is not None:
        content = {"split": split, "annotations": content}
    path = folder / "poses.pkl"
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol=protocol))
    return path


@pytest.mark.parametrize("layout", [NTU_RGBD_25, KINECT_V1_20])
def test_positions_in_metres(tmp_path: Path, layout: Any) -> None:
    path = raw_files.make_annotations(tmp_path / "ntu.pkl", count=20, layout=layout)
    stored = pickle.loads(path.read_bytes())
    found = read_annotations(str(path), layout=layout)
    assert found.names == tuple(a["frame_dir"] for a in stored["annotations"])
    assert found.names[3] == "S001C001P001R001A015"
    assert found.labels.dtype == np.int64
    assert found.labels.tolist() == [0, 1, 2, 3] * 5
    assert found.missing == ()
    assert {name: list(ids) for name, ids in found.splits.items()} == stored["split"]
    assert len(found.clips) == 20
    for entry, clip in zip(stored["annotations"], found.clips, strict=True):
        bodies = 1 + (entry["label"] == 3)
        assert clip.layout is layout
        assert clip.positions.dtype == np.float32
        assert np.array_equal(clip.positions, entry["keypoint"].astype(np.float32).transpose(3, 1, 2, 0))
        assert clip.body_ids.tolist() == [[0, 1 if bodies == 2 else -1]] * entry["total_frames"]
    assert [clip.positions.shape for clip in found.clips[2:4]] == [found.clips[i].positions.shape for i in (2, 3)]
    assert found.clips[-1].positions.shape == found.clips[19].positions.shape


def test_positions_in_pixels_with_and_without_score(tmp_path: Path) -> None:
    path = raw_files.make_annotations(tmp_path / "coco.pkl", count=8, layout=COCO_17)
    stored = pickle.loads(path.read_bytes())["annotations"]
    plain, scored = read_annotations(path, layout=COCO_17), read_annotations(path, layout=COCO_17, with_score=True)
    for entry, clip, with_score in zip(stored, plain.clips, scored.clips, strict=True):
        assert clip.positions.shape == (2, entry["total_frames"], 17, 1 + (entry["label"] == 3))
        assert np.array_equal(with_score.positions[:2], clip.positions)
        assert np.array_equal(with_score.positions[2].transpose(2, 0, 1), entry["keypoint_score"].astype(np.float32))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
def test_every_protocol_and_precision(tmp_path: Path, protocol: int, dtype: Any) -> None:
    keypoint = np.asfortranarray(np.random.default_rng(1).normal(size=(2, 3, 17, 3)).astype(dtype))
    entries = [annotation("v0", np.int64(3), keypoint=keypoint, total_frames=np.int32(3))]
    path = write(tmp_path, entries, split={"a": np.array(["v0"]), "b": ()}, protocol=protocol)
    found = read_annotations(path, layout=COCO_17)
    assert found.labels.tolist() == [3]
    assert found.splits == {"a": ("v0",), "b": ()}
    assert np.array_equal(found.clips[0].positions, keypoint.astype(np.float32).transpose(3, 1, 2, 0))


def test_a_list_of_annotations_alone_has_no_splits(tmp_path: Path) -> None:
    entry = annotation()
    del entry["total_frames"]
    found = read_annotations(write(tmp_path, [entry]), layout=COCO_17)
    assert found.names == ("v0",)
    assert found.splits == {}
    assert found.clips[0].positions.shape == (2, 4, 17, 1)


def test_absent_bodies_and_no_frames(tmp_path: Path) -> None:
    keypoint = np.ones((2, 3, 17, 2), dtype=np.float32)
    keypoint[1, 0] = keypoint[0, 2] = 0
    empty = annotation("v1", keypoint=np.zeros((1, 0, 17, 2)), total_frames=0)
    path = write(tmp_path, [annotation(keypoint=keypoint, total_frames=3), empty])
    some, none = read_annotations(path, layout=COCO_17).clips
    assert some.body_ids.tolist() == [[0, -1], [0, 1], [-1, 1]]
    assert none.positions.shape == (2, 0, 17, 1)


def test_names_without_an_annotation_are_listed(tmp_path: Path) -> None:
    path = write(tmp_path, [annotation("v0"), annotation("v1")], split={"a": ["v1", "v9"], "b": ["v3", "v0", "v9"]})
    found = read_annotations(path, layout=COCO_17)
    assert found.splits == {"a": ("v1",), "b": ("v0",)}
    assert found.missing == ("v3", "v9")


class Runs:
    """Asks a careless reader to call something."""

    def __init__(self, call: Any, *arguments: Any) -> None:
        self.call = (call, arguments)

    def __reduce__(self) -> Any:
        return self.call


def test_a_hostile_pickle_is_refused_by_name_and_runs_nothing(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    hostile = {"split": {}, "annotations": [annotation(keypoint=Runs(subprocess.run, ["touch", str(victim)]))]}
    path = write(tmp_path, hostile)
    text = (
        f"read_annotations: `{path}` must hold lists, tuples, strings, numbers and NumPy values only, "
        "got a reference to 'subprocess.run'. Unpickling it could run any code."
    )
    with pytest.raises(SkeletonFormatError, match=re.escape(text)):
        read_annotations(path)
    assert not victim.exists()


GOOD = annotation()
TWICE = [annotation("v0"), annotation("v0")]
LISTS = "must hold lists of names under 'split', got "
FORM = "must hold a dict with the keys 'split' and 'annotations', or a list of annotations, got "


@pytest.mark.parametrize(
    ("content", "split", "text"),
    [
        (b"", None, "must be a whole pickle file, got an error on reading it: "),
        (7, None, f"{FORM}7."),
        ({"split": {}}, None, f"{FORM}a value of type dict."),
        ([], {}, "must hold a list of annotations, at least one, got none."),
        ({"a": 1}, {}, "must hold a list of annotations, at least one, got a value of type dict."),
        ([GOOD, 5], {}, "must hold a dict as annotation 1, got 5."),
        ([annotation(frame_dir=None)], {}, "must hold a name under 'frame_dir' in annotation 0, got None."),
        ([annotation("")], {}, "must hold a name under 'frame_dir' in annotation 0, got ''."),
        *(
            ([annotation(name)], {}, f"must hold one line of text under 'frame_dir' in annotation 0, got {name!r}.")
            for name in ("v1\r", "v\n1", "v\0", "\udce9")
        ),
        (TWICE, {}, "must name each sequence once in its annotations, got 'v0' twice."),
        ([annotation(label=-1)], {}, "must hold a class from 0 under 'label' in annotation 'v0', got -1."),
        ([annotation(label=np.int64(-7))], {}, "must hold a class from 0 under 'label' in annotation 'v0', got -7."),
        ([annotation(label=True)], {}, "must hold a class from 0 under 'label' in annotation 'v0', got True."),
        ([annotation(label=0.5)], {}, "must hold a class from 0 under 'label' in annotation 'v0', got 0.5."),
        ([annotation(label=10**9)], {}, "must hold a class from 0 under 'label' in annotation 'v0', got 1000000000."),
        ([GOOD], [["v0"]], "must hold a dict under 'split', got a value of type list."),
        ([GOOD], {"a": "v0"}, f"{LISTS}'v0' under 'a'."),
        ([GOOD], {1: ["v0"]}, f"{LISTS}a value of type list under 1."),
        ([GOOD], {"a": np.array("v0")}, f"{LISTS}an array of <U2 and shape () under 'a'."),
        ([GOOD], {"a": [0]}, "must hold names in its split 'a', got 0."),
        ([GOOD], {"a": ["v0", "v0"]}, "must name each sequence once in its split 'a', got 'v0' twice."),
    ],
)  # fmt: skip
def test_wrong_files_are_named(tmp_path: Path, content: Any, split: Any, text: str) -> None:
    path = write(tmp_path, content, split=split)
    with pytest.raises(SkeletonFormatError, match=re.escape(f"read_annotations: `{path}` {text}")):
        read_annotations(path, layout=COCO_17)


def zeros(*shape: int, dtype: Any = np.float32) -> dict[str, Any]:
    return {"keypoint": np.zeros(shape, dtype=dtype), "total_frames": shape[1] if len(shape) > 1 else 0}


KEYPOINT = "must hold an array of floating point under 'keypoint' in annotation 'v1', got "
TOTAL = "must hold total_frames equal to the 4 frames of keypoint in annotation 'v1', got "
FINITE = "must hold finite numbers only, got NaN or infinity in frame 0 in annotation "
PLANE = "must hold positions in the plane where scores become a coordinate in annotation 'v0', got positions in space."
SCORE_SHAPE = "must hold keypoint_score of shape (1, 4, 17) in annotation 'v0', got "
SHAPE = "must hold keypoint of shape (M, T, 17, 2 or 3) for layout 'COCO_17', M at least 1, in annotation 'v1', got "


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"keypoint": None}, f"{KEYPOINT}None."),
        ({"keypoint": [[0.5]]}, f"{KEYPOINT}a value of type list."),
        (zeros(1, 4, 17, 2, dtype=int), f"{KEYPOINT}an array of int64 and shape (1, 4, 17, 2)."),
        (zeros(4, 17, 2), f"{SHAPE}(4, 17, 2)."),
        (zeros(1, 4, 25, 3), f"{SHAPE}(1, 4, 25, 3)."),
        (zeros(1, 4, 17, 4), f"{SHAPE}(1, 4, 17, 4)."),
        (zeros(0, 4, 17, 2), f"{SHAPE}(0, 4, 17, 2)."),
        ({"total_frames": 5}, f"{TOTAL}5."),
        ({"total_frames": "4"}, f"{TOTAL}'4'."),
        ({"keypoint": np.full((1, 4, 17, 2), np.nan)}, f"{FINITE}'v1'."),
        ({"keypoint": np.full((1, 4, 17, 2), 1e39)}, f"{FINITE}'v1'."),
    ],
)  # fmt: skip
def test_a_wrong_clip_is_named_when_it_is_asked_for(tmp_path: Path, wrong: dict[str, Any], text: str) -> None:
    path = write(tmp_path, [annotation("v0"), annotation("v1", **wrong)])
    found = read_annotations(path, layout=COCO_17)
    assert found.clips[0].positions.shape == (2, 4, 17, 1)
    with pytest.raises(SkeletonFormatError, match=re.escape(f"read_annotations: `{path}` {text}")):
        found.clips[1]


SCORE = np.ones((1, 4, 17))


@pytest.mark.parametrize(
    ("score", "text"),
    [
        ({}, "must hold an array of floating point under 'keypoint_score' in annotation 'v0', got None."),
        ({"keypoint_score": SCORE[:, :3]}, f"{SCORE_SHAPE}(1, 3, 17)."),
        ({"keypoint_score": SCORE * np.inf}, f"{FINITE}'v0'."),
        (zeros(1, 4, 17, 3) | {"keypoint_score": SCORE}, PLANE),
    ],
)  # fmt: skip
def test_wrong_scores_are_named(tmp_path: Path, score: dict[str, Any], text: str) -> None:
    path = write(tmp_path, [annotation(**score)])
    with pytest.raises(SkeletonFormatError, match=re.escape(f"read_annotations: `{path}` {text}")):
        list(read_annotations(path, layout=COCO_17, with_score=True).clips)


def test_another_layout_is_proposed(tmp_path: Path) -> None:
    path = write(tmp_path, [annotation()])
    with pytest.raises(SkeletonFormatError, match=re.escape("got (1, 4, 17, 2). Pass layout=COCO_17.")):
        list(read_annotations(path).clips)
    with pytest.raises(TypeError, match="read_annotations: `layout` must be a SkeletonLayout, got 'COCO_17'"):
        read_annotations(path, layout="COCO_17")  # type: ignore[arg-type]
