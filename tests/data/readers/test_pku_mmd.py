"""The readers of PKU-MMD: recordings, labels, lists, and clips cut out of a recording."""

import re
from pathlib import Path

import numpy as np
import pytest
from tests.reference import raw_files

from skelcontrast.data import (
    ActionInterval,
    SkeletonClip,
    SkeletonFormatError,
    cut,
    read_pku_mmd,
    read_pku_mmd_labels,
    read_pku_mmd_split,
)
from skelcontrast.skeleton import NTU_RGBD_25


def write(folder: Path, content: str | bytes) -> Path:
    path = folder / "0002-L.txt"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def recording(frames: int) -> SkeletonClip:
    positions = np.arange(3 * frames * 25 * 2, dtype=np.float32).reshape(3, frames, 25, 2)
    return SkeletonClip(positions, np.zeros((frames, 2), dtype=np.int64), NTU_RGBD_25)


def test_a_generated_recording_reads_as_it_was_written(tmp_path: Path) -> None:
    folder = raw_files.make_pku_folder(tmp_path, recordings=4, frames=120)
    names = sorted(path.stem for path in (folder / "Data").iterdir())
    assert names == ["0002-L", "0002-M", "0002-R", "0003-L"]
    clip = read_pku_mmd(folder / "Data" / "0003-L.txt")
    labels = read_pku_mmd_labels(str(folder / "Label" / "0003-L.txt"))
    assert clip.positions.shape == (3, 120, 25, 2)
    assert clip.positions.dtype == np.float32
    assert clip.layout is NTU_RGBD_25
    assert clip.tracking is None
    assert [tuple(label) for label in labels] == [(15, 8, 48, 1), (1, 56, 96, 2)]
    assert clip.body_ids[:8].tolist() == [[-1, -1]] * 8
    assert clip.body_ids[8:48].tolist() == [[0, 1]] * 40
    assert clip.body_ids[48:104].tolist() == [[0, -1]] * 56
    assert clip.body_ids[104:].tolist() == [[-1, -1]] * 16, "no time for another action"
    shown = raw_files.performance(15, 1 + 3 % 8, 1, 40)
    np.testing.assert_allclose(cut(clip, labels[0]).positions.transpose(1, 3, 2, 0), shown, rtol=1e-6)
    split = read_pku_mmd_split(folder / "cross-view.txt")
    assert split.training == ("0002-M", "0002-R")
    assert split.others == ("0002-L", "0003-L")


def test_numbers_stand_in_the_order_of_body_joint_axis(tmp_path: Path) -> None:
    rows = np.arange(300).reshape(2, 150)
    text = " ".join(map(str, rows[0])) + "\r\n " + " ".join(map(str, rows[1])) + " \r\n\r\n"
    clip = read_pku_mmd(write(tmp_path, text))
    for t, v, m in np.ndindex(2, 25, 2):
        assert clip.positions[:, t, v, m].tolist() == [rows[t, 75 * m + 3 * v + axis] for axis in range(3)]


FRAME = "0.5 " * 75 + "0 " * 75


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("", "line 1, must hold the 150 numbers of a frame (2 bodies of 25 joints, x y z), got 0."),
        ("\n \n", "line 1, must hold the 150 numbers of a frame (2 bodies of 25 joints, x y z), got 0."),
        (FRAME + "\n\n " + FRAME, "line 2, must hold the 150 numbers of a frame"),
        (FRAME + "\n " + FRAME[:-2], "line 2, must hold the 150 numbers of a frame (2 bodies of 25 joints, x y z)"),
        ("0 " * 149, "line 1, must hold the 150 numbers of a frame (2 bodies of 25 joints, x y z), got 149."),
        (FRAME + "\n 1_0 " + FRAME[4:], "line 2, must hold finite numbers only, got '1_0'."),
        (FRAME + "\n x" + FRAME, "line 2, must hold finite numbers only, got 'x0.5'."),
        (FRAME + "\n nan " + FRAME[4:], "line 2, must hold finite numbers only, got NaN or infinity in frame 1."),
        (FRAME + "\n -inf " + FRAME[4:], "line 2, must hold finite numbers only, got NaN or infinity in frame 1."),
        ("1e39 " + FRAME[4:], "line 1, must hold finite numbers only, got NaN or infinity in frame 0."),
        (FRAME.encode() + b"\n \xff", "line 2, must be plain text (ASCII), got the byte 0xff."),
        (b"\0" * 9, "line 1, must be plain text (ASCII), got the byte 0x00."),
        (FRAME.encode("utf-16"), "line 1, must be plain text (ASCII), got the byte 0xff."),
        ("9" * 5000 + " " + FRAME, "got 151."),
        (FRAME + "\n " + "x" * 5000 + " " + FRAME[4:], f"line 2, must hold finite numbers only, got '{'x' * 40}'...."),
    ],
)  # fmt: skip
def test_wrong_recordings_are_named_with_their_line(tmp_path: Path, content: str | bytes, text: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(SkeletonFormatError, match=re.escape(f"read_pku_mmd: `{path}`, line ")) as caught:
        read_pku_mmd(path)
    assert text in str(caught.value)


def test_a_carriage_return_within_a_line(tmp_path: Path) -> None:
    path = write(tmp_path, FRAME.replace(" ", "\r", 1))
    with pytest.raises(SkeletonFormatError, match=re.escape(f"`{path}` must hold rows of 150 numbers, got ")):
        read_pku_mmd(path)


def test_labels_may_have_blanks_and_decimals(tmp_path: Path) -> None:
    labels = read_pku_mmd_labels(write(tmp_path, " 51, 0 ,9,0.5\r\n\n1,9,99,2"))
    assert labels == (ActionInterval(51, 0, 9, 0.5), ActionInterval(1, 9, 99, 2.0))


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("", "must hold at least one row action,start,end,confidence, got none."),
        ("1,2,3,1\n1,2,3\n", "line 2, must be four numbers action,start,end,confidence, none below 0, got '1,2,3'."),
        ("1,-2,3,1", "line 1, must be four numbers action,start,end,confidence, none below 0, got '1,-2,3,1'."),
        ("1,2,3,nan", "line 1, must be four numbers"),
        ("1,2,9999999999,1", "line 1, must be four numbers"),
        ("0,2,3,1", "line 1, must name an action from 1 to 51, got 0."),
        ("1,2,3,1\n52,2,3,1", "line 2, must name an action from 1 to 51, got 52."),
        ("1,3,3,1", "line 1, must end after its start, got start 3 and end 3."),
        ("1,2,3,\u0661", "line 1, must be plain text (ASCII), got the byte 0xd9."),
    ],
)
def test_wrong_labels_are_named_with_their_line(tmp_path: Path, content: str, text: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(SkeletonFormatError, match=re.escape(text)) as caught:
        read_pku_mmd_labels(path)
    assert str(caught.value).startswith(f"read_pku_mmd_labels: `{path}`")


def test_lists_may_end_with_a_comma(tmp_path: Path) -> None:
    split = read_pku_mmd_split(write(tmp_path, "Training videos: \n0002-L,0002-M, \nValidation:\n A10N08-L\n\n"))
    assert split.training == ("0002-L", "0002-M")
    assert split.others == ("A10N08-L",)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("", "must hold a header, the names for training, a header, and the other names, got 0 lines that are not"),
        ("T:\na\nV:\n", "got 3 lines that are not blank."),
        ("a\nT:\nb\nV:", "line 1, must be a header, not names, got 'a'."),
        ("T:\na\nb,c\nV:", "line 3, must be a header, not names, got 'b,c'."),
        ("T:\na b\nV:\nc", "line 2, must be names with commas between them, got 'a b'."),
        ("T:\na\nV:\n,", "line 4, must be names with commas between them, got ','."),
        ("T:\na,,b\nV:\nc", "line 2, must be names with commas between them, got 'a,,b'."),
        ("T:\na,b\nV:\nc,a", "line 4, must name each recording once, got 'a' twice."),
    ],
)  # fmt: skip
def test_wrong_lists_are_named_with_their_line(tmp_path: Path, content: str, text: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(SkeletonFormatError, match=re.escape(text)) as caught:
        read_pku_mmd_split(path)
    assert str(caught.value).startswith(f"read_pku_mmd_split: `{path}`")


def test_a_clip_ends_with_its_recording_at_the_latest() -> None:
    whole = recording(10)
    for start, end, frames in ((0, 10, 10), (3, 5, 2), (9, 10, 1), (4, 99, 6)):
        clip = cut(whole, ActionInterval(1, start, end, 1.0))
        assert np.array_equal(clip.positions, whole.positions[:, start : start + frames])
        assert clip.body_ids.shape == (frames, 2)
        assert clip.tracking is None


def test_a_cut_keeps_how_sure_the_sensor_was() -> None:
    whole = recording(6)
    tracking = np.arange(6 * 25 * 2, dtype=np.int8).reshape(6, 25, 2)
    clip = cut(SkeletonClip(whole.positions, whole.body_ids, NTU_RGBD_25, tracking), ActionInterval(1, 2, 4, 1.0))
    assert clip.tracking is not None
    assert np.array_equal(clip.tracking, tracking[2:4])


@pytest.mark.parametrize(("start", "end"), [(10, 12), (99, 100), (5, 5), (-1, 3)])
def test_a_label_beyond_its_recording_is_an_error(start: int, end: int) -> None:
    text = f"cut: `0002-L.txt` must have the frames of its labels; it has 10, got a label from {start} to {end}."
    with pytest.raises(SkeletonFormatError, match=re.escape(text)):
        cut(recording(10), ActionInterval(1, start, end, 1.0), source="0002-L.txt")
