"""A call as a CUDA graph.

A host that launches a call operation by operation may need longer for that than the device for the work, and a clock
around the call then shows the host. A graph is launched as a whole, so that the device's own time is seen.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

import torch

Result = TypeVar("Result")

REPLAYS = 5
"""Replays between two looks at the clock: the device then never waits for the next one."""


class Captured(Generic[Result]):
    """A call whose operations are recorded once; calling it replays them `REPLAYS` times.

    Args:
        name: What an error calls it.
        call: Does the same operations on the same tensors every time, and never waits for the device.
        generators: What it draws from beside torch's default generator.

    Raises:
        RuntimeError: If it cannot be captured.
    """

    def __init__(self, name: str, call: Callable[[], Result], *generators: torch.Generator) -> None:
        self._graph = torch.cuda.CUDAGraph()
        for generator in generators:
            self._graph.register_generator_state(generator)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # libraries set themselves up, on a stream of its own as capture wants it
            for _ in range(3):
                call()
        torch.cuda.current_stream().wait_stream(side)
        try:
            with torch.cuda.graph(self._graph):
                self.result = call()  # held, for every replay writes there
        except RuntimeError as error:
            first = error.__context__ or error  # the end of a capture that failed says only that it did
            raise RuntimeError(f"{name} cannot be captured as a CUDA graph: {first}") from error

    def __call__(self) -> None:
        """Replay several times; divide the time by `REPLAYS`."""
        for _ in range(REPLAYS):
            self.replay()

    def replay(self) -> None:
        """Replay once."""
        self._graph.replay()
