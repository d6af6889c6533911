"""The range after which the distribution has changed least, by Kullback-Leibler divergence."""

from __future__ import annotations

from typing import final

import numpy as np
import numpy.typing as npt

from subbyte.formats.format import Format
from subbyte.ranges.affine import affine_params
from subbyte.ranges.sketch import Bins
from subbyte.ranges.sketch_observer import SketchObserver

_CANDIDATES = 128
_BINS_PER_LEVEL = 16
"""As in the source (2048 bins, 128 levels): finer bins would let the mass moved to the edge outweigh everything."""

_WIDE = 1024
"""Above this many levels a step is no wider than a few bins: the extremes are taken."""


@final
class Entropy(SketchObserver):
    """Clip about 0 with the least KL(reference || quantized), zeros left out.

    The reference is the histogram with everything beyond the range moved into its outermost bins. The quantized
    distribution is made from the histogram *without* what lies beyond, the count of each level spread evenly over
    the bins that are not empty: clipping is thus punished by the mass that it loses, rounding by the detail.

    Source: Migacz, "8-bit Inference with TensorRT", GTC 2017; here with the format's own levels and for both ends.
    """

    def range(self, format: Format) -> tuple[float, float]:
        """The best of 128 clips, from a 128th of the largest magnitude to all of it."""
        bins = self.sketch.bins()
        lo, hi = min(self.sketch.lo, 0.0), max(self.sketch.hi, 0.0)
        if bins.counts.size == 0 or format.levels > _WIDE:
            return lo, hi
        bins = bins.coarser(_BINS_PER_LEVEL * format.levels)
        clips = max(-lo, hi) * np.arange(1, _CANDIDATES + 1)[::-1] / _CANDIDATES
        ranges = [(max(lo, -clip), min(hi, clip)) for clip in clips.tolist()]
        return min(ranges, key=lambda r: _divergence(bins, r[0], r[1], format))


def _divergence(bins: Bins, lo: float, hi: float, format: Format) -> float:
    """KL(reference || quantized) in nats; infinite where a level would be narrower than a bin."""
    scale, zero_point = affine_params(lo, hi, format)
    grid = scale * format.centred(zero_point).astype(np.float64)
    left = (bins.first + np.arange(bins.counts.size)) * bins.width
    inside = slice(*np.searchsorted(left + bins.width / 2, [lo, hi], side="left"))
    counts = bins.counts[inside].astype(np.float64)
    if np.count_nonzero(counts) < 2 or scale < bins.width:
        return np.inf
    reference = counts.copy()
    reference[0] += bins.counts[: inside.start].sum()
    reference[-1] += bins.counts[inside.stop :].sum()
    centres = left[inside] + bins.width / 2
    level = np.searchsorted((grid[1:] + grid[:-1]) / 2, centres)
    full = counts > 0
    mass = np.bincount(level, weights=counts, minlength=grid.size)
    width = np.bincount(level, weights=full.astype(np.float64), minlength=grid.size)
    quantized = np.where(full, mass[level] / np.maximum(width[level], 1), 0.0)
    return _kl(reference / reference.sum(), quantized / quantized.sum())


def _kl(p: npt.NDArray[np.float64], q: npt.NDArray[np.float64]) -> float:
    """KL(p || q), both sums 1; a bin of p that q calls impossible costs as much as one of probability 1e-12."""
    used = p > 0
    return float(np.sum(p[used] * np.log(p[used] / np.maximum(q[used], 1e-12))))
