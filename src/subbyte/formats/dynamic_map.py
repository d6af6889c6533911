"""Dynamic maps ``dynamic<bits>`` and ``udynamic<bits>``: as precise near 0 as near 1, for the state of optimizers.

Of n = bits - 1 bits behind the sign, the leading zeros are a decimal exponent and what follows them a fraction: the
decade 10**(i - n) .. 10**(i - n + 1), i = 0 .. n - 1, is cut into 2**i equal cells (2**(i + 1) without a sign), whose
middles are the values; 0 and 1 are added. Seven decades at 8 bits, the values of the last one 0.014 apart. 1.0 has no
negative: -1 is written as -0.99297.

The values are decimals, so they are integers in a small enough unit, and a ``Format``; they span too far for products
in 32 bits, so that format is for storing alone. ``dynamic_map`` is the table in float32, as ``blocks.py`` uses it: each
value rounded once.

Sources: Dettmers, "8-bit approximations for parallelism in deep learning", 2016, section 2; Dettmers et al., "8-bit
optimizers via block-wise quantization", 2022, section 2.2 and appendix F. bitsandbytes 0.50.2 builds the same tables in
float32 step by step, with a ``linspace`` whose last bits depend on the processor (fused multiply-add or not): its
entries lie up to 2 units in the last place beside these (of 8 bits: 0.7117188 for 0.71171874, and 71 more; without a
sign 100), and below 8 bits it fills the table with zeros up to 256 entries.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import numpy.typing as npt

from subbyte.errors import FormatError
from subbyte.formats.family import Family
from subbyte.formats.format import Format

BITS = range(4, 9)

_SOURCE = "Dettmers et al., 8-bit optimizers via block-wise quantization, 2022, section 2.2"


def dynamic(bits: int) -> Format:
    """``dynamic<bits>``, both signs: integers in units of the largest value's reciprocal.

    Raises:
        FormatError: bits is not 4..8.
    """
    magnitudes = _magnitudes(bits, signed=True)
    table = (*(-m for m in reversed(magnitudes[:-1])), 0, *magnitudes)
    return _format(f"dynamic{bits}", table, "both signs")


def unsigned_dynamic(bits: int) -> Format:
    """``udynamic<bits>``, 0 and above.

    Raises:
        FormatError: bits is not 4..8.
    """
    return _format(f"udynamic{bits}", (0, *_magnitudes(bits, signed=False)), "0 and above")


@cache
def dynamic_map(bits: int = 8, signed: bool = True) -> npt.NDArray[np.float32]:
    """The 2**bits values of a map in code order, float32, read-only; the largest is 1.

    Raises:
        FormatError: bits is not 4..8.
    """
    format = dynamic(bits) if signed else unsigned_dynamic(bits)
    table = (format.values / format.hi).astype(np.float32)
    table.setflags(write=False)
    return table


def _magnitudes(bits: int, *, signed: bool) -> tuple[int, ...]:
    """Positive values, ascending, in the largest unit of which all are multiples; the last one stands for 1."""
    name = f"dynamic{bits}" if signed else f"udynamic{bits}"
    if bits not in BITS:
        raise FormatError(
            f"format {name!r} is unknown",
            f"dynamic<bits> and udynamic<bits> have {BITS[0]}..{BITS[-1]} bits",
            f"did you mean {name.rstrip('0123456789')}{BITS[0] if bits < BITS[0] else BITS[-1]}?",
        )
    decades = bits - 1
    most = 1 << (decades - 1 if signed else decades)
    values = []
    for i in range(decades):
        cells = 1 << (i if signed else i + 1)
        # The middle of cell j is 0.1 + 0.9 (2j + 1) / (2 cells) = (2 cells + 9 (2j + 1)) / (20 cells).
        values += [(2 * cells + 9 * (2 * j + 1)) * (most // cells) * 10**i for j in range(cells)]
    values.append(20 * most * 10 ** (decades - 1))
    unit = math.gcd(*values)
    return tuple(v // unit for v in values)


def _format(name: str, table: tuple[int, ...], words: str) -> Format:
    return Format(
        name=name,
        table=table,
        title=f"dynamic map, {words}: decades with 1, 2, 4, ... values each; {table[-1]} stands for 1",
        source=_SOURCE,
        storing_alone=True,
    )


DYNAMIC = Family(
    pattern=r"dynamic([0-9]+)",
    spelling=f"dynamic<bits>, bits {BITS[0]}..{BITS[-1]}",
    build=dynamic,
    listed=tuple(f"dynamic{b}" for b in BITS),
)
UNSIGNED_DYNAMIC = Family(
    pattern=r"udynamic([0-9]+)",
    spelling=f"udynamic<bits>, bits {BITS[0]}..{BITS[-1]}",
    build=unsigned_dynamic,
    listed=tuple(f"udynamic{b}" for b in BITS),
)
