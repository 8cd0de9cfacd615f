"""The global random generators as plain data and tensors, which `torch.load(weights_only=True)` reads back."""

import random
import warnings
from typing import Any

import numpy as np
import torch


def capture_random_state() -> dict[str, Any]:
    """Return the states of Python's, NumPy's and PyTorch's global generators, CUDA's where it is in use."""
    numpy_state: Any = np.random.get_state(legacy=True)  # noqa: NPY002 -- the global generator is what is saved
    return {
        "python": random.getstate(),
        # The words of the Mersenne twister are unsigned 32-bit: they fit into int64, and every torch can read that.
        "numpy": (numpy_state[0], torch.from_numpy(numpy_state[1].astype(np.int64)), *numpy_state[2:]),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Put back what `capture_random_state` returned; states of CUDA devices that are not here are left out."""
    random.setstate(state["python"])
    name, words, *rest = state["numpy"]
    np.random.set_state((name, words.numpy().astype(np.uint32), *rest))  # noqa: NPY002 -- as above
    torch.set_rng_state(state["torch"])
    cuda = state["cuda"]
    present = torch.cuda.device_count() if cuda else 0
    for index, device_state in enumerate(cuda[:present]):
        torch.cuda.set_rng_state(device_state, index)
    if present < len(cuda):
        warnings.warn(
            f"resume: the checkpoint holds the generators of {len(cuda)} CUDA devices and {present} are here; "
            "the run will go on with other random numbers than on the machine that wrote it.",
            stacklevel=3,
        )
