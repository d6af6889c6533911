"""Codebooks: tables of any reals in their integer form, whose largest magnitude is 127, with the error that it costs.

Kernels multiply integers, so a float table such as NF4's becomes the nearest integers of ``127 / max|value|`` times
it. The factor goes into the scale; what is lost is at most half a step of 127 for each entry, and is reported.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from subbyte.errors import FormatError
from subbyte.formats.format import Format

Reals = npt.NDArray[np.float64]

LARGEST = 127
"""Magnitude of the integer that stands for the entry of largest magnitude."""

MOST_ENTRIES = 256
"""Codes of weights are bytes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Codebook:
    """A float table and the integers that stand for it.

    Attributes:
        format: the integer form.
        reals: the float table, float64, ascending, in code order.
        unit: the real that the integer 1 stands for: ``reals`` is about ``unit * format.values``.
    """

    format: Format
    reals: Reals
    unit: float

    @property
    def deviations(self) -> Reals:
        """What each entry of the integer form is away from its real, in units of the largest magnitude."""
        return _deviations(self.reals, self.format.values, self.unit)

    @property
    def worst(self) -> float:
        """Largest magnitude of ``deviations``."""
        return float(np.abs(self.deviations).max())


def codebook(name: str, reals: npt.ArrayLike, title: str = "", source: str = "") -> Codebook:
    """The integer form of a table of reals: nearest integers, ties to even, largest magnitude 127.

    Args:
        name: of the format.
        reals: 2 to 256 strictly ascending finite numbers.
        title: one line for the card; the error of the integer form is added to it.
        source: paper and section.

    Raises:
        FormatError: entries are too few, too many, not finite, unsorted or equal, or two of them share an integer.
    """
    table = checked_entries(name, reals)
    unit = float(np.abs(table).max()) / LARGEST
    integers = np.rint(table / unit).astype(np.int64)
    if twins := np.flatnonzero(np.diff(integers) == 0).tolist():
        i = twins[0]
        raise FormatError(
            f"entries {table[i]:g} and {table[i + 1]:g} of codebook {name!r} both become the integer {integers[i]}",
            f"entries are distinct multiples of the largest magnitude over {LARGEST}",
            "merge them, or fit a codebook with fewer entries",
        )
    return described(name, table, integers, unit, title, source)


def described(
    name: str, reals: Reals, integers: npt.NDArray[np.int64], unit: float, title: str, source: str
) -> Codebook:
    """The codebook of a float table and its integers, whose title tells the error of the integer form."""
    worst = float(np.abs(_deviations(reals, integers, unit)).max())
    told = f"{title or 'codebook'}; integer form off by at most {worst:.4f} of the largest value"
    format = Format(name=name, table=tuple(integers.tolist()), title=told, source=source)
    return Codebook(format=format, reals=reals, unit=unit)


def _deviations(reals: Reals, integers: npt.NDArray[Any], unit: float) -> Reals:
    return np.asarray((unit * integers - reals) / np.abs(reals).max())


def checked_entries(name: str, reals: npt.ArrayLike) -> Reals:
    """The entries as float64, after a check that they make a codebook.

    Raises:
        FormatError: too few, too many, not finite, unsorted or equal entries.
    """
    table = np.asarray(reals)
    numbers = table.dtype.kind in "fiu" and table.ndim == 1
    if numbers:
        check_count(name, table.size)
    if not numbers or not bool(np.all(np.isfinite(table))):
        raise FormatError(
            f"codebook {name!r} is an array of dtype {table.dtype} and shape {list(table.shape)}, or not finite",
            "a codebook is a list of finite real numbers",
            "pass one number per code",
        )
    table = table.astype(np.float64)
    steps = np.diff(table)
    if not bool(np.all(steps > 0)):
        i = int(np.argmin(steps > 0))
        raise FormatError(
            f"codebook {name!r} has {table[i + 1]:g} behind {table[i]:g}",
            "entries ascend strictly, so that codes order like values",
            "remove duplicates" if steps[i] == 0 else "sort the entries",
        )
    return table


def check_count(name: str, count: int) -> None:
    """Refuse a codebook of fewer or more entries than codes can tell apart.

    Raises:
        FormatError: fewer than 2 or more than 256.
    """
    if not 2 <= count <= MOST_ENTRIES:
        raise FormatError(
            f"codebook {name!r} has {count} entries",
            f"a codebook has 2 to {MOST_ENTRIES} entries",
            "codes of weights are bytes: use at most 256 entries, usually 16",
        )
