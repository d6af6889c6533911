"""What observers that read the whole distribution of a tensor have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

import numpy as np
import numpy.typing as npt

from subbyte.formats.format import Format
from subbyte.ranges.sketch import Sketch


class SketchObserver(ABC):
    """An observer whose statistics are a ``Sketch``."""

    def __init__(self) -> None:
        self.sketch = Sketch()

    @final
    def observe(self, array: npt.NDArray[np.float32]) -> None:
        """Add one batch to the histogram; DataError if a value is not finite."""
        self.sketch.add(array)

    @abstractmethod
    def range(self, format: Format) -> tuple[float, float]:
        """The (lo, hi) of reals that the format should cover; DataError if nothing was observed."""
