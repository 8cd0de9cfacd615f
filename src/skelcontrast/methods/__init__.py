"""Methods assembled from the library's parts, and the reader for released checkpoints."""

from skelcontrast.methods.aimclr import AimCLR, AimCLRLoss, AimCLRViews, FeatureMapEncoder
from skelcontrast.methods.crossclr import CrosSCLR, CrosSCLRLoss, CrosSCLRViews
from skelcontrast.methods.official import load_official, load_official_encoder
from skelcontrast.methods.skeletonclr import SkeletonCLR, SkeletonCLRLoss, SkeletonCLRViews

__all__ = [
    "AimCLR",
    "AimCLRLoss",
    "AimCLRViews",
    "CrosSCLR",
    "CrosSCLRLoss",
    "CrosSCLRViews",
    "FeatureMapEncoder",
    "SkeletonCLR",
    "SkeletonCLRLoss",
    "SkeletonCLRViews",
    "load_official",
    "load_official_encoder",
]
