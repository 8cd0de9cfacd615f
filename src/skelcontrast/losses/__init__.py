"""Contrastive losses: functions on tensors, and modules that hold their settings. No queue, no skeleton."""

from skelcontrast.losses.cross_stream import CrossStream, CrossStreamLoss, cross_stream
from skelcontrast.losses.d3m import D3MLoss, d3m
from skelcontrast.losses.info_nce import InfoNCELoss, info_nce
from skelcontrast.losses.nnm import NNMLoss, nearest_neighbors, nnm

__all__ = [
    "CrossStream",
    "CrossStreamLoss",
    "D3MLoss",
    "InfoNCELoss",
    "NNMLoss",
    "cross_stream",
    "d3m",
    "info_nce",
    "nearest_neighbors",
    "nnm",
]
