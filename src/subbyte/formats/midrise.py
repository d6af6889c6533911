"""Mid-rise: the odd integers ``midrise1`` .. ``midrise5``; symmetric with every code used, but without a zero.

midrise<b> is the 2**b odd integers -(2**b - 1) .. 2**b - 1: the levels +-0.5, +-1.5, ... of a mid-rise quantizer,
doubled so that they are integers. midrise1 has the values of binary.
Source: the 2-, 4- and 5-bit "sym" types of BitNetMCU's documentation; Jayant and Noll, Digital Coding of Waveforms,
1984, section 4.2, for the name.
"""

from __future__ import annotations

from subbyte.errors import FormatError
from subbyte.formats.family import Family
from subbyte.formats.format import Format

MAX_BITS = 5


def midrise(bits: int) -> Format:
    """``midrise<bits>``.

    Raises:
        FormatError: bits is not 1..5.
    """
    if not 1 <= bits <= MAX_BITS:
        raise FormatError(
            f"format 'midrise{bits}' is unknown",
            f"midrise<bits> has 1..{MAX_BITS} bits",
            f"did you mean midrise{MAX_BITS}?" if bits else "did you mean midrise1?",
        )
    top = (1 << bits) - 1
    return Format(
        name=f"midrise{bits}",
        table=tuple(range(-top, top + 1, 2)),
        packing=f"bits{bits}",
        title=f"odd integers -{top} .. {top}, no zero",
        source="BitNetMCU documentation, 2-, 4- and 5-bit symmetric types",
    )


MIDRISE = Family(
    pattern=r"midrise([0-9]+)",
    spelling=f"midrise<bits>, bits 1..{MAX_BITS}",
    build=midrise,
    listed=tuple(f"midrise{b}" for b in range(1, MAX_BITS + 1)),
)
