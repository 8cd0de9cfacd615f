"""Spatial graph convolution over skeleton joints."""

import math

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from skelcontrast import _check
from skelcontrast.nn._conv_operators import branched_graph_conv, graph_conv_twin, summed_graph_conv_twin
from skelcontrast.nn._graph_conv_blocked import shift_of
from skelcontrast.nn._graph_conv_choice import ContractionOrder, GraphConvImplementation, check_choices, choose
from skelcontrast.nn._memory_format import each, memory_format_of
from skelcontrast.nn._precision import autocast_dtype


def graph_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    adjacency: Tensor,
    *,
    order: ContractionOrder = "auto",
    implementation: GraphConvImplementation = "auto",
) -> Tensor:
    """Convolve joint features over a graph: ``y_w = sum_p W_p sum_v x_v A_p[v, w]`` (plus a bias per partition).

    All orders of contraction and all implementations compute the same function, up to rounding; they differ in cost.
    Projecting first moves ``P * C_out`` channels over the graph, aggregating first ``P * C_in``, and ``"dense"``
    multiplies once with a map from all channels of all joints to all channels of all joints.

    ``"auto"`` takes what was fastest where it was measured (see the page on performance). On a CPU in float32 or
    float64, and without autocast: the dense product where it is small, ``V * C_in * C_out <= 1600 * P``, else the
    blocked form, or project-first where a layer narrows to a quarter. On CUDA from capability 8.0: the Triton kernels,
    up to 4 partitions and 32 joints, in float32 on data-centre devices alone, where they round to tf32 if torch's
    convolutions may; else plain products, dense up to ``V * V * C_in * C_out`` of 160,000, or 10,240,000 in 16 bits.
    Everywhere else plain products, aggregated first when the layer widens, on CUDA in float32 also when it keeps its
    width.

    Args:
        x: Features (N, C_in, T, V); any memory format, ``torch.channels_last`` is the fastest.
        weight: Channel maps (P, C_out, C_in), one per graph partition.
        bias: Biases (P, C_out), added before aggregation as in the released code, or `None`.
        adjacency: Partitioned adjacency (P, V, V); entry ``[p, v, w]`` weighs joint ``v`` in joint ``w``.
        order: ``"project-first"`` (the released order), ``"aggregate-first"``, ``"dense"`` or ``"auto"``. The two
            fused implementations have an order of their own.
        implementation: ``"torch"``, products over the whole batch; ``"blocked"``, a few frames at a time, so that
            nothing but the output leaves the cache of a CPU; ``"triton"``, fused CUDA kernels; or ``"auto"``. The
            fused ones keep only their inputs for the backward pass and are differentiable once.

    Returns:
        Features (N, C_out, T, V).

    Raises:
        ImportError: If Triton was asked for and is not installed.
        TypeError: If `x`, `weight` or `adjacency` is not a floating-point tensor.
        ValueError: If a shape does not fit, the order or the implementation is unknown or does not go with the other,
            or the implementation cannot take these tensors.

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
    check_choices("graph_conv", order, implementation)
    _check.tensor("graph_conv", "weight", weight)
    partitions, joints = _check_adjacency("graph_conv", adjacency)
    _, out_channels, in_channels = _check.shape("graph_conv", "weight", weight, "P C_out C_in", P=partitions).shape
    _check.shape("graph_conv", "x", _check.tensor("graph_conv", "x", x), "N C_in T V", C_in=in_channels, V=joints)
    if bias is not None:
        _check.shape("graph_conv", "bias", bias, "P C_out", P=partitions, C_out=out_channels)
    return _convolve(x, weight, bias, adjacency, order, implementation)


def _convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    adjacency: Tensor,
    order: ContractionOrder,
    implementation: GraphConvImplementation,
) -> Tensor:
    order, implementation = choose(x, weight, order, implementation)
    if implementation in ("blocked", "triton"):
        return _fused(x, weight, bias, adjacency, implementation)
    plain = {"dense": _dense, "aggregate-first": _aggregate_first, "project-first": _project_first}[order]
    out = rearrange(plain(x, weight, bias, adjacency), "(n t) w o -> n o t w", t=x.shape[2])
    return out.contiguous(memory_format=memory_format_of(x))


def _convolve_and_sum(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    adjacency: Tensor,
    order: ContractionOrder,
    implementation: GraphConvImplementation,
) -> tuple[Tensor, Tensor | None]:
    """Do as `_convolve`; also return parts of the output's batch statistics, where a kernel writes them."""
    if choose(x, weight, order, implementation)[1] != "triton":
        return _convolve(x, weight, bias, adjacency, order, implementation), None
    return summed_graph_conv_twin(*_for_twin(x, weight, bias), adjacency, "triton")


def _convolve_and_branch(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    adjacency: Tensor,
    order: ContractionOrder,
    implementation: GraphConvImplementation,
    every: int,
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Do as `_convolve_and_sum`; also return each `every`-th frame of x, see `branched_graph_conv`."""
    is_whole = torch.is_grad_enabled() and x.requires_grad and x.dtype == autocast_dtype(x)
    if not is_whole or choose(x, weight, order, implementation)[1] != "triton":
        return *_convolve_and_sum(x, weight, bias, adjacency, order, implementation), each(x, every)
    return branched_graph_conv(*_for_twin(x, weight, bias), adjacency, every)


def _project_first(x: Tensor, weight: Tensor, bias: Tensor | None, adjacency: Tensor) -> Tensor:
    flat_bias = None if bias is None else bias.flatten()
    projected = F.linear(_joint_rows(x), rearrange(weight, "p o c -> (p o) c"), flat_bias)
    projected = rearrange(projected, "nt v (p o) -> nt (v p) o", p=weight.shape[0])
    return _over_graph(rearrange(adjacency, "p v w -> w (v p)"), projected)


def _aggregate_first(x: Tensor, weight: Tensor, bias: Tensor | None, adjacency: Tensor) -> Tensor:
    gathered = _over_graph(rearrange(adjacency, "p v w -> (w p) v"), _joint_rows(x))
    gathered = rearrange(gathered, "nt (w p) c -> nt w (p c)", p=weight.shape[0])
    out = gathered @ rearrange(weight, "p o c -> (p c) o")
    return out if bias is None else out + shift_of(bias, adjacency).to(out.dtype)


def _dense(x: Tensor, weight: Tensor, bias: Tensor | None, adjacency: Tensor) -> Tensor:
    lifted = torch.einsum("poc,pvw->vcwo", weight, adjacency.to(weight.dtype))
    joints = lifted.shape[0]
    lifted = rearrange(lifted, "v c w o -> (v c) (w o)")
    frames = rearrange(x, "n c t v -> (n t) (v c)")
    if bias is None:
        out = frames @ lifted
    else:
        out = torch.addmm(shift_of(bias, adjacency).flatten().to(lifted.dtype), frames, lifted)
    return rearrange(out, "nt (w o) -> nt w o", w=joints)


def _joint_rows(x: Tensor) -> Tensor:
    """Return features (N, C, T, V) as (N T, V, C); a view where they lie channels-last."""
    return rearrange(x, "n c t v -> (n t) v c")


def _over_graph(graph: Tensor, rows: Tensor) -> Tensor:
    """Multiply the rows of every frame, (N T, R, C), by one matrix (S, R), without a copy of them."""
    return torch.bmm(graph.to(rows.dtype).expand(rows.shape[0], -1, -1), rows)


def _fused(x: Tensor, weight: Tensor, bias: Tensor | None, adjacency: Tensor, twin: str) -> Tensor:
    x, weight, bias = _for_twin(x, weight, bias)
    if twin != "triton":  # whose kernels convert what they load
        weight, bias, adjacency = weight.to(x.dtype), bias.to(x.dtype), adjacency.to(x.dtype)
    return graph_conv_twin(x, weight, bias, adjacency, twin)


def _for_twin(x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    return x.to(autocast_dtype(x)), weight, weight.new_zeros(weight.shape[:2]) if bias is None else bias


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
        implementation: What computes it, see `graph_conv`.

    Raises:
        TypeError: If the adjacency is not a floating-point tensor.
        ValueError: If the adjacency is not (P, V, V), a count is not positive, or the order or the implementation is
            unknown or does not go with the other.

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
        implementation: GraphConvImplementation = "auto",
    ) -> None:
        super().__init__()
        self.in_channels = _check.integer("GraphConv", "in_channels", in_channels, 1)
        self.out_channels = _check.integer("GraphConv", "out_channels", out_channels, 1)
        check_choices("GraphConv", order, implementation)
        self.order: ContractionOrder = order
        self.implementation: GraphConvImplementation = implementation
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
        return _convolve(*self._checked(x), self.order, self.implementation)

    def _forward_and_sum(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Do what `forward` does; also return what `batch_statistics` takes as `sums`, where a kernel writes it."""
        return _convolve_and_sum(*self._checked(x), self.order, self.implementation)

    def _forward_and_branch(self, x: Tensor, every: int) -> tuple[Tensor, Tensor | None, Tensor]:
        """Do as `_forward_and_sum`; also return each `every`-th frame, for a residual whose gradient kernels add."""
        return _convolve_and_branch(*self._checked(x), self.order, self.implementation, every)

    def _checked(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
        _check.tensor("GraphConv", "x", x)
        joints = self.adjacency.shape[-1]
        _check.shape("GraphConv", "x", x, "N C T V", C=self.in_channels, V=joints, why="to match the layer")
        adjacency = self.adjacency if self.edge_importance is None else self.adjacency * self.edge_importance
        return x, self.weight, self.bias, adjacency

    def extra_repr(self) -> str:
        """Show sizes, partitions and joints."""
        partitions, joints, _ = self.adjacency.shape
        sizes = f"{self.in_channels}, {self.out_channels}, partitions={partitions}, joints={joints}"
        return f"{sizes}, order={self.order!r}, implementation={self.implementation!r}"
