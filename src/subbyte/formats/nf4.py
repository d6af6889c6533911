"""NormalFloat ``nf4``: 16 values between which a normal distribution is spread evenly, in their integer form.

Source: Dettmers et al., "QLoRA", 2023, section 3 and appendix E (the table as printed there). Seven quantiles below 0,
eight above it and 0 itself, of largest magnitude 1. The integer form is ``rint(127 * value)``; it is off by at most
0.0037 of the largest value, where neighbours are at least 0.08 apart, and the paper's scale per block of 64 becomes the
scale per channel or tensor that all formats have here.

BitNetMCU prints the same table rounded to four digits; its integer form is this one.
"""

from __future__ import annotations

from subbyte.formats.codebook import Codebook, codebook
from subbyte.formats.family import Family
from subbyte.formats.format import Format

REALS = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)
"""The float table of appendix E."""


def nf4_codebook() -> Codebook:
    """The float table with its integer form."""
    return codebook(
        "nf4",
        REALS,
        title="NormalFloat, quantiles of the normal distribution",
        source="Dettmers et al., QLoRA, 2023, appendix E",
    )


def nf4(number: int = 0) -> Format:
    """The one NormalFloat of 4 bits."""
    del number
    return nf4_codebook().format


NF4 = Family(pattern="nf4", spelling="nf4", build=nf4, listed=("nf4",))
