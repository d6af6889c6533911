"""Scales of weights: the range that clips nothing, or the one with the smallest squared error.

Everything here works on rows, one row per scale, in units of the row's min_max scale, so that magnitudes of 1e-30 and
1e30 search alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from subbyte.formats.format import Format

Reals = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]

COARSE: tuple[float, ...] = tuple(np.geomspace(1.25, 0.02, 60).tolist())
"""Fractions of the min_max scale tried for every row; the least serves one weight among thousands that is huge."""

FINE: tuple[float, ...] = tuple(np.linspace(0.93, 1.07, 30).tolist())
"""Fractions of the best coarse scale, at most one coarse step away."""

SMALLEST = float(np.finfo(np.float32).tiny)
"""Scales below the smallest normal float32 are those of a channel of zeros."""

_CHUNK = 1 << 15
"""Elements handled at once, so that a pass over the candidates stays in the cache."""

_FEW = 24
"""Up to this many levels, comparing with each middle between neighbours is faster than a binary search."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The integers that a row may take: the table, moved by the row's zero point.

    Attributes:
        format: number format.
        zero_point: one integer per row, [rows]; 0 for formats that are not uniform.
    """

    format: Format
    zero_point: npt.NDArray[np.int64]

    @property
    def lo(self) -> Reals:
        """Smallest integer of each row, [rows, 1]."""
        return (self.format.lo - self.zero_point).astype(np.float64)[:, None]

    @property
    def hi(self) -> Reals:
        """Largest integer of each row, [rows, 1]."""
        return (self.format.hi - self.zero_point).astype(np.float64)[:, None]

    def nearest(self, x: Singles, rows: slice) -> Singles:
        """The integer nearest to each x in float32, for the search alone: ties may fall either way."""
        table = self.format.integers
        step = self.format.step
        if step is not None:
            lo, hi = self.lo[rows].astype(np.float32), self.hi[rows].astype(np.float32)
            whole = np.rint(x) if step == 1 else np.rint((x - lo) / np.float32(step)) * np.float32(step) + lo
            return np.asarray(np.clip(whole, lo, hi), dtype=np.float32)
        middles = ((table[1:] + table[:-1]) / 2).astype(np.float32)
        if table.size > _FEW:
            return np.asarray(table[np.searchsorted(middles, x)], dtype=np.float32)
        nearest = np.full(x.shape, table[0], dtype=np.float32)
        for middle, rise in zip(middles, np.diff(table).astype(np.float32), strict=True):
            nearest += (x > middle) * rise
        return nearest


def clipless(rows: Reals, grid: Grid) -> Reals:
    """The smallest scale of each row that clips no weight on either side; 0 for rows of zeros.

    A side of the grid that has no integers sets no scale: what lies there is rounded to the grid's end.
    """
    largest, smallest = np.maximum(rows.max(axis=1), 0.0), np.minimum(rows.min(axis=1), 0.0)
    hi, lo = grid.hi[:, 0], grid.lo[:, 0]
    up = np.divide(largest, hi, out=np.zeros_like(largest), where=hi > 0)
    down = np.divide(smallest, lo, out=np.zeros_like(smallest), where=lo < 0)
    return np.asarray(np.maximum(up, down))


def least_squares(rows: Reals, grid: Grid, start: Reals, importance: Reals | None) -> Reals:
    """Scales of small squared error, one per row.

    60 fractions of ``start`` (1 first, then from 1.25 down to 0.02), then 30 around the best of them; ties stay with
    the earlier candidate. The last step is the least-squares scale of the codes found: ``sum(w q) / sum(q q)``.

    Args:
        rows: weights, [rows, n].
        grid: what the rows may take.
        start: min_max scales, [rows], positive.
        importance: weight of each squared error, [rows, n], or None for 1.
    """
    units = (rows / start[:, None]).astype(np.float32)
    weight = None if importance is None else importance.astype(np.float32)
    best = np.ones(rows.shape[0])
    least = _errors(units, grid, best, weight)
    for fractions, around in ((COARSE, np.ones_like(best)), (FINE, None)):
        centre = best.copy() if around is None else around
        for fraction in fractions:
            error = _errors(units, grid, centre * fraction, weight)
            better = error < least
            best[better], least[better] = (centre * fraction)[better], error[better]
    return best * start


def _errors(units: Singles, grid: Grid, fraction: Reals, weight: Singles | None) -> Reals:
    """Squared error of each row, in squares of its min_max scale, at a fraction of that scale; float32 sums."""
    rows, n = units.shape
    error = np.zeros(rows)
    wide = min(n, _CHUNK)
    high = max(1, _CHUNK // wide)
    for r in range(0, rows, high):
        part = slice(r, min(r + high, rows))
        scale = fraction[part, None].astype(np.float32)
        inverse = np.float32(1) / scale
        for c in range(0, n, wide):
            block = units[part, c : c + wide]
            gap = grid.nearest(block * inverse, part) * scale - block
            gap *= gap
            if weight is not None:
                gap *= weight[part, c : c + wide]
            error[part] += gap.sum(axis=1)
    return error


def zero_points(rows: Reals, format: Format, symmetric: bool) -> npt.NDArray[np.int64]:
    """One per row, in table units: 0, or the integer that the real 0 falls on when [min, max] fills the table."""
    if symmetric:
        return np.zeros(rows.shape[0], dtype=np.int64)
    largest, smallest = np.maximum(rows.max(axis=1), 0.0), np.minimum(rows.min(axis=1), 0.0)
    step = (largest - smallest) / (format.levels - 1)
    below = np.divide(-smallest, step, out=np.zeros_like(step), where=step > 0)
    return np.asarray(np.clip(format.lo + np.rint(below), format.lo, format.hi), dtype=np.int64)


def best_scales(
    all_rows: Reals, full: Grid, starts: Reals, weight: Reals | None, alive: npt.NDArray[np.bool_]
) -> Reals:
    """The best of the min_max, the searched and the refined scale of each live row, by exact error; earlier on ties."""
    rows, start = all_rows[alive], starts[alive]
    importance = None if weight is None else weight[alive]
    grid = Grid(format=full.format, zero_point=full.zero_point[alive])
    found = single(least_squares(rows, grid, start, importance))
    best, least = start.copy(), exact_error(rows, grid, start, importance)
    for _ in range(2):
        error = exact_error(rows, grid, found, importance)
        better = error < least
        best[better], least[better] = found[better], error[better]
        found = _refined(rows, grid, best, importance)
    return best


def _integers(rows: Reals, grid: Grid, scale: Reals) -> Reals:
    codes = grid.format.encode(rows, scale[:, None], grid.zero_point[:, None])
    return grid.format.values[codes] - grid.zero_point[:, None]


def exact_error(rows: Reals, grid: Grid, scale: Reals, importance: Reals | None) -> Reals:
    """(Weighted) squared error of each row, float64."""
    gap = _integers(rows, grid, scale) * scale[:, None] - rows
    return np.asarray(np.sum(gap * gap if importance is None else importance * gap * gap, axis=1))


def _refined(rows: Reals, grid: Grid, scale: Reals, importance: Reals | None) -> Reals:
    """The least-squares scale of the codes at ``scale``: sum(w q) / sum(q q); ``scale`` itself where that is 0."""
    q = _integers(rows, grid, scale)
    weighted = q if importance is None else importance * q
    above, below = np.sum(weighted * rows, axis=1), np.sum(weighted * q, axis=1)
    refined = single(np.divide(above, below, out=scale.copy(), where=below > 0))
    return np.where(refined >= SMALLEST, refined, scale)


def single(scale: Reals) -> Reals:
    """Scales as float32 will hold them, in float64."""
    return np.minimum(scale, float(np.finfo(np.float32).max)).astype(np.float32).astype(np.float64)
