"""A number format: a finite set of integer values in code order, from which everything else is derived."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from subbyte.errors import FormatError


@dataclass(frozen=True, kw_only=True)
class Format:
    """Values that a number may take: ``real = scale * (table[code] - zero_point)``.

    Invariants, checked at construction:
        1. ``table`` holds at least 2 and at most 65536 integers.
        2. The integers ascend strictly, so codes order like values.
        3. Every integer fits int16.

    Attributes:
        name: the specification in one word, e.g. ``int4``, ``levels17``.
        table: integer value of each code, in code order; a ``range`` where the values are uniform.
        packing: name of the packing used in files (see ``formats/packing.py``).
        title: one line for the card.
        source: paper and section, or standard.
    """

    name: str
    table: Sequence[int]
    packing: str
    title: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        values = np.asarray(self.table, dtype=np.int64)
        ok = 2 <= values.size <= 65536 and bool(np.all(np.diff(values) > 0))
        if not ok or values[0] < -32768 or values[-1] > 32767:
            raise FormatError(
                f"format {self.name!r} has the table {list(self.table)[:8]}",
                "a table holds 2 to 65536 strictly ascending integers of 16 bits",
                "sort the values and remove duplicates",
            )

    @property
    def levels(self) -> int:
        """Number of values."""
        return len(self.table)

    @property
    def bits(self) -> float:
        """Information per value in bits, ``log2(levels)``."""
        return math.log2(self.levels)

    @cached_property
    def values(self) -> npt.NDArray[np.float64]:
        """The values in code order, float64."""
        return np.asarray(self.table, dtype=np.float64)

    @cached_property
    def integers(self) -> npt.NDArray[np.int32]:
        """The values in code order, int32."""
        return np.asarray(self.table, dtype=np.int32)

    @property
    def lo(self) -> int:
        """Smallest value."""
        return int(self.table[0])

    @property
    def hi(self) -> int:
        """Largest value."""
        return int(self.table[-1])

    @property
    def uniform(self) -> bool:
        """Whether neighbouring values differ by exactly 1, so that ``table[c] = c + lo``."""
        return self.hi - self.lo + 1 == self.levels

    @property
    def symmetric(self) -> bool:
        """Whether for each value its negative is one too."""
        return bool(np.array_equal(self.integers, -self.integers[::-1]))

    @property
    def has_zero(self) -> bool:
        """Whether 0 is a value."""
        return bool(np.any(self.integers == 0))

    @property
    def max_abs(self) -> int:
        """Largest magnitude."""
        return max(abs(self.lo), abs(self.hi))

    @property
    def fits_int8(self) -> bool:
        """Whether every value is an int8, which integer kernels need of weights."""
        return self.lo >= -128 and self.hi <= 127

    # How activations of this format are stored while a network runs (see graph/ir.py).

    @property
    def storage(self) -> Literal["uint8", "int16"]:
        """uint8 (value minus smallest value) where the span allows, else int16 (the value itself)."""
        return "uint8" if self.hi - self.lo <= 255 else "int16"

    @property
    def stored_lo(self) -> int:
        """Smallest stored integer."""
        return 0 if self.storage == "uint8" else self.lo

    @property
    def stored_hi(self) -> int:
        """Largest stored integer."""
        return self.hi - self.lo if self.storage == "uint8" else self.hi
