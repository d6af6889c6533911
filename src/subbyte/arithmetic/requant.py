"""THE rescale rule: an integer accumulator times a real ratio, in integers, with one rounding.

``requantize(acc) = clamp(z + ((acc * m + 2**(n - 1)) >> n), lo, hi)`` in int64, arithmetic shift: round half up.
Where codes of a table are stored, ``nearest_codes`` is the same rule with the table's values in place of all integers.
This file and ``native/include/subbyte/requant.h`` are the definition; everything else must give the same bits.
Source: Jacob et al. 2017, section 2.2, with one rounding instead of gemmlowp's two.
"""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from subbyte.errors import LoweringError, unknown_name

Arithmetic = Literal["m31", "m15", "shift"]
ARITHMETICS: tuple[Arithmetic, ...] = get_args(Arithmetic)

_MANTISSA_BITS = {"m31": 31, "m15": 15}
MAX_SHIFT = 62
_NEARLY = 1e-5
"""How far an exponent may be from a whole number, so that the ratio counts as a power of two."""

IntArray = npt.NDArray[np.signedinteger[Any]]


def round_shift(product: IntArray, n: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """``(product + 2**(n - 1)) >> n`` in int64: division by 2**n, rounded half up; 1 <= n <= 62."""
    shift = np.asarray(n, dtype=np.int64)
    return (product.astype(np.int64) + (np.int64(1) << (shift - 1))) >> shift


def requantize(
    acc: IntArray, m: npt.ArrayLike, n: npt.ArrayLike, zero_point: int, lo: int, hi: int
) -> npt.NDArray[np.int64]:
    """Accumulators to stored integers.

    Args:
        acc: accumulators, |acc| <= 2**31.
        m: integer multipliers, broadcast against acc.
        n: right shifts 1..62, broadcast against acc.
        zero_point: of the result.
        lo: smallest result (a fused ReLU raises it).
        hi: largest result.
    """
    scaled = round_shift(acc.astype(np.int64) * np.asarray(m, dtype=np.int64), n)
    return np.clip(zero_point + scaled, lo, hi)


def nearest_codes(
    acc: IntArray, m: npt.ArrayLike, n: npt.ArrayLike, values: npt.NDArray[np.int64], lo: int, hi: int
) -> npt.NDArray[np.int64]:
    """Accumulators to codes: of the value nearest to ``acc * m / 2**n``, and of the larger one in the middle of two.

    ``requantize`` is this for consecutive values. A code is the number of middles of neighbouring values that the
    scaled accumulator reaches. Twice a middle is an integer, so all are compared with twice the scaled accumulator,
    rounded down, and nothing is rounded before: these are exact thresholds of acc, other ones in every channel.

    Args:
        acc: accumulators, |acc| <= 2**31.
        m: integer multipliers, broadcast against acc.
        n: right shifts 1..62, broadcast against acc.
        values: ascending, what the codes stand for in units of the result's scale.
        lo: smallest code (a fused ReLU raises it).
        hi: largest code.
    """
    product = acc.astype(np.int64) * np.asarray(m, dtype=np.int64)
    twice = product >> (np.asarray(n, dtype=np.int64) - 1)
    return np.clip(np.searchsorted(values[1:] + values[:-1], twice, side="right"), lo, hi).astype(np.int64)


def multiplier(ratio: float, arithmetic: Arithmetic) -> tuple[int, int]:
    """The integers (m, n) with ``ratio ~ m * 2**-n``.

    m31: 2**30 <= m < 2**31; m15: 2**14 <= m < 2**15; shift: m = 1, and for an exact left shift by k: m = 2**(k + 1),
    n = 1. A ratio too small for n <= 62 is stored as (0, 1).

    Raises:
        LoweringError: the ratio is not positive and finite, too large, or no power of two in shift arithmetic.
    """
    if arithmetic not in ARITHMETICS:
        raise LoweringError(*unknown_name("arithmetic", arithmetic, ARITHMETICS))
    if not (math.isfinite(ratio) and ratio > 0):
        raise LoweringError(
            f"a rescale ratio is {ratio}",
            "ratios of scales are positive and finite",
            "calibrate on data that excites the layer",
        )
    mantissa, exponent = math.frexp(ratio)  # ratio = mantissa * 2**exponent, 0.5 <= mantissa < 1
    if arithmetic == "shift":
        return _shift_multiplier(ratio, mantissa, 1 - exponent)
    bits = _MANTISSA_BITS[arithmetic]
    m = round(math.ldexp(mantissa, bits))  # rint: ties to even
    if m == 1 << bits:
        m, exponent = m >> 1, exponent + 1
    n = bits - exponent
    if n < 1:
        raise _too_large(ratio, 2.0 ** (bits - 1), ", or use arithmetic='m31'" if arithmetic == "m15" else "")
    return (m, n) if n <= MAX_SHIFT else (0, 1)


def multipliers(
    ratios: npt.NDArray[np.float64], arithmetic: Arithmetic
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """``multiplier`` of every entry of an array: (m, n).

    Raises:
        LoweringError: as there.
    """
    mantissa, exponent = np.frexp(ratios)
    exponent = exponent.astype(np.int64)
    bits = _MANTISSA_BITS.get(arithmetic, 1)
    m = np.rint(np.ldexp(mantissa, bits))
    n = bits - exponent
    usual = np.isfinite(ratios) & (ratios > 0) & (m < 1 << bits) & (n >= 1) & (n <= MAX_SHIFT) & (arithmetic != "shift")
    whole, shift = np.where(usual, m, 0).astype(np.int64), np.where(usual, n, 1)
    for i in np.flatnonzero(~usual):  # the few that are rounded up, vanish or are refused
        whole.flat[i], shift.flat[i] = multiplier(float(ratios.flat[i]), arithmetic)
    return whole, shift


def powers_of_two(ratios: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Ratios of shift arithmetic as powers of two, each that is one up to what float32 leaves of two scales."""
    with np.errstate(all="ignore"):
        exponents = np.log2(ratios)
        whole = np.rint(exponents)
        return np.asarray(np.where(np.abs(exponents - whole) < _NEARLY, np.exp2(whole), ratios))


def _shift_multiplier(ratio: float, mantissa: float, n: int) -> tuple[int, int]:
    if mantissa != 0.5:
        raise LoweringError(
            f"the rescale ratio {ratio} is no power of two",
            "shift arithmetic divides by powers of two only",
            "use arithmetic='m31' or 'm15', or power-of-two scales",
        )
    if n < -29:
        raise _too_large(ratio, 2.0**29)
    if n > MAX_SHIFT:
        return 0, 1
    return (1, n) if n >= 1 else (1 << (1 - n), 1)


def _too_large(ratio: float, limit: float, way_out: str = "") -> LoweringError:
    return LoweringError(
        f"the rescale ratio {ratio} is too large",
        f"ratios stay below {limit}",
        f"calibrate on data that excites the layer: its range collapsed{way_out}",
    )
