"""Ternary: {-1, 0, +1}, five to a byte.

Source: Li, Zhang, Liu, "Ternary Weight Networks", 2016; the packing is five base-3 digits in a byte (3**5 = 243).
"""

from __future__ import annotations

from subbyte.formats.family import Family
from subbyte.formats.format import Format


def ternary(number: int = 0) -> Format:
    """The one ternary format."""
    del number
    return Format(
        name="ternary",
        table=range(-1, 2),
        packing="radix3",
        title="-1, 0, +1; five to a byte",
        source="Li, Zhang, Liu, Ternary Weight Networks, 2016",
    )


TERNARY = Family(pattern="ternary", spelling="ternary", build=ternary, listed=("ternary",))
