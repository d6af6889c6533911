"""Codebooks: tables of any reals in their integer form, of largest magnitude 127 or more, with the error that it costs.

Kernels multiply integers, so a float table such as NF4's becomes the nearest integers of ``127 / max|value|`` times
it. The factor goes into the scale; what is lost is at most half a step of 127 for each entry, and is reported. Many
entries of uneven spacing want more: with ``largest=32767`` the integers have 16 bits, and weights of that format run on
the kernels of wide numbers instead of those of bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from subbyte.arithmetic.bounds import MOST_WEIGHT
from subbyte.errors import FormatError
from subbyte.formats.format import Format

Reals = npt.NDArray[np.float64]

LARGEST = 127
"""Magnitude of the integer that stands for the entry of largest magnitude, unless another is given."""

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


def codebook(name: str, reals: npt.ArrayLike, title: str = "", source: str = "", largest: int = LARGEST) -> Codebook:
    """The integer form of a table of reals: nearest integers, ties to even.

    Args:
        name: of the format.
        reals: 2 to 256 strictly ascending finite numbers.
        title: one line for the card; the error of the integer form is added to it.
        source: paper and section.
        largest: magnitude of the integers: 127 fits the fast kernels, 32767 loses 258 times less.

    Raises:
        FormatError: entries are too few, too many, not finite, unsorted or equal, or two of them share an integer;
            ``largest`` is no integer of at most 24 bits.
    """
    check_largest(name, largest)
    table = checked_entries(name, reals)
    unit = float(np.abs(table).max()) / largest
    integers = np.rint(table / unit).astype(np.int64)
    if twins := np.flatnonzero(np.diff(integers) == 0).tolist():
        i = twins[0]
        raise FormatError(
            f"entries {table[i]:g} and {table[i + 1]:g} of codebook {name!r} both become the integer {integers[i]}",
            f"entries are distinct multiples of the largest magnitude over {largest}",
            "merge them, fit a codebook with fewer entries, or give a larger magnitude (largest=32767)",
        )
    return described(name, table, integers, unit, title, source)


def described(
    name: str, reals: Reals, integers: npt.NDArray[np.int64], unit: float, title: str, source: str
) -> Codebook:
    """The codebook of a float table and its integers, whose title tells the error of the integer form."""
    worst = float(np.abs(_deviations(reals, integers, unit)).max())
    shown = f"{worst:.4f}" if worst == 0 or worst >= 5e-5 else f"{worst:.1e}"
    told = f"{title or 'codebook'}; integer form off by at most {shown} of the largest value"
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


def check_largest(name: str, largest: int, count: int = 2) -> None:
    """Refuse a magnitude that weights cannot have, or that has no room for ``count`` entries.

    Raises:
        FormatError: not an integer of 1 to 2**24 - 1, or too small.
    """
    if type(largest) is not int or not (count - 2) / 2 <= largest <= MOST_WEIGHT or largest < 1:
        raise FormatError(
            f"codebook {name!r} is to have integers of magnitude {largest!r}",
            f"integers of weights lie within +-{MOST_WEIGHT}, and {count} entries are distinct",
            "use 127 for the fast kernels, or 32767",
        )


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
