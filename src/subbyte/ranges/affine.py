"""From a range of reals to the scale and zero point of a format."""

from __future__ import annotations

import math

import numpy as np

from subbyte.errors import DataError, FormatError
from subbyte.formats.format import Format

_SMALLEST = float(np.finfo(np.float32).tiny)
_LARGEST = float(np.finfo(np.float32).max)


def affine_params(lo: float, hi: float, format: Format) -> tuple[float, int]:
    """Scale and zero point with which a format covers ``lo..hi`` and represents 0 exactly where it can.

    The range is first widened to include 0. Then, by kind of format:

    * Uniform of at most 256 levels: affine. ``scale = (hi - lo) / (levels - 1)``; the zero point is the stored integer
      nearest to ``-lo / scale`` (Jacob et al. 2017, section 3.1: 0 stays exact, the ends move by at most half a step).
    * Wider than 256 (stored as int16): zero point 0, so that ``q - zero_point`` still fits 16 bits; the scale covers
      the end that needs the larger one.
    * Not uniform (six levels, powers of two, mid-rise): the table fixes where 0 lies, so the zero point is
      ``-table[0]`` in stored units (the code of 0 where codes are stored) and only the scale adapts. A mid-rise table
      (``-3, -1, 1, 3``) has no value 0: the zero point, 3, is then an integer between two stored ones, and a real 0
      becomes the nearest level, ``±scale``.

    An end that the format has no values for (negative reals in an unsigned table) is clipped. A range of zeros only
    gets scale 1.

    Args:
        lo: smallest real to cover.
        hi: largest real to cover.
        format: of the stored values.

    Returns:
        scale, positive, exactly representable in float32 and at least its smallest normal number; zero point in stored
        units (see ``graph/ir.py``).

    Raises:
        DataError: an end is not finite or lo exceeds hi.
        FormatError: the format is not uniform and all of its values lie above 0 or below it.
    """
    lo, hi = _with_zero(lo, hi)
    if format.uniform and format.storage == "uint8":
        scale = _float32((hi - lo) / (format.levels - 1))
        # rint in Python: ties to even. The quotient is at most levels - 1 plus rounding, the clip takes the latter.
        zero_point = round(-lo / scale)
        return scale, min(max(zero_point, format.stored_lo), format.stored_hi)
    if format.lo > 0 or format.hi < 0:
        raise FormatError(
            f"format {format.name!r} has values {format.lo}..{format.hi}",
            "a format of activations spans 0 unless its values are evenly spaced by 1",
            "choose a format with values on both sides of 0, or one that holds 0",
        )
    zero_point = format.zero_code if format.coded else format.stored_lo - format.lo
    return symmetric_scale(lo, hi, format), zero_point


def symmetric_scale(lo: float, hi: float, format: Format) -> float:
    """The smallest scale with which ``scale * table`` covers ``lo..hi`` at zero point 0.

    An end that the table cannot reach (it has no values of that sign) is ignored, unless nothing else is left.

    Returns:
        A positive float, exactly representable in float32; 1 for a range of zeros only.

    Raises:
        DataError: an end is not finite or lo exceeds hi.
    """
    lo, hi = _with_zero(lo, hi)
    reach = [hi / format.hi] if format.hi > 0 else []
    reach += [lo / format.lo] if format.lo < 0 else []
    return _float32(max(reach, default=0.0) or max(-lo, hi) / format.max_abs)


def _with_zero(lo: float, hi: float) -> tuple[float, float]:
    if not (math.isfinite(lo) and math.isfinite(hi) and lo <= hi):
        raise DataError(
            f"the range is {lo}..{hi}",
            "a range has finite ends, the smaller first",
            "calibrate on finite data",
        )
    return min(float(lo), 0.0), max(float(hi), 0.0)


def _float32(scale: float) -> float:
    """The nearest float32, kept normal: multipliers are ratios of scales, and a denormal loses their precision."""
    if scale == 0:
        return 1.0
    return float(np.float32(min(max(scale, _SMALLEST), _LARGEST)))
