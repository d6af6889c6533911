"""Additive powers of two ``apot3`` .. ``apot6``: sums of a few powers, so products are a few shifts and additions.

apot<b> has a sign and b - 1 bits of magnitude. The magnitude is a sum of terms of 2 bits, each 0 or one of three powers
of two; no power belongs to two terms, so all sums differ. With n terms, term i has 2**-i, 2**-(i+n) and 2**-(i+2n); an
odd bit is a term of one power, 2**-2n, behind which the last powers of the others move by one place. The values are
integers in units of the smallest power; seven bits would need 448 of them on each side, which is no int8.

Source: Li, Dong and Wang, "Additive powers-of-two quantization", ICLR 2020, section 2.2; the odd bit as in the authors'
published code.
"""

from __future__ import annotations

import itertools

from subbyte.errors import FormatError
from subbyte.formats.family import Family
from subbyte.formats.format import Format

BITS = range(3, 7)


def terms(bits: int) -> tuple[tuple[int, ...], ...]:
    """The powers of each term, as integers, largest first: of ``bits`` bits of magnitude, 2 or more."""
    count, odd = divmod(bits, 2)
    places = [[i, i + count, i + 2 * count + odd] for i in range(count)] + [[2 * count]] * odd
    last = max(place for term in places for place in term)
    return tuple(tuple(1 << (last - place) for place in term) for term in places)


def apot(bits: int) -> Format:
    """``apot<bits>``.

    Raises:
        FormatError: bits is not 3..6.
    """
    if bits not in BITS:
        raise FormatError(
            f"format 'apot{bits}' is unknown",
            f"apot<bits> has {BITS[0]}..{BITS[-1]} bits: a sign and sums of powers of two that fit int8",
            f"did you mean apot{BITS[0] if bits < BITS[0] else BITS[-1]}?",
        )
    magnitudes = sorted(sum(chosen) for chosen in itertools.product(*((0, *term) for term in terms(bits - 1))))
    words = " + ".join("{" + ", ".join(map(str, (0, *term))) + "}" for term in terms(bits - 1))
    return Format(
        name=f"apot{bits}",
        table=(*(-m for m in reversed(magnitudes[1:])), *magnitudes),
        title=f"additive powers of two: sign and {words}",
        source="Li et al., Additive powers-of-two quantization, 2020, section 2.2",
    )


APOT = Family(
    pattern=r"apot([0-9]+)",
    spelling=f"apot<bits>, bits {BITS[0]}..{BITS[-1]}",
    build=apot,
    listed=tuple(f"apot{b}" for b in BITS),
)
