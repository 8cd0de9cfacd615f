"""The samples of PKU-MMD: the clips that its label files cut out of the recordings."""

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

from skelcontrast import _check
from skelcontrast.data.clip import SkeletonFormatError
from skelcontrast.data.preparation.protocols import Part, listed_part
from skelcontrast.data.preparation.raw import RawDataset, RawSample, SkippedSample, files_below
from skelcontrast.data.readers.pku_mmd import ACTIONS, PKUSplit, read_pku_mmd_labels, read_pku_mmd_split
from skelcontrast.skeleton import NTU_RGBD_25

OWNER = "list_raw"
PROTOCOLS = {"xsub": re.compile(r"cross.?subject", re.IGNORECASE), "xview": re.compile(r"cross.?view", re.IGNORECASE)}
RECORDINGS = {"pku1": re.compile(r"\d{4}-[LMR]", re.ASCII), "pku2": re.compile(r"A\d+N\d+-[LMR]", re.ASCII)}
EXAMPLES = {"pku1": "0002-L.txt", "pku2": "A10N08-L.txt"}
CAMERAS = "LMR"


def list_pku_mmd(dataset: Literal["pku1", "pku2"], root: Path) -> RawDataset:
    """List the labelled clips of part I or II."""
    recordings: dict[str, list[str]] = {}
    labels: dict[str, list[str]] = {}
    lists: dict[str, list[str]] = {}
    passed_over = 0
    for file in files_below(root, ".txt"):
        path = PurePosixPath(file)
        protocol = next((name for name, pattern in PROTOCOLS.items() if pattern.match(path.stem)), None)
        if protocol is not None:
            lists.setdefault(protocol, []).append(file)
        elif RECORDINGS[dataset].fullmatch(path.stem):
            kind = labels if any("label" in folder.lower() for folder in path.parts[:-1]) else recordings
            kind.setdefault(path.stem, []).append(file)
        else:
            passed_over += 1
    if not recordings:
        hint = "Labels are looked for in folders with 'label' in their name, recordings in all others."
        _check.fail(OWNER, "raw", f"hold recordings such as {EXAMPLES[dataset]}", f"none below {root}", hint=hint)
    splits = {name: _split(root, name, lists[name]) for name in PROTOCOLS if name in lists}
    if not splits:
        _check.fail(OWNER, "raw", "hold cross-subject.txt or cross-view.txt", f"neither below {root}")
    listed = [(frozenset(split.training), frozenset(split.others)) for split in splits.values()]
    samples: list[RawSample] = []
    broken: list[SkippedSample] = []
    for recording in sorted({*recordings, *labels}):
        parts = tuple(listed_part(recording, *names) for names in listed)
        found = _clips(root, recording, recordings.get(recording, []), labels.get(recording, []), parts)
        if isinstance(found, SkippedSample):
            broken.append(found)
        else:
            samples += found
    return RawDataset(
        dataset,
        root,
        NTU_RGBD_25,
        tuple(samples),
        num_classes=ACTIONS,
        protocols=tuple(splits),
        published=(None,) * len(splits),
        left_out=tuple(broken),
        passed_over=passed_over,
        origin=NTU_RGBD_25.joints[NTU_RGBD_25.centre],
    )


def _clips(
    root: Path, recording: str, files: Sequence[str], labels: Sequence[str], parts: tuple[Part, ...]
) -> list[RawSample] | SkippedSample:
    """Return the clips of one recording, or what is wrong with it."""
    for kind, found in (("recording", files), ("file of labels", labels)):
        if len(found) != 1:
            got = " and ".join(found) or "none"
            reason = f"`{recording}` must have one {kind}, got {got}."
            return SkippedSample(recording, (*files, *labels)[0], "broken", reason)
    try:
        intervals = read_pku_mmd_labels(root / labels[0])
    except (SkeletonFormatError, OSError) as error:
        return SkippedSample(recording, labels[0], "broken", str(error))
    camera = 1 + CAMERAS.index(recording[-1])
    return [
        RawSample(
            f"{recording}_{number:03}",
            interval.action - 1,
            files[0],
            parts,
            camera=camera,
            span=(interval.start, interval.end),
        )
        for number, interval in enumerate(intervals, 1)
    ]


def _split(root: Path, protocol: str, files: Sequence[str]) -> PKUSplit:
    if len(files) > 1:
        hint = "Parts I and II go into folders of their own."
        _check.fail(OWNER, "raw", f"hold one list for '{protocol}'", " and ".join(files), hint=hint)
    return read_pku_mmd_split(root / files[0])
