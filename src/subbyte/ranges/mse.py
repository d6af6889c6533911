"""The range with the least squared error of rounding and clipping together."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, final

import numpy as np
import numpy.typing as npt

from subbyte.formats.format import Format
from subbyte.ranges.affine import affine_params
from subbyte.ranges.sketch import Counts, Floats
from subbyte.ranges.sketch_observer import SketchObserver

_Objective: TypeAlias = Callable[[Floats], float]

_RATIOS = np.linspace(0.01, 1.0, 100)
_ROUNDS = 3
_WIDE = 4096
"""Above this many levels a step is finer than the histogram and clipping never pays: the extremes are taken."""


class SquaredError:
    """Squared error of a distribution under a format, for many ranges quickly.

    Values are sorted, so what rounds to one level is a run of them, and sums of x and x**2 over runs are differences
    of running sums: a range costs O(levels), whatever the number of values.

    Args:
        values: float64, ascending.
        counts: how often each occurs.
        format: whose levels approximate them.
    """

    def __init__(self, values: Floats, counts: Counts, format: Format) -> None:
        self._values, self._format = values, format
        # A distribution far from 1 would square into overflow or underflow; relative errors do not change.
        self._unit = float(np.max(np.abs(values))) or 1.0
        x = values / self._unit
        moments = np.stack([counts, counts * x, counts * x * x])
        self._sums = np.concatenate([np.zeros((3, 1)), np.cumsum(moments, axis=1)], axis=1)

    def __call__(self, lo: float, hi: float) -> float:
        """Sum of squared errors over ``max(|values|)**2`` if the format covers lo..hi."""
        scale, zero_point = affine_params(lo, hi, self._format)
        grid = scale * self._format.centred(zero_point).astype(np.float64)
        cuts = np.searchsorted(self._values, (grid[1:] + grid[:-1]) / 2)
        upto = self._sums[:, np.concatenate([[0], cuts, [self._values.size]])]
        n, x, xx = np.diff(upto, axis=1)
        level = grid / self._unit
        return float(np.sum(xx - 2 * level * x + level * level * n))


@final
class Mse(SketchObserver):
    """Grid search over clipping ratios of the observed extremes, the format's own levels deciding.

    One-sided data (all values >= 0 or all <= 0) have one end to search. For two-sided data both ends shrink together
    first, then each in turn, then all is refined to a tenth of a percent of the extremes.
    """

    def range(self, format: Format) -> tuple[float, float]:
        """The best range for this format."""
        values, counts = self.sketch.points()
        extremes = np.array([min(self.sketch.lo, 0.0), max(self.sketch.hi, 0.0)])
        if format.levels > _WIDE or not np.any(extremes):
            return float(extremes[0]), float(extremes[1])
        error = SquaredError(values, counts, format)
        ratios = _search(lambda r: error(*(r * extremes)), free=extremes != 0)
        lo, hi = ratios * extremes
        return float(lo), float(hi)


def _search(error: _Objective, free: npt.NDArray[np.bool_]) -> Floats:
    """Ratios (of the lower and the upper end) with the least error on the grid; ends that are not free stay at 1."""
    starts = [np.where(free, r, 1.0) for r in _RATIOS]
    best = min(starts, key=error)
    ends = np.flatnonzero(free)
    for _ in range(_ROUNDS if ends.size > 1 else 0):
        before = best
        for end in ends:
            best = _along(error, best, int(end), _RATIOS)
        if np.array_equal(before, best):
            break
    for end in ends:
        fine = np.linspace(best[end] - 0.01, best[end] + 0.01, 21)
        best = _along(error, best, int(end), fine[(fine > 0) & (fine <= 1)])
    return best


def _along(error: _Objective, start: Floats, end: int, ratios: Floats) -> Floats:
    candidates = [start]
    for ratio in ratios:
        moved = start.copy()
        moved[end] = ratio
        candidates.append(moved)
    return min(candidates, key=error)
