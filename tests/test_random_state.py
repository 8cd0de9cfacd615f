"""The global random generators: saved and restored bit for bit."""

import random
from typing import Any

import numpy as np
import pytest
import torch

from skelcontrast._random_state import capture_random_state, restore_random_state


def draws() -> list[Any]:
    """Draw from every global generator, also half of a Gaussian pair, which the generators keep for later."""
    return [
        random.random(),  # noqa: S311 -- the generator under test
        random.gauss(0, 1),
        np.random.rand(3).tolist(),  # noqa: NPY002 -- the generator under test
        np.random.randn(),  # noqa: NPY002 -- the generator under test
        torch.rand(3).tolist(),
        torch.randn(17).tolist(),
    ]


def test_every_generator_continues_where_it_was() -> None:
    draws()
    state = capture_random_state()
    expected = [draws(), draws()]
    draws()
    restore_random_state(state)
    assert [draws(), draws()] == expected


def test_states_of_absent_cuda_devices_are_left_out_with_a_warning() -> None:
    state = {**capture_random_state(), "cuda": [torch.zeros(16, dtype=torch.uint8)] * (torch.cuda.device_count() + 1)}
    if torch.cuda.device_count():
        state["cuda"][: torch.cuda.device_count()] = torch.cuda.get_rng_state_all()
    with pytest.warns(
        UserWarning, match=r"resume: the checkpoint holds the generators of \d CUDA devices and \d are here"
    ):
        restore_random_state(state)


@pytest.mark.gpu
def test_cuda_generators_continue_where_they_were() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    torch.rand(5, device="cuda")
    state = capture_random_state()
    assert len(state["cuda"]) == torch.cuda.device_count()
    expected = torch.rand(5, device="cuda")
    restore_random_state(state)
    assert torch.equal(torch.rand(5, device="cuda"), expected)
