"""Damaged `.skeleton` files: each gives a clip of finite numbers or names what is wrong, soon and in little memory."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from tests.reference.mutations import Rng, choose, mutate
from tests.reference.ntu_files import FIRST_BODY_ID, write_ntu

from skelcontrast.data import read_ntu
from skelcontrast.data.clip import NOBODY, SkeletonClip, SkeletonFormatError
from skelcontrast.data.readers._ntu_lines import Parsed, parse_lines
from skelcontrast.data.readers._ntu_table import parse_table
from skelcontrast.skeleton import NTU_RGBD_25

INPUTS = 7_500
NAME = "S001C001P001R001A001.skeleton"
ODD_COUNTS = (b"0", b"-1", b"2", b"3", b"24", b"26", b"25.0", b"1e3", b"1e18", b"999999999999", b"-9e99", b"", b"x")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Return five legal files of up to two frames and three bodies."""
    path = tmp_path_factory.mktemp("fuzz") / "file"
    rng = np.random.default_rng(0)
    contents = []
    for bodies, newline in (([1], "\r\n"), ([1, 1], "\n"), ([0, 2], "\r\n"), ([1, 0, 1], "\n"), ([], "\n")):
        ids = np.full((len(bodies), 2), NOBODY)
        for frame, count in enumerate(bodies):
            ids[frame, :count] = FIRST_BODY_ID + np.arange(count)
        positions = rng.normal(size=(3, len(bodies), 25, 2)).astype(np.float32)
        write_ntu(path, SkeletonClip(positions, ids, NTU_RGBD_25), newline=newline)
        contents.append(path.read_bytes())
    return contents


def recount(content: bytes, rng: Rng) -> bytes:
    """Let one of the lines with a single number say another number."""
    lines = content.split(b"\n")
    counts = [at for at, line in enumerate(lines) if len(line.split()) == 1]
    lines[choose(counts, rng)] = choose(ODD_COUNTS, rng)
    return b"\n".join(lines)


def damaged(files: list[bytes], rng: Rng) -> bytes:
    content = choose(files, rng)
    return recount(content, rng) if rng.random() < 0.15 else mutate(content, rng, text=True)


def read(content: bytes) -> SkeletonClip | SkeletonFormatError:
    """Read a file of this content that is on no disk, where so many take long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "read_bytes", lambda _: content)
        try:
            return read_ntu(NAME)
        except SkeletonFormatError as error:
            return error


def gives_a_clip(content: bytes) -> bool:
    """Read a file; tell whether it gave a clip, which must be sound. Otherwise the error must say where."""
    clip = read(content)
    if isinstance(clip, SkeletonFormatError):
        assert str(clip).startswith(f"read_ntu: `{NAME}`, line {clip.line}, must ")
        assert len(str(clip)) < 350
        return False
    assert clip.positions.dtype == np.float32
    assert np.isfinite(clip.positions).all()
    frames, bodies = clip.body_ids.shape
    assert clip.positions.shape == (3, frames, 25, bodies)
    assert not clip.positions[:, (clip.body_ids == NOBODY)[:, None].repeat(25, axis=1)].any()
    assert clip.tracking is not None
    assert clip.tracking.shape == (frames, 25, bodies)
    assert set(np.unique(clip.tracking).tolist()) <= {0, 1, 2}
    return True


def as_bytes(parsed: Parsed) -> list[bytes]:
    return [array.tobytes() for array in (parsed.counts, parsed.ids, parsed.xyz, parsed.states)]


def test_damaged_files(files: list[bytes]) -> None:
    rng = np.random.default_rng(2024)
    legal = 0
    for _ in range(INPUTS):
        content = damaged(files, rng)
        legal += gives_a_clip(content)
        quick = parse_table(content)
        if quick is not None:  # then the careful parser must take the file, too, and find the same
            assert as_bytes(quick) == as_bytes(parse_lines(Path(NAME), content))
    assert INPUTS // 10 < legal < INPUTS // 2, "some of both"


def test_damaged_files_need_little_memory(files: list[bytes]) -> None:
    rng = np.random.default_rng(7)
    tracemalloc.start()
    try:
        for _ in range(150):
            gives_a_clip(recount(choose(files, rng), rng))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4_000_000
