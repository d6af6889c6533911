"""Two's-complement and unsigned integers: ``int1`` .. ``int8``, ``int16``, ``uint1`` .. ``uint8``.

int<b> is -2**(b-1) .. 2**(b-1) - 1, uint<b> is 0 .. 2**b - 1. int16 is for outputs and sums, not for weights.
"""

from __future__ import annotations

from subbyte.errors import FormatError
from subbyte.formats.family import Family
from subbyte.formats.format import Format

_SOURCE = "two's complement; Jacob et al. 2017, section 2.1"


def signed(bits: int) -> Format:
    """``int<bits>``.

    Raises:
        FormatError: bits is neither 1..8 nor 16.
    """
    _check(bits, (*range(1, 9), 16), "int")
    half = 1 << (bits - 1)
    return Format(
        name=f"int{bits}",
        table=range(-half, half),
        packing=f"bits{bits}",
        title=f"two's-complement integers of {bits} bits",
        source=_SOURCE,
    )


def unsigned(bits: int) -> Format:
    """``uint<bits>``.

    Raises:
        FormatError: bits is not 1..8.
    """
    _check(bits, tuple(range(1, 9)), "uint")
    return Format(
        name=f"uint{bits}",
        table=range(1 << bits),
        packing=f"bits{bits}",
        title=f"unsigned integers of {bits} bits",
        source="Jacob et al. 2017, section 2.1",
    )


def _check(bits: int, legal: tuple[int, ...], prefix: str) -> None:
    if bits not in legal:
        nearest = sorted(legal, key=lambda b: abs(b - bits))[:2]
        raise FormatError(
            f"format '{prefix}{bits}' is unknown",
            f"{prefix}<bits> has {legal[0]}..8 bits" + (" or 16" if 16 in legal else ""),
            f"did you mean {' or '.join(f'{prefix}{b}' for b in sorted(nearest))}?",
        )


SIGNED = Family(
    pattern=r"int([0-9]+)",
    spelling="int<bits>, bits 1..8 or 16",
    build=signed,
    listed=tuple(f"int{b}" for b in (*range(1, 9), 16)),
)
UNSIGNED = Family(
    pattern=r"uint([0-9]+)",
    spelling="uint<bits>, bits 1..8",
    build=unsigned,
    listed=tuple(f"uint{b}" for b in range(1, 9)),
)
