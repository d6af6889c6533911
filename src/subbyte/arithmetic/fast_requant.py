"""Multipliers for which a float32 multiply-add gives the integers of the rescale rule.

Instead of ``z + ((acc * m + 2**(n - 1)) >> n)`` kernels may compute, with ``scale = float32(m * 2**-n)``, the float32
``fma(float32(acc), scale, 1.5 * 2**23 + z)``: its low bits hold ``z`` plus the product, rounded once. Both are
monotone in acc, so they are the same function if they agree at both ends of a channel's accumulators and on both
sides of each step of the clamped result, at most 255 of them: that is what ``agrees`` checks, as the native engine
does again at load. A multiplier of 24 significant bits is exact in float32, and then they agree wherever the steps lie
below 2**24: so ``nudge`` moves a multiplier of 31 bits by a few parts in ten million at most. A kernel that does not
care loses nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.signedinteger[Any]]

ROUNDING = 12582912  # 1.5 * 2**23
ROUNDING_BITS = 0x4B400000
MOST_TRIES = 4
_UNIT = 128  # between multipliers of 31 bits that are exact in float32
_MOST_RESULT = 1 << 23  # in magnitude: the float32 sum stays positive
_MOST_ZERO = 1 << 10


def fused(acc: IntArray, scale: npt.NDArray[np.float32], zero_point: int) -> npt.NDArray[np.int64]:
    """Bits of ``fma(float32(acc), scale, ROUNDING + zero_point)`` in float32, less those of ``ROUNDING``; broadcast.

    The product of two float32 is exact in float64; the sum is rounded to odd there (Boldo and Melquiond 2008,
    "Emulation of FMA and correctly rounded sums"), so that the step to float32 rounds as a fused operation does.
    """
    product = acc.astype(np.float32).astype(np.float64) * scale.astype(np.float64)
    zero = np.float64(ROUNDING + zero_point)
    total = product + zero
    back = total - product
    error = (product - (total - back)) + (zero - back)
    even = (total.view(np.int64) & 1) == 0
    odd = np.where((error != 0) & even, np.nextafter(total, np.where(error > 0, np.inf, -np.inf)), total)
    return odd.astype(np.float32).view(np.int32).astype(np.int64) - ROUNDING_BITS


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
        least: smallest accumulators [C], above -2**31.
        most: largest accumulators [C], below 2**31.
    """
    m, n, least, most = (np.asarray(v, dtype=np.int64) for v in (m, n, least, most))
    scale = np.ldexp(m.astype(np.float64), -n).astype(np.float32)
    reach = np.maximum(-least, most) * scale.astype(np.float64)
    legal = (m >= 0) & (reach <= _MOST_RESULT) & (abs(zero_point) <= _MOST_ZERO)
    m, n = np.where(legal, m, 0)[:, None], np.where(legal, n, 1)[:, None]
    half = np.int64(1) << (n - 1)
    ends = np.stack([least, most], axis=1)
    first, last = np.split(zero_point + ((ends * m + half) >> n), 2, axis=1)
    levels = np.arange(lo + 1, hi + 1, dtype=np.int64)[None, :].clip(first, last)  # those that are reached
    steps = -(-((levels - zero_point) * 2 * half - half) // np.maximum(m, 1))
    sides = np.concatenate([ends, steps - 1, steps], axis=1).clip(least[:, None], most[:, None])
    wanted = zero_point + ((sides * m + half) >> n)
    got = fused(sides, scale[:, None], zero_point)
    same: npt.NDArray[np.bool_] = np.all(wanted.clip(lo, hi) == got.clip(lo, hi), axis=1)
    return np.asarray(legal & same)


def nudge(
    m: IntArray, n: IntArray, zero_point: int, lo: int, hi: int, least: IntArray, most: IntArray
) -> npt.NDArray[np.int32]:
    """The multipliers, each replaced by the nearest one tried for which ``agrees`` holds.

    Only multipliers of 31 bits have neighbours near enough; others, and those for which nothing is found, stay. With a
    leaky slope call it twice: for the multipliers of acc >= 0 with least = 0, and of acc < 0 with most = 0.

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
    nearest = (np.asarray(m, dtype=np.int64) + _UNIT // 2) // _UNIT
    left = (np.asarray(m) >= 1 << 30) & ~agrees(m, n, zero_point, lo, hi, least, most)
    for attempt in range(MOST_TRIES + 1):
        places = np.flatnonzero(left)
        if not places.size:
            break
        offset = (attempt + 1) // 2 * (1 if attempt % 2 else -1)
        tried = ((nearest[places] + offset) * _UNIT).clip(1 << 30, (1 << 31) - _UNIT)
        good = agrees(tried, n[places], zero_point, lo, hi, least[places], most[places])
        result[places[good]] = tried[good]
        left[places[good]] = False
    return result
