"""From samples of a raw folder to prepared positions: what a worker process does."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
import numpy.typing as npt

from skelcontrast.data._array import Array
from skelcontrast.data._joints import at_origin
from skelcontrast.data.bodies import BodyPolicy, choose_bodies
from skelcontrast.data.clip import SkeletonClip, SkeletonFormatError
from skelcontrast.data.preparation._journal import Batch
from skelcontrast.data.preparation._table import SampleRow
from skelcontrast.data.preparation.protocols import DatasetName
from skelcontrast.data.preparation.raw import RawSample, SkippedSample
from skelcontrast.data.readers.ntu import read_ntu
from skelcontrast.data.readers.nw_ucla import read_nw_ucla
from skelcontrast.data.readers.pku_mmd import ActionInterval, cut, read_pku_mmd
from skelcontrast.data.readers.utd_mhad import read_utd_mhad_clip
from skelcontrast.skeleton import SkeletonLayout

OFFICIAL_SOFTENING = 1e-4  # metres, in the released code's alignment of shoulders
Shoulders = Literal["as-recorded", "parallel", "official"]
EmptyFrames = Literal["drop", "keep"]
Dtype = Literal["float32", "float16"]

READERS: dict[str, Callable[[Path], SkeletonClip]] = {
    "ntu60": read_ntu,
    "ntu120": read_ntu,
    "pku1": read_pku_mmd,
    "pku2": read_pku_mmd,
    "nw-ucla": read_nw_ucla,
    "utd-mhad": read_utd_mhad_clip,
}


@dataclass(frozen=True)
class ClipMaker:
    """Reads samples and prepares them; a call takes samples, those of one file together, and returns what it made."""

    dataset: DatasetName
    root: Path
    layout: SkeletonLayout
    coordinates: int
    bodies: BodyPolicy
    body_count: int
    centre: str | None
    shoulders: Shoulders
    frames: int | None
    empty_frames: EmptyFrames
    dtype: Dtype
    clips: Sequence[SkeletonClip] = ()
    """The sequences of a pickle."""

    def settings(self) -> dict[str, object]:
        """Return all that the result depends on, beside the samples, as plain values."""
        names = (field.name for field in fields(self))
        return {name: getattr(self, name) for name in names if name not in ("root", "layout", "clips")}

    def __call__(self, samples: Sequence[RawSample]) -> tuple[Batch, bytes]:
        rows, skipped, data = [], [], []
        for file, of_file in groupby(samples, key=lambda sample: sample.file):
            try:
                whole = None if self.dataset == "pickle" else READERS[self.dataset](self.root / file)
            except (SkeletonFormatError, OSError) as error:  # once for the file, however many samples it has
                skipped.append(SkippedSample(PurePosixPath(file).stem, file, "broken", str(error)))
                continue
            for sample in of_file:
                made = self._prepared(sample, whole)
                if isinstance(made, SkippedSample):
                    skipped.append(made)
                else:
                    row, positions = made
                    rows.append(row)
                    data.append(positions.tobytes())
        return Batch(len(samples), rows, skipped), b"".join(data)

    def _prepared(self, sample: RawSample, whole: SkeletonClip | None) -> tuple[SampleRow, Array] | SkippedSample:
        try:
            clip = self._clip(sample, whole)
        except SkeletonFormatError as error:
            return SkippedSample(sample.name, sample.file, "broken", str(error))
        made = self._make(sample, clip)
        return made if isinstance(made, SkippedSample) else (_row(sample, clip, made), made)

    def _clip(self, sample: RawSample, whole: SkeletonClip | None) -> SkeletonClip:
        clip = self.clips[sample.place or 0] if whole is None else whole
        if sample.span is not None:
            start, end = sample.span
            clip = cut(clip, ActionInterval(sample.label + 1, start, end, 0.0), source=self.root / sample.file)
        found = clip.positions.shape[0]
        if found != self.coordinates:
            must = f"hold {self.coordinates} coordinates in each sequence"
            raise SkeletonFormatError("prepare", self.root, must, f"{found} in {sample.name}")
        return clip

    def _make(self, sample: RawSample, clip: SkeletonClip) -> Array | SkippedSample:
        """Return prepared positions (T, C, V, M)."""
        try:
            positions = choose_bodies(clip, count=self.body_count, policy=self.bodies)
        except ValueError as error:  # the options were checked long ago: there is nobody
            return SkippedSample(sample.name, sample.file, "no body", str(error))
        if self.empty_frames == "drop":
            positions = positions[:, positions.any(axis=(0, 2, 3))]
        with np.errstate(over="ignore"):  # looked for right below
            if self.centre is not None:
                positions = at_origin(positions, self.layout.joints.index(self.centre))
            if self.frames is not None or self.shoulders != "as-recorded":
                positions = self._resampled_and_turned(positions)
            made = positions.transpose(1, 0, 2, 3).astype(self.dtype, order="C")
        if not np.isfinite(made).all():
            reason = f"must hold positions that fit {self.dtype}, got up to {np.abs(positions).max():g}"
            return SkippedSample(sample.name, sample.file, "broken", reason)
        return made

    def _resampled_and_turned(self, positions: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        import torch  # only here: it takes a worker longer to import than to read some hundred files

        from skelcontrast.data.geometry import align_shoulders, resample

        x = torch.from_numpy(np.ascontiguousarray(positions))[None]
        if self.frames is not None:
            x = resample(x, self.frames)
        if self.shoulders == "parallel":
            x = align_shoulders(x, self.layout)
        elif self.shoulders == "official":
            x = align_shoulders(x, self.layout, softening=OFFICIAL_SOFTENING, turned_by="sequence")
        made: npt.NDArray[np.float32] = x[0].numpy()
        return made


def _row(sample: RawSample, clip: SkeletonClip, made: Array) -> SampleRow:
    return SampleRow(
        sample.name,
        sample.label,
        sample.subject,
        sample.camera,
        sample.setup,
        sample.replication,
        frames=len(made),
        recorded=clip.positions.shape[1],
        bodies=int(made.any(axis=(0, 1, 2)).sum()),
        parts=sample.parts,
    )
