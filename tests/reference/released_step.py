"""AimCLR's training step, second stage, in the operations of the released code: what the speed of a step is held to.

Written from a description of what that code does. It differs on purpose in one thing: the key side starts as the
model's, so that both forms can be held against each other.
"""

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skelcontrast.methods import AimCLR
from skelcontrast.nn import STGCN
from tests.reference.losses import released_aimclr_loss
from tests.reference.stgcn import released_feature_map, released_pool, released_stgcn

Lap: TypeAlias = Callable[[str], object]
"""Told the name of every part of a step when it has ended."""


class Views(NamedTuple):
    """Augmented skeletons of one batch, each (N, C, T, V, M)."""

    query: Tensor
    key: Tensor
    extreme: Tensor


def no_lap(part: str) -> None:
    """Listen to no part."""


class ReleasedStep:
    """Trains a copy of a model: no foreach, no fused loss, no channels-last memory; the loss is read at every step."""

    def __init__(self, model: AimCLR, *, lr: float = 0.1) -> None:
        self.model = copy.deepcopy(model)
        moco = self.model.moco
        self.query_side = (_stgcn(moco.query_encoder), moco.query_head)
        self.key_side = (_stgcn(moco.key_encoder.module), moco.key_head.module)
        self.momentum = moco.key_encoder.momentum
        self.queue = model.bank.keys.T.contiguous()
        self.pointer = int(model.bank.pointer)
        self.optimizer = torch.optim.SGD(
            self.model.query_parameters(), lr=lr, momentum=0.9, weight_decay=1e-4, foreach=False
        )

    def loss(self, views: Views, lap: Lap = no_lap) -> tuple[Tensor, Tensor]:
        """Return the loss of a batch, and its keys (N, D)."""
        encoder, head = self.key_side
        with torch.no_grad():
            keys = F.normalize(head(released_stgcn(encoder, views.key)), dim=1)
        lap("keys, forward")
        encoder, head = self.query_side
        bodies = views.extreme.shape[-1]
        feature_map = released_feature_map(encoder, views.extreme)
        dropped = F.normalize(head(released_pool(released_eadm(feature_map), bodies)), dim=1)
        extreme = F.normalize(head(released_pool(feature_map, bodies)), dim=1)
        query = F.normalize(head(released_stgcn(encoder, views.query)), dim=1)
        lap("queries, forward")
        temperature, k = self.model.temperature, self.model.k
        loss = released_aimclr_loss(query, [extreme, dropped], keys, self.queue, temperature=temperature, k=k)
        lap("loss, forward")
        return loss, keys

    def __call__(self, views: Views, lap: Lap = no_lap, autocast: AbstractContextManager[Any] | None = None) -> float:
        """Take one step and return its loss."""
        self.momentum_update()
        lap("momentum update, enqueue")
        with autocast or nullcontext():
            loss, keys = self.loss(views, lap)
        self.optimizer.zero_grad()
        loss.backward()
        lap("backward")
        self.optimizer.step()
        lap("optimiser")
        self.queue[:, self.pointer : self.pointer + len(keys)] = keys.T
        self.pointer = (self.pointer + len(keys)) % self.queue.shape[1]
        found = loss.item()
        lap("momentum update, enqueue")
        return found

    @torch.no_grad()
    def momentum_update(self) -> None:
        """Average parameter by parameter, out of place."""
        for mine, theirs in zip(self.key_side, self.query_side, strict=True):
            for key, query in zip(mine.parameters(), theirs.parameters(), strict=True):
                key.data = key.data * self.momentum + query.data * (1.0 - self.momentum)


def released_eadm(x: Tensor, keep_margin: float = 0.7) -> Tensor:
    """Drop joints, then single values, of a feature map (N, C, T, V); what is left grows by what the batch lost."""
    samples, channels, frames, joints = x.shape
    with torch.no_grad():
        squared = (x - x.mean(dim=(2, 3), keepdim=True)).pow(2)
        variance = squared.sum(dim=(2, 3), keepdim=True) / (frames * joints - 1)
        attention = torch.sigmoid(squared / (4 * (variance + 1e-4)) + 0.5)
        of_joints = _keep(attention.mean(dim=1).mean(dim=1), keep_margin)
        of_values = _keep(attention.permute(0, 1, 3, 2).reshape(samples, channels * joints, frames), keep_margin)
    x = x * of_joints.view(samples, 1, 1, joints) * of_joints.numel() / of_joints.sum()
    by_joint = x.permute(0, 1, 3, 2).reshape(samples, channels * joints, frames)
    by_joint = by_joint * of_values * of_values.numel() / of_values.sum()
    return by_joint.view(samples, channels, joints, frames).permute(0, 1, 3, 2)


def _keep(attention: Tensor, keep_margin: float) -> Tensor:
    keep = attention.clone()
    keep[attention >= keep_margin] = 0
    keep[attention < keep_margin] = 1
    return keep


def _stgcn(module: nn.Module) -> STGCN:
    if not isinstance(module, STGCN):
        raise TypeError(f"the released encoder is an ST-GCN, got a {type(module).__name__}")
    return module
