"""Several observers of one tensor."""

from __future__ import annotations

from collections.abc import Iterable
from typing import final

import numpy as np
import numpy.typing as npt

from subbyte.formats.format import Format
from subbyte.ranges.observer import Observer, get_observer
from subbyte.ranges.sketch import Sketch
from subbyte.ranges.sketch_observer import SketchObserver


@final
class Observers:
    """Named observers of the same tensor; those that read the whole distribution share one histogram.

    Args:
        names: as ``get_observer`` takes them.

    Raises:
        RecipeError: a name is unknown.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._all = {name: get_observer(name) for name in names}
        self._sketch: Sketch | None = None
        self._others: list[Observer] = []
        for observer in self._all.values():
            if isinstance(observer, SketchObserver):
                self._sketch = observer.sketch = self._sketch or observer.sketch
            else:
                self._others.append(observer)

    def observe(self, array: npt.NDArray[np.float32]) -> None:
        """Show one batch to all of them; DataError if a value is not finite."""
        if self._sketch is not None:
            self._sketch.add(array)
        for observer in self._others:
            observer.observe(array)

    def range(self, name: str, format: Format) -> tuple[float, float]:
        """The range that one of them gives for a format."""
        return self._all[name].range(format)
