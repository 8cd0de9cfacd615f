"""Spatial graph convolution over skeleton joints."""

import math
from typing import Literal, TypeAlias

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from skelcontrast import _check

ContractionOrder: TypeAlias = Literal["auto", "project-first", "aggregate-first"]
_ORDERS = ("auto", "project-first", "aggregate-first")


def graph_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    adjacency: Tensor,
    *,
    order: ContractionOrder = "auto",
) -> Tensor:
    """Convolve joint features over a graph: ``y_w = sum_p W_p sum_v x_v A_p[v, w]`` (plus a bias per partition).

    Both orders of contraction are the same function up to rounding; they differ in cost. Projecting first moves
    ``P * C_out`` channels over the graph, aggregating first moves ``P * C_in``, so ``"auto"`` aggregates first exactly
    when the layer widens.

    Args:
        x: Features (N, C_in, T, V).
        weight: Channel maps (P, C_out, C_in), one per graph partition.
        bias: Biases (P, C_out), added before aggregation as in the released code, or `None`.
        adjacency: Partitioned adjacency (P, V, V); entry ``[p, v, w]`` weighs joint ``v`` in joint ``w``.
        order: ``"project-first"`` (the released order), ``"aggregate-first"`` or ``"auto"``.

    Returns:
        Features (N, C_out, T, V).

    Raises:
        TypeError: If `x`, `weight` or `adjacency` is not a floating-point tensor.
        ValueError: If a shape does not fit or the order is unknown.

    References:
        Yan, Xiong and Lin, Spatial Temporal Graph Convolutional Networks for Skeleton-Based Action Recognition,
        AAAI 2018, Eq. 9-10; in the partitioned form that the AimCLR paper adopts.

    Example:
        Two joints, each receiving the other's value, doubled by the weight:

        >>> x = torch.tensor([1.0, 5.0]).reshape(1, 1, 1, 2)
        >>> swap = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]])
        >>> graph_conv(x, torch.full((1, 1, 1), 2.0), None, swap).flatten()
        tensor([10.,  2.])
    """
    _check.choice("graph_conv", "order", order, _ORDERS)
    _check.tensor("graph_conv", "weight", weight)
    partitions, joints = _check_adjacency("graph_conv", adjacency)
    _, out_channels, in_channels = _check.shape("graph_conv", "weight", weight, "P C_out C_in", P=partitions).shape
    _check.shape("graph_conv", "x", _check.tensor("graph_conv", "x", x), "N C_in T V", C_in=in_channels, V=joints)
    if bias is not None:
        _check.shape("graph_conv", "bias", bias, "P C_out", P=partitions, C_out=out_channels)
    if order == "auto":
        order = "aggregate-first" if out_channels > in_channels else "project-first"
    if order == "project-first":
        flat_bias = None if bias is None else bias.flatten()
        projected = F.conv2d(x, rearrange(weight, "p o c -> (p o) c 1 1"), flat_bias)
        projected = rearrange(projected, "n (p o) t v -> n o t (p v)", p=partitions)
        return projected @ rearrange(adjacency, "p v w -> (p v) w").to(projected.dtype)
    gathered = x @ rearrange(adjacency, "p v w -> v (p w)").to(x.dtype)
    gathered = rearrange(gathered, "n c t (p w) -> n (p c) t w", p=partitions)
    out = F.conv2d(gathered, rearrange(weight, "p o c -> o (p c) 1 1"))
    if bias is None:
        return out
    # A bias added before aggregation reaches joint w once for every unit of weight in column w.
    columns = adjacency.sum(1).to(bias.dtype)
    return out + torch.einsum("po,pw->ow", bias, columns)[:, None, :].to(out.dtype)


def _check_adjacency(owner: str, adjacency: object) -> tuple[int, int]:
    graph = _check.tensor(owner, "adjacency", adjacency)
    partitions, joints, _ = _check.shape(owner, "adjacency", graph, "P V V").shape
    _check.shape(owner, "adjacency", graph, "P V V", V=joints)
    return partitions, joints


class GraphConv(nn.Module):
    """Graph convolution with learnable edge importance, over a fixed partitioned adjacency.

    Args:
        in_channels: Channels of the input, C_in.
        out_channels: Channels of the output, C_out.
        adjacency: Partitioned adjacency (P, V, V), for instance from `skelcontrast.skeleton.adjacency`. Kept as a
            buffer outside the state dict: it follows from the layout.
        bias: Whether every partition has a bias.
        edge_importance: Whether the adjacency is multiplied by a learnable mask (P, V, V) that starts at ones.
        order: Order of contraction, see `graph_conv`.

    Raises:
        TypeError: If the adjacency is not a floating-point tensor.
        ValueError: If the adjacency is not (P, V, V), a count is not positive or the order is unknown.

    References:
        Yan et al., AAAI 2018, Section 3.4 (learnable edge importance weighting).

    Example:
        >>> layer = GraphConv(3, 16, torch.eye(25)[None])
        >>> layer(torch.zeros(2, 3, 50, 25)).shape
        torch.Size([2, 16, 50, 25])
    """

    adjacency: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        adjacency: Tensor,
        *,
        bias: bool = True,
        edge_importance: bool = True,
        order: ContractionOrder = "auto",
    ) -> None:
        super().__init__()
        self.in_channels = _check.integer("GraphConv", "in_channels", in_channels, 1)
        self.out_channels = _check.integer("GraphConv", "out_channels", out_channels, 1)
        _check.choice("GraphConv", "order", order, _ORDERS)
        self.order: ContractionOrder = order
        _check_adjacency("GraphConv", adjacency)
        self.register_buffer("adjacency", adjacency.detach().clone(), persistent=False)
        partitions = adjacency.shape[0]
        self.weight = nn.Parameter(torch.empty(partitions, out_channels, in_channels))
        self.bias = nn.Parameter(torch.empty(partitions, out_channels)) if bias else None
        self.edge_importance = nn.Parameter(torch.ones_like(adjacency)) if edge_importance else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias anew, uniform in ``+-1/sqrt(C_in)`` as a 1x1 convolution does; importance to ones."""
        bound = 1 / math.sqrt(self.in_channels)
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)
        if self.edge_importance is not None:
            nn.init.ones_(self.edge_importance)

    def forward(self, x: Tensor) -> Tensor:
        """Map features (N, C_in, T, V) to (N, C_out, T, V)."""
        _check.tensor("GraphConv", "x", x)
        joints = self.adjacency.shape[-1]
        _check.shape("GraphConv", "x", x, "N C T V", C=self.in_channels, V=joints, why="to match the layer")
        adjacency = self.adjacency if self.edge_importance is None else self.adjacency * self.edge_importance
        return graph_conv(x, self.weight, self.bias, adjacency, order=self.order)

    def extra_repr(self) -> str:
        """Show sizes, partitions and joints."""
        partitions, joints, _ = self.adjacency.shape
        return (
            f"{self.in_channels}, {self.out_channels}, partitions={partitions}, joints={joints}, order={self.order!r}"
        )
