from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from tests.reference import augment as oracle

from skelcontrast.augment import (
    Compose,
    GaussianBlur,
    GaussianBlurParams,
    TemporalCrop,
    TemporalCropParams,
    TemporalFlip,
    TemporalFlipParams,
)

Golden = Callable[[str], Mapping[str, Any]]


def batch(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64)


@pytest.mark.parametrize(("T", "ratio"), [(50, 6), (7, 2), (6, 1), (5, 6), (1, 1), (1, 6)])
def test_crop_equals_oracle_at_every_start(T: int, ratio: int) -> None:
    starts = 2 * (T // ratio) + 1
    x = batch(starts, 2, T, 3, 1)
    y = TemporalCrop(ratio).apply(x, TemporalCropParams(torch.arange(starts)))
    expected = [oracle.temporal_crop(x[n].numpy(), n, ratio) for n in range(starts)]
    torch.testing.assert_close(y, torch.from_numpy(np.stack(expected)), rtol=0, atol=0)


def test_crop_draws_every_start_equally_often() -> None:
    start = TemporalCrop(6).sample(torch.zeros(17000, 1, 50, 1, 1)).start
    count = torch.bincount(start, minlength=17)
    assert len(count) == 17
    assert (count - 1000).abs().max() < 150


def test_crop_equals_released_code(golden: Golden) -> None:
    numbers = golden("augment.npz")
    x = torch.from_numpy(numbers["x"])[None].expand(3, -1, -1, -1, -1)
    y = TemporalCrop().apply(x, TemporalCropParams(torch.tensor([0, 5, 16])))
    for n, start in enumerate((0, 5, 16)):
        np.testing.assert_array_equal(y[n].numpy(), numbers[f"crop_start{start}"])


def test_temporal_flip_equals_oracle_and_released_code(golden: Golden) -> None:
    numbers = golden("augment.npz")
    x = torch.from_numpy(numbers["x"])[None].expand(2, -1, -1, -1, -1)
    y = TemporalFlip().apply(x, TemporalFlipParams(torch.tensor([True, False])))
    np.testing.assert_array_equal(y[0].numpy(), numbers["temporal_flip"])
    np.testing.assert_array_equal(y[0].numpy(), oracle.temporal_flip(numbers["x"]))
    np.testing.assert_array_equal(y[1].numpy(), numbers["x"])


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize(("T", "kernel_size"), [(50, 15), (4, 15), (9, 3), (5, 1), (1, 15)])
def test_blur_equals_oracle(normalize: bool, T: int, kernel_size: int) -> None:
    x = batch(6, 3, T, 5, 2)
    blur = GaussianBlur(kernel_size=kernel_size, normalize=normalize)
    params = GaussianBlurParams(
        sigma=torch.tensor([0.1, 0.4, 1.0, 2.0, 2.0, 0.7], dtype=torch.float64),
        blurred=torch.tensor([True, True, True, True, False, False]),
    )
    expected = [
        oracle.gaussian_blur(x[n].numpy(), params.sigma[n].item(), kernel_size, normalize=normalize)
        if params.blurred[n]
        else x[n].numpy()
        for n in range(6)
    ]
    torch.testing.assert_close(blur.apply(x, params), torch.from_numpy(np.stack(expected)))


@pytest.mark.parametrize("sigma", [0.1, 0.8, 2.0])
def test_blur_equals_released_code(golden: Golden, sigma: float) -> None:
    numbers = golden("augment.npz")
    params = GaussianBlurParams(torch.tensor([sigma], dtype=torch.float64), torch.tensor([True]))
    y = GaussianBlur(normalize=False).apply(torch.from_numpy(numbers["x"])[None], params)
    torch.testing.assert_close(y[0], torch.from_numpy(numbers[f"blur_unnormalised_sigma{sigma}"]), rtol=0, atol=1e-9)


def test_normalised_blur_leaves_a_body_at_rest_alone() -> None:
    x = batch(4, 3, 1, 5, 1).expand(-1, -1, 20, -1, -1)
    torch.testing.assert_close(GaussianBlur(p=1.0)(x), x)
    assert (GaussianBlur(sigma=(2.0, 2.0), p=1.0, normalize=False)(x)[:, :, 10] / x[:, :, 10] > 4.9).all()


@pytest.mark.parametrize("T", [4, 50])
@pytest.mark.parametrize("normalize", [True, False])
def test_blur_of_hardly_any_width_changes_nothing(normalize: bool, T: int) -> None:
    x = batch(2, 3, T, 5, 1).float()  # in which the square of the width is 0
    assert torch.equal(GaussianBlur(sigma=(1e-30, 1e-30), normalize=normalize, p=1.0)(x), x)


def test_blur_leaves_the_others_as_they_are_whatever_they_hold() -> None:
    x = batch(3, 2, 12, 4, 2)
    x[1, :, 5] = torch.nan
    params = GaussianBlurParams(torch.full((3,), 2.0), torch.tensor([True, False, True]))
    y = GaussianBlur().apply(x, params)
    torch.testing.assert_close(y[1], x[1], rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(y, Compose(GaussianBlur()).apply(x, (params,)), rtol=0, atol=0, equal_nan=True)


def test_blur_draws_width_and_samples() -> None:
    params = GaussianBlur(sigma=(0.5, 1.5), p=0.3).sample(torch.zeros(5000, 1, 1, 1, 1))
    assert params.sigma.min() >= 0.5
    assert params.sigma.max() <= 1.5
    assert abs(params.sigma.mean().item() - 1.0) < 0.02
    assert abs(params.blurred.double().mean().item() - 0.3) < 0.03
    assert abs(TemporalFlip(0.3).sample(torch.zeros(5000, 1, 1, 1, 1)).flipped.double().mean().item() - 0.3) < 0.03


@pytest.mark.parametrize(
    ("build", "kind", "text"),
    [
        (lambda: TemporalCrop(0), ValueError, r"TemporalCrop: `padding_ratio` must be at least 1, got 0\."),
        (lambda: TemporalCrop(6.0), TypeError, r"`padding_ratio` must be an integer, got 6\.0\."),  # type: ignore[arg-type]  # on purpose
        (lambda: TemporalFlip(1.1), ValueError, r"TemporalFlip: `p` must lie in \[0, 1\], got 1\.1\."),
        (lambda: GaussianBlur(kernel_size=4), ValueError, r"GaussianBlur: `kernel_size` must be odd, .*got 4\."),
        (lambda: GaussianBlur(kernel_size=0), ValueError, r"`kernel_size` must be at least 1, got 0\."),
        (lambda: GaussianBlur(sigma=(0.0, 1.0)), ValueError, r"`sigma\[0\]` must lie in \(0, inf\), got 0\."),
        (lambda: GaussianBlur(sigma=(2.0, 1.0)), ValueError, r"`sigma\[1\]` must lie in \[2, inf\), got 1\."),
        (lambda: GaussianBlur(sigma=1.0), TypeError, r"`sigma` must be a pair \(low, high\), got 1\.0\."),  # type: ignore[arg-type]  # on purpose
        (lambda: GaussianBlur(sigma=(1.0,)), TypeError, r"`sigma` must be a pair \(low, high\), got \(1\.0,\)\."),  # type: ignore[arg-type]
        (lambda: GaussianBlur(p=-0.5), ValueError, r"GaussianBlur: `p` must lie in \[0, 1\], got -0\.5\."),
    ],
)
def test_wrong_settings(build: Callable[[], object], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        build()
