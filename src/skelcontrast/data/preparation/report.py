"""What came of a preparation: how many samples, what was left out, with which settings, and checksums."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from typing_extensions import Self

from skelcontrast.data.clip import SkeletonFormatError
from skelcontrast.data.preparation.protocols import SplitCount
from skelcontrast.data.preparation.raw import SkippedSample
from skelcontrast.skeleton import SkeletonLayout
from skelcontrast.skeleton import layouts as built_in

FORMAT = 1
"""Version of the prepared folder's form."""


@dataclass(frozen=True)
class PreparationReport:
    """What `prepare` did; ``report.json`` in the prepared folder."""

    dataset: str
    """Name of the data set."""
    layout: SkeletonLayout
    """The skeleton."""
    samples: int
    """How many samples there are."""
    shape: tuple[int, int, int, int]
    """Shape of the positions: all frames, coordinates, joints, bodies."""
    dtype: str
    """Kind of number of the positions, ``"float32"`` or ``"float16"``."""
    counts: Mapping[str, SplitCount]
    """How many samples each protocol has."""
    published: Mapping[str, SplitCount | None]
    """How many the data set's authors count; `None` where they give no number."""
    skipped: tuple[SkippedSample, ...]
    """What was left out and why, sorted by name."""
    passed_over: int
    """Number of files in the raw folder that belong to something else."""
    num_classes: int | None
    """Number of classes of the data set, where it says."""
    class_names: tuple[str, ...] | None
    """Name of each class, where the data set has them."""
    settings: Mapping[str, Any]
    """With which options it was prepared."""
    checksums: Mapping[str, str]
    """SHA-256 of the other files in the folder."""
    version: str
    """Version of this library."""
    absent: int = 0
    """Number of names in the splits of a pickle that no sequence has."""

    def agrees(self, protocol: str) -> bool | None:
        """Tell whether a protocol has the published counts; `None` where there are none."""
        published = self.published[protocol]
        return None if published is None else self.counts[protocol] == published

    def lines(self) -> list[str]:
        """Return what a reader wants to know first, as lines of text."""
        F, C, V, M = self.shape
        skipped = {kind: sum(one.kind == kind for one in self.skipped) for kind in ("broken", "no body", "listed")}
        said = [
            f"{self.dataset}: {self.samples} samples, {F} frames of {M} x {V} joints in {C} coordinates, {self.dtype}"
        ]
        said.append("left out: " + ", ".join(f"{count} {kind}" for kind, count in skipped.items()))
        if self.passed_over:
            said.append(f"passed over: {self.passed_over} files that belong to something else")
        if self.absent:
            said.append(f"absent: {self.absent} names in the splits that no sequence has")
        for protocol, count in self.counts.items():
            published, agrees = self.published[protocol], self.agrees(protocol)
            line = f"{protocol}: {count.train} train, {count.test} test"
            if published is not None:
                line += f"; published: {published.train}, {published.test}" + ("" if agrees else " (differs)")
            said.append(line)
        return said

    def write(self, path: Path) -> None:
        """Write the report as JSON."""
        content = {"format": FORMAT, **asdict(self), "skipped": [one._asdict() for one in self.skipped]}
        for field in ("counts", "published"):
            content[field] = {name: count and count._asdict() for name, count in getattr(self, field).items()}
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        # Paths may hold bytes that are no text, which JSON has escapes for: those of Python.
        path.write_text(text, encoding="utf-8", errors="backslashreplace")

    @classmethod
    def read(cls, path: Path, *, owner: str = "PreparationReport.read") -> Self:
        """Read a report.

        Raises:
            OSError: If the file cannot be opened.
            SkeletonFormatError: If it is no report of this version of the library.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content.pop("format") != FORMAT:
                raise KeyError("format")
            made: dict[str, Any] = {
                **content,
                "layout": _layout(content["layout"]),
                "shape": tuple(content["shape"]),
                "counts": {name: SplitCount(**count) for name, count in content["counts"].items()},
                "published": {
                    name: None if count is None else SplitCount(**count) for name, count in content["published"].items()
                },
                "skipped": tuple(SkippedSample(**one) for one in content["skipped"]),
                "class_names": None if content["class_names"] is None else tuple(content["class_names"]),
                "checksums": dict(content["checksums"]),
            }
            if content["dtype"] not in ("float32", "float16"):
                raise KeyError("dtype")
            return cls(**made)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            must = f"be a report of `prepare`, format {FORMAT}"
            raise SkeletonFormatError(owner, path, must, f"an error on reading it: {error!r}") from None


def _layout(fields: dict[str, Any]) -> SkeletonLayout:
    """Return the layout of these fields; a built-in one if there is such."""
    found = SkeletonLayout(**{**fields, "joints": tuple(fields["joints"])})
    same = getattr(built_in, found.name, None)
    return same if same == found else found
