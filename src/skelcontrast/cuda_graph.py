"""A training step as a CUDA graph: recorded once, then started by a single call."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from skelcontrast import _check
from skelcontrast._side_by_side import side_by_side, streams_may_part

__all__ = ["CapturedStep", "side_by_side"]
OWNER = "CapturedStep"


class CapturedStep:
    """A training step, without the optimiser, that is recorded once and then launched as a whole.

    A step of these small encoders is some thousand short operations, and a GPU spends much of its time waiting for the
    next. A captured step computes what the plain step does, from the same random numbers; parts that do not need each
    other, such as the passes of `AimCLR.embed`, may run at the same time, see `side_by_side`.

    The step is run a few times first, and what this changed in `module` is put back. Parameters keep the gradients that
    the graph writes to: use any optimiser between the calls, with any schedule. What the step calls may be compiled
    with ``torch.compile``, which then happens in the first of these runs. Parts that are compiled as one no longer run
    at the same time; a method's own ``compile`` keeps them apart. While a step is recorded no other thread may ask the
    device for memory, so do not build it inside the loop over a loader whose workers' batches are pinned. After a
    recording that failed, begin a new process: in that one torch may draw no random numbers on the device any more.

    Args:
        step: Function of a batch and a generator to draw from, which returns named results, such as the terms of the
            loss. It does everything that belongs to a step but the optimiser: augmentation, momentum update,
            ``backward``, enqueue. It must not wait for the device, and always do the same operations: capture anew for
            another training stage.
        x: A batch on a CUDA device. Later batches must have its shape and dtype.
        module: What the step trains and changes.
        warmup: Runs before the capture, at least 1.
        in_order: Whether nothing runs at the same time. This takes less memory, since what comes later reuses what was
            freed.

    Raises:
        TypeError: If `x` is not a floating-point tensor.
        ValueError: If `x` is not on a CUDA device, if `warmup` is below 1, or if a later batch has another shape,
            dtype or device, or a generator is of another kind of device.

    Example:
        Stage two of AimCLR; on a CPU the step itself is called instead:

        >>> from skelcontrast import augment, methods, nn, skeleton
        >>> layout = skeleton.NTU_RGBD_25
        >>> encoder = nn.STGCN(layout, channels=(4, 8), strides=(1, 2), dropout=0.0)
        >>> model = methods.AimCLR(encoder, nn.ProjectionHead(8, 4), queue_size=8)
        >>> normal, extreme = augment.normal(), augment.extreme(layout)
        >>> def step(x, generator):
        ...     model.momentum_update()
        ...     views = model.embed(*(view(x, generator) for view in (normal, normal, extreme)))
        ...     loss = model.loss(views, mine=True)
        ...     loss.total.backward()
        ...     model.enqueue(views.key)
        ...     return {"total": loss.total.detach()}
        >>> x = torch.randn(4, 3, 8, 25, 1)
        >>> generator = torch.Generator(x.device).manual_seed(0)
        >>> take = CapturedStep(step, x, model) if x.is_cuda else step
        >>> optimizer = torch.optim.SGD(model.query_parameters(), lr=0.01)
        >>> bool(take(x, generator)["total"] > 0)
        True
        >>> optimizer.step()
    """

    def __init__(
        self,
        step: Callable[[Tensor, torch.Generator], Mapping[str, Tensor]],
        x: Tensor,
        module: nn.Module,
        *,
        warmup: int = 3,
        in_order: bool = False,
    ) -> None:
        _check.tensor(OWNER, "x", x)
        _check.integer(OWNER, "warmup", warmup, 1)
        if not x.is_cuda:
            _check.fail(OWNER, "x", "be on a CUDA device", str(x.device), hint="Elsewhere call the step itself.")
        self._recorded: Callable[[], AbstractContextManager[None]] = nullcontext if in_order else _streams_part
        self._x, self._generator = x.clone(), torch.Generator(x.device)
        self._parameters = list(module.parameters())
        changed = [*self._parameters, *module.buffers()]
        before = [tensor.detach().clone() for tensor in changed]
        self._graph = torch.cuda.CUDAGraph()
        self._graph.register_generator_state(self._generator)
        with torch.cuda.device(x.device), torch.random.fork_rng([x.device]):
            side = torch.cuda.Stream()
            self._warm_up(step, warmup, side)
            # On the same stream, to which autograd may still hold what it bound.
            with torch.cuda.graph(self._graph, stream=side), self._recorded():
                self._results = dict(step(self._x, self._generator))
        self._gradients = [parameter.grad for parameter in self._parameters]
        with torch.no_grad():
            for tensor, value in zip(changed, before, strict=True):
                tensor.copy_(value)

    def _warm_up(self, step: Callable[[Tensor, torch.Generator], object], runs: int, side: torch.cuda.Stream) -> None:
        """Let libraries set themselves up, on a stream of its own as capture wants it; leaves no gradient behind."""
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(runs):
                with self._recorded():
                    step(self._x, self._generator)
                self._set_gradients([None] * len(self._parameters))
        torch.cuda.current_stream().wait_stream(side)

    def _set_gradients(self, gradients: list[Tensor | None]) -> None:
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = gradient

    def __call__(self, x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Repeat the step on another batch.

        Args:
            x: The batch; it is copied.
            generator: What is drawn from, on the device of the batch.

        Returns:
            The step's results, as tensors of their own.
        """
        expected, got = (f"{list(of.shape)} of {of.dtype} on {of.device}" for of in (self._x, x))
        if expected != got:
            _check.fail(OWNER, "x", f"be as it was captured, {expected}", got, hint="Capture anew for other batches.")
        if generator.device.type != self._x.device.type:
            _check.fail(OWNER, "generator", f"be on {self._x.device.type}, as the batch is", generator.device)
        self._x.copy_(x)
        self._generator.set_state(generator.get_state())
        self._set_gradients(self._gradients)
        self._graph.replay()
        generator.set_state(self._generator.get_state())  # which the replay has moved on
        return {name: result.clone() for name, result in self._results.items()}


@contextmanager
def _streams_part() -> Iterator[None]:
    """Let streams part in here, without autograd's warning that several of them add to one gradient: it is meant."""
    with warnings.catch_warnings(), streams_may_part():
        warnings.filterwarnings("ignore", message="The AccumulateGrad node's stream")
        yield
