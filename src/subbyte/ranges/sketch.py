"""A streaming histogram: the whole distribution of a tensor in bounded memory, whatever the order of its batches.

Bins are ``[i * w, (i + 1) * w)`` with w a power of two. When values leave the span of ``_BINS`` bins, w doubles: bin i
joins bin i >> 1, which is exact. w is the smallest width that the extremes of all values allow, so the result depends
neither on the order of values nor on how they were cut into batches. Exact zeros are counted apart: ReLU makes many,
and every format with a 0 represents them without error. Up to ``_EXACT`` other values are kept as they are.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from subbyte.ranges.observer import ends, nothing_observed

_BINS = 1 << 14
_EXACT = 1 << 14
_BLOCK = 1 << 18
_MANTISSA = 24

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


class Bins(NamedTuple):
    """Dense histogram: ``counts[i]`` values in ``[(first + i) * width, (first + i + 1) * width)``, zeros left out."""

    first: int
    width: float
    counts: Counts

    def coarser(self, limit: int) -> Bins:
        """The same values in at most ``limit`` bins (2 or more), widths doubled as often as that takes."""
        first, width, counts = self
        while counts.size > limit:
            index = ((first + np.arange(counts.size)) >> 1) - (first >> 1)
            first, width, counts = first >> 1, 2 * width, np.bincount(index, weights=counts).astype(np.int64)
        return Bins(first, width, counts)


class Sketch:
    """Distribution of all values added so far.

    Attributes:
        lo: smallest value; inf before the first.
        hi: largest value.
        zeros: number of exact zeros.
        count: number of values, zeros among them.
    """

    def __init__(self) -> None:
        self.lo, self.hi = math.inf, -math.inf
        self.zeros = self.count = 0
        self._kept: list[npt.NDArray[np.float32]] | None = []
        self._span = (math.inf, -math.inf)  # extremes of the values that are not zero
        self._exponent, self._first = -1074, 0
        self._counts: Counts = np.zeros(0, np.int64)

    def add(self, array: npt.NDArray[np.float32]) -> None:
        """Take in one batch of any shape, in blocks: temporaries stay small.

        Raises:
            DataError: a value is NaN or infinite; the batch is then not counted.
        """
        if array.size == 0:
            return
        lo, hi = ends(array)
        self.lo, self.hi = min(self.lo, lo), max(self.hi, hi)
        self.count += array.size
        flat = array.reshape(-1)
        for start in range(0, flat.size, _BLOCK):
            block = flat[start : start + _BLOCK]
            values = block[block != 0]
            self.zeros += block.size - values.size
            if values.size:
                self._add_nonzero(values)

    def _add_nonzero(self, values: npt.NDArray[np.float32]) -> None:
        if self._kept is None:
            self._bin(values)
            return
        self._kept.append(values.astype(np.float32))
        if self.count - self.zeros > _EXACT and sum(k.size for k in self._kept) > _EXACT:
            kept, self._kept = self._kept, None
            self._bin(np.concatenate(kept))

    def _bin(self, values: npt.NDArray[np.float32]) -> None:
        self._widen(float(values.min()), float(values.max()))
        index = np.floor(np.ldexp(values.astype(np.float64), -self._exponent)).astype(np.int64)
        self._counts += np.bincount(index - self._first, minlength=self._counts.size)

    def _widen(self, lo: float, hi: float) -> None:
        """Make the bins cover lo..hi at the smallest legal width."""
        lo, hi = min(lo, self._span[0]), max(hi, self._span[1])
        if (lo, hi) == self._span:
            return
        self._span = lo, hi
        exponent = max(self._exponent, _exponent(lo, hi))
        first, last = (math.floor(math.ldexp(v, -exponent)) for v in (lo, hi))
        counts = np.zeros(last - first + 1, np.int64)
        if self._counts.size:
            index = (self._first + np.arange(self._counts.size)) >> min(exponent - self._exponent, 62)
            np.add.at(counts, index - first, self._counts)
        self._exponent, self._first, self._counts = exponent, first, counts

    def bins(self) -> Bins:
        """The histogram of all values but zeros; DataError if nothing was added."""
        if self.count == 0:
            raise nothing_observed()
        if self._kept is None:
            return Bins(self._first, math.ldexp(1.0, self._exponent), self._counts)
        other = Sketch()
        if self._kept:
            other._bin(np.concatenate(self._kept))
        return Bins(other._first, math.ldexp(1.0, other._exponent), other._counts)

    def points(self) -> tuple[Floats, Counts]:
        """Values in ascending order and their counts, 0 among them: as observed if few, else centres of bins.

        Raises:
            DataError: nothing was added.
        """
        values, counts = self._nonzero_points()
        if self.zeros:
            at = int(np.searchsorted(values, 0.0))
            values, counts = np.insert(values, at, 0.0), np.insert(counts, at, self.zeros)
        return values, counts

    def _nonzero_points(self) -> tuple[Floats, Counts]:
        if self.count == 0:
            raise nothing_observed()
        if self._kept is not None:
            kept = np.concatenate([*self._kept, np.zeros(0, np.float32)])
            values, counts = np.unique(kept.astype(np.float64), return_counts=True)
            return values, counts.astype(np.int64)
        full = np.flatnonzero(self._counts)
        centres = (self._first + full + 0.5) * math.ldexp(1.0, self._exponent)
        return np.clip(centres, *self._span), self._counts[full]

    def quantile(self, fraction: float) -> float:
        """Value below which a fraction of all values lies, 0 <= fraction <= 1, interpolated linearly.

        Exact while few values were added and at both ends, else off by at most one bin: (hi - lo) / 8192.
        """
        values, counts = self.points()
        upto = np.cumsum(counts)
        position = fraction * (self.count - 1)
        below, above = (
            self._ranked(rank, values, counts, upto) for rank in (math.floor(position), math.ceil(position))
        )
        return below + (above - below) * (position - math.floor(position))

    def _ranked(self, rank: int, values: Floats, counts: Counts, upto: Counts) -> float:
        """The value of a rank: as observed, or at the place within its bin that the rank suggests."""
        if rank in {0, self.count - 1}:
            return self.hi if rank else self.lo
        at = int(np.searchsorted(upto, rank, side="right"))
        value = float(values[at])
        if self._kept is not None or value == 0:
            return value
        share = (rank - (upto[at] - counts[at]) + 0.5) / counts[at] - 0.5
        return float(np.clip(value + share * math.ldexp(1.0, self._exponent), self.lo, self.hi))


def _exponent(lo: float, hi: float) -> int:
    """Smallest e such that bins of 2**e cover lo..hi with at most _BINS of them.

    No finer than the float32 spacing at the larger magnitude: a constant would ask for bins of no width.
    """
    exponent = math.frexp(max(abs(lo), abs(hi)))[1] - _MANTISSA
    while math.floor(math.ldexp(hi, -exponent)) - math.floor(math.ldexp(lo, -exponent)) + 1 > _BINS:
        exponent += 1
    return exponent
