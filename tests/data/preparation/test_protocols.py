"""Every protocol's counts from the authors' lists of names, exactly, and the lists of missing skeletons."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

from skelcontrast.data import Protocol, SkeletonFormatError, SplitCount, published_protocols, read_missing_skeletons
from skelcontrast.data.preparation.protocols import listed_part
from skelcontrast.data.preparation.sources import ntu_sample

SharedPath = Callable[[str], Path]
COUNTS = {
    "ntu60": {"xsub": (40091, 16487), "xview": (37646, 18932)},
    "ntu120": {"xsub": (63026, 50919), "xset": (54468, 59477)},
    "nw-ucla": {"xview": (1020, 464)},
    "utd-mhad": {"xsub": (431, 430)},
}
MISSING = {"ntu60": (56880, 302), "ntu120": (114480, 535)}
NTU60_SUBJECTS = [1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38]
NTU120_SUBJECTS = [
    1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38,
    45, 46, 47, 49, 50, 52, 53, 54, 55, 56, 57, 58, 59, 70, 74, 78, 80, 81, 82, 83, 84, 85, 86, 89, 91, 92, 93, 94, 95,
    97, 98, 100, 103,
]  # fmt: skip


def column(folder: Path, name: str) -> list[str]:
    return (folder / f"{name}.txt").read_text(encoding="ascii").split()


@pytest.mark.parametrize("dataset", ["ntu60", "ntu120"])
def test_counts_are_the_published_ones(dataset: Literal["ntu60", "ntu120"], shared_path: SharedPath) -> None:
    folder = shared_path(f"data/ntu_lists/{dataset}_statistics")
    samples = [ntu_sample(dataset, f"{name}.skeleton") for name in column(folder, "skes_available_name")]
    found = [sample for sample in samples if sample is not None]
    assert len(found) == len(samples)
    for place, protocol in enumerate(published_protocols(dataset)):
        parts = [sample.parts[place] for sample in found]
        assert (parts.count("train"), parts.count("test")) == protocol.published == COUNTS[dataset][protocol.name]
    for field, of_sample in {
        "setup": [sample.setup for sample in found],
        "camera": [sample.camera for sample in found],
        "performer": [sample.subject for sample in found],
        "replication": [sample.replication for sample in found],
        "label": [sample.label + 1 for sample in found],
    }.items():
        assert of_sample == [int(value) for value in column(folder, field)], field


@pytest.mark.parametrize(
    ("dataset", "file"),
    [
        ("ntu60", "NTU_RGBD_samples_with_missing_skeletons.txt"),
        ("ntu120", "NTU_RGBD120_samples_with_missing_skeletons.txt"),
    ],
)
def test_lists_of_missing_skeletons(dataset: str, file: str, shared_path: SharedPath) -> None:
    total, count = MISSING[dataset]
    missing = read_missing_skeletons(shared_path(f"data/ntu_lists/{file}"))
    available = column(shared_path(f"data/ntu_lists/{dataset}_statistics"), "skes_available_name")
    assert len(missing) == count
    assert not missing & set(available)
    assert len(missing) + len(available) == total
    assert "S001C002P005R002A008" in missing


def test_a_list_without_a_head_reads_the_same(shared_path: SharedPath) -> None:
    plain = shared_path("data/ntu_lists/ntu60_statistics/samples_with_missing_skeletons.txt")
    headed = shared_path("data/ntu_lists/NTU_RGBD_samples_with_missing_skeletons.txt")
    assert read_missing_skeletons(plain) == read_missing_skeletons(headed)


def test_the_subjects_are_those_of_the_papers() -> None:
    subjects, views = published_protocols("ntu60")
    assert list(subjects.train) == NTU60_SUBJECTS
    assert [subjects.part(number) for number in (2, 3)] == ["train", "test"]
    assert [views.part(number) for number in (1, 2, 3)] == ["test", "train", "train"]
    more, setups = published_protocols("ntu120")
    assert list(more.train) == NTU120_SUBJECTS
    assert [setups.part(number) for number in (1, 2, 31, 32)] == ["test", "train", "test", "train"]
    assert published_protocols("pku1") == published_protocols("pickle") == ()


@pytest.mark.parametrize("dataset", COUNTS)
def test_the_published_counts(dataset: Literal["ntu60", "ntu120", "nw-ucla", "utd-mhad"]) -> None:
    found = {protocol.name: protocol.published for protocol in published_protocols(dataset)}
    assert found == COUNTS[dataset]
    if dataset in MISSING:
        total, missing = MISSING[dataset]
        assert {sum(counts) for counts in found.values()} == {total - missing}


def test_protocols_of_lists_of_names() -> None:
    assert [listed_part(name, {"a"}, {"b"}) for name in "abc"] == ["train", "test", ""]
    assert Protocol("x", "setup", (4,), SplitCount(1, 1)).part(4) == "train"


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"published_protocols: `dataset` must be one of 'ntu60', .*, got 'ntu'"):
        published_protocols("ntu")  # type: ignore[arg-type]  # on purpose
    path = tmp_path / "list.txt"
    path.write_text("These are missing.\n\nS001C001P001R001A001\nS001C001P001R001A0\n")
    text = f"read_missing_skeletons: `{path}`, line 4, must be the name of a sample, such as S001C002P005R002A008, got"
    with pytest.raises(SkeletonFormatError, match=re.escape(text)):
        read_missing_skeletons(path)
    path.write_text("nothing here\n")
    with pytest.raises(SkeletonFormatError, match="must hold names of samples, such as S001C002P005R002A008, got none"):
        read_missing_skeletons(path)
    path.write_bytes(b"\xff\xfeS001")
    with pytest.raises(SkeletonFormatError, match="must be plain text"):
        read_missing_skeletons(path)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.txt"):
        read_missing_skeletons(tmp_path / "nowhere.txt")
