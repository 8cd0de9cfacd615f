"""Operations that torch's compiler takes as one node and calls as they are."""

import sys
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch._library.custom_ops import CustomOpDef

_WRITES_OUT = tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 13)
"""Whether Inductor, when it first meets an operator, writes out all that its inputs were computed from.

It does so for a log that nobody reads; seen in 2.4 and 2.11, no longer in 2.13. What two operators have in common is
written twice, so behind a few blocks of an encoder that takes longer than anybody waits.
"""


def operator(
    name: str, forward: Callable[..., Any], fake: Callable[..., Any], *, mutates: tuple[str, ...] = ()
) -> "CustomOpDef":
    """Return an operator of torch.

    Args:
        name: ``"skelcontrast::..."``.
        forward: What it does; its annotations tell torch the kinds of inputs and outputs.
        fake: The same without values: unset results of the right shape, dtype and memory format.
        mutates: Names of the inputs that it writes to.
    """
    made = torch.library.custom_op(name, forward, mutates_args=mutates)

    @wraps(fake)
    def known(*inputs: object) -> object:
        if _WRITES_OUT:
            _make_known(made)
        return fake(*inputs)

    made.register_fake(known)
    return made


def _make_known(made: "CustomOpDef") -> None:
    """Do for an operator, without writing anything, what Inductor does when it first meets it.

    Before that it asks for shapes, and so comes by here.
    """
    lowering: Any = sys.modules.get("torch._inductor.lowering")
    overload = made._opoverload
    if lowering is None or overload in lowering.lowerings:
        return
    from torch._library import utils  # here, so that later versions need not have it

    told = getattr(utils, "get_layout_constraint_tag", None), getattr(lowering, "tag_to_layout_constraint", None)
    tag_of, constraint_of = told  # the first versions have one constraint for all
    keeps = constraint_of(tag_of(overload)) if tag_of and constraint_of else lowering.constrain_to_fx_strides
    lowering.make_fallback(overload, layout_constraint=keeps, warn=False)
