"""One scale per row, found while the network runs, in integers: how a row of numbers becomes codes of few bits.

A row is what a linear layer multiplies at once: a sample, or a token of one. Its smallest number gets the code 0, its
largest one the largest code, so that outliers of one row cost the others nothing, as a range for all rows would:

    q = floor((2 * (x - low) * largest + spread) / (2 * spread)),    spread = high - low, all 0 where that is 0

which is ``(x - low) * largest / spread`` rounded half up, as everything here is. What such a row stands for is
``low + q * spread / largest``, and times ``largest`` that is an integer:

    largest * x  ~  q * spread + largest * low

A division by the spread is the only one; kernels do it by a reciprocal that is proved to give the same codes.

Source: scales per token, in floats: Yao et al. 2022, "ZeroQuant" (arXiv 2206.01861), section 4.1. The integer rule is
our own.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from subbyte.errors import LoweringError

MOST_CODE = 255
"""Codes of rows are bytes."""

Integers = npt.NDArray[np.int64]


def row_codes(x: Integers, largest: int) -> tuple[Integers, Integers, Integers]:
    """Codes of rows and what they stand for.

    Args:
        x: centred integers [..., K], |x| < 2**17, no further than 65535 apart in a row.
        largest: code of a row's largest number, 1..MOST_CODE.

    Returns:
        (q int64 [..., K] in 0..largest, low int64 [..., 1], spread int64 [..., 1]).

    Raises:
        LoweringError: the largest code is none.
    """
    if not 1 <= largest <= MOST_CODE:
        raise LoweringError(
            f"{largest} as the largest code of a row", f"it lies in 1..{MOST_CODE}", "use an operand of 1 to 8 bits"
        )
    low = x.min(axis=-1, keepdims=True)
    spread = x.max(axis=-1, keepdims=True) - low
    return (2 * (x - low) * largest + spread) // np.maximum(2 * spread, 1), low, spread


def coded_rows(x: Integers, largest: int) -> Integers:
    """``largest`` times what the codes of rows stand for, int64 [..., K]; magnitudes stay within ``largest * max|x|``.

    Args:
        x: as for ``row_codes``.
        largest: as there.

    Raises:
        LoweringError: as there.
    """
    q, low, spread = row_codes(x, largest)
    return q * spread + largest * low
