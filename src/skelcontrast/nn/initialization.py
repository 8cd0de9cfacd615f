"""The released code's initialisation."""

import torch
from torch import nn

from skelcontrast import _check
from skelcontrast.nn.graph_conv import GraphConv


@torch.no_grad()
def normal_init_(module: nn.Module, *, std: float = 0.02, generator: torch.Generator | None = None) -> None:
    """Initialise in place as the released code does; torch's own initialisation is the library's default.

    Weights of convolutions and linear layers are drawn from N(0, std^2), scales of batch norms from N(1, std^2), and
    all biases are zero. Edge importance stays as it is.

    Args:
        module: Any module; its sub-modules are initialised too.
        std: Standard deviation, positive.
        generator: Source of randomness on the parameters' device; torch's default where `None`.

    Example:
        >>> layer = nn.Linear(1000, 100)
        >>> normal_init_(layer)
        >>> round(layer.weight.std().item(), 3), layer.bias.abs().max().item()
        (0.02, 0.0)
    """
    _check.interval("normal_init_", "std", std, 0, open_low=True)
    for part in module.modules():
        if isinstance(part, nn.Conv1d | nn.Conv2d | nn.Linear | GraphConv):
            part.weight.normal_(0.0, std, generator=generator)
        elif isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            part.weight.normal_(1.0, std, generator=generator)
        else:
            continue
        if part.bias is not None:
            part.bias.zero_()
