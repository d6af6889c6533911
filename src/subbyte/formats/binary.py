"""Binary: {-1, +1}, eight to a byte; there is no zero.

Source: Rastegari et al., "XNOR-Net", 2016, section 3.1: the best scale of sign(w) is the mean of |w|.
"""

from __future__ import annotations

from subbyte.formats.family import Family
from subbyte.formats.format import Format


def binary(number: int = 0) -> Format:
    """The one binary format."""
    del number
    return Format(
        name="binary",
        table=(-1, 1),
        packing="bits1",
        title="-1, +1; no zero",
        source="Rastegari et al., XNOR-Net, 2016, section 3.1",
    )


BINARY = Family(pattern="binary", spelling="binary", build=binary, listed=("binary",))
