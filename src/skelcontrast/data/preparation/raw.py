"""What a raw folder holds: samples, whom they show, and what is left out. Plain data that travels between processes."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from skelcontrast.data.clip import SkeletonClip
from skelcontrast.data.preparation.protocols import DatasetName, Part, SplitCount
from skelcontrast.skeleton import SkeletonLayout

FILES = ("report.json", "samples.csv", "positions.npy")
"""The files of a prepared folder."""
UNFINISHED = ".unfinished"
"""What the name of a folder ends with in which a preparation goes on."""


@dataclass(frozen=True, slots=True)
class RawSample:
    """One sample of a raw folder: what is known of it without reading its motion. Numbers are `None` if unknown.

    Example:
        >>> RawSample("a1_s1_t1", 0, "a1_s1_t1_skeleton.mat", ("train",), subject=1).camera is None
        True
    """

    name: str
    """Name of the sample, such as ``S001C002P003R002A013``."""
    label: int
    """Its class, from 0."""
    file: str
    """The file that holds it, as a path inside the raw folder."""
    parts: tuple[Part, ...] = ()
    """Where each protocol of the data set puts it, in their order."""
    subject: int | None = None
    """Who is seen."""
    camera: int | None = None
    """Which camera sees it."""
    setup: int | None = None
    """Where the cameras stand."""
    replication: int | None = None
    """Which repetition it is."""
    span: tuple[int, int] | None = None
    """The frames of the file that it takes, from the first to the one behind the last; all of them if `None`."""
    place: int | None = None
    """Which of the sequences of the file it is; the only one if `None`."""


class SkippedSample(NamedTuple):
    """A sample or a file that is left out, and why."""

    name: str
    """Name of the sample, or of the file."""
    file: str
    """The file, as a path inside the raw folder."""
    kind: Literal["broken", "no body", "listed"]
    """Not as its format says; without anybody in it; on the list of samples with missing skeletons."""
    reason: str
    """What is wrong, in words."""


@dataclass(frozen=True)
class RawDataset:
    """The samples of a raw folder."""

    name: DatasetName
    """Name of the data set."""
    root: Path
    """The folder, or the file of annotations."""
    layout: SkeletonLayout
    """The skeleton."""
    samples: tuple[RawSample, ...]
    """All samples, sorted by name; those of one file stand together."""
    num_classes: int | None = None
    """Number of classes that the data set has, seen here or not; `None` if it does not say."""
    class_names: tuple[str, ...] | None = None
    """Name of each class, where the data set has them."""
    protocols: tuple[str, ...] = ()
    """Names of the protocols."""
    published: tuple[SplitCount | None, ...] = ()
    """How many samples the data set's authors count for each protocol; `None` where they do not."""
    left_out: tuple[SkippedSample, ...] = ()
    """What is left out already, such as files whose names or labels are not as they should be."""
    passed_over: int = 0
    """Number of files that belong to something else, such as NTU-120's additional actions in a list for NTU-60."""
    absent: int = 0
    """Number of names in the splits of a pickle that no sequence has."""
    bodies: int = 2
    """How many bodies a sample of this data set has at most."""
    origin: str | None = None
    """Joint that is usually put at the origin."""
    coordinates: int = 3
    """Number of coordinates C of its positions."""
    clips: Sequence[SkeletonClip] = ()
    """The sequences of a pickle, which are in memory; those of all other data sets stay in their files."""

    def __repr__(self) -> str:
        return f"RawDataset('{self.name}', {len(self.samples)} samples, {len(self.left_out)} left out, '{self.root}')"


def files_below(root: Path, suffix: str) -> Iterator[str]:
    """Yield the paths inside a folder of the files with this suffix, in a fixed order.

    Links to folders are followed, into each folder once. Hidden files and what `prepare` makes are left out.
    """

    def refuse(error: OSError) -> None:
        raise error  # a folder that cannot be read would else be passed over

    seen = set()
    for folder, folders, files in os.walk(root, onerror=refuse, followlinks=True):
        status = Path(folder).stat()
        identity = status.st_dev, status.st_ino
        if identity in seen or set(FILES).issubset(files):
            folders.clear()
            continue
        seen.add(identity)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not name.endswith(UNFINISHED))
        inside = Path(folder).relative_to(root).as_posix()
        for name in sorted(files):
            if name.endswith(suffix) and not name.startswith("."):
                yield name if inside == "." else f"{inside}/{name}"


def without_repeated(samples: Iterable[RawSample]) -> tuple[tuple[RawSample, ...], tuple[SkippedSample, ...]]:
    """Return the samples sorted by name, and apart those whose name several files have: nobody knows which is right."""
    found = sorted(samples, key=lambda sample: (sample.name, sample.file))
    count = Counter(sample.name for sample in found)
    reason = "must be the only file of its name, got another in another folder."
    twice = (
        SkippedSample(one.name, one.file, "broken", f"`{one.file}` {reason}") for one in found if count[one.name] > 1
    )
    return tuple(one for one in found if count[one.name] == 1), tuple(twice)
