"""The spatial-temporal graph convolutional encoder."""

from collections.abc import Sequence, Sized
from typing import Literal, TypeAlias

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from skelcontrast import _check
from skelcontrast._autocast import autocast_off
from skelcontrast.nn._average import average
from skelcontrast.nn._batch_norm import (
    ACTIVATIONS,
    CONVOLUTIONS,
    DROPOUTS,
    NORMS,
    Kinds,
    Unnormalized,
    branched,
    convolved,
    convolved_to_add,
    fused,
    has_kernels,
    has_listeners,
    is_fused,
    is_left_to_kernels,
    is_plain,
    settled,
)
from skelcontrast.nn._dropout import Dropout
from skelcontrast.nn._memory_format import each, memory_format_of
from skelcontrast.nn._precision import is_autocast, is_emulated
from skelcontrast.nn.graph_conv import GraphConv
from skelcontrast.nn.temporal_conv import TemporalConv
from skelcontrast.skeleton import SkeletonLayout, Strategy, adjacency

BodyPooling: TypeAlias = Literal["present", "all"]
# What a block's paths are made of, unless somebody has changed them.
_TEMPORAL: tuple[Kinds, ...] = (NORMS, ACTIVATIONS, CONVOLUTIONS, NORMS, DROPOUTS)
_RESIDUAL: tuple[Kinds, ...] = (CONVOLUTIONS, NORMS)


class STGCNBlock(nn.Module):
    """One block: graph convolution, temporal convolution, residual.

    ``relu(residual(x) + dropout(bn(conv_t(relu(bn(graph_conv(x)))))))``.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        adjacency: Partitioned adjacency (P, V, V).
        stride: Stride over frames; T becomes ``ceil(T / stride)``.
        kernel_size: Frames that the temporal convolution sees; odd.
        residual: Whether the input is added back (through a strided 1x1 convolution where the shape changes).
        dropout: Probability of dropout behind the temporal convolution, in [0, 1).

    Raises:
        ValueError: If a setting is out of range.

    References:
        Yan et al., AAAI 2018, Section 3.6.

    Example:
        >>> block = STGCNBlock(16, 32, torch.eye(25)[None], stride=2)
        >>> block(torch.zeros(4, 16, 25, 25)).shape
        torch.Size([4, 32, 13, 25])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        adjacency: Tensor,
        *,
        stride: int = 1,
        kernel_size: int = 9,
        residual: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        _check.integer("STGCNBlock", "stride", stride, 1)
        _check.integer("STGCNBlock", "kernel_size", kernel_size, 1)
        if kernel_size % 2 == 0:
            _check.fail("STGCNBlock", "kernel_size", "be odd", kernel_size)
        _check.interval("STGCNBlock", "dropout", dropout, 0, 1, open_high=True)
        self.gcn = GraphConv(in_channels, out_channels, adjacency)
        self.tcn = nn.Sequential(
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            TemporalConv(out_channels, out_channels, kernel_size=kernel_size, stride=stride),
            nn.BatchNorm2d(out_channels),
            Dropout(dropout),
        )
        self.stride = stride
        self.residual: nn.Module | None = None
        if residual and (in_channels != out_channels or stride != 1):
            self.residual = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1), nn.BatchNorm2d(out_channels))
        elif residual:
            self.residual = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map features (N, C_in, T, V) to (N, C_out, ceil(T / stride), V)."""
        if not is_plain(self.tcn, len(_TEMPORAL)):
            out: Tensor = self.tcn(self.gcn(x))
            added = settled(self._added_back(each(x, self.stride), memory_format_of(x)))
            return F.relu(out if added is None else out + added)
        norm_in, relu, conv, norm_out, dropout = self.tcn
        if _by_kernels(self.residual, _RESIDUAL):
            between, kept = branched(self.gcn, norm_in, x, relu=relu, every=self.stride)
        else:
            between, kept = convolved(self.gcn, norm_in, x, relu=relu), each(x, self.stride)
        residual = self._added_back(kept, memory_format_of(x))
        return convolved(conv, norm_out, between, dropout=dropout, residual=residual)

    def _added_back(self, kept: Tensor, memory_format: torch.memory_format) -> Tensor | Unnormalized | None:
        """Return the residual path's output of the frames that are left, to be laid out in this format."""
        if self.residual is None:
            return None
        # Frames are left out here and not by the stride of the 1x1 convolution, whose gradient in channels-last memory
        # writes past its workspace below eight channels (uxlfoundation/oneDNN#6035).
        if self.stride != 1:
            kept = kept.contiguous(memory_format=memory_format)
        if is_plain(self.residual, len(_RESIDUAL)):
            conv, norm = self.residual
            return convolved_to_add(conv, norm, kept)
        added: Tensor = self.residual(kept)
        return added


class STGCN(nn.Module):
    """ST-GCN encoder from skeleton sequences to features; no head, no drop layer, no loss.

    The default is the encoder of AimCLR as its code was released: a quarter of ST-GCN's width, 256 features. The paper
    says ST-GCN, and neither width nor dropout.

    Args:
        layout: The skeleton; gives the graph and the number of joints V.
        in_channels: Coordinates per joint, C (3, or 2 for poses in the image).
        channels: Output channels of the blocks; the last is the feature size, D.
        strides: Stride over frames of the blocks, as many as `channels`: each makes T frames ``ceil(T / stride)``.
        strategy: How the graph is cut into partitions, see `skeleton.adjacency`.
        max_hop: Bones within which joints are neighbours, at least 1.
        dropout: Dropout of every block but the first, in [0, 1).
        bodies: How the bodies of a sample are pooled. ``"present"`` averages those that are anywhere non-zero (all
            of them where none is); ``"all"`` averages the absent, all-zero ones in too, as the released code does.

    Raises:
        TypeError: If `layout` is not a `SkeletonLayout`, `channels` or `strides` is a number, or a setting is of
            the wrong kind.
        ValueError: If `channels` and `strides` differ in length, or a setting is out of range.

    Deviates from the paper: the paper does not say how bodies are pooled; ``bodies="all"`` is the released behaviour.

    Note:
        `bodies` decides the pooling only: an absent body still enters the batch norms as a body at the origin. What
        counts is the input of the encoder: a body that stands still is absent from the motion stream, and noise added
        to an absent body makes it present.

        On a CPU without arithmetic in bfloat16 (or float16), autocast to it would be emulated, many times slower than
        float32. There the blocks compute in float32, and only the feature map is rounded.

    References:
        AimCLR, Section 4.2 (encoder); Yan et al., AAAI 2018.

    Example:
        >>> from skelcontrast.skeleton import NTU_RGBD_25
        >>> encoder = STGCN(NTU_RGBD_25)
        >>> encoder(torch.zeros(2, 3, 50, 25, 2)).shape
        torch.Size([2, 256])
        >>> sum(parameter.numel() for parameter in encoder.parameters())
        821380
    """

    out_features: int
    """Size of the features, D, which is the last of `channels`."""

    def __init__(
        self,
        layout: SkeletonLayout,
        *,
        in_channels: int = 3,
        channels: Sequence[int] = (16, 16, 16, 16, 32, 32, 32, 64, 64, 256),
        strides: Sequence[int] = (1, 1, 1, 1, 2, 1, 1, 2, 1, 1),
        strategy: Strategy = "spatial",
        max_hop: int = 1,
        dropout: float = 0.5,
        bodies: BodyPooling = "present",
    ) -> None:
        super().__init__()
        _check.integer("STGCN", "in_channels", in_channels, 1)
        _check.interval("STGCN", "dropout", dropout, 0, 1, open_high=True)
        _check.choice("STGCN", "bodies", bodies, ("present", "all"))
        for name, each_block in (("channels", channels), ("strides", strides)):
            if not isinstance(each_block, Sized):
                _check.fail("STGCN", name, "be a sequence, one entry per block", each_block, kind=TypeError)
        if not channels:
            _check.fail("STGCN", "channels", "name at least one block", "an empty sequence")
        if len(channels) != len(strides):
            hint = "Give both `channels` and `strides`; the defaults are those of ten blocks."
            _check.fail("STGCN", "strides", f"have one entry per block ({len(channels)})", len(strides), hint=hint)
        graph = adjacency(layout, strategy=strategy, max_hop=max_hop)
        self.layout = layout
        self.in_channels = in_channels
        self.out_features = channels[-1]
        self.bodies: BodyPooling = bodies
        self.data_bn = nn.BatchNorm1d(in_channels * layout.num_joints)
        sizes = zip((in_channels, *channels), channels, strides, strict=False)
        self.blocks = nn.Sequential(
            *(
                # The first block changes 3 coordinates into features: nothing to add back, nothing yet to drop.
                STGCNBlock(fan_in, fan_out, graph, stride=stride, residual=i > 0, dropout=dropout if i > 0 else 0.0)
                for i, (fan_in, fan_out, stride) in enumerate(sizes)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """Encode skeletons (N, C, T, V, M) to features (N, D)."""
        return self.pool(self.feature_map(x), self.present_bodies(x))

    def feature_map(self, x: Tensor) -> Tensor:
        """Return the last feature map (N * M, D, T', V) of skeletons (N, C, T, V, M), bodies beside each other.

        Raises:
            TypeError: If `x` is not a floating-point tensor, or of another dtype than the weights without autocast.
            ValueError: If `x` has another rank, C or V are not the encoder's, or there is no frame or no body.
        """
        hint = f"This encoder was built for layout {self.layout.name!r}."
        _check.skeletons("STGCN", "x", x, C=self.in_channels, V=self.layout.num_joints, hint=hint)
        if x.shape[2] == 0 or x.shape[4] == 0:
            _check.fail("STGCN", "x", "have at least one frame and one body", _check.show(x.shape))
        weight = self._first_weight(x)
        if x.dtype != weight.dtype and not is_autocast(x):
            hint = f"Call `x.to({weight.dtype})` first."
            _check.fail("STGCN", "x", f"be {weight.dtype} as its weights", x.dtype, hint=hint, kind=TypeError)
        features = self._standardized(x)
        if is_emulated(weight):
            with autocast_off(x.device):
                wide: Tensor = self.blocks(features.float())
            return wide.to(torch.get_autocast_dtype("cpu"))
        out: Tensor = self.blocks(features)
        return out

    def _first_weight(self, otherwise: Tensor) -> Tensor:
        for weight in self.blocks.parameters():  # of `next` with a default PyTorch 2.4 compiles nothing
            return weight
        return otherwise  # a replica of DataParallel lists none

    def _standardized(self, x: Tensor) -> Tensor:
        """Return coordinates (N * M, C, T, V), channels-last, each joint's with a batch norm of its own."""
        if is_left_to_kernels(self.data_bn, NORMS) and has_kernels(x):
            rows = rearrange(x, "n c t v m -> (n m) t (v c)").contiguous().mT[..., None]  # channels-last
            if is_fused(self.data_bn, rows):
                out = fused(self.data_bn, rows, 0.0, None, relu=False)
                features: Tensor = rearrange(out, "nm (v c) t 1 -> nm c t v", c=self.in_channels)
                return features
        flat = self.data_bn(rearrange(x, "n c t v m -> (n m) (v c) t"))
        features = rearrange(flat, "nm (v c) t -> nm c t v", c=self.in_channels)
        return features.contiguous(memory_format=torch.channels_last)

    def pool(self, feature_map: Tensor, present: Tensor) -> Tensor:
        """Average a feature map over frames, joints and bodies.

        Args:
            feature_map: (N * M, D, T', V), from `feature_map`, possibly dropped by `EADM` since.
            present: Which bodies are there, (N, M) bool, from `present_bodies`.

        Returns:
            Features (N, D).
        """
        samples, bodies = _check.shape("STGCN.pool", "present", present, "N M").shape
        _check.shape("STGCN.pool", "feature_map", feature_map, "NM D T V", NM=samples * bodies)
        pooled = rearrange(average(feature_map), "(n m) d -> n m d", m=bodies)
        if self.bodies == "all" or bodies == 1:
            return pooled.mean(1)
        weight = (present | ~present.any(1, keepdim=True)).to(pooled.dtype)
        return (pooled * weight[..., None]).sum(1) / weight.sum(1, keepdim=True)

    def extra_repr(self) -> str:
        """Show the settings that are not modules."""
        return f"layout={self.layout.name!r}, bodies={self.bodies!r}"

    def present_bodies(self, x: Tensor) -> Tensor:
        """Return which bodies of skeletons (N, C, T, V, M) are anywhere non-zero, (N, M) bool."""
        _check.skeletons("STGCN.present_bodies", "x", x)
        return (x != 0).flatten(1, 3).any(1)


def changes_in_turn(encoder: nn.Module, x: Tensor) -> bool:
    """Tell whether passes of an encoder with skeletons (N, C, T, V, M) may run side by side.

    They may where they change nothing but running statistics, and those by kernels alone, which take turns at it.
    Hooks, and parts that are not our own, may change anything.
    """
    if type(encoder) is not STGCN or not has_kernels(x) or any(map(has_listeners, encoder.modules())):
        return False
    blocks = all(
        type(block) is STGCNBlock
        and type(block.gcn) is GraphConv
        and _by_kernels(block.tcn, _TEMPORAL)
        and (block.residual is None or _by_kernels(block.residual, _RESIDUAL))
        for block in encoder.blocks
    )
    return blocks and is_left_to_kernels(encoder.data_bn, NORMS)


def _by_kernels(path: nn.Module | None, parts: tuple[Kinds, ...]) -> bool:
    """Tell whether a path through a block is the identity, or a sequence of modules that kernels replace."""
    if type(path) is nn.Identity:
        return not has_listeners(path)
    return is_plain(path, len(parts)) and all(is_left_to_kernels(*part) for part in zip(path, parts, strict=True))
