"""Slow, plain oracles of the eight augmentations: NumPy, one sequence (C, T, V, M) at a time, from their definitions.

`extreme_view_loop` strings them together the way a data loader does. It is also the baseline of the benchmark.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def shear(x: Array, matrix: Array) -> Array:
    """Multiply every point by a matrix; any matrix will do."""
    y: Array = np.einsum("ck,ktvm->ctvm", matrix, x)
    return y


def temporal_crop(x: Array, start: int, padding_ratio: int) -> Array:
    """Reflect both ends, edges included, and cut from `start` on."""
    frames = x.shape[1]
    pad = frames // padding_ratio
    longer = np.pad(x, ((0, 0), (pad, pad), (0, 0), (0, 0)), mode="symmetric")
    return longer[:, start : start + frames]


def spatial_flip(x: Array, pairs: Sequence[tuple[int, int]], mirror_axis: int | None) -> Array:
    """Swap pairs of joints and, if given an axis, negate that coordinate."""
    y = x.copy()
    for left, right in pairs:
        y[:, :, left], y[:, :, right] = x[:, :, right], x[:, :, left]
    if mirror_axis is not None:
        y[mirror_axis] = -y[mirror_axis]
    return y


def rotate(x: Array, degrees: Sequence[float]) -> Array:
    """Turn about x, then y, then z, clockwise seen from the tip of each axis; 2-D in the plane like about z."""
    angles = np.radians(np.asarray(degrees, dtype=np.float64))
    planes = [(0, 1)] if len(x) == 2 else [(1, 2), (2, 0), (0, 1)]
    matrix = np.eye(len(x))
    for angle, (first, second) in zip(angles, planes, strict=True):
        turn = np.eye(len(x))
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = np.sin(angle), -np.sin(angle)
        matrix = turn @ matrix
    return shear(x, matrix)


def axis_mask(x: Array, axis: int) -> Array:
    """Set one coordinate to zero."""
    y = x.copy()
    y[axis] = 0
    return y


def temporal_flip(x: Array) -> Array:
    """Reverse time."""
    return x[:, ::-1].copy()


def gaussian_noise(x: Array, noise: Array, bodies: str) -> Array:
    """Add noise to all bodies, or to those that are not zero throughout."""
    if bodies == "present":
        noise = noise * np.any(x != 0, axis=(0, 1, 2))
    return x + noise


def gaussian_blur(x: Array, sigma: float, kernel_size: int, *, normalize: bool) -> Array:
    """Sum frames around each frame, weighted by a Gaussian; frames beyond the ends are left out."""
    frames, half = x.shape[1], kernel_size // 2
    y = np.zeros(x.shape)
    total = np.zeros(frames)
    for offset in range(-min(half, frames - 1), min(half, frames - 1) + 1):
        weight = np.exp(-(offset**2) / (2 * sigma**2))
        inside = slice(max(0, -offset), frames - max(0, offset))
        shifted = slice(max(0, offset), frames - max(0, -offset))
        y[:, inside] += weight * x[:, shifted]
        total[inside] += weight
    return y / total[:, None, None] if normalize else y


def normal_view(x: Array, rng: np.random.Generator) -> Array:
    """Draw and apply the two augmentations of a normal view to one sequence."""
    x = temporal_crop(x, int(rng.integers(0, 2 * (x.shape[1] // 6) + 1)), padding_ratio=6)
    matrix = rng.uniform(-0.5, 0.5, (3, 3))
    np.fill_diagonal(matrix, 1)
    return shear(x, matrix)


def extreme_view(
    x: Array,
    pairs: Sequence[tuple[int, int]],
    rng: np.random.Generator,
    *,
    preset: Literal["paper", "official"] = "paper",
) -> Array:
    """Draw and apply the paper's eight augmentations to one sequence, or the seven as the released code has them."""
    paper = preset == "paper"
    x = normal_view(x, rng)
    if rng.random() < 0.5:
        x = spatial_flip(x, pairs, mirror_axis=0 if paper else None)
    degrees = rng.uniform(0, 1, 3)
    degrees[rng.integers(3)] = rng.uniform(0, 30)
    x = rotate(x, [float(angle) for angle in degrees])
    if rng.random() < 0.5:
        x = gaussian_noise(x, rng.normal(0, 0.01, x.shape), "present" if paper else "all")
    if rng.random() < 0.5:
        x = gaussian_blur(x, rng.uniform(0.1, 2), kernel_size=15, normalize=paper)
    if rng.random() < 0.5:
        x = axis_mask(x, int(rng.integers(3)))
    if paper and rng.random() < 0.5:
        x = temporal_flip(x)
    return x


def view_loop(x: NDArray[np.floating], view: Callable[[Array], Array]) -> NDArray[np.float32]:
    """Make views of a batch (N, C, T, V, M), one sequence after another."""
    return np.stack([view(sequence) for sequence in x]).astype(np.float32)


def extreme_view_loop(
    x: NDArray[np.floating], pairs: Sequence[tuple[int, int]], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Make extreme views of a batch (N, C, T, V, M)."""
    return view_loop(x, lambda sequence: extreme_view(sequence, pairs, rng))
