"""What a raw folder holds: the samples of a data set by the names of its files, before any motion is read."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

from skelcontrast import _check
from skelcontrast.data.clip import SkeletonClip, SkeletonFormatError
from skelcontrast.data.preparation._pku_source import list_pku_mmd
from skelcontrast.data.preparation.protocols import DatasetName, listed_part, published_protocols
from skelcontrast.data.preparation.raw import RawDataset, RawSample, SkippedSample, files_below, without_repeated
from skelcontrast.data.readers.annotations import read_annotations
from skelcontrast.data.readers.ntu import NAME as NTU_NAME
from skelcontrast.data.readers.ntu import NTUName
from skelcontrast.data.readers.nw_ucla import NWUCLAName
from skelcontrast.data.readers.utd_mhad import ACTIONS, UTDMHADName
from skelcontrast.skeleton import COCO_17, KINECT_V1_20, NTU_RGBD_25, UTD_MHAD_20, SkeletonLayout

OWNER = "list_raw"
NTU_ACTIONS = {"ntu60": 60, "ntu120": 120}
NTU60_SETUPS = 17
UTD_MHAD_OTHERS = ("_depth.mat", "_inertial.mat")
UNKNOWN = (None,) * 4


def list_raw(
    dataset: DatasetName, raw: Path | str, *, layout: SkeletonLayout | None = None, with_score: bool = False
) -> RawDataset:
    """List the samples of a raw folder, without reading their motion.

    Folders are searched at any depth, also through links; hidden files and what `prepare` makes are passed over. What
    is looked for:

    - ``"ntu60"``, ``"ntu120"``: files such as ``S001C002P003R002A013.skeleton``. Setups above 17 and actions above 60
      are passed over for ``"ntu60"``.
    - ``"pku1"``, ``"pku2"``: recordings such as ``0002-L.txt`` (part I) or ``A10N08-L.txt`` (part II), a file of the
      same name with the labels in a folder with "label" in its name, and the lists of the protocols, whose names hold
      "cross" and "subject" or "view". The samples are the labelled clips: ``0002-L_001`` and so on.
    - ``"nw-ucla"``: files such as ``a01_s01_e00_v01.json``.
    - ``"utd-mhad"``: files such as ``a1_s1_t1_skeleton.mat``. Those of the other sensors, such as
      ``a1_s1_t1_inertial.mat``, are passed over.
    - ``"pickle"``: `raw` is one file, see `read_annotations`.

    Args:
        dataset: Name of the data set.
        raw: The folder; for ``"pickle"`` the file.
        layout: The skeleton of the poses in a pickle, `NTU_RGBD_25` unless given; the other data sets have their own.
        with_score: For a pickle of 2-D poses, whether their scores become the third coordinate.

    Raises:
        OSError: If the folder or the file cannot be read.
        SkeletonFormatError: If a list of a protocol, or the pickle as a whole, is broken.
        ValueError: If there is no such data set, the folder has none of its files, or an option is not for it.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("S001C002P003R002A013", "S018C001P041R001A061"):
        ...     (folder / f"{name}.skeleton").touch()
        >>> found = list_raw("ntu60", folder)
        >>> [(sample.name, sample.label, sample.parts) for sample in found.samples], found.passed_over
        ([('S001C002P003R002A013', 12, ('test', 'train'))], 1)
    """
    _check.choice(OWNER, "dataset", dataset, get_args(DatasetName))
    if dataset != "pickle" and (layout is not None or with_score):
        got = f"{'`layout`' if layout is not None else '`with_score`'} for {dataset!r}"
        _check.fail(OWNER, "dataset", "be 'pickle' for the options `layout` and `with_score`", got)
    root = Path(raw)
    if not (root.is_file() if dataset == "pickle" else root.is_dir()):
        kind = "file" if dataset == "pickle" else "folder"
        _check.fail(OWNER, "raw", f"be a {kind}", str(root) if root.exists() else f"{root}, which does not exist")
    if dataset == "pickle":
        return _annotations(root, NTU_RGBD_25 if layout is None else layout, with_score=with_score)
    if dataset == "pku1" or dataset == "pku2":
        return list_pku_mmd(dataset, root)
    if dataset == "nw-ucla":
        return _nw_ucla(root)
    if dataset == "utd-mhad":
        return _utd_mhad(root)
    return _ntu(dataset, root)


def ntu_sample(dataset: Literal["ntu60", "ntu120"], file: str) -> RawSample | None:
    """Return what the name of a `.skeleton` file says, or `None` if the sample is not of this data set.

    Raises:
        ValueError: If the name is not in NTU's form.
    """
    name = NTUName.parse(_last(file))
    if name.action > NTU_ACTIONS[dataset] or (dataset == "ntu60" and name.setup > NTU60_SETUPS):
        return None
    numbers = {"subject": name.performer, "camera": name.camera, "setup": name.setup}
    parts = tuple(protocol.part(numbers[protocol.by]) for protocol in published_protocols(dataset))
    return RawSample(str(name), name.action - 1, file, parts, *_ntu_numbers(name))


def _last(file: str) -> str:
    return file.rpartition("/")[2]


def _ntu_numbers(name: NTUName) -> tuple[int, int, int, int]:
    return name.performer, name.camera, name.setup, name.replication


def _ntu(dataset: Literal["ntu60", "ntu120"], root: Path) -> RawDataset:
    example = "S001C002P003R002A013.skeleton"
    return _named_files(
        dataset, root, example, lambda file: ntu_sample(dataset, file), NTU_RGBD_25, NTU_ACTIONS[dataset]
    )


def _nw_ucla(root: Path) -> RawDataset:
    (views,) = published_protocols("nw-ucla")

    def read(file: str) -> RawSample:
        name = NWUCLAName.parse(_last(file))
        stem, part = PurePosixPath(file).stem, views.part(name.view)
        return RawSample(stem, name.label, file, (part,), name.subject, name.view, replication=name.episode)

    return _named_files("nw-ucla", root, "a01_s01_e00_v01.json", read, KINECT_V1_20, 10, bodies=1)


def _utd_mhad(root: Path) -> RawDataset:
    (subjects,) = published_protocols("utd-mhad")

    def read(file: str) -> RawSample | None:
        if file.endswith(UTD_MHAD_OTHERS):
            return None
        name = UTDMHADName.parse(_last(file))
        part = subjects.part(name.subject)
        whole = f"a{name.action}_s{name.subject}_t{name.trial}"
        return RawSample(whole, name.label, file, (part,), name.subject, replication=name.trial)

    listed = _named_files("utd-mhad", root, "a1_s1_t1_skeleton.mat", read, UTD_MHAD_20, len(ACTIONS), bodies=1)
    return replace(listed, class_names=ACTIONS, origin="hip centre")


def _annotations(path: Path, layout: SkeletonLayout, *, with_score: bool) -> RawDataset:
    content = read_annotations(path, layout=layout, with_score=with_score)
    pairs = split_pairs(content.splits)
    inside = [(frozenset(content.splits[train]), frozenset(content.splits[test])) for train, test in pairs.values()]
    for (train, test), (training, others) in zip(pairs.values(), inside, strict=True):
        both = training & others
        if both:
            must = f"name a sequence either in split {train!r} or in {test!r}"
            raise SkeletonFormatError(OWNER, path, must, f"{len(both)} in both, such as {min(both)!r}")
    samples = []
    for place, (name, label) in enumerate(zip(content.names, content.labels.tolist(), strict=True)):
        parts = tuple(listed_part(name, train, test) for train, test in inside)
        subject, camera, setup, replication = _ntu_numbers(NTUName.parse(name)) if NTU_NAME.fullmatch(name) else UNKNOWN
        samples.append(RawSample(name, label, path.name, parts, subject, camera, setup, replication, place=place))
    return RawDataset(
        "pickle",
        path,
        layout,
        tuple(samples),
        protocols=tuple(pairs),
        published=(None,) * len(pairs),
        origin=None if layout == COCO_17 or with_score else layout.joints[layout.centre],
        absent=len(content.missing),
        coordinates=_coordinates(content.clips),
        clips=content.clips,
    )


def _coordinates(clips: Sequence[SkeletonClip]) -> int:
    """Return the number of coordinates of the first sequence that is not broken."""
    for index in range(len(clips)):
        with suppress(SkeletonFormatError):
            return len(clips[index].positions)
    return 3


def split_pairs(splits: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return the protocols that splits such as ``xsub_train`` and ``xsub_val`` make up: their two names.

    ``train`` and ``test`` stand for one of two ``val``, and may stand alone (protocol ``"split"``) or in front of a
    number (``train1`` and ``test1``: protocol ``"split1"``).
    """
    known = set(splits)
    pairs = {}
    for train in sorted(known):
        protocol = train.replace("_train", "").replace("train", "split")
        for word in ("val", "test"):
            test = train.replace("train", word)
            if test != train and test in known:
                pairs[protocol] = (train, test)
    return pairs


def _named_files(
    dataset: DatasetName,
    root: Path,
    example: str,
    read: Callable[[str], RawSample | None],
    layout: SkeletonLayout,
    num_classes: int,
    *,
    bodies: int = 2,
) -> RawDataset:
    """Return the data set of files that are named like the example, under the protocols that its authors publish.

    `read` makes a sample of a file's name, or `None` of a file that belongs to something else.
    """
    found: list[RawSample] = []
    broken: list[SkippedSample] = []
    passed_over = 0
    for file in files_below(root, PurePosixPath(example).suffix):
        try:
            sample = read(file)
        except ValueError as error:
            broken.append(SkippedSample(_last(file), file, "broken", str(error)))
            continue
        if sample is None:
            passed_over += 1
        else:
            found.append(sample)
    samples, twice = without_repeated(found)
    if not samples:
        other = f", but {passed_over} files that belong to something else" if passed_over else ""
        _check.fail(OWNER, "raw", f"hold files such as {example}", f"none below {root}{other}")
    protocols = published_protocols(dataset)
    return RawDataset(
        dataset,
        root,
        layout,
        samples,
        num_classes=num_classes,
        protocols=tuple(protocol.name for protocol in protocols),
        published=tuple(protocol.published for protocol in protocols),
        left_out=(*broken, *twice),
        passed_over=passed_over,
        bodies=bodies,
        origin=layout.joints[layout.centre],
    )
