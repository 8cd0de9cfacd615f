"""Arithmetic in the dtype of its inputs, whatever autocast says."""

from contextlib import AbstractContextManager, nullcontext

import torch


def autocast_off(device: torch.device) -> AbstractContextManager[object]:
    """Return a context in which autocast does not change dtypes on a kind of device."""
    # The question is last: not every version of torch.compile follows it.
    if device.type in ("cpu", "cuda") or torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()
