"""The reader of NTU `.skeleton` files, against a plain one and on broken files; what the names say."""

import gzip
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
from tests.reference.ntu import read_arrays
from tests.reference.ntu_files import EMPTY, FIRST_BODY_ID, make_ntu_folder, write_ntu

from skelcontrast.data import NTUName, read_ntu
from skelcontrast.data.clip import NOBODY, SkeletonClip, SkeletonFormatError
from skelcontrast.data.readers._ntu_lines import parse_lines
from skelcontrast.data.readers._ntu_table import parse_table
from skelcontrast.skeleton import NTU_RGBD_25

JOINT = "0.5 -0.25 3.0 258 205 960 540 0.1 0.2 0.3 0.4 2"
BODY = "72057594037944738 0 1 0 0 1 0 0.02 -0.1 2"
ONE = ["1", "1", BODY, "25", *[JOINT] * 25]
SMALL = ["2", "2", BODY, "25", *[JOINT] * 25, BODY, "25", *[JOINT] * 25, "0"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return make_ntu_folder(tmp_path_factory.mktemp("ntu"), count=50, frames=16, shortest=2)


def random_clip(*, frames: int, bodies: int, seed: int = 0) -> SkeletonClip:
    """Make a clip in which bodies come and go, with the later slots of a frame empty, as a file has them."""
    rng = np.random.default_rng(seed)
    here = rng.integers(0, bodies + 1, size=frames)
    here[-1] = bodies
    ids = rng.integers(0, 2**63 - 1, size=(frames, bodies), endpoint=True)
    ids[np.arange(bodies) >= here[:, None]] = NOBODY
    positions = rng.normal(size=(3, frames, 25, bodies)).astype(np.float32)
    tracking = rng.integers(0, 3, size=(frames, 25, bodies)).astype(np.int8)
    absent = (ids == NOBODY)[:, None].repeat(25, axis=1)
    positions[:, absent], tracking[absent] = 0, 0
    return SkeletonClip(positions, ids, NTU_RGBD_25, tracking)


def assert_same(clip: SkeletonClip, other: SkeletonClip) -> None:
    assert clip.tracking is not None
    assert other.tracking is not None
    assert_same_arrays(
        (clip.positions, clip.body_ids, clip.tracking), (other.positions, other.body_ids, other.tracking)
    )


def assert_same_arrays(arrays: Sequence[npt.NDArray[Any]] | None, others: Sequence[npt.NDArray[Any]]) -> None:
    assert arrays is not None
    for one, other in zip(arrays, others, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def test_generated_files_are_read_as_the_plain_reader_does(folder: list[Path]) -> None:
    lengths, bodies = set(), set()
    for path in folder:
        clip = read_ntu(path)
        positions, ids, tracking = read_arrays(path)
        assert_same(clip, SkeletonClip(positions, ids, NTU_RGBD_25, tracking))
        assert clip.layout is NTU_RGBD_25
        lengths.add(clip.positions.shape[1])
        bodies.add(clip.positions.shape[3])
    assert len(lengths) > 5
    assert 0 in lengths
    assert bodies >= {1, 2}


def test_both_parsers_read_the_same_and_the_quick_one_takes_usual_files(folder: list[Path]) -> None:
    for path in folder:
        content = path.read_bytes()
        assert_same_arrays(parse_table(content), parse_lines(path, content))


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("bodies", [1, 2, 7])
def test_what_is_written_is_read_bit_for_bit(tmp_path: Path, newline: str, bodies: int) -> None:
    clip = random_clip(frames=9, bodies=bodies)
    write_ntu(tmp_path / "file", clip, newline=newline)
    assert_same(read_ntu(str(tmp_path / "file")), clip)


def test_names_in_a_generated_folder_are_different_and_spread(folder: list[Path]) -> None:
    names = {NTUName.parse(path.name) for path in folder}
    assert len(names) == len(folder) == 50
    assert all(str(NTUName.parse(path.stem)) == path.stem for path in folder)
    assert all(len({name[field] for name in names}) > few for field, few in enumerate((10, 2, 20, 1, 25)))
    assert folder[EMPTY].read_bytes() == b"0\r\n"


def random_number(rng: np.random.Generator) -> str:
    """Write a number as files do, or as they might: with 1 to 20 digits, an exponent, a plus, without the point."""
    digits = "".join(map(str, rng.integers(10, size=rng.integers(1, 21))))
    before = int(rng.choice([0, 1, 1, 1, len(digits)]))
    point = "." if before < len(digits) or rng.random() < 0.5 else ""
    exponent = "" if rng.random() < 0.9 else f"e{rng.integers(-30, 15)}"
    return ("", "-", "+")[rng.integers(3)] + digits[:before] + point + digits[before:] + exponent


def test_any_way_of_writing_a_number_is_read_as_float_reads_it() -> None:
    rng = np.random.default_rng(0)
    written = [[random_number(rng) for _ in range(3)] for _ in range(60 * 25)]
    lines = ["1", "60"]
    for body in range(60):
        joints = [" ".join(numbers) + " 0 0 0 0 0 0 0 0 1" for numbers in written[25 * body : 25 * body + 25]]
        lines += [BODY, "25", *joints]
    content = "\n".join(lines).encode()
    expected = np.array([[float(number) for number in joint] for joint in written]).astype(np.float32)
    for parsed in (parse_table(content), parse_lines(Path("file"), content)):
        assert parsed is not None
        read = parsed.xyz.transpose(1, 2, 0).reshape(-1, 3)
        np.testing.assert_array_equal(read, expected)
        np.testing.assert_array_equal(np.signbit(read), np.signbit(expected))


def write(folder: Path, lines: list[str], newline: str = "\n") -> Path:
    path = folder / "S001C001P001R001A001.skeleton"
    path.write_bytes(newline.join(lines).encode())
    return path


def changed(lines: list[str], at: int, line: str) -> list[str]:
    return [*lines[: at - 1], line, *lines[at:]]


@pytest.mark.parametrize(
    "lines",
    [
        [*ONE, "", "  ", "\t", ""],
        changed(ONE, 1, "1.0"),
        changed(ONE, 2, " +1e0 "),
        changed(ONE, 4, "25.000"),
        changed(ONE, 4, "\t25"),
        changed(ONE, 29, JOINT + " "),
        changed(ONE, 29, JOINT.replace(" ", "   ")),
        changed(ONE, 29, JOINT[:-1] + "2.0"),
        changed(ONE, 29, "5e-1 -.25 +3 nan inf -1.#IND abc NaN nan nan nan 2"),
        changed(ONE, 3, BODY.replace(" 0.02 -0.1 2", " nan nan nan")),
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_unusual_files_that_say_the_same(tmp_path: Path, lines: list[str], newline: str) -> None:
    assert_same(read_ntu(write(tmp_path, lines, newline)), read_ntu(write(tmp_path, ONE)))


def test_body_ids_are_exact(tmp_path: Path) -> None:
    for written in (FIRST_BODY_ID + 1, 2**63 - 1, 0):
        content = changed(ONE, 3, BODY.replace("72057594037944738", str(written)))
        assert read_ntu(write(tmp_path, content)).body_ids.tolist() == [[written]]
    rounded = changed(ONE, 3, BODY.replace("72057594037944738", "7.2057594037944738e16"))
    assert read_ntu(write(tmp_path, rounded)).body_ids.tolist() == [[int(7.2057594037944738e16)]]


def test_two_bodies_of_one_id_are_both_there(tmp_path: Path) -> None:
    clip = read_ntu(write(tmp_path, SMALL))
    assert clip.body_ids.tolist() == [[72057594037944738] * 2, [NOBODY] * 2]
    assert clip.positions[2, 0].tolist() == [[3.0, 3.0]] * 25


@pytest.mark.parametrize(("lines", "frames"), [(["0"], 0), (["3", "0", "0", "0"], 3)])
def test_files_without_bodies_are_legal(tmp_path: Path, lines: list[str], frames: int) -> None:
    clip = read_ntu(write(tmp_path, lines))
    assert clip.positions.shape == (3, frames, 25, 1)
    assert not clip.positions.any()
    assert clip.body_ids.tolist() == [[NOBODY]] * frames
    assert clip.tracking is not None
    assert clip.tracking.shape == (frames, 25, 1)


@pytest.mark.parametrize(
    ("lines", "line", "text"),
    [
        ([], 1, "be the number of frames, got the end of the file."),
        (["abc"], 1, "be the number of frames, from 0 to 1000000, got 'abc'."),
        (["-1"], 1, "be the number of frames, from 0 to 1000000, got '-1'."),
        (["1.5"], 1, "be the number of frames, from 0 to 1000000, got '1.5'."),
        (["nan"], 1, "be the number of frames, from 0 to 1000000, got 'nan'."),
        (["1 2"], 1, "be the number of frames, in 1 value, got '1 2'."),
        (["1"], 2, "be the number of bodies in frame 1 of 1, got the end of the file."),
        (["99999", "0"], 3, "be the number of bodies in frame 2 of 99999, got the end of the file."),
        (["1000001", "0"], 1, "be the number of frames, from 0 to 1000000, got '1000001'."),
        (["2", "", "0"], 2, "be the number of bodies in frame 1 of 2, in 1 value, got ''."),
        (changed(ONE, 2, "inf"), 2, "be the number of bodies in frame 1 of 1, from 0 to 1000000, got 'inf'."),
        (changed(ONE, 2, "2"), 30, "describe a body, got the end of the file."),
        (changed(ONE, 2, "1_0"), 2, "hold numbers in plain ASCII, got '1_0'."),
        (changed(ONE, 3, BODY[:-2]), 3, f"describe a body, in 10 values, got {BODY[:-2]!r}."),
        (changed(ONE, 3, "-" + BODY), 3, "begin with the number of a body, from 0 to 2^63 - 1, got '-720575940"),
        (changed(ONE, 3, "99" + BODY), 3, "begin with the number of a body, from 0 to 2^63 - 1, got '997205759"),
        (changed(ONE, 4, "24"), 4, "be the number of joints of a body, 25, got '24'."),
        (ONE[:10], 11, "be joint 7 of 25 of a body, got the end of the file."),
        (changed(ONE, 11, JOINT + " 2"), 11, "be joint 7 of 25 of a body, in 12 values, got '0.5 -0.25"),
        (changed(ONE, 11, JOINT[:-2]), 11, "be joint 7 of 25 of a body, in 12 values, got '0.5 -0.25"),
        (changed(ONE, 11, "nan" + JOINT), 11, "hold a finite number that fits float32 as x, got 'nan0.5'."),
        (changed(ONE, 11, "nan" + JOINT[3:]), 11, "hold a finite number that fits float32 as x, got 'nan'."),
        (changed(ONE, 29, JOINT.replace("-0.25", "-inf")), 29, "number that fits float32 as y, got '-inf'."),
        (changed(ONE, 29, JOINT.replace("3.0", "1e39")), 29, "number that fits float32 as z, got '1e39'."),
        (changed(ONE, 29, JOINT[:-1] + "3"), 29, "end in a tracking state of 0, 1 or 2, got '3'."),
        (changed(ONE, 29, JOINT[:-1] + "nan"), 29, "end in a tracking state of 0, 1 or 2, got 'nan'."),
        (changed(ONE, 29, JOINT + "é"), 29, "hold numbers in plain ASCII, got b'0.5 -0.25"),
        (changed(ONE, 29, JOINT.replace("258", "\x7f")), 29, "hold numbers in plain ASCII, got '0.5 -0.25"),
        ([*ONE, "0"], 30, "not be there in a file of 1 frames, got '0'."),
        ([*SMALL, "", "7"], 59, "not be there in a file of 2 frames, got '7'."),
        ([ONE[0], "0", *ONE[2:]], 3, "not be there in a file of 1 frames, got '720575940"),
        ([*ONE[2:], *ONE[:2]], 1, "be the number of frames, in 1 value, got '720575940"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, lines: list[str], line: int, text: str) -> None:
    path = write(tmp_path, lines)
    with pytest.raises(SkeletonFormatError, match=re.escape(text)) as caught:
        read_ntu(path)
    assert str(caught.value).startswith(f"read_ntu: `{path}`, line {line}, must ")
    assert caught.value.line == line


@pytest.mark.parametrize("encode", [lambda text: text.encode("utf-16"), lambda text: b"\xef\xbb\xbf" + text.encode()])
def test_other_encodings_are_refused(tmp_path: Path, encode: Callable[[str], bytes]) -> None:
    path = tmp_path / "file"
    path.write_bytes(encode("\n".join(ONE)))
    with pytest.raises(SkeletonFormatError, match="line 1, must hold numbers in plain ASCII, got "):
        read_ntu(path)


def test_what_is_no_text_at_all_is_shown_as_bytes(tmp_path: Path) -> None:
    (tmp_path / "S1").write_bytes(gzip.compress(b"1\n0\n", mtime=0))
    with pytest.raises(SkeletonFormatError, match=re.escape(r"must hold numbers in plain ASCII, got b'\x1f\x8b\x08")):
        read_ntu(tmp_path / "S1")


def test_one_crowded_frame_in_a_long_file_does_not_fill_the_memory(tmp_path: Path) -> None:
    lines = ["50000", *["0"] * 49_999, "21", *[BODY, "25", *[JOINT] * 25] * 21]
    text = "must have at most 1000000 frames times bodies, got 50000 frames of up to 21 bodies."
    with pytest.raises(SkeletonFormatError, match=re.escape(text)):
        read_ntu(write(tmp_path, lines))


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_ntu(tmp_path / "file")


def test_names_are_parsed() -> None:
    name = NTUName.parse("S032C003P106R002A120")
    assert name == (32, 3, 106, 2, 120)
    assert name._fields == ("setup", "camera", "performer", "replication", "action")
    assert NTUName.parse("S032C003P106R002A120.skeleton") == name


@pytest.mark.parametrize(
    "name", ["", "S001C001P001R001", "S001C001P001R001A01", "S001C001P001R001A001.txt", "s001c001p001r001a001",
             "folder/S001C001P001R001A001", "S001C001P001R001A001\n", "S\u0661\u0661\u0661C001P001R001A001"],
)  # fmt: skip
def test_other_names_are_refused(name: str) -> None:
    text = f"NTUName.parse: `name` must look like S001C002P003R002A013, got {name!r}."
    with pytest.raises(ValueError, match=re.escape(text)):
        NTUName.parse(name)


def test_names_without_sense_are_refused() -> None:
    text = "NTUName.parse: `name` must have numbers from 001, got 'S001C000P001R001A001'."
    with pytest.raises(ValueError, match=re.escape(text)):
        NTUName.parse("S001C000P001R001A001")
    with pytest.raises(TypeError, match=re.escape("NTUName.parse: `name` must be a string, got int.")):
        NTUName.parse(cast("str", 1))
