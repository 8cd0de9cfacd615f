"""A small state dict with the released code's names and shapes, spelled out key by key."""

import torch
from torch import Tensor
from torch.nn import functional as F

from skelcontrast.skeleton import NTU_RGBD_25, SkeletonLayout, adjacency

State = dict[str, Tensor]
CHANNELS, STRIDES = (4, 4, 6, 6, 8), (1, 1, 1, 1, 2)
QUEUE_SIZE, WIDTH = 12, 5


def batch_norm(state: State, name: str, size: int) -> None:
    """Put in one batch norm, moved away from where it starts."""
    state[f"{name}.weight"] = torch.rand(size) + 0.5
    state[f"{name}.bias"] = torch.randn(size)
    state[f"{name}.running_mean"] = torch.randn(size)
    state[f"{name}.running_var"] = torch.rand(size) + 0.5
    state[f"{name}.num_batches_tracked"] = torch.tensor(7)


def official_state(layout: SkeletonLayout = NTU_RGBD_25, coordinates: int = 3) -> State:
    """Make a small state dict with the released code's names and shapes."""
    state: State = {"queue": F.normalize(torch.randn(WIDTH, QUEUE_SIZE), dim=0), "queue_ptr": torch.tensor([8])}
    joints = layout.num_joints
    for side in ("encoder_q", "encoder_k"):
        state[f"{side}.A"] = adjacency(layout)
        batch_norm(state, f"{side}.data_bn", coordinates * joints)
        fan_in = coordinates
        for i, fan_out in enumerate(CHANNELS):
            name = f"{side}.st_gcn_networks.{i}"
            state[f"{name}.gcn.conv.weight"] = torch.randn(3 * fan_out, fan_in, 1, 1)
            state[f"{name}.gcn.conv.bias"] = torch.randn(3 * fan_out)
            batch_norm(state, f"{name}.tcn.0", fan_out)
            state[f"{name}.tcn.2.weight"] = torch.randn(fan_out, fan_out, 9, 1) / 3
            state[f"{name}.tcn.2.bias"] = torch.randn(fan_out)
            batch_norm(state, f"{name}.tcn.3", fan_out)
            if i > 0 and (fan_in != fan_out or STRIDES[i] != 1):
                state[f"{name}.residual.0.weight"] = torch.randn(fan_out, fan_in, 1, 1)
                state[f"{name}.residual.0.bias"] = torch.randn(fan_out)
                batch_norm(state, f"{name}.residual.1", fan_out)
            state[f"{side}.edge_importance.{i}"] = torch.rand(3, joints, joints) + 0.5
            fan_in = fan_out
        state[f"{side}.fc.0.weight"], state[f"{side}.fc.0.bias"] = torch.randn(7, fan_in), torch.randn(7)
        state[f"{side}.fc.2.weight"], state[f"{side}.fc.2.bias"] = torch.randn(WIDTH, 7), torch.randn(WIDTH)
    return state


def crossclr_state() -> State:
    """Make one of three streams, whose motion and bone heads wrap the joint stream's head."""
    state = official_state()
    for stream in ("motion", "bone"):
        for name, value in official_state().items():
            if not name.startswith("queue") and ".fc." not in name:
                side, _, part = name.partition(".")
                state[f"{side}_{stream}.{part}"] = value
            elif name in ("queue", "queue_ptr"):
                state[f"{name}_{stream}"] = value
        for side in ("encoder_q", "encoder_k"):
            head = {f"2.{part}": state[f"{side}.fc.{part}"] for part in ("0.weight", "0.bias", "2.weight", "2.bias")}
            state |= {f"{side}_{stream}.fc.{part}": value for part, value in head.items()}
            state[f"{side}_{stream}.fc.0.weight"], state[f"{side}_{stream}.fc.0.bias"] = torch.eye(8), torch.zeros(8)
    return state
