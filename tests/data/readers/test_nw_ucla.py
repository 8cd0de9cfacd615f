"""The reader of NW-UCLA's JSON files and of their names."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.reference import raw_files

from skelcontrast.data import NWUCLAName, SkeletonFormatError, read_nw_ucla
from skelcontrast.skeleton import KINECT_V1_20

NAME = "a01_s01_e00_v01"


def write(folder: Path, content: Any) -> Path:
    path = folder / f"{NAME}.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def test_a_generated_folder_reads_as_it_was_written(tmp_path: Path) -> None:
    paths = sorted(raw_files.make_nw_ucla_folder(tmp_path).iterdir())
    names = [NWUCLAName.parse(path.stem) for path in paths]
    assert len(paths) == 60
    assert sorted({name.action for name in names}) == [1, 2, 3, 4, 5, 6, 8, 9, 11, 12]
    assert sorted({name.label for name in names}) == list(range(10))
    lengths = []
    for path in paths:
        clip = read_nw_ucla(path)
        stored = json.loads(path.read_text())["skeletons"]
        assert clip.layout is KINECT_V1_20
        assert clip.body_ids.tolist() == [[0]] * len(stored)
        assert np.array_equal(clip.positions[..., 0].transpose(1, 2, 0), np.array(stored, dtype=np.float32))
        lengths.append(len(stored))
    assert min(lengths) == 1


def test_what_else_is_in_a_file_is_passed_over(tmp_path: Path) -> None:
    frame = [[1, 2, -3]] * 20
    text = json.dumps({"skeletons": [frame, [[0, 0, 0]] * 20], "label": "x"})
    clip = read_nw_ucla(str(write(tmp_path, b"\xef\xbb\xbf" + b'{"skeletons": 5,' + text[1:].encode())))
    assert clip.positions[:, 0, :, 0].T.tolist() == frame
    assert clip.body_ids.tolist() == [[0], [-1]]


def test_names() -> None:
    assert NWUCLAName.parse(NAME) == (1, 1, 0, 1)
    assert NWUCLAName.parse("a12_s10_e04_v03.json") == (12, 10, 4, 3)
    assert [NWUCLAName(code, 1, 0, 1).label for code in (1, 6, 8, 9, 11, 12)] == [0, 5, 6, 7, 8, 9]


@pytest.mark.parametrize("name", ["", "a01_s01_e00", "a01_s01_e00_v01.txt", " a01_s01_e00_v01", "a9999_s01_e00_v01"])
def test_names_of_another_form(name: str) -> None:
    text = f"NWUCLAName.parse: `{name}` must be named a<action>_s<subject>_e<episode>_v<view>, got '{name}'."
    with pytest.raises(SkeletonFormatError, match=re.escape(text)):
        NWUCLAName.parse(name)


def test_an_action_that_does_not_exist() -> None:
    text = "must name an action with one of the codes 1, 2, 3, 4, 5, 6, 8, 9, 11, 12, got 7."
    with pytest.raises(SkeletonFormatError, match=re.escape(text)):
        NWUCLAName.parse("a07_s01_e00_v01")


ONLY = " must hold numbers only in its skeletons, got values of type "
FINITE = " must hold finite numbers only, got "
SHAPE = " must hold skeletons of shape (frames, 20, 3), at least one frame, got "


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", ", line 1, must be JSON, got Expecting value."),
        (b'{\n"skeletons": [,]}', ", line 2, must be JSON, got Expecting value."),
        (b"\xff\xfe\xfa", " must be JSON in UTF-8, got an error on reading it: 'utf"),
        (b'{"skeletons": ' + b"9" * 5000 + b"}", " must be JSON in UTF-8, got an error on reading it: Exceeds"),
        (b"[" * 200_000, " must be JSON, got lists nested too deeply."),
        (b'{"a":' * 200_000, " must be JSON, got lists nested too deeply."),
        ([1], " must be an object with the key 'skeletons', got a value of type list."),
        ({"label": 1}, " must be an object with the key 'skeletons', got a value of type dict."),
        ({"skeletons": "abc"}, f"{SHAPE}'abc'."),
        ({"skeletons": []}, f"{SHAPE}(0,)."),
        ({"skeletons": [[[0, 0, 0]] * 19]}, f"{SHAPE}(1, 19, 3)."),
        ({"skeletons": [[[0, 0]] * 20]}, f"{SHAPE}(1, 20, 2)."),
        ({"skeletons": [[[[0]] * 3] * 20]}, f"{SHAPE}(1, 20, 3, 1)."),
        ({"skeletons": [[[0, 0, 0]] * 20, [[0, 0, 0]] * 19]}, f"{SHAPE}lists of different lengths or no numbers."),
        ({"skeletons": [[[0.5, 0, 10**400]] * 20]}, " must hold"),
        ({"skeletons": [[[0.5, 0, "1"]] * 20]}, f"{ONLY}float, int, str."),
        ({"skeletons": [[[0.5, 0.5, True]] * 20]}, f"{ONLY}bool, float."),
        ({"skeletons": [[[0.5, 0.5, None]] * 20]}, f"{ONLY}NoneType, float."),
        ({"skeletons": [[[10**30] * 3] * 20]}, " must hold numbers within float32, got an integer with more"),
        ({"skeletons": [[[0.5, 0.5, float("nan")]] * 20]}, f"{FINITE}NaN."),
        ({"skeletons": [[[0.5, 0.5, -float("inf")]] * 20]}, f"{FINITE}-Infinity."),
        ({"skeletons": [[[1, 1, 1]] * 20, [[0, 0, 1e39]] * 20]}, f"{FINITE}NaN or infinity in frame 1."),
    ],
)  # fmt: skip
def test_wrong_files_are_named(tmp_path: Path, content: Any, text: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(SkeletonFormatError, match=re.escape(f"read_nw_ucla: `{path}`{text}")):
        read_nw_ucla(path)
