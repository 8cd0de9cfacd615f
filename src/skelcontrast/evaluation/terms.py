"""The terms of a loss over an epoch: their means, and the step at which they ceased to be numbers."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from skelcontrast import _check

HINT = "Of a method's loss take `_asdict()`, without the terms that are None."


def mean_terms(steps: Sequence[Mapping[str, Tensor]], *, epoch: int | None = None) -> dict[str, float]:
    """Return the mean of each loss term over the steps of an epoch, or stop at one that is not finite.

    Collect the detached terms of every step on their device, and call this at the end of the epoch: until then nothing
    waits for the device.

    Args:
        steps: For each step, in order, its terms by name, scalars. All steps have the same names.
        epoch: Number of the epoch, if the message is to name it.

    Raises:
        TypeError: If a step is no mapping, or a term is not a floating-point tensor.
        ValueError: If there is no step, a term is not a scalar, or the names differ.
        FloatingPointError: If a term is NaN or infinite; the message names the first such step, counted from 1.

    Example:
        >>> mean_terms([{"total": torch.tensor(3.0)}, {"total": torch.tensor(2.0)}])
        {'total': 2.5}
        >>> mean_terms([{"total": torch.tensor(3.0)}, {"total": torch.tensor(torch.inf)}], epoch=7)
        Traceback (most recent call last):
        ...
        FloatingPointError: mean_terms: `steps` must hold finite terms, got total inf in step 2 of 2 of epoch 7...
    """
    owner = "mean_terms"
    if not steps:
        _check.fail(owner, "steps", "hold at least one step", "none")
    for place, terms in enumerate(steps):
        if not isinstance(terms, Mapping):
            _check.fail(owner, f"steps[{place}]", "be a mapping", type(terms).__name__, hint=HINT, kind=TypeError)
        if terms.keys() != steps[0].keys():
            must = f"hold the terms {', '.join(steps[0])} in every step"
            _check.fail(owner, "steps", must, f"{', '.join(terms) or 'none'} in step {place + 1}")
        for name, term in terms.items():
            place_of_term = f'steps[{place}]["{name}"]'
            _check.shape(owner, place_of_term, _check.tensor(owner, place_of_term, term), "")
    curves = {name: torch.stack([terms[name].detach() for terms in steps]).cpu() for name in steps[0]}
    broken = torch.stack([~curve.isfinite() for curve in curves.values()])  # (terms, steps)
    if broken.any():
        step = int(broken.any(dim=0).nonzero()[0])
        name = next(name for name, curve in curves.items() if not curve[step].isfinite())
        where = f"step {step + 1} of {len(steps)}{'' if epoch is None else f' of epoch {epoch}'}"
        got = f"{name} {float(curves[name][step])} in {where}"
        hint = "A lower learning rate or a longer warm-up usually helps, where the sequences are finite."
        _check.fail(owner, "steps", "hold finite terms", got, hint=hint, kind=FloatingPointError)
    return {name: float(curve.mean()) for name, curve in curves.items()}
