from typing import Any

import numpy as np
import pytest
import torch
from tests.reference import augment as oracle

from skelcontrast.augment import Bodies, GaussianNoise, GaussianNoiseParams


@pytest.mark.parametrize("bodies", ["present", "all"])
@pytest.mark.parametrize("M", [1, 2, 3])
def test_equals_oracle(bodies: Bodies, M: int) -> None:
    x = torch.randn(5, 3, 4, 6, M, dtype=torch.float64)
    x[0, ..., -1] = 0
    x[1, 1:, ..., -1] = 0  # in one coordinate still there
    noisy = torch.tensor([True, True, True, False, False])
    noise = torch.randn(x.shape, dtype=torch.float64)
    y = GaussianNoise(bodies=bodies).apply(x, GaussianNoiseParams(noise, noisy))
    expected = [
        oracle.gaussian_noise(x[n].numpy(), noise[n].numpy(), bodies) if noisy[n] else x[n].numpy() for n in range(5)
    ]
    torch.testing.assert_close(y, torch.from_numpy(np.stack(expected)), rtol=0, atol=0)


@pytest.mark.parametrize("looks", [True, False])
def test_draws_independent_normal_numbers_for_its_share_of_the_samples(
    monkeypatch: pytest.MonkeyPatch, looks: bool
) -> None:
    monkeypatch.setattr("skelcontrast.augment.noise.may_look", lambda _: looks)  # on a CPU, and elsewhere
    state = torch.get_rng_state()
    params = GaussianNoise(std=0.5, p=0.4).sample(torch.zeros(3000, 3, 4, 2, 2), torch.Generator().manual_seed(0))
    assert torch.equal(torch.get_rng_state(), state)
    drawn = params.noise[params.noisy]
    assert abs(params.noisy.double().mean().item() - 0.4) < 0.04
    assert params.noise[~params.noisy].eq(0).all() == looks
    assert abs(drawn.std().item() - 0.5) < 0.01
    assert abs(drawn.mean().item()) < 0.01
    flat = drawn.flatten(1)
    correlation = torch.corrcoef(flat.T) - torch.eye(flat.shape[1])
    assert correlation.abs().max() < 0.15


@pytest.mark.parametrize("value", [1e-30, float("inf"), float("nan")])
def test_a_body_is_present_whatever_it_holds(value: float) -> None:
    x = torch.zeros(1, 3, 2, 2, 2)
    x[0, 0, 0, 0, 0] = value
    y = GaussianNoise(p=1.0)(x)
    assert y[0, 1, ..., 0].ne(0).all()
    assert y[..., 1].eq(0).all()


def test_a_body_that_comes_later_is_present() -> None:
    x = torch.randn(4, 3, 6, 5, 2)
    x[1, :, :4, :, 1] = 0
    x[2, :, :, :, 1] = 0
    params = GaussianNoise(p=1.0).sample(x)
    gets = torch.ones(4, 1, 1, 1, 2)
    gets[2, ..., 1] = 0
    torch.testing.assert_close(GaussianNoise(p=1.0).apply(x, params), x + params.noise * gets, rtol=0, atol=0)


def test_can_be_added_in_place() -> None:
    x = torch.randn(4, 3, 6, 5, 2)
    params = GaussianNoise().sample(x)
    expected, memory = GaussianNoise().apply(x, params), x.clone()
    assert GaussianNoise().apply_(memory, params) is memory
    assert torch.equal(memory, expected)
    assert torch.equal(GaussianNoise().apply_(x.mT.contiguous().mT, params), expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_noise_has_the_dtype_of_the_batch_and_the_same_draws(dtype: torch.dtype) -> None:
    x = torch.ones(4, 3, 5, 2, 2)
    single = GaussianNoise().sample(x, torch.Generator().manual_seed(3))
    other = GaussianNoise().sample(x.to(dtype), torch.Generator().manual_seed(3))
    assert other.noise.dtype == dtype
    torch.testing.assert_close(other.noise, single.noise.to(dtype), rtol=0, atol=0)
    expected = x.to(dtype) + other.noise * other.noisy.view(-1, 1, 1, 1, 1)
    torch.testing.assert_close(GaussianNoise().apply(x.to(dtype), single), expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"std": -1}, r"GaussianNoise: `std` must lie in \[0, inf\), got -1\."),
        ({"p": 7}, r"GaussianNoise: `p` must lie in \[0, 1\], got 7\."),
        ({"bodies": "some"}, r"GaussianNoise: `bodies` must be one of 'present', 'all', got 'some'\."),
    ],
)
def test_wrong_settings(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        GaussianNoise(**settings)


def test_noise_of_another_shape() -> None:
    params = GaussianNoise().sample(torch.zeros(2, 3, 5, 4, 1))
    with pytest.raises(
        ValueError, match=r"`x` must have the shape of the noise \(2, 3, 5, 4, 1\), got \(2, 3, 6, 4, 1\)\."
    ):
        GaussianNoise().apply(torch.zeros(2, 3, 6, 4, 1), params)
