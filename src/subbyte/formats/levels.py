"""Symmetric odd level counts and the 4.6-bit pair rule.

``levels<N>``, N odd, is the integers -h .. h with h = (N - 1) / 2. A layer whose activations have half-width h_x and
whose weights have h_w may multiply in signed bytes where ``h_x * h_w <= 127``. Keeping only pairs in which neither
count can grow leaves 21; the mean of their (log2 N_x + log2 N_w) / 2 is 4.587 bits, hence "4.6-bit".
Source: Trusov, Limonova, Nikolaev, Arlazarov, "4.6-Bit Quantization for Fast and Accurate Neural Network Inference on
CPUs", Mathematics 12(5):651, 2024.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

from subbyte.errors import FormatError
from subbyte.formats.family import Family
from subbyte.formats.format import Format

MAX_PRODUCT = 127
"""Largest product of two centred integers of a legal pair: a signed byte."""

MAX_COUNT = 255


class Pair(NamedTuple):
    """Level counts of a layer's two operands.

    Attributes:
        activations: N_x.
        weights: N_w.
    """

    activations: int
    weights: int

    @property
    def product(self) -> int:
        """Largest magnitude of a single product, h_x * h_w."""
        return (self.activations // 2) * (self.weights // 2)

    @property
    def mean_bits(self) -> float:
        """(log2 N_x + log2 N_w) / 2."""
        return (math.log2(self.activations) + math.log2(self.weights)) / 2

    @property
    def recipe(self) -> str:
        """Short name of the recipe, ``x<N_x>_w<N_w>``."""
        return f"x{self.activations}_w{self.weights}"


def partner(count: int) -> int:
    """Largest level count that may be multiplied with ``count`` levels: 2 * floor(127 / floor(count / 2)) + 1.

    Raises:
        FormatError: count is not odd in 3..255.
    """
    levels(count)
    return 2 * (MAX_PRODUCT // (count // 2)) + 1


@cache
def pairs() -> tuple[Pair, ...]:
    """The 21 maximal pairs, most activation levels first."""
    counts = range(MAX_COUNT, 2, -2)
    return tuple(Pair(x, partner(x)) for x in counts if partner(partner(x)) == x)


def check_pair(activations: int, weights: int) -> None:
    """Refuse a pair of level counts whose products leave a signed byte.

    Raises:
        FormatError: a count is not odd in 3..255, or (N_x - 1)/2 * (N_w - 1)/2 > 127.
    """
    product = Pair(levels(activations).levels, levels(weights).levels).product
    if product > MAX_PRODUCT:
        raise FormatError(
            f"{activations} activation levels times {weights} weight levels reach products of {product}",
            f"(N_x - 1)/2 * (N_w - 1)/2 <= {MAX_PRODUCT}, so that every product fits a signed byte",
            f"use x{activations}_w{partner(activations)} or x{partner(weights)}_w{weights}",
        )


@cache
def levels(count: int) -> Format:
    """``levels<count>``: the integers -(count - 1)/2 .. (count - 1)/2.

    Raises:
        FormatError: count is not odd in 3..255.
    """
    if count % 2 == 0 or not 3 <= count <= MAX_COUNT:
        odd = min(max(count - (count + 1) % 2, 3), MAX_COUNT)
        names = [f"levels{n}" for n in (odd, odd + 2) if n <= MAX_COUNT and abs(n - count) <= 2] or [f"levels{odd}"]
        raise FormatError(
            f"format 'levels{count}' is unknown",
            f"levels<N> has N odd, 3..{MAX_COUNT}: symmetric around a zero",
            f"did you mean {' or '.join(names)}?",
        )
    half = count // 2
    return Format(
        name=f"levels{count}",
        table=range(-half, half + 1),
        title=f"{count} levels, symmetric: -{half} .. {half}",
        source="Trusov et al., 4.6-bit quantization, Mathematics 12(5):651, 2024",
    )


LEVELS = Family(
    pattern=r"levels([0-9]+)",
    spelling=f"levels<N>, N odd 3..{MAX_COUNT}",
    build=levels,
    listed=tuple(f"levels{p.activations}" for p in reversed(pairs())),
)
