"""Modules that know no method: the encoder, its parts, the drop layer and the projection head."""

from skelcontrast.nn.eadm import EADM, DropMasks, simam_attention
from skelcontrast.nn.graph_conv import GraphConv, graph_conv
from skelcontrast.nn.initialization import normal_init_
from skelcontrast.nn.projection import ProjectionHead
from skelcontrast.nn.stgcn import STGCN, STGCNBlock
from skelcontrast.nn.temporal_conv import TemporalConv, temporal_conv

__all__ = [
    "EADM",
    "STGCN",
    "DropMasks",
    "GraphConv",
    "ProjectionHead",
    "STGCNBlock",
    "TemporalConv",
    "graph_conv",
    "normal_init_",
    "simam_attention",
    "temporal_conv",
]
