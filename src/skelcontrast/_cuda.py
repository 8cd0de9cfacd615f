"""What is known of CUDA devices."""

import torch

ROOMY = {(8, 0), (9, 0), (10, 0), (10, 3)}
"""Compute capabilities with the shared memory per multiprocessor that some kernels take, above 99 KiB up to 160."""


def capability(device: torch.device) -> tuple[int, int]:
    """Return the compute capability of a CUDA device."""
    # Of the two calls that tell it, the one that torch.compile takes for a constant.
    properties = torch.cuda.get_device_properties(device)
    return properties.major, properties.minor
