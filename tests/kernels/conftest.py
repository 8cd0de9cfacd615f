"""Kernels run on the device where there is one, in Triton's interpreter where there is none.

Triton decides that when it is first imported, which torch may do in any test; so it is said here, before any test runs.
"""

import os
from collections.abc import Iterator

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"


@pytest.fixture(autouse=True)
def _poisoned_memory() -> Iterator[None]:
    """Let uninitialised memory hold NaN, so that whatever is read before it is written shows."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)
