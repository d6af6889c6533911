"""Optimal clipping by a fixed point: rounding noise inside the clip against distance outside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import numpy as np

from subbyte.formats.format import Format
from subbyte.ranges.sketch import Counts, Floats
from subbyte.ranges.sketch_observer import SketchObserver

_TOLERANCE = 1e-9
_ITERATIONS = 500


def octav_clip(magnitudes: Floats, counts: Counts, noise: Callable[[float], float]) -> tuple[float, bool]:
    """The clip s with the least ``noise * s**2 * #{x <= s} + sum over x > s of (x - s)**2``.

    ``s <- sum(x where x > s) / (noise * #{x <= s} + #{x > s})`` from the mean of x until it stands still. On finitely
    many values the iteration may end in a cycle; the visited clip of least error is then taken.

    Source: Sakr et al., "Optimal Clipping and Magnitude-aware Differentiation for Improved Quantization-aware
    Training", ICML 2022, equation 6. There noise is ``4**-bits / 3`` (signed) or ``4**-bits / 12`` (unsigned).

    Args:
        magnitudes: |x| without zeros, float64, ascending.
        counts: how often each occurs.
        noise: variance of the rounding error for a clip s, in units of s**2.

    Returns:
        the clip, and whether the iteration converged.
    """
    above_n = np.concatenate([np.cumsum(counts[::-1])[::-1], [0]]).astype(np.float64)
    above_x = np.concatenate([np.cumsum((counts * magnitudes)[::-1])[::-1], [0.0]])
    above_xx = np.concatenate([np.cumsum((counts * magnitudes**2)[::-1])[::-1], [0.0]])
    total = above_n[0]
    clip = above_x[0] / total
    best, least = float(magnitudes[-1]), np.inf
    for _ in range(_ITERATIONS):
        at = int(np.searchsorted(magnitudes, clip, side="right"))
        n, x, xx = above_n[at], above_x[at], above_xx[at]
        inside = noise(clip) * (total - n)
        error = inside * clip**2 + xx - 2 * clip * x + n * clip**2
        if error < least:
            best, least = clip, error
        # Beyond the largest value nothing is clipped and the fixed point would fall to 0: the step back is the largest.
        following = x / (inside + n) if n else float(magnitudes[-1])
        if abs(following - clip) <= _TOLERANCE * clip:
            return following, True
        clip = following
    return best, False


@final
class Octav(SketchObserver):
    """The clip of ``octav_clip`` about 0, cut to the observed extremes.

    The noise is that of the steps that the format really has over the range: (hi - lo) / (levels - 1) squared, over
    12. So it holds for one-sided data, lopsided data and any number of levels alike.
    """

    def range(self, format: Format) -> tuple[float, float]:
        """From minus the clip to the clip, as far as there are values."""
        values, counts = self.sketch.points()
        lo, hi = min(self.sketch.lo, 0.0), max(self.sketch.hi, 0.0)
        counts, values = counts[values != 0], values[values != 0]
        if values.size == 0:
            return 0.0, 0.0
        unit = max(-lo, hi)  # keeps squares away from overflow
        order = np.argsort(np.abs(values), kind="stable")
        magnitudes, counts = np.abs(values[order]) / unit, counts[order]

        def noise(clip: float) -> float:
            span = min(clip, -lo / unit) + min(clip, hi / unit)
            return float((span / clip / (format.levels - 1)) ** 2 / 12)

        clip = float(octav_clip(magnitudes, counts, noise)[0] * unit)
        return max(lo, -clip), min(hi, clip)
