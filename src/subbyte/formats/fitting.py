"""Codebooks fitted to weights: Lloyd's algorithm in one dimension, weighted by importance.

Source: Lloyd, "Least squares quantization in PCM", 1982 (1957); Max, "Quantizing for minimum distortion", 1960. Each
entry is the weighted mean of the numbers nearest to it. Three starts, the best of which is kept: evenly spread
entries, entries at quantiles, and entries of the density that is best for many levels (the cube root of that of the
numbers; Panter and Dite, 1951). The result is a local optimum.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from subbyte.errors import FormatError
from subbyte.formats.codebook import LARGEST, Codebook, check_count, check_largest, described
from subbyte.formats.format import Format
from subbyte.formats.granularity import Granularity, PerTensor
from subbyte.formats.quantize import checked_importance, checked_weights

Reals = npt.NDArray[np.float64]

ROUNDS = 300
_BINS = 1024
_STILL = 1e-12
_SOURCE = "Lloyd, Least squares quantization in PCM, 1982"


@dataclass(frozen=True, kw_only=True, eq=False)
class Fit:
    """A fitted codebook and what it costs.

    Attributes:
        codebook: float table (in units of the largest magnitude, or of each channel's) and integer form.
        float_error: weighted squared error of the weights under the float table, over their weighted squares.
        integer_error: the same under the integer form.
    """

    codebook: Codebook
    float_error: float
    integer_error: float

    @property
    def format(self) -> Format:
        """The integer form; ``register_format`` makes it known to recipes."""
        return self.codebook.format


@dataclass(frozen=True, kw_only=True, eq=False)
class _Points:
    """Distinct numbers, ascending, and their weights."""

    x: Reals
    mass: Reals

    def means(self, entries: Reals) -> tuple[Reals, Reals]:
        """Mean and mass of every entry's cell; the entry itself where the cell is empty."""
        cell = np.repeat(np.arange(entries.size), np.diff(self.ends(entries)))
        mass = _sums(cell, self.mass, entries.size)
        moment = _sums(cell, self.mass * self.x, entries.size)
        return np.divide(moment, mass, out=entries.copy(), where=mass > 0), mass

    def ends(self, entries: Reals) -> npt.NDArray[np.int64]:
        """Positions where cells of the nearest entry begin, and the number of points."""
        inner = np.searchsorted(self.x, (entries[1:] + entries[:-1]) / 2)
        return np.concatenate([[0], inner, [self.x.size]]).astype(np.int64)

    def gaps(self, entries: Reals) -> Reals:
        """Weighted squared distance of every point to its nearest entry."""
        nearest = np.repeat(entries, np.diff(self.ends(entries)))
        return np.asarray(self.mass * np.square(self.x - nearest))

    def error(self, entries: Reals) -> float:
        """The sum of ``gaps`` over the weighted squares of the points."""
        return float(self.gaps(entries).sum() / np.sum(self.mass * np.square(self.x)))


def fit_codebook(
    w: npt.ArrayLike,
    entries: int,
    name: str,
    importance: npt.ArrayLike | None = None,
    granularity: Granularity | None = None,
    largest: int = LARGEST,
) -> Fit:
    """A codebook of small (weighted) squared error for one tensor.

    The largest entry lies inside the range of the weights, so scales that clip nothing are too wide for it: quantize
    with ``method="mse"``, which recipes take below 8 bits: its scales are refitted to the table.

    Args:
        w: weights, finite.
        entries: 2..256.
        name: of the format.
        importance: weights of squared errors, broadcasting against ``w``; numbers of importance 0 are left out.
        granularity: who will share a scale; the numbers are fitted in units of the largest magnitude of each scale's
            share. Default PerTensor.
        largest: magnitude of the integer form, see ``codebook``.

    Raises:
        DataError: weights or importance are not finite, or empty.
        FormatError: too few or too many entries, fewer distinct numbers than entries, or ``largest`` leaves no room
            for them or is no integer of at most 24 bits.
    """
    check_count(name, entries)
    check_largest(name, largest, entries)
    points = _points(w, importance, granularity or PerTensor())
    if points.x.size < entries:
        raise FormatError(
            f"codebook {name!r} is to have {entries} entries, and the weights have {points.x.size} distinct values",
            "each entry stands for at least one value, in units of its scale",
            f"use {points.x.size} entries or fewer" if points.x.size > 1 else "use a uniform format for this tensor",
        )
    reals = min((_lloyd(points, start, entries) for start in _starts(points, entries)), key=points.error)
    unit = float(np.abs(reals).max()) / largest
    integers = _ascending(reals / unit, points.means(reals)[1], largest)
    book = described(name, reals, integers, unit, f"codebook of {entries} entries fitted to weights", _SOURCE)
    return Fit(
        codebook=book,
        float_error=points.error(reals),
        integer_error=points.error(unit * integers.astype(np.float64)),
    )


def _points(w: npt.ArrayLike, importance: npt.ArrayLike | None, spread: Granularity) -> _Points:
    array = checked_weights(w)
    spread.scale_shape(array.shape)
    rows = spread.rows(array)
    weight = checked_importance(importance, array, spread)
    peak = np.abs(rows).max(axis=1, keepdims=True)
    # Relative to the largest: squares of tiny weights must not vanish.
    whole = float(peak.max()) or 1.0
    mass = (np.ones_like(rows) if weight is None else weight) * np.square(peak / whole)
    units = np.divide(rows, peak, out=np.zeros_like(rows), where=peak > 0)
    counts = mass.reshape(-1) > 0
    x, place = np.unique(units.reshape(-1)[counts], return_inverse=True)
    return _Points(x=x, mass=_sums(place, mass.reshape(-1)[counts], x.size))


def _sums(place: npt.NDArray[np.int64], weights: Reals, count: int) -> Reals:
    return np.asarray(np.bincount(place, weights=weights, minlength=count), dtype=np.float64)


def _starts(points: _Points, entries: int) -> list[Reals]:
    at = (np.arange(entries) + 0.5) / entries
    even = points.x[0] + at * (points.x[-1] - points.x[0])
    # Positions among the distinct numbers, so that no two entries of a start are equal.
    quantile = points.x[np.round(at * (points.x.size - 1)).astype(np.int64)] if points.x.size > entries else points.x
    density, edges = np.histogram(points.x, bins=_BINS, weights=points.mass)
    share = np.cumsum(np.cbrt(density))
    dense = np.interp(at, np.concatenate([[0.0], share / share[-1]]), edges)
    return [even, np.unique(quantile), np.unique(dense)]


def _lloyd(points: _Points, start: Reals, count: int) -> Reals:
    entries = _filled(points, start, count)
    for _ in range(ROUNDS):
        moved = _filled(points, points.means(entries)[0], count)
        still = float(np.abs(moved - entries).max()) <= _STILL
        entries = moved
        if still:
            break
    return entries


def _filled(points: _Points, entries: Reals, count: int) -> Reals:
    """Entries that have points; for each that had none, the point with the largest error becomes one."""
    used = np.unique(entries[np.diff(points.ends(entries)) > 0])
    while used.size < count:
        gaps = points.gaps(used)
        lonely = points.x[np.argmax(gaps)] if gaps.any() else np.setdiff1d(points.x, used)[0]
        used = np.unique(np.append(used, lonely))
    return used


def _ascending(targets: Reals, mass: Reals, largest: int) -> npt.NDArray[np.int64]:
    """The strictly ascending integers in -largest - 1..largest of least weighted squared distance.

    With i taken from the i-th they need only not fall, nor pass two bounds. Then pooling adjacent violators finds the
    best reals (Ayer et al. 1955), which are the best integers once they are rounded (Goldstein and Kruskal, "Least-
    squares fitting by monotonic functions having integer values", 1976).
    """
    places = np.arange(len(targets))
    pools: list[tuple[float, float, int]] = []  # mean, mass and number of neighbours that share an integer
    for pool in zip(targets - places, np.maximum(mass, mass.max() * 1e-12), (1,) * len(targets), strict=True):
        mean, weight, count = pool
        while pools and pools[-1][0] >= mean:
            other, more, others = pools.pop()
            mean = (mean * weight + other * more) / (weight + more)
            weight, count = weight + more, count + others
        pools.append((mean, weight, count))
    level = np.repeat([mean for mean, _, _ in pools], [count for _, _, count in pools])
    return np.asarray(np.clip(np.rint(level), -largest - 1, largest + 1 - len(targets)) + places, dtype=np.int64)
