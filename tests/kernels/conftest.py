"""Kernels run on the device where there is one, in Triton's interpreter where there is none (`tests/conftest.py`)."""

import importlib.util
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


@pytest.fixture(autouse=True)
def _watched() -> Iterator[None]:
    """Let the interpreter raise where a GPU would go wrong, or might."""
    if torch.cuda.is_available() or importlib.util.find_spec("triton") is None:
        yield
        return
    from tests.kernels.watched import watched

    with watched():
        yield
