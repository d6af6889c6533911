"""Noise: alike in every place, as a control, or on every scale, to start from."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

GUST = 0.7
"""Standard deviation of the logarithm of the strength."""


def octaves(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Noise of mean 0 and variance 1 with as much power in each octave of scales, coarse parts shared by all axes.

    Images, spectra and waves are like that (power falls as 1/f), and networks were trained on them: white noise starts
    far from the statistics that they keep, and gradients do not find the way, because a coarse change is a change of
    many numbers together. Each octave is white noise on a grid of ``size / scale`` points, stretched linearly.

    Args:
        rng: where it comes from.
        shape: batch first.
    """
    total = np.zeros(shape, np.float32)
    scale, count = 1, 0
    while scale < 2 * max(shape[1:], default=1):
        sizes = [max(1, -(-size // scale)) for size in shape[1:]]
        part = rng.standard_normal((shape[0], *sizes), np.float32)
        for axis, size in enumerate(shape[1:], 1):
            part = _stretched(part, axis, size)
        total += part / max(float(part.std()), 1e-6)
        scale, count = 2 * scale, count + 1
    return total / np.float32(np.sqrt(count))


def gusts(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """``octaves`` whose strength varies by octaves too, over samples and places: tails are heavy, as in images.

    With even strength the extremes of all values behind the input stay too small, and ranges clip what is real.
    """
    found: Floats = octaves(rng, shape) * np.exp(np.float32(GUST) * octaves(rng, shape))
    return found / max(float(found.std()), 1e-6)


def even(rng: np.random.Generator, shape: tuple[int, ...], method: str) -> Floats:
    """White noise in 0..1: ``uniform``, or ``normal`` around the middle with three deviations to each end."""
    drawn = rng.random(shape) if method == "uniform" else rng.normal(0.5, 1 / 6, shape)
    return np.clip(drawn, 0, 1).astype(np.float32)


def _stretched(x: Floats, axis: int, size: int) -> Floats:
    """Linear interpolation along one axis, first and last points kept."""
    points = x.shape[axis]
    if points == size:
        return x
    place = np.linspace(0, points - 1, size)
    left = np.minimum(place.astype(np.intp), max(points - 2, 0))
    right = np.minimum(left + 1, points - 1)
    share = (place - left).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(x.ndim)])
    stretched: Floats = (1 - share) * x.take(left, axis) + share * x.take(right, axis)
    return stretched
