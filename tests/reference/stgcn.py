"""The encoder in the operations of the authors' code, on the weights of ours: what speed is measured against."""

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skelcontrast.nn import STGCN, GraphConv, STGCNBlock

Part = TypeVar("Part", bound=nn.Module)


def perturbed(encoder: STGCN) -> STGCN:
    """Move everything that starts at zero or one away from there, running statistics too."""
    with torch.no_grad():
        for module in encoder.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                for value in (module.weight, module.running_var):
                    assert value is not None
                    value.uniform_(0.5, 1.5)
                for value in (module.bias, module.running_mean):
                    assert value is not None
                    value.normal_(0, 0.3)
            if isinstance(module, GraphConv) and module.edge_importance is not None:
                module.edge_importance.uniform_(0.5, 1.5)
    return encoder.eval()


def released_graph_conv(x: Tensor, weight: Tensor, bias: Tensor | None, adjacency: Tensor) -> Tensor:
    """Project to P * C_out channels by a 1x1 convolution, then sum over partitions and joints by an einsum."""
    partitions, out_channels, in_channels = weight.shape
    flat_bias = None if bias is None else bias.reshape(-1)
    projected = F.conv2d(x, weight.reshape(-1, in_channels, 1, 1), flat_bias)
    samples, _, frames, joints = projected.shape
    parts = projected.view(samples, partitions, out_channels, frames, joints)
    return torch.einsum("nkctv,kvw->nctw", parts, adjacency).contiguous()


def released_stgcn(encoder: STGCN, x: Tensor) -> Tensor:
    """Encode (N, C, T, V, M) to (N, D), all bodies averaged."""
    return released_pool(released_feature_map(encoder, x), x.shape[-1])


def released_feature_map(encoder: STGCN, x: Tensor) -> Tensor:
    """Map (N, C, T, V, M) to the last feature map (N * M, D, T', V)."""
    samples, coordinates, frames, joints, bodies = x.shape
    flat = x.permute(0, 4, 3, 1, 2).contiguous().view(samples * bodies, joints * coordinates, frames)
    flat = encoder.data_bn(flat).view(samples, bodies, joints, coordinates, frames)
    out: Tensor = flat.permute(0, 1, 3, 4, 2).contiguous().view(samples * bodies, coordinates, frames, joints)
    for block in encoder.blocks:
        out = _block(_a(STGCNBlock, block), out)
    return out


def released_pool(feature_map: Tensor, bodies: int) -> Tensor:
    """Average a feature map (N * M, D, T', V) over frames and joints, then over all bodies."""
    pooled: Tensor = F.avg_pool2d(feature_map, feature_map.shape[2:])
    return pooled.view(-1, bodies, feature_map.shape[1]).mean(1)


def _block(block: STGCNBlock, x: Tensor) -> Tensor:
    graph = block.gcn.adjacency
    if block.gcn.edge_importance is not None:
        graph = graph * block.gcn.edge_importance
    out = released_graph_conv(x, block.gcn.weight, block.gcn.bias, graph)
    before, conv, after, dropout = (block.tcn[i] for i in (0, 2, 3, 4))
    conv = _a(nn.Conv2d, conv)
    out = F.relu(before(out), inplace=True)
    out = after(F.conv2d(out, conv.weight, conv.bias, conv.stride, conv.padding))
    out = F.dropout(out, _a(nn.Dropout, dropout).p, block.training, inplace=True)
    if isinstance(block.residual, nn.Sequential):
        projection = _a(nn.Conv2d, block.residual[0])
        strided = F.conv2d(x, projection.weight, projection.bias, (block.stride, 1))
        out = out + block.residual[1](strided)
    elif block.residual is not None:
        out = out + x
    return F.relu(out, inplace=True)


def _a(kind: type[Part], module: nn.Module) -> Part:
    if not isinstance(module, kind):
        raise TypeError(f"expected a {kind.__name__}, got {type(module).__name__}")
    return module
