"""An encoder that stands still: evaluation mode inside, every flag back outside, and nothing in it moved."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from skelcontrast import _check


@contextmanager
def frozen(owner: str, encoder: nn.Module) -> Iterator[None]:
    """Keep an encoder in evaluation mode, without gradients; raise if it cannot be, or if a buffer changes.

    Afterwards each submodule is in the mode it was in and each buffer holds what it held, whatever happened inside.
    """
    training = {module: module.training for module in encoder.modules()}
    buffers = {name: buffer.clone() for name, buffer in encoder.named_buffers()}
    encoder.eval()
    try:
        _check_still(owner, encoder)
        with torch.no_grad():  # not inference mode, whose tensors could not be trained on later
            yield
        moved = [name for name, buffer in encoder.named_buffers() if not _same(buffer, buffers.get(name))]
        if moved:
            hint = "Does its normalisation work on the statistics of the batch?"
            got = f"a new {', '.join(moved[:3])}{' and others' if len(moved) > 3 else ''}"
            _check.fail(owner, "encoder", "keep its buffers in evaluation mode", got, hint=hint, kind=RuntimeError)
    finally:
        with torch.no_grad():
            for name, buffer in encoder.named_buffers():
                before = buffers.get(name)
                if before is not None and buffer.shape == before.shape and not _same(buffer, before):
                    buffer.copy_(before)
        for module, flag in training.items():
            module.training = flag


def _check_still(owner: str, encoder: nn.Module) -> None:
    """Check, before anything runs, that evaluation mode reaches every submodule and means something to each."""
    for name, module in encoder.named_modules():
        where = name or type(module).__name__
        if module.training:
            got = f"{where}, which stays in training mode"
            _check.fail(owner, "encoder", "go into evaluation mode as a whole", got, kind=RuntimeError)
        if isinstance(module, _BatchNorm) and module.running_mean is None:
            got = f"{where}, which has none"
            hint = "Its features would depend on which sequences share a batch."
            _check.fail(
                owner, "encoder", "have running statistics in its batch norm", got, hint=hint, kind=RuntimeError
            )


def _same(buffer: Tensor, before: Tensor | None) -> bool:
    """Tell whether a buffer holds what it held; NaN equals itself."""
    if before is None or buffer.shape != before.shape:
        return False
    return bool(((buffer == before) | (buffer.isnan() & before.isnan())).all())
