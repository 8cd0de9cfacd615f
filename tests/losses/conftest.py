"""Fixtures of the losses' tests."""

import pytest

from skelcontrast.losses import _chunked_read


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut even small banks into several chunks, the last of them not full."""
    monkeypatch.setattr(_chunked_read, "_ON_CPU", 1)
