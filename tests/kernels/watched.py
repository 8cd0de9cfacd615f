"""What the interpreter lets pass and a GPU does not: memory that is not the launch's, programs that disturb each other.

The interpreter runs the programs of a launch one after another, each as one thread; a GPU runs them in any order and at
the same time, each as many threads. No kernel here exchanges anything within a launch, by atomic operations or behind
barriers. So within a launch a number is written once at most, nobody reads what is written, and nobody writes what
another program has read.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from triton.runtime import interpreter

Addresses: TypeAlias = NDArray[np.uint64]

NOBODY, SEVERAL = 0, -1  # programs count from 1
ANYTHING = 0x7F  # in place of integers, and of the bits of what the interpreter takes for one


class Memory:
    """The storage of a tensor, and which programs have read and written its numbers during a launch."""

    def __init__(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        self.start, self.end, self.size = storage.data_ptr(), storage.data_ptr() + storage.nbytes(), tensor.itemsize
        self.written_by = np.zeros(storage.nbytes() // self.size, np.int32)
        self.read_by = np.zeros_like(self.written_by)

    def numbers(self, addresses: Addresses) -> NDArray[np.int64]:
        """Return which of its numbers lie at addresses."""
        numbers, rest = np.divmod((addresses - np.uint64(self.start)).astype(np.int64), self.size)
        if rest.any():
            raise RuntimeError("no number begins where a program reads or writes")
        return numbers

    def read(self, addresses: Addresses, program: int) -> None:
        """Note that a program reads."""
        numbers = self.numbers(addresses)
        if (writer := self.written_by[numbers]).any():
            raise RuntimeError(f"program {program} reads what program {writer.max()} has written")
        reader = self.read_by[numbers]
        self.read_by[numbers] = np.where(np.isin(reader, (NOBODY, program)), program, SEVERAL)

    def write(self, addresses: Addresses, program: int) -> None:
        """Note that a program writes."""
        numbers = self.numbers(addresses)
        if (writer := self.written_by[numbers]).any():
            raise RuntimeError(f"program {program} writes what program {writer.max()} has written")
        if np.unique(numbers).size < numbers.size:
            raise RuntimeError(f"program {program} writes a number twice at once")
        if not np.isin(reader := self.read_by[numbers], (NOBODY, program)).all():
            others = "several have" if (reader == SEVERAL).any() else f"program {reader.max()} has"
            raise RuntimeError(f"program {program} writes what {others} read")
        self.written_by[numbers] = program


class Watch:
    """The memory of a launch, and the program that runs."""

    def __init__(self, tensors: list[Tensor]) -> None:
        self.memories = list({tensor.untyped_storage().data_ptr(): Memory(tensor) for tensor in tensors}.values())
        self.program = NOBODY

    def check(
        self, pointers: Addresses, mask: NDArray[np.bool_], note: Callable[[Memory, Addresses, int], None]
    ) -> None:
        """Note what a program reads or writes, or raise RuntimeError."""
        addresses, found = pointers[np.broadcast_to(mask, pointers.shape)], 0
        for memory in self.memories:
            inside = addresses[(addresses >= memory.start) & (addresses < memory.end)]
            found += inside.size
            if inside.size:
                note(memory, inside, self.program)
        if found < addresses.size:
            raise RuntimeError(f"program {self.program} reads or writes outside of what its kernel is given")


@contextmanager
def watched() -> Iterator[None]:
    """Let launches raise where they would go wrong on a GPU, or might; what a mask leaves out of a load is NaN.

    On a GPU it is what the kernel says it is, and else anything; to the interpreter it is zero then.
    """
    builder, launch_all = interpreter.interpreter_builder, interpreter.GridExecutor.__call__
    load, store, place = builder.create_masked_load, builder.create_masked_store, builder.set_grid_idx
    watch = Watch([])

    def launch(executor: Any, *args: Any, **kwargs: Any) -> None:
        nonlocal watch
        watch = Watch([value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)])
        launch_all(executor, *args, **kwargs)

    def next_program(*index: int) -> None:
        watch.program += 1
        place(*index)

    def masked_load(pointers: Any, mask: Any, other: Any, *how: Any) -> Any:
        watch.check(pointers.data, mask.data, Memory.read)
        loaded = load(pointers, mask, other, *how)
        if other is None and loaded.data.size > 1:  # the interpreter takes a single zero for None
            left_out = ~np.broadcast_to(mask.data, loaded.data.shape)
            loaded.data[left_out] = np.nan if loaded.data.dtype.kind == "f" else ANYTHING
        return loaded

    def masked_store(pointers: Any, value: Any, mask: Any, *how: Any) -> Any:
        watch.check(pointers.data, mask.data, Memory.write)
        return store(pointers, value, mask, *how)

    with (
        patch.object(interpreter.GridExecutor, "__call__", launch),
        patch.multiple(
            builder, set_grid_idx=next_program, create_masked_load=masked_load, create_masked_store=masked_store
        ),
    ):
        yield
