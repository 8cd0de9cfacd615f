"""Contrastive losses: functions on tensors, and modules that hold their settings. No queue, no skeleton."""

from skelcontrast.losses.aimclr import AimCLRTerms, aimclr_loss
from skelcontrast.losses.bank_read import BankRead, bank_read
from skelcontrast.losses.cross_stream import CrossStream, CrossStreamLoss, cross_stream
from skelcontrast.losses.d3m import D3MLoss, d3m
from skelcontrast.losses.info_nce import InfoNCELoss, info_nce
from skelcontrast.losses.nnm import NNMLoss, nearest_neighbors, nnm

__all__ = [
    "AimCLRTerms",
    "BankRead",
    "CrossStream",
    "CrossStreamLoss",
    "D3MLoss",
    "InfoNCELoss",
    "NNMLoss",
    "aimclr_loss",
    "bank_read",
    "cross_stream",
    "d3m",
    "info_nce",
    "nearest_neighbors",
    "nnm",
]
