"""Multipliers for which a float32 multiply-add gives the integers of the rescale rule.

Kernels may compute ``rint(fma(float(acc), scale, z))`` in float32 with ``scale = float32(m * 2**-n)`` instead of
``z + ((acc * m + 2**(n - 1)) >> n)`` where both are the same function. Both are monotone in acc, so they are the same
for all accumulators of a channel if they agree on both sides of each step of the clamped result, at most 255 of them:
that is what ``agrees`` checks, as the native engine does again at load. ``nudge`` moves a multiplier by at most three
millionths so that it holds; a kernel that does not use it loses nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.signedinteger[Any]]

MOST_TRIES = 24
_UNIT = 128  # a multiplier of 31 bits that is a multiple of this is exact in float32
_MOST_SHIFT = 44  # with more, the native engine uses the integer rule
_MOST_ZERO = 1 << 10


def fused(acc: npt.NDArray[Any], scale: npt.NDArray[np.float32], zero_point: int) -> npt.NDArray[np.float32]:
    """``rint(fma(float32(acc), scale, zero_point))`` in float32, broadcast.

    The product of two float32 is exact in float64; the sum is rounded to odd there (Boldo and Melquiond 2008,
    "Emulation of FMA and correctly rounded sums"), so that the step to float32 rounds as a fused operation does.
    """
    product = acc.astype(np.float32).astype(np.float64) * scale.astype(np.float64)
    z = np.float64(zero_point)
    total = product + z
    back = total - product
    error = (product - (total - back)) + (z - back)
    even = (total.view(np.int64) & 1) == 0
    odd = np.where((error != 0) & even, np.nextafter(total, np.where(error > 0, np.inf, -np.inf)), total)
    return np.rint(odd.astype(np.float32))


def agrees(
    m: IntArray, n: IntArray, zero_point: int, lo: int, hi: int, least: IntArray, most: IntArray
) -> npt.NDArray[np.bool_]:
    """Per channel: whether the float32 form gives the clamped integers of the rule for all of least..most.

    Args:
        m: multipliers [C], int32.
        n: right shifts [C], 1..62.
        zero_point: of the result.
        lo: smallest result, 0 or more.
        hi: largest result, at most 255 above lo.
        least: smallest accumulators [C], int32.
        most: largest accumulators [C], int32.
    """
    m, n = m.astype(np.int64), n.astype(np.int64)
    scale = np.ldexp(m.astype(np.float64), -n).astype(np.float32)
    reach = np.maximum(-least.astype(np.int64), most).astype(np.float64) * scale
    constant = (m >= 0) & (reach < 0.25) & (abs(zero_point) <= _MOST_ZERO)  # both forms give the zero point
    legal = (m > 0) & (n <= _MOST_SHIFT) & (reach + _MOST_ZERO < 2147480000) & (abs(zero_point) <= _MOST_ZERO)
    m, n = np.where(legal, m, 1)[:, None], np.where(legal, n, 1)[:, None]
    half = np.int64(1) << (n - 1)
    levels = np.arange(lo + 1, hi + 1, dtype=np.int64)[None, :]
    steps = -(-((levels - zero_point) * 2 * half - half) // m)  # where the rule reaches each level
    sides = np.concatenate([steps - 1, steps], axis=1).clip(least[:, None], most[:, None])
    wanted = zero_point + ((sides * m + half) >> n)
    got = fused(sides, scale[:, None], zero_point)
    return constant | (legal & np.all(wanted.clip(lo, hi) == got.clip(lo, hi), axis=1))


def nudge(
    m: IntArray, n: IntArray, zero_point: int, lo: int, hi: int, least: IntArray, most: IntArray
) -> npt.NDArray[np.int32]:
    """The multipliers, each replaced by the nearest one tried for which ``agrees`` holds.

    Only multipliers of 31 bits have neighbours near enough; others, and those for which nothing is found, stay.

    Args:
        m: multipliers [C].
        n: right shifts [C].
        zero_point: of the result.
        lo: smallest result (a fused ReLU raises it).
        hi: largest result.
        least: smallest accumulators [C] of the proved bound.
        most: largest accumulators [C] of the proved bound.
    """
    result = np.array(m, dtype=np.int32)
    near = (m.astype(np.int64) + _UNIT // 2) // _UNIT
    open_ = (m >= 1 << 30) & ~agrees(m, n, zero_point, lo, hi, least, most)
    for attempt in range(MOST_TRIES + 1):
        places = np.flatnonzero(open_)
        if not places.size:
            break
        offset = (attempt + 1) // 2 * (1 if attempt % 2 else -1)
        tried = ((near[places] + offset) * _UNIT).clip(1 << 30, (1 << 31) - _UNIT)
        good = agrees(tried, n[places], zero_point, lo, hi, least[places], most[places])
        result[places[good]] = tried[good]
        open_[places[good]] = False
    return result
