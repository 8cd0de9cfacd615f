"""The samples of PKU-MMD: the clips that its label files cut out of the recordings."""

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

from skelcontrast import _check
from skelcontrast.data.clip import SkeletonFormatError
from skelcontrast.data.preparation.protocols import listed_part
from skelcontrast.data.preparation.raw import RawDataset, RawSample, SkippedSample, files_below
from skelcontrast.data.readers.pku_mmd import ACTIONS, PKUSplit, read_pku_mmd_labels, read_pku_mmd_split
from skelcontrast.skeleton import NTU_RGBD_25

OWNER = "list_raw"
PROTOCOLS = {"xsub": re.compile(r"cross.?subject", re.IGNORECASE), "xview": re.compile(r"cross.?view", re.IGNORECASE)}
RECORDINGS = {"pku1": re.compile(r"\d{4}-([LMR])", re.ASCII), "pku2": re.compile(r"A\d+N\d+-([LMR])", re.ASCII)}
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
    clips = _Clips(dataset, root, tuple(splits.values()))
    for recording in sorted({*recordings, *labels}):
        clips.add(recording, recordings.get(recording, []), labels.get(recording, []))
    return RawDataset(
        dataset,
        root,
        NTU_RGBD_25,
        tuple(clips.samples),
        num_classes=ACTIONS,
        protocols=tuple(splits),
        published=(None,) * len(splits),
        left_out=tuple(clips.broken),
        passed_over=passed_over,
        origin=NTU_RGBD_25.joints[NTU_RGBD_25.centre],
    )


class _Clips:
    """The clips of recordings, one recording after the other."""

    def __init__(self, dataset: Literal["pku1", "pku2"], root: Path, splits: tuple[PKUSplit, ...]) -> None:
        self.samples: list[RawSample] = []
        self.broken: list[SkippedSample] = []
        self._pattern = RECORDINGS[dataset]
        self._root = root
        self._splits = [(frozenset(split.training), frozenset(split.others)) for split in splits]

    def add(self, recording: str, files: Sequence[str], labels: Sequence[str]) -> None:
        """Add the clips of one recording, or say what is wrong with it."""
        for kind, found in (("recording", files), ("file of labels", labels)):
            if len(found) != 1:
                got = " and ".join(found) or "none"
                reason = f"`{recording}` must have one {kind}, got {got}."
                self.broken.append(SkippedSample(recording, (*files, *labels)[0], "broken", reason))
                return
        try:
            intervals = read_pku_mmd_labels(self._root / labels[0])
        except (SkeletonFormatError, OSError) as error:
            self.broken.append(SkippedSample(recording, labels[0], "broken", str(error)))
            return
        match = self._pattern.fullmatch(recording)
        camera = None if match is None else 1 + CAMERAS.index(match[1])
        parts = tuple(listed_part(recording, training, others) for training, others in self._splits)
        self.samples += [
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
