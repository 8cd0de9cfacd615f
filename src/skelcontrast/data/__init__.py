"""Skeleton sequences: datasets, readers, preparation and the loader."""

from skelcontrast.data.dataset import SkeletonDataset, SkeletonSample
from skelcontrast.data.loader import SkeletonBatch, SkeletonLoader
from skelcontrast.data.official import read_official
from skelcontrast.data.prepare import centre, resample
from skelcontrast.data.synthetic import SyntheticActions
from skelcontrast.data.utd_mhad import read_utd_mhad

__all__ = [
    "SkeletonBatch",
    "SkeletonDataset",
    "SkeletonLoader",
    "SkeletonSample",
    "SyntheticActions",
    "centre",
    "read_official",
    "read_utd_mhad",
    "resample",
]
