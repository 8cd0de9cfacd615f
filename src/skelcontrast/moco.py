"""The momentum-updated key side of momentum contrast. Every change of state is a call that the loop makes."""

import copy
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skelcontrast import _check

__all__ = ["KeyInit", "MoCo", "MomentumEncoder"]

KeyInit: TypeAlias = Literal["copy", "independent"]


class MomentumEncoder(nn.Module):
    """A frozen copy of a module that follows it as a moving average.

    Only parameters are averaged; buffers, such as batch norm's running statistics, follow the batches that the copy
    itself sees, as in MoCo and the released code. The copy computes without gradients.

    Args:
        module: The module to copy; anything that `copy.deepcopy` can copy.
        momentum: Weight m of the old value, in [0, 1].
        init: ``"copy"`` starts equal to the module (MoCo, and what Section 3.1 implies). ``"independent"`` draws every
            layer of the copy anew by its ``reset_parameters``: the released code draws both sides, from N(0, 0.02^2).

    Raises:
        TypeError: If `module` is no module, or a layer with parameters has no ``reset_parameters`` and `init` is
            ``"independent"``.
        ValueError: If `momentum` is out of range or `init` is unknown.

    References:
        AimCLR, Eq. 2; He et al., MoCo, CVPR 2020, Eq. 2.

    Example:
        >>> online = nn.Linear(1, 1, bias=False)
        >>> nn.init.zeros_(online.weight) is online.weight
        True
        >>> follower = MomentumEncoder(online, momentum=0.9)
        >>> nn.init.ones_(online.weight) is online.weight
        True
        >>> follower.update(online)
        >>> round(follower.module.weight.item(), 4)
        0.1
    """

    module: nn.Module
    """The copy."""

    def __init__(self, module: nn.Module, *, momentum: float = 0.999, init: KeyInit = "copy") -> None:
        super().__init__()
        _check.module("MomentumEncoder", "module", module)
        self.momentum = _check.interval("MomentumEncoder", "momentum", momentum, 0, 1)
        _check.choice("MomentumEncoder", "init", init, ("copy", "independent"))
        self.module = copy.deepcopy(module)
        if init == "independent":
            _draw_anew(self.module)
        self.module.requires_grad_(False)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Run the copy on `x` without gradients."""
        out: Tensor = self.module(x)
        return out

    @torch.no_grad()
    def update(self, source: nn.Module) -> None:
        """Move every parameter towards `source`: ``key <- m * key + (1 - m) * query`` (Eq. 2).

        Raises:
            ValueError: If the parameters of `source` have other names, shapes or dtypes, or are narrower than float32,
                in which a step of size ``1 - m`` is lost in rounding.
        """
        mine, theirs = dict(self.module.named_parameters()), dict(source.named_parameters())
        differing = [
            name
            for name in sorted(mine.keys() | theirs.keys())
            if name not in mine
            or name not in theirs
            or mine[name].shape != theirs[name].shape
            or mine[name].dtype != theirs[name].dtype
        ]
        if differing:
            must = "have the parameters of the copied module, by name, shape and dtype"
            _check.fail("MomentumEncoder.update", "source", must, f"others in {', '.join(differing[:5])}")
        narrow = {str(value.dtype) for value in mine.values() if value.dtype in (torch.bfloat16, torch.float16)}
        if narrow:
            hint = "Keep the weights in float32, and compute under torch.autocast."
            must = "have parameters of float32 or wider"
            _check.fail("MomentumEncoder.update", "source", must, ", ".join(sorted(narrow)), hint=hint)
        if mine:  # a module without parameters has nothing to follow
            torch._foreach_lerp_(list(mine.values()), list(theirs.values()), 1 - self.momentum)

    def extra_repr(self) -> str:
        """Show the momentum."""
        return f"momentum={self.momentum}"


def _draw_anew(module: nn.Module, name: str = "") -> None:
    for child, part in module.named_children():  # first, because a whole may set its parts
        _draw_anew(part, f"{name}.{child}" if name else child)
    reset = getattr(module, "reset_parameters", None)
    if callable(reset):
        reset()
    elif next(module.parameters(recurse=False), None) is not None:
        must = "have `reset_parameters` in every layer with parameters when `init` is 'independent'"
        layer = f"{type(module).__name__}{f' as {name}' if name else ''}"
        _check.fail("MomentumEncoder", "module", must, layer, kind=TypeError)


class MoCo(nn.Module):
    """Query side and key side of momentum contrast, without bank and loss.

    Per training step call ``momentum_update()``, then forward, loss, backward and optimiser step, then store the keys
    in a bank. Pass ``query_parameters()`` to the optimiser. Embeddings are float32 at least, also under autocast.

    Args:
        encoder: Built encoder from inputs to features; used as the query encoder and copied for the keys.
        head: Built head from features to embeddings (N, D); likewise.
        momentum: Weight of the old key parameters, in [0, 1].
        key_init: How the key side starts, see `MomentumEncoder`.

    Raises:
        TypeError: If `encoder` or `head` is no module, or is one that `MomentumEncoder` cannot draw anew.
        ValueError: If `momentum` is out of range or `key_init` is unknown.

    References:
        AimCLR, Section 3.1; Chen et al., MoCo v2, 2020.

    Example:
        >>> net = MoCo(nn.Flatten(), nn.Linear(6, 4))
        >>> x = torch.ones(2, 3, 2)
        >>> net.query(x).detach().norm(dim=1).round(decimals=4)
        tensor([1., 1.])
        >>> torch.equal(net.query(x), net.key(x)), net.key(x).requires_grad
        (True, False)
    """

    query_encoder: nn.Module
    """The encoder that was given, which is trained, and used downstream."""
    query_head: nn.Module
    """The head that was given."""
    key_encoder: MomentumEncoder
    """The copy of the encoder that follows it."""
    key_head: MomentumEncoder
    """The copy of the head that follows it."""

    def __init__(
        self, encoder: nn.Module, head: nn.Module, *, momentum: float = 0.999, key_init: KeyInit = "copy"
    ) -> None:
        super().__init__()
        _check.module("MoCo", "encoder", encoder)
        _check.module("MoCo", "head", head)
        _check.interval("MoCo", "momentum", momentum, 0, 1)
        _check.choice("MoCo", "key_init", key_init, ("copy", "independent"))
        self.query_encoder = encoder
        self.query_head = head
        self.key_encoder = MomentumEncoder(encoder, momentum=momentum, init=key_init)
        self.key_head = MomentumEncoder(head, momentum=momentum, init=key_init)

    def query(self, x: Tensor) -> Tensor:
        """Embed a view on the query side: unit vectors (N, D) with gradients."""
        return self.project(self.query_encoder(x))

    def project(self, features: Tensor) -> Tensor:
        """Send features of the query encoder through the query head: unit vectors (N, D)."""
        return _unit(self.query_head(features))

    def key(self, x: Tensor) -> Tensor:
        """Embed a view on the key side: unit vectors (N, D) without gradients."""
        return _unit(self.key_head(self.key_encoder(x)))

    def momentum_update(self) -> None:
        """Let the key side follow the query side by one step (Eq. 2)."""
        self.key_encoder.update(self.query_encoder)
        self.key_head.update(self.query_head)

    def query_parameters(self) -> list[nn.Parameter]:
        """Return the parameters to optimise: those of the query encoder and the query head."""
        return [*self.query_encoder.parameters(), *self.query_head.parameters()]


def _unit(embeddings: Tensor) -> Tensor:
    # In bfloat16 the length would be off by up to 0.4 %, which a small temperature turns into a wrong logit.
    return F.normalize(embeddings.to(torch.promote_types(embeddings.dtype, torch.float32)), dim=1)
