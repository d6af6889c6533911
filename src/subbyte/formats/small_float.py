"""Small floats: sign, a few exponent bits, a few mantissa bits. Codec of their bit patterns, and their integer formats.

Finite values are integers in units of the smallest one, ``2**(1 - bias - mantissa_bits)``, so each of them is a
``Format`` too: fp4_e2m1 and fp6_e2m3 fit int8, fp6_e3m2 reaches 448, fp8_e4m3fn 229376, and all four run as weights
and activations; fp8_e5m2 reaches 3758096384 and is a format to store in. A Format's codes count its values from the
lowest, 0 once; bit patterns, with -0, NaN and infinity, are what ``SmallFloat`` writes and reads.

Sources: OCP 8-bit Floating Point Specification (OFP8) 1.0, 2023, and Micikevicius et al., "FP8 formats for deep
learning", 2022, table 1, for 8 bits; OCP Microscaling Formats (MX) Specification 1.0, 2023, section 5.3, for 6 and 4.

Libraries differ where a number is too large: ml_dtypes makes NaN (e4m3fn) or infinity (e5m2) of it, which is
``overflow="nonfinite"``, and saturates in 6 and 4 bits; torch saturates e4m3fn, infinity too, and not e5m2. A NaN is
0x7F in e4m3fn and 0x7E in e5m2, with the sign of what it was made of, as in ml_dtypes; torch has 0x7F in both. A NaN
has no pattern in 6 and 4 bits and is refused, where ml_dtypes writes a zero of the other sign. ml_dtypes 0.6.0
and torch 2.13 take float64 by way of float32 and round twice: of the number next above half the smallest value they
make 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from subbyte.errors import DataError, FormatError, unknown_name
from subbyte.formats.family import Family
from subbyte.formats.format import Format

Patterns = npt.NDArray[np.uint8]
Specials = Literal["none", "nan", "ieee"]
Overflow = Literal["saturate", "nonfinite"]

_OFP8 = "OCP 8-bit Floating Point Specification 1.0, 2023; Micikevicius et al. 2022, table 1"
_MX = "OCP Microscaling Formats Specification 1.0, 2023, section 5.3"


@dataclass(frozen=True, kw_only=True)
class SmallFloat:
    """A binary floating-point format of at most 8 bits: sign, exponent, mantissa, highest bit first.

    Attributes:
        name: ``fp<bits>_e<exponent bits>m<mantissa bits>``, with ``fn`` where it is finite but for NaN.
        exponent_bits: width of the exponent.
        mantissa_bits: width of the mantissa.
        bias: of the exponent.
        specials: ``none``: every pattern is finite; ``nan``: the highest magnitude is NaN and there is no infinity;
            ``ieee``: the highest exponent is infinity and NaN.
        source: standard.
    """

    name: str
    exponent_bits: int
    mantissa_bits: int
    bias: int
    specials: Specials
    source: str

    @property
    def bits(self) -> int:
        """Width of a pattern."""
        return 1 + self.exponent_bits + self.mantissa_bits

    @property
    def unit_exponent(self) -> int:
        """Exponent of ``unit``."""
        return 1 - self.bias - self.mantissa_bits

    @property
    def unit(self) -> float:
        """The smallest positive value, of which all finite values are multiples."""
        return 2.0**self.unit_exponent

    @property
    def top(self) -> int:
        """The pattern of the largest finite value; patterns of positive values order like them."""
        last = (1 << (self.bits - 1)) - 1
        return last - {"none": 0, "nan": 1, "ieee": 1 << self.mantissa_bits}[self.specials]

    @cached_property
    def integers(self) -> tuple[int, ...]:
        """Finite magnitudes in units of ``unit``, in pattern order from 0."""
        m = self.mantissa_bits
        hidden, fraction = 1 << m, (1 << m) - 1
        normal = ((hidden + (k & fraction)) << ((k >> m) - 1) for k in range(hidden, self.top + 1))
        return (*range(hidden), *normal)

    @property
    def largest(self) -> float:
        """The largest finite value."""
        return self.integers[-1] * self.unit

    @cached_property
    def values(self) -> npt.NDArray[np.float64]:
        """The value of every pattern, float64, read-only; NaN and infinities among them."""
        half = np.full(1 << (self.bits - 1), np.nan)
        half[: self.top + 1] = np.array(self.integers, dtype=np.float64) * self.unit
        if self.specials == "ieee":
            half[self.top + 1] = np.inf
        both = np.concatenate([half, -half])
        both.setflags(write=False)
        return both

    def encode(self, x: npt.ArrayLike, overflow: Overflow = "saturate") -> Patterns:
        """Bit patterns of the nearest values, ties to the even mantissa, in one rounding.

        Args:
            x: float16, float32, float64 or integers, any shape.
            overflow: what becomes of infinities and of numbers that round beyond the largest value: ``saturate``: the
                largest value; ``nonfinite``: infinity, or NaN where there is none.

        Returns:
            uint8 of x's shape. -0.0 keeps its sign.

        Raises:
            DataError: x is of another type, or holds a NaN that the format has no pattern for.
            FormatError: unknown overflow, or ``nonfinite`` where every pattern is finite.
        """
        self._check_overflow(overflow)
        reals = self._checked(x)
        magnitude = np.abs(np.where(np.isfinite(reals), reals, 0.0))
        # Position of the quantum: that of the number's own binade, or of the subnormal one. Scaling is exact.
        lowest = 1 - self.bias
        exponent = np.where(magnitude > 0, np.maximum(np.frexp(magnitude)[1] - 1, lowest), lowest)
        steps = np.rint(np.ldexp(magnitude, self.mantissa_bits - exponent)).astype(np.int64)
        # The hidden bit of a normal number, or a carry out of the mantissa, adds one to the exponent field.
        pattern = ((exponent.astype(np.int64) + self.bias - 1) << self.mantissa_bits) + steps
        beyond = self.top if overflow == "saturate" else self.top + 1
        pattern = np.where((pattern > self.top) | np.isinf(reals), beyond, pattern)
        pattern = np.where(np.isnan(reals), self._nan, pattern)
        return np.asarray(pattern + (np.signbit(reals).astype(np.int64) << (self.bits - 1)), dtype=np.uint8)

    def decode(self, patterns: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """The values of bit patterns, float64 (float32 and, but for the largest exponents, float16 hold them too).

        Raises:
            FormatError: a pattern is no integer in 0 .. 2**bits - 1.
        """
        array = np.asarray(patterns)
        if array.dtype.kind not in "ui" or (array.size and not 0 <= int(array.min()) <= int(array.max()) < len(self)):
            raise FormatError(
                f"patterns of dtype {array.dtype} hold one that is not of {self.name}",
                f"patterns of {self.name} are integers in 0..{len(self) - 1}",
                "decode with the format that encoded; codes of a Format are decoded by the Format",
            )
        return np.asarray(self.values[array])

    def __len__(self) -> int:
        return 1 << self.bits

    def format(self) -> Format:
        """Its finite values as a Format: integers in units of ``unit``."""
        return Format(
            name=self.name,
            table=(*(-k for k in reversed(self.integers[1:])), *self.integers),
            title=f"float of {self.exponent_bits} exponent and {self.mantissa_bits} mantissa bits, bias {self.bias}, "
            f"in units of 2**{self.unit_exponent}: largest {self.largest:g}",
            source=self.source,
        )

    @property
    def _nan(self) -> int:
        """The pattern of a positive NaN, quiet where there is a choice."""
        return self.top + (1 if self.specials == "nan" else 1 + (1 << (self.mantissa_bits - 1)))

    def _check_overflow(self, overflow: str) -> None:
        if overflow not in get_args(Overflow):
            raise FormatError(*unknown_name("overflow", overflow, get_args(Overflow)))
        if overflow == "nonfinite" and self.specials == "none":
            raise FormatError(
                f"{self.name} is to be encoded with overflow='nonfinite'",
                f"every pattern of {self.name} is a finite number",
                "use overflow='saturate', or fp8_e4m3fn or fp8_e5m2",
            )

    def _checked(self, x: npt.ArrayLike) -> npt.NDArray[np.float64]:
        reals = np.asarray(x)
        if reals.dtype.kind not in "fiub" or reals.dtype.itemsize > 8:
            raise DataError(
                f"an array of dtype {reals.dtype} is to be encoded in {self.name}",
                "numbers are float16, float32, float64 or integers, which are rounded once",
                "convert to float32 or float64 first, if that is exact",
            )
        if self.specials == "none" and bool(np.any(np.isnan(reals))):
            raise DataError(
                f"a NaN is to be encoded in {self.name}",
                f"every pattern of {self.name} is a finite number",
                "look for the first layer or sample that holds it, or use fp8_e4m3fn or fp8_e5m2",
            )
        return reals.astype(np.float64)


SMALL_FLOATS: tuple[SmallFloat, ...] = (
    SmallFloat(name="fp4_e2m1", exponent_bits=2, mantissa_bits=1, bias=1, specials="none", source=_MX),
    SmallFloat(name="fp6_e2m3", exponent_bits=2, mantissa_bits=3, bias=1, specials="none", source=_MX),
    SmallFloat(name="fp6_e3m2", exponent_bits=3, mantissa_bits=2, bias=3, specials="none", source=_MX),
    SmallFloat(name="fp8_e4m3fn", exponent_bits=4, mantissa_bits=3, bias=7, specials="nan", source=_OFP8),
    SmallFloat(name="fp8_e5m2", exponent_bits=5, mantissa_bits=2, bias=15, specials="ieee", source=_OFP8),
)


def small_float(name: str) -> SmallFloat:
    """The codec of a name.

    Raises:
        FormatError: unknown, with near misses.
    """
    known = {f.name: f for f in SMALL_FLOATS}
    if name not in known:
        raise FormatError(*unknown_name("small float", name, known))
    return known[name]


def _family(codec: SmallFloat) -> Family:
    return Family(pattern=codec.name, spelling=codec.name, build=lambda number: codec.format(), listed=(codec.name,))


SMALL_FLOAT_FAMILIES: tuple[Family, ...] = tuple(_family(f) for f in SMALL_FLOATS)
