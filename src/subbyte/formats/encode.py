"""Reals to codes and back: ``real = scale * (table[code] - zero_point)``.

The quotient ``x / scale`` is taken in float32 where x is float32 (the boundary rule of the integer network, IEEE
division), else in float64. Formats of consecutive values round the quotient to an integer, add the zero point and
clamp: ``code = clamp(round(x / scale) + zero_point, lo, hi) - lo``, ties of ``half_even`` to the even integer. Other
tables clamp the quotient to their ends and choose between its two neighbours; the nearer one wins, and ties go to the
code at an even distance from that of 0 (``half_even``: the even mantissa of small floats), the larger value
(``half_up``) or the larger magnitude (``half_away``). ``floor``, ``ceil`` and ``stochastic`` choose between the same
two neighbours: the lower one, the upper one, the upper one with a probability equal to the way covered, so that the
expectation is the quotient. ``keep_nonzero`` is half_even but for the code of 0, which only 0 gets: what would fall to
it goes to the next value of its own sign, where there is one. ``log_floor`` lowers the magnitude to a power of two
first.

-0.0 is 0. Denormal reals and scales are ordinary numbers. A quotient that overflows clamps. NaN and infinity are
refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from subbyte.arithmetic.rounding import NEAREST, ROUNDINGS, Seed, check_rounding, round_reals, uniforms
from subbyte.errors import DataError, FormatError
from subbyte.formats.packing import Codes, code_dtype

if TYPE_CHECKING:
    from subbyte.formats.format import Format

Reals = npt.NDArray[np.float64]

LOG_FLOOR = "log_floor"
"""Magnitudes down to a power of two, for formats that hold nothing else: how BitNetMCU's FP1.3.0 is trained."""

ENCODE_ROUNDINGS: tuple[str, ...] = (*ROUNDINGS, LOG_FLOOR)
"""Every name that ``encode`` takes."""

_TINY = float(np.finfo(np.float64).tiny)


def encode(
    format: Format,
    x: npt.ArrayLike,
    scale: npt.ArrayLike = 1.0,
    zero_point: npt.ArrayLike = 0,
    rounding: str = "half_even",
    seed: Seed = None,
) -> Codes:
    """The codes of reals.

    Args:
        format: whose table is looked up.
        x: reals of any shape.
        scale: positive, finite, broadcasting against x; taken in float32 where x is.
        zero_point: integers broadcasting against x, in table units; 0 unless the format is uniform.
        rounding: a name of ``ENCODE_ROUNDINGS``.
        seed: for stochastic rounding.

    Returns:
        Codes of x's shape, uint8 (uint16 above 256 levels).

    Raises:
        DataError: x holds NaN or infinity.
        FormatError: bad scale, zero point or rounding, or ``log_floor`` in a format of other values.
    """
    check_rounding(rounding, seed, ENCODE_ROUNDINGS)
    zeros = _checked_zero(format, zero_point)
    quotient = _quotient(x, scale)
    if rounding not in NEAREST:
        # A quotient that vanishes keeps its side of 0.
        gone = (quotient == 0) & (np.asarray(x) != 0)
        quotient = np.where(gone, np.copysign(_TINY, np.asarray(x, dtype=np.float64)), quotient)
    if rounding == LOG_FLOOR:
        _check_powers(format)
    codes = (
        _uniform(format, quotient, zeros, rounding, seed)
        if format.uniform and rounding != LOG_FLOOR
        else from_table(format.values, quotient, rounding, seed)
    )
    return codes.astype(code_dtype(format.levels))


def decode(format: Format, codes: npt.ArrayLike, scale: npt.ArrayLike = 1.0, zero_point: npt.ArrayLike = 0) -> Reals:
    """The reals of codes in float64, ``scale * (table[code] - zero_point)``.

    Raises:
        FormatError: a code is no integer in 0 .. levels - 1, or the zero point is not legal.
    """
    array = np.asarray(codes)
    zeros = _checked_zero(format, zero_point)
    if array.dtype.kind not in "ui" or (array.size and not 0 <= int(array.min()) <= int(array.max()) < format.levels):
        raise FormatError(
            f"codes of dtype {array.dtype} hold a value that is no code of {format.name}",
            f"codes of {format.name} are integers in 0..{format.levels - 1}",
            "decode with the format that encoded",
        )
    return np.asarray(np.asarray(scale, dtype=np.float64) * (format.values[array] - zeros), dtype=np.float64)


def _quotient(x: npt.ArrayLike, scale: npt.ArrayLike) -> Reals:
    reals = np.asarray(x)
    dtype: type[Any] = np.float32 if reals.dtype in (np.float32, np.float16) else np.float64
    if reals.dtype.kind not in "fiub" or not bool(np.all(np.isfinite(reals))):
        raise DataError(
            f"numbers of dtype {reals.dtype} with a NaN or an infinity are to be encoded"
            if reals.dtype.kind == "f"
            else f"an array of dtype {reals.dtype} is to be encoded",
            "only finite real numbers have codes",
            "look for the first layer or sample that holds such a number",
        )
    scales = np.asarray(scale).astype(dtype)
    if not bool(np.all(np.isfinite(scales) & (scales > 0))):
        raise FormatError(
            f"a scale is {np.min(scales) if scales.size else scales}",
            "scales are positive and finite",
            "take the scale of the largest channel for a channel of zeros",
        )
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray(reals.astype(dtype) / scales, dtype=np.float64)


def _checked_zero(format: Format, zero_point: npt.ArrayLike) -> npt.NDArray[np.int64]:
    zeros = np.asarray(zero_point)
    if zeros.dtype.kind not in "iu" or (not format.uniform and bool(np.any(zeros != 0))):
        raise FormatError(
            f"{format.name} is used with a zero point of {zeros.reshape(-1)[:4].tolist()}",
            "zero points are integers, and 0 for formats whose values are not consecutive",
            "use a uniform format such as int4 or uint4",
        )
    return zeros.astype(np.int64)


def _uniform(format: Format, quotient: Reals, zeros: npt.NDArray[np.int64], rounding: str, seed: Seed) -> Reals:
    # Clip before rounding too: an infinite quotient must not meet the fraction of stochastic rounding.
    shape = np.broadcast_shapes(quotient.shape, zeros.shape)
    bounded = np.clip(np.broadcast_to(quotient, shape), format.lo - zeros - 1, format.hi - zeros + 1)
    return np.clip(round_reals(bounded, rounding, seed) + zeros, format.lo, format.hi) - format.lo


def from_table(table: Reals, quotient: Reals, rounding: str, seed: Seed = None) -> npt.NDArray[np.int64]:
    """Codes of quotients in a table of reals, ascending; the rounding is between neighbouring values.

    Args:
        table: float64, ascending strictly.
        quotient: float64, any shape, finite or infinite.
        rounding: a name of ``arithmetic/rounding.py``, checked before.
        seed: for stochastic rounding.
    """
    if rounding == LOG_FLOOR:
        quotient = _power_below(quotient)
    inside = np.clip(quotient, table[0], table[-1])
    left = np.minimum(np.searchsorted(table, inside, side="right") - 1, table.size - 2).astype(np.int64)
    below, above = table[left], table[left + 1]
    zero = nearest_to_zero(table)
    if rounding == "stochastic":
        up = uniforms(seed, inside.shape) < (inside - below) / (above - below)
    elif rounding == "floor":
        up = inside == above
    elif rounding == "ceil":
        up = inside > below
    else:
        middle = (below + above) / 2
        odd = (left - zero) % 2 == 1
        tie_goes_up = {"half_up": True, "half_away": middle >= 0}.get(rounding, odd)
        up = (inside > middle) | ((inside == middle) & tie_goes_up)
    codes = left + up
    if rounding == "keep_nonzero" and table[zero] == 0:
        lost = (codes == zero) & (quotient != 0)
        codes = np.where(lost, np.clip(zero + np.sign(quotient), 0, table.size - 1).astype(np.int64), codes)
    return codes


def nearest_to_zero(table: npt.NDArray[Any]) -> int:
    """Code of 0, or of the value nearest to it; the even code on ties."""
    distance = np.abs(table)
    nearest = np.flatnonzero(distance == distance.min())
    return int(min(nearest, key=lambda code: code % 2))


def _power_below(quotient: Reals) -> Reals:
    """The largest power of two that is not beyond each magnitude, with the sign; 0 of 0."""
    fraction, exponent = np.frexp(quotient)
    powers = np.ldexp(np.copysign(0.5, fraction), exponent)
    return np.where(np.isfinite(quotient) & (quotient != 0), powers, quotient)


def _check_powers(format: Format) -> None:
    """``log_floor`` is for powers of two, of which 127 may stand for 128."""
    magnitudes = np.abs(format.integers[format.integers != 0])
    if not bool(np.all((magnitudes & (magnitudes - 1) == 0) | (magnitudes == 127))):
        raise FormatError(
            f"{format.name} is to be rounded by log_floor",
            "log_floor rounds down to a power of two, so all values but 0 are powers of two",
            "use fp130, pow2_e<K>, ternary or binary, or another rounding such as half_even",
        )
