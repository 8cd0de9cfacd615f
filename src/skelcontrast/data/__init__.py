"""Skeleton sequences: datasets, readers, preparation and the loader."""

from typing import TYPE_CHECKING

from skelcontrast._lazy import on_demand
from skelcontrast.data.bodies import BodyPolicy, choose_bodies
from skelcontrast.data.clip import SkeletonClip, SkeletonFormatError
from skelcontrast.data.preparation._task import BrokenFilesError
from skelcontrast.data.preparation.inspection import Inspection, Spread, inspect_prepared
from skelcontrast.data.preparation.prepare import prepare
from skelcontrast.data.preparation.protocols import Protocol, SplitCount, published_protocols, read_missing_skeletons
from skelcontrast.data.preparation.raw import RawDataset, RawSample, SkippedSample
from skelcontrast.data.preparation.report import PreparationReport
from skelcontrast.data.preparation.sources import list_raw
from skelcontrast.data.readers.annotations import Annotations, read_annotations
from skelcontrast.data.readers.ntu import NTUName, read_ntu
from skelcontrast.data.readers.nw_ucla import NWUCLAName, read_nw_ucla
from skelcontrast.data.readers.pku_mmd import (
    ActionInterval,
    PKUSplit,
    cut,
    read_pku_mmd,
    read_pku_mmd_labels,
    read_pku_mmd_split,
)
from skelcontrast.data.readers.utd_mhad import UTDMHADName, read_utd_mhad_clip

if TYPE_CHECKING:
    from skelcontrast.data.dataset import SkeletonDataset, SkeletonSample
    from skelcontrast.data.geometry import align_shoulders, centre, fill_missing, resample
    from skelcontrast.data.loader import SkeletonBatch, SkeletonLoader
    from skelcontrast.data.own import from_clips
    from skelcontrast.data.preparation.prepared import open_prepared
    from skelcontrast.data.readers.official import read_official
    from skelcontrast.data.readers.utd_mhad_dataset import read_utd_mhad
    from skelcontrast.data.synthetic import SyntheticActions
else:  # with PyTorch, whose import takes seconds that a process which only prepares files need not spend
    __getattr__ = on_demand(
        __name__,
        {
            "dataset": ("SkeletonDataset", "SkeletonSample"),
            "geometry": ("align_shoulders", "centre", "fill_missing", "resample"),
            "loader": ("SkeletonBatch", "SkeletonLoader"),
            "own": ("from_clips",),
            "preparation.prepared": ("open_prepared",),
            "readers.official": ("read_official",),
            "readers.utd_mhad_dataset": ("read_utd_mhad",),
            "synthetic": ("SyntheticActions",),
        },
    )

__all__ = [
    "ActionInterval",
    "Annotations",
    "BodyPolicy",
    "BrokenFilesError",
    "Inspection",
    "NTUName",
    "NWUCLAName",
    "PKUSplit",
    "PreparationReport",
    "Protocol",
    "RawDataset",
    "RawSample",
    "SkeletonBatch",
    "SkeletonClip",
    "SkeletonDataset",
    "SkeletonFormatError",
    "SkeletonLoader",
    "SkeletonSample",
    "SkippedSample",
    "SplitCount",
    "Spread",
    "SyntheticActions",
    "UTDMHADName",
    "align_shoulders",
    "centre",
    "choose_bodies",
    "cut",
    "fill_missing",
    "from_clips",
    "inspect_prepared",
    "list_raw",
    "open_prepared",
    "prepare",
    "published_protocols",
    "read_annotations",
    "read_missing_skeletons",
    "read_ntu",
    "read_nw_ucla",
    "read_official",
    "read_pku_mmd",
    "read_pku_mmd_labels",
    "read_pku_mmd_split",
    "read_utd_mhad",
    "read_utd_mhad_clip",
    "resample",
]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
