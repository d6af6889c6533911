"""Ranges from extremes: of all batches, or their moving average."""

from __future__ import annotations

from typing import final

import numpy as np
import numpy.typing as npt

from subbyte.errors import RecipeError
from subbyte.formats.format import Format
from subbyte.ranges.observer import ends, nothing_observed


@final
class MinMax:
    """Smallest and largest value ever seen: nothing is clipped."""

    def __init__(self) -> None:
        self._ends: tuple[float, float] | None = None

    def observe(self, array: npt.NDArray[np.float32]) -> None:
        """Widen the range to the batch."""
        if array.size == 0:
            return
        lo, hi = ends(array)
        if self._ends is not None:
            lo, hi = min(lo, self._ends[0]), max(hi, self._ends[1])
        self._ends = lo, hi

    def range(self, format: Format) -> tuple[float, float]:
        """The extremes; the format does not matter."""
        del format
        if self._ends is None:
            raise nothing_observed()
        return self._ends


@final
class Ema:
    """Exponential moving average of the batches' extremes (Jacob et al. 2017, section 3.1).

    ``end <- momentum * end + (1 - momentum) * end of the batch``, starting at the first batch. It depends on the size
    and order of batches.

    Args:
        momentum: weight of the past, 0 <= momentum < 1.
    """

    def __init__(self, momentum: float) -> None:
        if not 0 <= momentum < 1:
            raise RecipeError(
                f"ema has the momentum {momentum}",
                "a momentum lies in 0..1, 1 excluded",
                "use ema_0.99 or ema_0.9",
            )
        self._momentum = momentum
        self._ends: tuple[float, float] | None = None

    def observe(self, array: npt.NDArray[np.float32]) -> None:
        """Move the ends towards those of the batch."""
        if array.size == 0:
            return
        lo, hi = ends(array)
        if self._ends is not None:
            old, new = self._momentum, 1 - self._momentum
            lo, hi = old * self._ends[0] + new * lo, old * self._ends[1] + new * hi
        self._ends = lo, hi

    def range(self, format: Format) -> tuple[float, float]:
        """The averages; the format does not matter."""
        del format
        if self._ends is None:
            raise nothing_observed()
        return self._ends
