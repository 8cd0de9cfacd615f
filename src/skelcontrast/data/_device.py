"""The memory that a device has left, asked before a data set moves there, and copies that do not wait for it."""

from pathlib import Path

import torch
from torch import Tensor

from skelcontrast import _check

MEMORY_TABLE = Path("/proc/meminfo")


def check_memory(owner: str, needed: int, device: torch.device) -> None:
    """Refuse to start what cannot fit."""
    free = _free_bytes(device)
    if free is not None and needed > free:
        must = f"have the {needed / 1e9:.2f} GB free that the sequences need"
        hint = "Fewer frames, another dtype or a subset need less; without `to` they are read from where they lie."
        _check.fail(owner, "device", must, f"{free / 1e9:.2f} GB on '{device}'", hint=hint, kind=RuntimeError)


def to_device(x: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the CPU on a device, without waiting for what the device is doing."""
    if device.type == "cuda":  # from memory that may be swapped out, a copy is waited for
        return x.pin_memory().to(device, non_blocking=True)
    return x.to(device)


def _free_bytes(device: torch.device) -> int | None:
    """Return what is left, or `None` where nothing tells."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # What PyTorch holds without using it can be had as well.
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type == "cpu" and MEMORY_TABLE.exists():
        for line in MEMORY_TABLE.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None
