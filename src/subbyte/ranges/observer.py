"""What an observer is, and the registry of all of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from subbyte.errors import DataError, RecipeError, unknown_name
from subbyte.formats.format import Format


class Observer(Protocol):
    """Statistics in, range out. Memory does not grow with the number of batches.

    ``observe`` may be called any number of times; ``range`` at any time after the first value.
    """

    def observe(self, array: npt.NDArray[np.float32]) -> None:
        """Take in one batch of a tensor, of any shape; an empty one is ignored.

        Raises:
            DataError: a value is NaN or infinite.
        """
        ...

    def range(self, format: Format) -> tuple[float, float]:
        """The (lo, hi) of reals that the format should cover; pass it to ``affine_params``.

        Raises:
            DataError: nothing was observed.
        """
        ...


def ends(array: npt.NDArray[np.float32]) -> tuple[float, float]:
    """Smallest and largest value of a batch; DataError if a value is not finite (they propagate NaN)."""
    lo, hi = float(array.min()), float(array.max())
    if not (np.isfinite(lo) and np.isfinite(hi)):
        raise DataError(
            f"a tensor holds {lo if not np.isfinite(lo) else hi}",
            "observed values are finite",
            "look for overflow in the float network, or for bad samples in the data",
        )
    return lo, hi


def nothing_observed() -> DataError:
    """The error of asking for a range too early."""
    return DataError("nothing was observed", "a range follows from at least one value", "calibrate on some data first")


_FAMILIES: dict[str, tuple[Callable[[float], Observer], float | None]] = {}


def register_observer(name: str, make: Callable[[float], Observer], default: float | None) -> None:
    """Make a family of observers known: ``name`` or, where it has a parameter, ``name_<number>``.

    Args:
        name: of the family.
        make: from the parameter to a fresh observer.
        default: parameter of the bare name; None where the family has none.
    """
    _FAMILIES[name] = (make, default)


def observer_names() -> list[str]:
    """Names that ``get_observer`` takes, sorted, parameters at their defaults."""
    return sorted(n if d is None else f"{n}_{d:g}" for n, (_, d) in _FAMILIES.items())


def get_observer(name: str) -> Observer:
    """A fresh observer: ``min_max``, ``ema_0.99``, ``percentile_99.99``, ``mse``, ``octav`` or ``entropy``.

    Raises:
        RecipeError: the name is unknown (the nearest ones are listed) or its parameter is out of range.
    """
    stem = re.fullmatch(r"(\w*?)(?:_(\d+(?:\.\d*)?))?", name)
    family = _FAMILIES.get(stem[1]) if stem else None
    if stem is None or family is None or (stem[2] and family[1] is None):
        raise RecipeError(*unknown_name("observer", name, observer_names()))
    make, default = family
    return make(float(stem[2]) if stem[2] else default or 0.0)
