"""Multipliers that a layer's scales tell, so that a model file need not hold them.

A layer's multipliers are ``multiplier(s_in * s_weight * times / s_out)`` channel by channel, where ``times`` is 1, or
the slope of a leaky layer for its negative sums, times the unit of the layer's sums: two to its ``pre_shift``, by the
largest code where rows have scales of their own. Lowering moves some of them a little
(``arithmetic/fast_requant.py``); the file holds by how much.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from subbyte.arithmetic.requant import ARITHMETICS, Arithmetic, multipliers, powers_of_two
from subbyte.errors import LoweringError
from subbyte.formats.qtensor import QTensor

IntArray = npt.NDArray[Any]

MOST_MOVED = 255


@dataclass(frozen=True)
class Ratio:
    """How multipliers follow from scales.

    Attributes:
        arithmetic: of the rescale.
        times: factor beside the scales.
        moved: (channel, what is added to the multiplier there), for those that are not as told.
    """

    arithmetic: Arithmetic
    times: float = 1.0
    moved: tuple[tuple[int, int], ...] = ()

    def pairs(
        self, weight: QTensor, scales: tuple[float, float]
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """(m, n), int32 [channels].

        Args:
            weight: whose first axis are the channels.
            scales: of the layer's input and of its result.

        Raises:
            LoweringError: a ratio cannot be a multiplier.
        """
        m, n = _told(weight, scales, self.arithmetic, self.times)
        for channel, change in self.moved:
            m[channel] += change
        if np.any(np.abs(m) >= 2**31):
            raise LoweringError("a multiplier leaves int32", "multipliers are int32", "write the file again")
        return m.astype(np.int32), n.astype(np.int32)


def find_ratio(
    weight: QTensor,
    scales: tuple[float, float],
    m: IntArray,
    n: IntArray,
    beside: tuple[IntArray, IntArray] | None,
    unit: float = 1.0,
) -> Ratio | None:
    """The ratio that tells these multipliers, or None.

    Args:
        weight: of the layer.
        scales: of its input and of its result.
        m: multipliers [channels].
        n: shifts [channels].
        beside: the layer's multipliers for sums that are not negative, where these are the others.
        unit: of the layer's sums, in products of its scales.
    """
    if not tells(weight) or m.shape != weight.shape[:1] or n.shape != m.shape:
        return None
    times = unit * (1.0 if beside is None else _slope(m, n, *beside))
    for arithmetic in ARITHMETICS if times else ():
        try:
            told, shifts = _told(weight, scales, arithmetic, times)
        except LoweringError:
            continue
        change = m.astype(np.int64) - told
        if np.array_equal(shifts, n) and np.abs(change).max() <= MOST_MOVED:
            moved = tuple((int(c), int(change[c])) for c in np.flatnonzero(change))
            return Ratio(arithmetic, times, moved)
    return None


def tells(weight: QTensor) -> bool:
    """Whether a weight has a scale for each of its output channels."""
    return weight.scale.ndim == 0 or weight.axis == 0


def _told(
    weight: QTensor, scales: tuple[float, float], arithmetic: Arithmetic, times: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """As lowering does it: ``(s_in * s_weight) * times / s_out`` in float64, in this order."""
    each = np.broadcast_to(weight.scale.astype(np.float64), weight.shape[:1])
    with np.errstate(all="ignore"):
        ratios = scales[0] * each * abs(times) / scales[1]
    if arithmetic == "shift":
        ratios = powers_of_two(ratios)
    m, n = multipliers(ratios, arithmetic)
    return (m if times > 0 else -m), n


def _slope(m: IntArray, n: IntArray, positive: IntArray, shifts: IntArray) -> float:
    """The slope that multipliers of negative sums show, as float32, which is how networks hold it; 0 for none."""
    known: Sequence[int] = np.flatnonzero((m != 0) & (positive != 0)).tolist()
    if not known or m.shape != positive.shape or n.shape != shifts.shape:
        return 0.0
    c = known[0]
    slope = math.ldexp(int(m[c]) / int(positive[c]), int(shifts[c]) - int(n[c]))
    return float(np.float32(slope))
