"""A number format: a finite set of integer values in code order, from which everything else is derived."""

from __future__ import annotations

import itertools
import math
import operator
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from subbyte.arithmetic.rounding import Seed
from subbyte.errors import FormatError
from subbyte.formats import encode as encoding
from subbyte.formats.packing import MAX_LEVELS, Codes, default_packing, get_packing

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")

_EXACT = 2**53
"""float64 holds every integer up to here."""


@dataclass(frozen=True, kw_only=True)
class Format:
    """Values that a number may take: ``real = scale * (table[code] - zero_point)``.

    Invariants, checked at construction:
        1. ``table`` holds at least 2 and at most 65536 integers.
        2. The integers ascend strictly, so codes order like values.
        3. Every integer is within +-2**53, so that float64 holds it. Beyond 16 bits a format is for storing alone.
        4. ``name`` is a letter, then at most 39 letters, digits and underscores.
        5. ``packing`` holds as many levels as the table has.

    Two formats are equal when name, table and packing are; title and source are words.

    Attributes:
        name: the specification in one word, e.g. ``int4``, ``levels17``.
        table: integer value of each code, in code order; kept as a ``range`` where the values are consecutive, else as
            a tuple.
        packing: name of the packing used in files (see ``formats/packing.py``); left out: the smallest one.
        title: one line for the card.
        source: paper and section, or standard.
        storing_alone: refused in every role of a network, whatever the table would allow.
    """

    name: str
    table: Sequence[int]
    packing: str = ""
    title: str = field(default="", compare=False)
    source: str = field(default="", compare=False)
    storing_alone: bool = field(default=False, compare=False)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise FormatError(
                f"a format is to be named {self.name!r}",
                "a name is a letter, then at most 39 letters, digits and underscores",
                "rename the format",
            )
        object.__setattr__(self, "table", _checked_table(self.name, self.table))
        if not self.packing:
            object.__setattr__(self, "packing", default_packing(self.levels))
        if get_packing(self.packing).capacity < self.levels:
            raise FormatError(
                f"format {self.name!r} has {self.levels} levels and the packing {self.packing}",
                "a packing holds every code of its format",
                f"use {default_packing(self.levels)}, or leave the packing out",
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
        """The values in code order, float64, read-only."""
        return _frozen(self.integers.astype(np.float64))

    @cached_property
    def integers(self) -> npt.NDArray[np.int32]:
        """The values in code order, int32 (int64 where they do not fit), read-only."""
        dtype = np.int32 if self.max_abs < 2**31 else np.int64
        if self.uniform:
            return _frozen(np.arange(self.lo, self.hi + 1, dtype=dtype))
        return _frozen(np.asarray(self.table, dtype=dtype))

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

    @cached_property
    def step(self) -> int | None:
        """The difference of all neighbouring values, None where they differ (1: uniform, 2: binary, mid-rise)."""
        steps = np.diff(self.integers)
        return int(steps[0]) if bool(np.all(steps == steps[0])) else None

    @cached_property
    def symmetric(self) -> bool:
        """Whether for each value its negative is one too."""
        return bool(np.array_equal(self.integers, -self.integers[::-1]))

    @property
    def has_zero(self) -> bool:
        """Whether 0 is a value."""
        return bool(self.integers[self.zero_code] == 0)

    @cached_property
    def zero_code(self) -> int:
        """Code of 0, or of the value nearest to it; the even code on ties, as ``encode`` has it."""
        return encoding.nearest_to_zero(self.integers)

    @property
    def max_abs(self) -> int:
        """Largest magnitude."""
        return max(abs(self.lo), abs(self.hi))

    @property
    def fits_int8(self) -> bool:
        """Whether every value is an int8, which integer kernels need of weights."""
        return self.lo >= -128 and self.hi <= 127

    @property
    def fits_int16(self) -> bool:
        """Whether every value is an int16, as in tables of kernels and files."""
        return self.lo >= -(2**15) and self.hi < 2**15

    # How activations of this format are stored while a network runs (see graph/ir.py).

    @cached_property
    def coded(self) -> bool:
        """Whether activations are stored as codes: at most 256 values, among them 0, too far apart for bytes."""
        return self.hi - self.lo > 255 and self.levels <= 256 and self.has_zero

    @property
    def storage(self) -> Literal["uint8", "int16"]:
        """uint8 (value minus smallest value) where the span allows, or the code; else int16 (the value, if it fits)."""
        return "uint8" if self.hi - self.lo <= 255 or self.coded else "int16"

    @property
    def stored_lo(self) -> int:
        """Smallest stored integer."""
        return 0 if self.storage == "uint8" else self.lo

    @property
    def stored_hi(self) -> int:
        """Largest stored integer."""
        if self.coded:
            return self.levels - 1
        return self.hi - self.lo if self.storage == "uint8" else self.hi

    def centred(self, zero_point: int) -> npt.NDArray[np.int64]:
        """What the legal stored integers, ascending, stand for in units of the scale, int64.

        Args:
            zero_point: of the stored integers, one of them where they are codes.
        """
        wide = self.integers.astype(np.int64)
        if self.coded:
            return np.asarray(wide - wide[zero_point])
        return np.asarray(wide - (self.lo - self.stored_lo) - zero_point)

    # Reals to codes, codes to reals, codes to bytes.

    def encode(
        self,
        x: npt.ArrayLike,
        scale: npt.ArrayLike = 1.0,
        zero_point: npt.ArrayLike = 0,
        rounding: str = "half_even",
        seed: Seed = None,
    ) -> Codes:
        """Nearest codes of reals; see ``formats/encode.py``."""
        return encoding.encode(self, x, scale, zero_point, rounding, seed)

    def decode(
        self, codes: npt.ArrayLike, scale: npt.ArrayLike = 1.0, zero_point: npt.ArrayLike = 0
    ) -> npt.NDArray[np.float64]:
        """Reals of codes, ``scale * (table[code] - zero_point)`` in float64; see ``formats/encode.py``."""
        return encoding.decode(self, codes, scale, zero_point)

    def pack(self, codes: Codes) -> bytes:
        """Codes (any shape, C order) to the bytes stored in files; FormatError where a code is not below levels."""
        return get_packing(self.packing).pack(codes, self.levels)

    def unpack(self, data: bytes, count: int) -> Codes:
        """Bytes to a flat array of codes; FormatError unless they are exactly what ``pack`` writes."""
        return get_packing(self.packing).unpack(data, count, self.levels)

    def packed_size(self, count: int) -> int:
        """Bytes of ``count`` packed codes."""
        return get_packing(self.packing).size(count)


def _checked_table(name: str, table: Sequence[int]) -> Sequence[int]:
    """The table as a range where its values are consecutive, else as a tuple of Python integers."""
    whole = isinstance(table, range) and table.step == 1 and 2 <= len(table) <= MAX_LEVELS
    if whole and table[0] >= -_EXACT and table[-1] <= _EXACT:
        return table
    try:
        values = [operator.index(v) for v in table] if 2 <= len(table) <= MAX_LEVELS else []
    except TypeError:
        values = []
    ascending = all(a < b for a, b in itertools.pairwise(values))
    if not values or not ascending or values[0] < -_EXACT or values[-1] > _EXACT:
        raise FormatError(
            f"format {name!r} has the table {list(table)[:8]}",
            "a table holds 2 to 65536 strictly ascending integers within +-2**53",
            "sort the values and remove duplicates",
        )
    consecutive = values[-1] - values[0] + 1 == len(values)
    return range(values[0], values[-1] + 1) if consecutive else tuple(values)


def _frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    array.setflags(write=False)
    return array
