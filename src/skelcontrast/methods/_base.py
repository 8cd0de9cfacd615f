"""What every method of the family has: both sides, a bank, and the calls that change them."""

from collections.abc import Callable, Mapping
from numbers import Integral
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from skelcontrast import _check
from skelcontrast.losses.bank_read import Implementation, check_implementation
from skelcontrast.memory import MemoryQueue
from skelcontrast.moco import KeyInit, MoCo

# Before torch 2.11 operations in one kernel were new, and have not been tried. (Its version is compared as one.)
_INDUCTOR = {"combo_kernels": torch.__version__ >= "2.11", "layout_optimization": False}


class MomentumContrast(nn.Module):
    """Momentum contrast with a bank; the methods add what they embed and which losses they take."""

    _parts: ClassVar[tuple[str, ...]] = ("_query", "_key", "_loss")
    """What `compile` compiles."""
    _compiled: Mapping[str, Callable[..., Any]] | None = None
    moco: MoCo
    """Query side and key side."""
    bank: MemoryQueue
    """The stored keys; ``bank.keys`` is (K, D)."""

    def __init__(
        self,
        encoder: nn.Module,
        head: nn.Module,
        *,
        queue_size: int = 32768,
        momentum: float = 0.999,
        temperature: float = 0.07,
        key_init: KeyInit = "copy",
        implementation: Implementation = "auto",
    ) -> None:
        super().__init__()
        name = type(self).__name__
        _check.module(name, "encoder", encoder)
        _check.module(name, "head", head)
        dim = getattr(head, "out_features", None)
        if not isinstance(dim, Integral):  # NumPy's integers too
            _check.fail(name, "head", "have an integer `out_features`, the embedding size", dim, kind=TypeError)
        _check.integer(name, "queue_size", queue_size, 1)
        _check.interval(name, "momentum", momentum, 0, 1)
        _check.choice(name, "key_init", key_init, ("copy", "independent"))
        check_implementation(name, implementation)
        self.implementation: Implementation = implementation
        self.temperature = _check.interval(name, "temperature", temperature, 0, open_low=True)
        self.moco = MoCo(encoder, head, momentum=momentum, key_init=key_init)
        self.bank = MemoryQueue(queue_size, int(dim))

    @property
    def encoder(self) -> nn.Module:
        """The query encoder, which is what is evaluated and used downstream."""
        return self.moco.query_encoder

    def compile(self, **options: Any) -> None:  # noqa: ANN401  whatever torch.compile takes
        """Compile each pass of the encoder and the loss by itself; from now on the compiled ones are called.

        Passes compiled as one could not run side by side under `cuda_graph.CapturedStep`. A copy of the model is not
        compiled, and its state dict is the same.

        Args:
            **options: Those of `torch.compile`. On CUDA, unless they name a backend, a mode or options of Inductor,
                small operations share a kernel and memory formats are left as they are.
        """
        if next(self.parameters()).is_cuda and options.keys().isdisjoint({"backend", "mode", "options"}):
            from torch._inductor import list_options  # which takes a while to import

            options["options"] = {name: value for name, value in _INDUCTOR.items() if name in list_options()}
        self._compiled = {name: torch.compile(getattr(self, name), **options) for name in self._parts}

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what was compiled: it is of this very model, and cannot be written to a file."""
        return {name: value for name, value in self.__dict__.items() if name != "_compiled"}

    def _part(self, name: str) -> Callable[..., Any]:
        """Return one of the parts, compiled where the model is."""
        part: Callable[..., Any] = getattr(self, name) if self._compiled is None else self._compiled[name]
        return part

    def _query(self, x: Tensor) -> Tensor:
        return self.moco.query(x)

    def _key(self, x: Tensor) -> Tensor:
        return self.moco.key(x)

    def query_parameters(self) -> list[nn.Parameter]:
        """Return the parameters to optimise, those of the query side."""
        return self.moco.query_parameters()

    def momentum_update(self) -> None:
        """Let the key side follow the query side by one step (Eq. 2); the first call of a training step."""
        self.moco.momentum_update()

    def enqueue(self, key: Tensor, *, gather: bool = False) -> None:
        """Store the batch's keys (N, D); the last call of a training step. For `gather` see `MemoryQueue.enqueue`."""
        self.bank.enqueue(key, gather=gather)
