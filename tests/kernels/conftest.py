"""Kernels run on the device where there is one, in Triton's interpreter where there is none (`tests/conftest.py`)."""

from collections.abc import Iterator

import pytest
import torch

from skelcontrast.nn import _batch_norm


@pytest.fixture(autouse=True)
def _poisoned_memory() -> Iterator[None]:
    """Let uninitialised memory hold NaN, so that whatever is read before it is written shows."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def on_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the interpreter take what a GPU would."""
    monkeypatch.setattr(_batch_norm, "_is_on_gpu", lambda _: True)
