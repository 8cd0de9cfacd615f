"""Features and modules that the tests of several kernels take."""

import copy
from typing import TypeAlias

import torch
from torch import Tensor, nn

from skelcontrast.nn import GraphConv, STGCNBlock, TemporalConv

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
Shape: TypeAlias = tuple[int, int, int, int]


def features(shape: Shape, dtype: torch.dtype = torch.float32, mean: float = 0.0) -> Tensor:
    """Draw features (N, C, T, V), channels-last, that want a gradient."""
    x = (torch.randn(shape) + mean).to(DEVICE, dtype)
    return x.contiguous(memory_format=torch.channels_last).requires_grad_()


def a_norm(channels: int, dtype: torch.dtype = torch.float32) -> nn.BatchNorm2d:
    """Return a batch norm with weights and running statistics that are not the first ones."""
    norm = nn.BatchNorm2d(channels, momentum=0.3, eps=1e-3).to(DEVICE)
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    nn.init.normal_(norm.get_buffer("running_mean"))
    nn.init.uniform_(norm.get_buffer("running_var"), 0.5, 2)
    return norm.to(dtype)


def plainly(block: STGCNBlock) -> STGCNBlock:
    """Return a copy in float64, of torch's operations."""
    for module in (plain := copy.deepcopy(block).double()).modules():
        if isinstance(module, GraphConv):
            module.implementation = "torch"
        if isinstance(module, TemporalConv):
            module.implementation = "direct"
    return plain
