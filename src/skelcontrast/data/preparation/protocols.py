"""How the data sets are split into training and test, and how many samples their authors count in each part."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from skelcontrast import _check
from skelcontrast.data.clip import SkeletonFormatError
from skelcontrast.data.readers._reading import brief, read_ascii
from skelcontrast.data.readers.ntu import NAME as NTU_NAME
from skelcontrast.data.readers.utd_mhad import TRAIN_SUBJECTS

DatasetName = Literal["ntu60", "ntu120", "pku1", "pku2", "nw-ucla", "utd-mhad", "pickle"]
Part = Literal["train", "test", ""]
"""Where a protocol puts a sample; the empty one where it uses the sample for nothing."""

NTU60_SUBJECTS = (1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38)
NTU120_SUBJECTS = (
    *NTU60_SUBJECTS,
    45, 46, 47, 49, 50, 52, 53, 54, 55, 56, 57, 58, 59, 70, 74, 78, 80, 81, 82, 83, 84, 85, 86, 89, 91, 92, 93, 94, 95,
    97, 98, 100, 103,
)  # fmt: skip


class SplitCount(NamedTuple):
    """How many samples a protocol has for training and for testing.

    Example:
        >>> SplitCount(40091, 16487).train
        40091
    """

    train: int
    test: int


@dataclass(frozen=True)
class Protocol:
    """A way to split a data set by who is seen, by which camera, or by where the cameras stand.

    Example:
        >>> views = Protocol("xview", "camera", train=(2, 3), published=SplitCount(37646, 18932))
        >>> views.part(3), views.part(1)
        ('train', 'test')
    """

    name: str
    """Name, such as ``"xsub"``."""
    by: Literal["subject", "camera", "setup"]
    """What decides."""
    train: tuple[int, ...]
    """The subjects, cameras or setups for training; all others are for testing."""
    published: SplitCount
    """The counts that the data set's authors give."""

    def part(self, number: int) -> Part:
        """Return the part of a sample of this subject, camera or setup."""
        return "train" if number in self._trains else "test"

    @cached_property
    def _trains(self) -> frozenset[int]:
        return frozenset(self.train)


PROTOCOLS: Mapping[str, tuple[Protocol, ...]] = {
    "ntu60": (
        Protocol("xsub", "subject", NTU60_SUBJECTS, SplitCount(40091, 16487)),
        Protocol("xview", "camera", (2, 3), SplitCount(37646, 18932)),
    ),
    "ntu120": (
        Protocol("xsub", "subject", NTU120_SUBJECTS, SplitCount(63026, 50919)),
        Protocol("xset", "setup", tuple(range(2, 33, 2)), SplitCount(54468, 59477)),
    ),
    "nw-ucla": (Protocol("xview", "camera", (1, 2), SplitCount(1020, 464)),),
    "utd-mhad": (Protocol("xsub", "subject", TRAIN_SUBJECTS, SplitCount(431, 430)),),
}


def published_protocols(dataset: DatasetName) -> tuple[Protocol, ...]:
    """Return the protocols that a data set's authors define by numbers in the samples' names.

    Args:
        dataset: Name of the data set, as `prepare` takes it.

    Returns:
        Cross-subject (``"xsub"``) and cross-view (``"xview"``) for NTU-60, cross-subject and cross-setup (``"xset"``)
        for NTU-120, cross-view for NW-UCLA, cross-subject for UTD-MHAD. None for PKU-MMD and annotation pickles,
        whose protocols come as lists of names with the data.

    Raises:
        ValueError: If there is no such data set.

    References:
        Shahroudy et al., CVPR 2016 (NTU-60); Liu et al., TPAMI 2020 (NTU-120), whose counts are without the samples
        with missing skeletons; Wang et al., CVPR 2014 (NW-UCLA); Chen et al., ICIP 2015 (UTD-MHAD).

    Example:
        >>> subjects, views = published_protocols("ntu60")
        >>> views.name, views.train, views.published
        ('xview', (2, 3), SplitCount(train=37646, test=18932))
        >>> len(published_protocols("ntu120")[0].train)
        53
    """
    _check.choice("published_protocols", "dataset", dataset, get_args(DatasetName))
    return PROTOCOLS.get(dataset, ())


def listed_part(name: str, training: Collection[str], others: Collection[str]) -> Part:
    """Return the part of a sample in a protocol that lists names."""
    return "train" if name in training else "test" if name in others else ""


def read_missing_skeletons(path: Path | str) -> frozenset[str]:
    r"""Read the authors' list of NTU RGB+D samples with missing or incomplete skeletons.

    Args:
        path: The file, such as ``NTU_RGBD_samples_with_missing_skeletons.txt`` (302 names for NTU-60; 535 for
            NTU-120): a name a line, behind any lines of explanation.

    Returns:
        The names, such as ``S001C002P005R002A008``.

    Raises:
        OSError: If the file cannot be opened.
        SkeletonFormatError: If it is not plain text, has no name, or something else behind the first name; the
            message names file and line.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "missing.txt"
        >>> _ = path.write_text("These are incomplete.\n\nS001C002P005R002A008\nS001C002P006R001A008\n")
        >>> sorted(read_missing_skeletons(path))
        ['S001C002P005R002A008', 'S001C002P006R001A008']
    """
    owner = "read_missing_skeletons"
    names: set[str] = set()
    for number, row in enumerate(read_ascii(owner, Path(path)).split("\n"), 1):
        name = row.strip()
        if NTU_NAME.fullmatch(name):
            names.add(name.removesuffix(".skeleton"))
        elif names and name:
            must = "be the name of a sample, such as S001C002P005R002A008"
            raise SkeletonFormatError(owner, path, must, brief(name), line=number)
    if not names:
        raise SkeletonFormatError(owner, path, "hold names of samples, such as S001C002P005R002A008", "none")
    return frozenset(names)
