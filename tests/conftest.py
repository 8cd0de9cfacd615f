"""Fixtures shared by every room: where golden numbers and real data lie, seeded randomness, and torch on CUDA."""

import os
import sys
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

# Whether kernels are interpreted, Triton decides when it is first imported, which torch may do in any test and in any
# module that a test imports; so it is said before the first of them.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes long, so that no core waits at the end for another that has just begun with it.

    Coverage doubles the time of a test. What takes long runs without it, since it reaches nothing that no other test
    does, and so do interpreted kernels after the first of the shapes that a test is asked for.
    """
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    covered = set[str]()
    for item in items:
        test = item.nodeid.partition("[")[0]
        if item.get_closest_marker("slow") or (test in covered and test.startswith("tests/kernels/")):
            item.add_marker("uncovered")
        covered.add(test)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Take away the trace function of coverage for the time of a test that runs without it."""
    if not item.get_closest_marker("uncovered"):
        return (yield)
    tracer = sys.gettrace()
    sys.settrace(None)
    try:
        return (yield)
    finally:
        sys.settrace(tracer)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _exact_float32() -> Iterator[None]:
    """Compute with float32 as it is: on CUDA torch's convolutions take TF32 in its place unless told otherwise."""
    if not torch.cuda.is_available():
        yield
        return
    from benchmarks.measure import full_precision

    with full_precision():
        yield


@pytest.fixture
def without_waiting() -> Callable[[], AbstractContextManager[None]]:
    """Return a context in which it is an error to wait for a CUDA device."""

    def set_mode(mode: str) -> None:
        with warnings.catch_warnings():
            # Said whenever the mode is set. As an error it would come when the mode is set already, and leave it so.
            warnings.filterwarnings("ignore", "Synchronization debug mode")
            torch.cuda.set_sync_debug_mode(mode)

    @contextmanager
    def context() -> Iterator[None]:
        try:
            set_mode("error")
            yield
        finally:
            set_mode("default")

    return context


@pytest.fixture(scope="session")
def shared_path() -> Callable[[str], Path]:
    """Return a file or folder beside the checkout, or skip where it is absent."""

    def find(name: str) -> Path:
        path = SHARED / name
        if not path.exists():
            pytest.skip(f"shared/{name} is not beside this checkout")
        return path

    return find


@pytest.fixture(scope="session")
def golden(shared_path: Callable[[str], Path]) -> Callable[[str], Mapping[str, Any]]:
    """Load one file of numbers produced by the authors' code, or skip where it is absent."""

    def load(name: str) -> Mapping[str, Any]:
        with np.load(shared_path(f"golden/{name}"), allow_pickle=False) as archive:
            return dict(archive)

    return load
