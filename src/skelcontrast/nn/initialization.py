"""The released code's initialisation."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from skelcontrast import _check
from skelcontrast.nn.graph_conv import GraphConv


@torch.no_grad()
def normal_init_(module: nn.Module, *, std: float = 0.02, generator: torch.Generator | None = None) -> None:
    """Initialise in place as the released code does; torch's own initialisation is the library's default.

    Weights of 1-D, 2-D and graph convolutions and of linear layers are drawn from N(0, std^2), scales of batch norms
    from N(1, std^2), and their biases are zero. Edge importance stays as it is.

    Args:
        module: Any module; its sub-modules are initialised too.
        std: Standard deviation, positive.
        generator: Source of randomness on the parameters' device; torch's default where `None`.

    Raises:
        ValueError: If `std` is not positive.

    Example:
        >>> layer = nn.Linear(1000, 100)
        >>> normal_init_(layer)
        >>> round(layer.weight.std().item(), 3), layer.bias.abs().max().item()
        (0.02, 0.0)
    """
    _check.interval("normal_init_", "std", std, 0, open_low=True)
    for part in module.modules():
        if isinstance(part, nn.Conv1d | nn.Conv2d | nn.Linear | GraphConv):
            mean = 0.0
        elif isinstance(part, _BatchNorm):  # whatever its axes, and of several processes too
            mean = 1.0
        else:
            continue
        weight: Tensor | None = part.weight  # a batch norm may have neither scale nor bias
        if weight is not None:
            weight.normal_(mean, std, generator=generator)
        if part.bias is not None:
            part.bias.zero_()
