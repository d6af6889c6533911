"""Powers of two: products are shifts. ``pow2_e<K>``, ``pow2_e<K>_nozero`` and ``fp130``.

pow2_e<K> is 0 and +-2**0 .. +-2**(K-1), 2K + 1 levels; with ``_nozero`` the 0 is missing, 2K levels. K is the number of
exponents, 2..7: 2**7 is no int8. Reals go to the nearest value, not to the nearest exponent: 1.45 is 1, though its
logarithm is nearer to that of 2.
Source: Miyashita et al., "Convolutional neural networks using logarithmic data representation", 2016, section 3; Zhou
et al., "Incremental network quantization", 2017, section 2.1, for the values with 0.

fp130 is FP1.3.0, a sign and an exponent of 3 bits without mantissa and without 0: +-2**0 .. +-2**7, in the integer form
of ``codebook.py``, where 127 stands for 128 and all other values are exact. Its inventor's training rounds logarithms
down instead, which is ``rounding="log_floor"``. Source: BitNetMCU documentation.
"""

from __future__ import annotations

from subbyte.errors import FormatError
from subbyte.formats.codebook import codebook
from subbyte.formats.family import Family
from subbyte.formats.format import Format

MOST_EXPONENTS = 7
"""Exponents of the largest table whose values fit int8."""


def pow2(exponents: int) -> Format:
    """``pow2_e<exponents>``, with a 0.

    Raises:
        FormatError: exponents is not 2..7.
    """
    return _signed_powers(exponents, (0,), "", "with 0")


def pow2_nozero(exponents: int) -> Format:
    """``pow2_e<exponents>_nozero``.

    Raises:
        FormatError: exponents is not 2..7.
    """
    return _signed_powers(exponents, (), "_nozero", "no zero")


def fp130(number: int = 0) -> Format:
    """FP1.3.0 in integers."""
    del number
    magnitudes = [2.0**e for e in range(8)]
    book = codebook(
        "fp130",
        [*(-m for m in reversed(magnitudes)), *magnitudes],
        title="FP1.3.0: sign and 3-bit exponent, no zero; 127 stands for 128",
        source="BitNetMCU documentation, FP1.3.0",
    )
    return book.format


def _signed_powers(exponents: int, zero: tuple[int, ...], ending: str, words: str) -> Format:
    name = f"pow2_e{exponents}{ending}"
    if not 2 <= exponents <= MOST_EXPONENTS:
        near = f"did you mean pow2_e{2 if exponents < 2 else MOST_EXPONENTS}{ending}?"
        raise FormatError(
            f"format {name!r} is unknown",
            f"pow2_e<K> has K = 2..{MOST_EXPONENTS} exponents: values 1 .. 2**(K-1) fit int8",
            near if exponents != MOST_EXPONENTS + 1 else f"{near} Eight exponents without a zero are fp130",
        )
    powers = [1 << e for e in range(exponents)]
    return Format(
        name=name,
        table=(*(-p for p in reversed(powers)), *zero, *powers),
        title=f"powers of two of {exponents} exponents, both signs, {words}",
        source="Miyashita et al. 2016, section 3; Zhou et al., INQ, 2017, section 2.1",
    )


POW2 = Family(
    pattern=r"pow2_e([0-9]+)",
    spelling=f"pow2_e<K>, K 2..{MOST_EXPONENTS}",
    build=pow2,
    listed=tuple(f"pow2_e{k}" for k in range(2, MOST_EXPONENTS + 1)),
)
POW2_NOZERO = Family(
    pattern=r"pow2_e([0-9]+)_nozero",
    spelling=f"pow2_e<K>_nozero, K 2..{MOST_EXPONENTS}",
    build=pow2_nozero,
    listed=tuple(f"pow2_e{k}_nozero" for k in range(2, MOST_EXPONENTS + 1)),
)
FP130 = Family(pattern="fp130", spelling="fp130", build=fp130, listed=("fp130",))
