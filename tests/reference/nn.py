"""Slow, plain versions of the network's parts, in float64 NumPy, written from the equations."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Array: TypeAlias = NDArray[np.float64]
BATCH_NORM_EPSILON = 1e-5


def array(value: Tensor) -> Array:
    """Copy a tensor to float64."""
    return np.array(value.detach().double().cpu().numpy())


def graph_conv(x: Array, weight: Array, bias: Array | None, adjacency: Array) -> Array:
    """``y[o, w] = sum over p, v of (sum over c of W_p[o, c] x[c, v] + b_p[o]) A_p[v, w]``, one joint at a time."""
    samples, _, frames, joints = x.shape
    partitions, out_channels, _ = weight.shape
    out = np.zeros((samples, out_channels, frames, joints))
    for p in range(partitions):
        for v in range(joints):
            message = np.einsum("oc,nct->not", weight[p], x[..., v])
            if bias is not None:
                message = message + bias[p][None, :, None]
            for w in range(joints):
                if adjacency[p, v, w] != 0:
                    out[..., w] += message * adjacency[p, v, w]
    return out


def simam_attention(x: Array, *, lambda_: float = 1e-4, correction: int = 0) -> Array:
    """Sigmoid of one over the energy of Eq. 3, neuron by neuron."""
    out = np.empty_like(x)
    for sample in range(x.shape[0]):
        for channel in range(x.shape[1]):
            neurons = [float(value) for value in x[sample, channel].ravel()]
            mean = sum(neurons) / len(neurons)
            variance = sum((value - mean) ** 2 for value in neurons) / (len(neurons) - correction)
            energies = [
                4 * (variance + lambda_) / ((value - mean) ** 2 + 2 * variance + 2 * lambda_) for value in neurons
            ]
            attention = [1 / (1 + math.exp(-1 / energy)) for energy in energies]
            out[sample, channel] = np.array(attention).reshape(x.shape[2:])
    return out


def eadm(
    x: Array,
    keep_margin: float | None = 0.7,
    *,
    drop_share: float | None = None,
    temporal: Literal["frame", "element"] = "frame",
    rescale: Literal["sample", "batch"] = "sample",
    lambda_: float = 1e-4,
    correction: int = 0,
) -> Array:
    """Algorithm 1 in its seven steps; a mask without a one is replaced by a mask of ones."""
    attention = simam_attention(x, lambda_=lambda_, correction=correction)
    samples, _, frames, joints = x.shape
    spatial_masks, temporal_masks = np.ones_like(x), np.ones_like(x)
    for n in range(samples):
        of_joints = [attention[n, :, :, v].mean() for v in range(joints)]
        for v in _dropped(of_joints, keep_margin, drop_share):
            spatial_masks[n, :, :, v] = 0
        if temporal == "frame":
            of_frames = [attention[n, :, t, :].mean() for t in range(frames)]
            for t in _dropped(of_frames, keep_margin, drop_share):
                temporal_masks[n, :, t, :] = 0
        else:
            for element in _dropped(list(attention[n].ravel()), keep_margin, drop_share):
                temporal_masks[n].flat[element] = 0
    out = x.copy()
    for masks in (spatial_masks, temporal_masks):
        for part in [slice(None)] if rescale == "batch" else [slice(n, n + 1) for n in range(samples)]:
            mask = masks[part]
            if mask.sum() == 0:
                mask = np.ones_like(mask)
            out[part] = out[part] * mask
            out[part] = out[part] * (mask.size / mask.sum())
    return out


def _dropped(attention: Sequence[float], keep_margin: float | None, drop_share: float | None) -> list[int]:
    if drop_share is not None:
        ranked = sorted(range(len(attention)), key=lambda i: -attention[i])
        return ranked[: math.floor(drop_share * len(attention))]
    if keep_margin is None:
        raise ValueError("give a margin or a share")
    return [i for i, value in enumerate(attention) if value >= keep_margin]


def pool(feature_map: Array, present: NDArray[np.bool_], bodies: Literal["present", "all"]) -> Array:
    """Average over frames and joints of each body, then over the bodies that count."""
    samples, count = present.shape
    out = np.zeros((samples, feature_map.shape[1]))
    for n in range(samples):
        counted = [m for m in range(count) if bodies == "all" or present[n, m]] or list(range(count))
        for m in counted:
            out[n] += feature_map[n * count + m].mean(axis=(1, 2)) / len(counted)
    return out


class BatchNorm(NamedTuple):
    """Statistics and affine map of a batch norm in evaluation mode."""

    weight: Array
    bias: Array
    mean: Array
    variance: Array

    def __call__(self, x: Array) -> Array:
        """Normalise axis 1."""
        shape = (1, -1) + (1,) * (x.ndim - 2)
        scale = self.weight / np.sqrt(self.variance + BATCH_NORM_EPSILON)
        return (x - self.mean.reshape(shape)) * scale.reshape(shape) + self.bias.reshape(shape)


class Block(NamedTuple):
    """One block's numbers: graph maps (P, O, I) and (P, O), importance (P, V, V), temporal maps (O, O, L)."""

    weight: Array
    bias: Array
    importance: Array
    before: BatchNorm
    temporal_weight: Array
    temporal_bias: Array
    after: BatchNorm
    residual: tuple[Array, Array, BatchNorm] | None
    """Projection (O, I), its bias and norm; none where the input is added as it is."""


def batch_norm(state: Mapping[str, Tensor], prefix: str) -> BatchNorm:
    """Read one batch norm of a state dict."""
    names = ("weight", "bias", "running_mean", "running_var")
    return BatchNorm(*(array(state[f"{prefix}.{name}"]) for name in names))


def stgcn_blocks(state: Mapping[str, Tensor], count: int) -> list[Block]:
    """Read the blocks of an STGCN's state dict."""
    blocks = []
    for i in range(count):
        gcn = {name: array(state[f"blocks.{i}.gcn.{name}"]) for name in ("weight", "bias", "edge_importance")}
        blocks.append(
            Block(
                gcn["weight"],
                gcn["bias"],
                gcn["edge_importance"],
                *_temporal(state, f"blocks.{i}"),
                _residual(state, f"blocks.{i}"),
            )
        )
    return blocks


def official_blocks(state: Mapping[str, Tensor], side: str, count: int) -> list[Block]:
    """Read the blocks of one side of a released state dict, whose graph maps are 1x1 convolutions to P * O channels."""
    blocks = []
    for i in range(count):
        name = f"{side}.st_gcn_networks.{i}"
        importance = array(state[f"{side}.edge_importance.{i}"])
        partitions = importance.shape[0]
        weight, bias = array(state[f"{name}.gcn.conv.weight"]), array(state[f"{name}.gcn.conv.bias"])
        maps = weight[:, :, 0, 0].reshape(partitions, -1, weight.shape[1])
        blocks.append(
            Block(maps, bias.reshape(partitions, -1), importance, *_temporal(state, name), _residual(state, name))
        )
    return blocks


def _temporal(state: Mapping[str, Tensor], name: str) -> tuple[BatchNorm, Array, Array, BatchNorm]:
    return (
        batch_norm(state, f"{name}.tcn.0"),
        array(state[f"{name}.tcn.2.weight"])[..., 0],
        array(state[f"{name}.tcn.2.bias"]),
        batch_norm(state, f"{name}.tcn.3"),
    )


def _residual(state: Mapping[str, Tensor], name: str) -> tuple[Array, Array, BatchNorm] | None:
    if f"{name}.residual.0.weight" not in state:
        return None
    projection = array(state[f"{name}.residual.0.weight"])[:, :, 0, 0]
    return projection, array(state[f"{name}.residual.0.bias"]), batch_norm(state, f"{name}.residual.1")


def stgcn_feature_map(
    x: Array, data_bn: BatchNorm, blocks: Sequence[Block], graph: Array, strides: Sequence[int]
) -> Array:
    """Run a plain ST-GCN in evaluation mode on (N, C, T, V, M), body by body; the first block adds nothing back."""
    maps = []
    for sample in x:
        for m in range(x.shape[-1]):
            body = sample[..., m]  # (C, T, V)
            joint_major = body.transpose(2, 0, 1).reshape(1, -1, body.shape[1])  # joints outside, coordinates inside
            normal = data_bn(joint_major).reshape(body.shape[2], body.shape[0], body.shape[1])
            out = normal.transpose(1, 2, 0)[None]
            for i, (block, stride) in enumerate(zip(blocks, strides, strict=True)):
                out = _stgcn_block(out, block, graph, stride, first=i == 0)
            maps.append(out[0])
    return np.stack(maps)


def _stgcn_block(x: Array, block: Block, graph: Array, stride: int, *, first: bool) -> Array:
    spatial = graph_conv(x, block.weight, block.bias, graph * block.importance)
    hidden = np.maximum(block.before(spatial), 0)
    out = block.after(temporal_conv(hidden, block.temporal_weight, block.temporal_bias, stride))
    if first:
        return np.maximum(out, 0)
    if block.residual is None:
        return np.maximum(out + x, 0)
    weight, bias, norm = block.residual
    projected = np.einsum("oc,nctv->notv", weight, x[:, :, ::stride]) + bias[None, :, None, None]
    return np.maximum(out + norm(projected), 0)


def temporal_conv(x: Array, weight: Array, bias: Array, stride: int) -> Array:
    """``y[t] = sum over lag of W[lag] x[stride t + lag - L // 2]``, one frame at a time; weight (O, C, L)."""
    length, frames = weight.shape[2], x.shape[2]
    out = []
    for start in range(0, frames, stride):
        total = np.zeros((x.shape[0], weight.shape[0], x.shape[3])) + bias[None, :, None]
        for lag in range(length):
            t = start + lag - length // 2
            if 0 <= t < frames:
                total += np.einsum("oc,ncv->nov", weight[:, :, lag], x[:, :, t])
        out.append(total)
    return np.stack(out, axis=2)
