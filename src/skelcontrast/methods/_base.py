"""What every method of the family has: both sides, a bank, and the calls that change them."""

from torch import Tensor, nn

from skelcontrast import _check
from skelcontrast.losses.bank_read import Implementation, check_implementation
from skelcontrast.memory import MemoryQueue
from skelcontrast.moco import KeyInit, MoCo


class MomentumContrast(nn.Module):
    """Momentum contrast with a bank; the methods add what they embed and which losses they take."""

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
        dim = getattr(head, "out_features", None)
        if not isinstance(dim, int):
            _check.fail(name, "head", "have an integer `out_features`, the embedding size", dim, kind=TypeError)
        _check.integer(name, "queue_size", queue_size, 1)
        _check.interval(name, "momentum", momentum, 0, 1)
        _check.choice(name, "key_init", key_init, ("copy", "independent"))
        check_implementation(name, implementation)
        self.implementation: Implementation = implementation
        self.temperature = _check.interval(name, "temperature", temperature, 0, open_low=True)
        self.moco = MoCo(encoder, head, momentum=momentum, key_init=key_init)
        self.bank = MemoryQueue(queue_size, dim)

    @property
    def encoder(self) -> nn.Module:
        """The query encoder, which is what is evaluated and used downstream."""
        return self.moco.query_encoder

    def query_parameters(self) -> list[nn.Parameter]:
        """Return the parameters to optimise, those of the query side."""
        return self.moco.query_parameters()

    def momentum_update(self) -> None:
        """Let the key side follow the query side by one step (Eq. 2); the first call of a training step."""
        self.moco.momentum_update()

    def enqueue(self, key: Tensor, *, gather: bool = False) -> None:
        """Store the batch's keys (N, D); the last call of a training step. For `gather` see `MemoryQueue.enqueue`."""
        self.bank.enqueue(key, gather=gather)
