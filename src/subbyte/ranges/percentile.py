"""Ranges that leave out the rarest values."""

from __future__ import annotations

from typing import final

from subbyte.errors import RecipeError
from subbyte.formats.format import Format
from subbyte.ranges.sketch_observer import SketchObserver


@final
class Percentile(SketchObserver):
    """From the (100 - p)-th to the p-th percentile of all values.

    Args:
        percent: p, 50 < p <= 100.
    """

    def __init__(self, percent: float) -> None:
        if not 50 < percent <= 100:
            raise RecipeError(
                f"percentile has the parameter {percent}",
                "it lies above 50 and up to 100",
                "use percentile_99.9 or percentile_99.99",
            )
        super().__init__()
        self._fraction = percent / 100

    def range(self, format: Format) -> tuple[float, float]:
        """The two percentiles; the format does not matter."""
        del format
        return self.sketch.quantile(1 - self._fraction), self.sketch.quantile(self._fraction)
