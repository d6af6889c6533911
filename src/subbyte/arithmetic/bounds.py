"""Proofs that integer accumulators cannot leave int32, from the actual weights and the legal activations.

For activations X in [x_lo, x_hi] the largest sum takes x_hi at positive weights and x_lo at negative ones, so the
interval is exact, not an estimate. It is widened to hold X = 0: then each term may also be absent, and the proof
covers padding and every partial sum, in any order and in any number of parallel accumulators.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from subbyte.errors import LoweringError

LIMIT = 2**31 - 1
"""Largest magnitude of an accumulator."""

Integers = npt.NDArray[Any]
"""Any signed integers of at most 64 bits."""


def worst_case(weight: Integers, x_lo: int, x_hi: int, bias: Integers | None = None) -> npt.NDArray[np.int64]:
    """Largest magnitude that each output channel's accumulator, or any part of its sum, can reach.

    Args:
        weight: integers [O, ...], |w| <= 2**15.
        x_lo: smallest centred activation ``q - zero_point``, |x_lo| <= 2**17.
        x_hi: largest centred activation.
        bias: int32[O], added at any time.

    Returns:
        int64[O].
    """
    rows = weight.reshape(weight.shape[0], -1).astype(np.int64)
    positive = np.maximum(rows, 0).sum(axis=1)
    negative = np.minimum(rows, 0).sum(axis=1)
    lo, hi = min(x_lo, 0), max(x_hi, 0)
    smallest = positive * lo + negative * hi
    largest = positive * hi + negative * lo
    if bias is not None:
        wide = bias.astype(np.int64)
        smallest = smallest + np.minimum(wide, 0)
        largest = largest + np.maximum(wide, 0)
    return np.asarray(np.maximum(-smallest, largest), dtype=np.int64)


def prove_conv(
    weight: Integers, x_lo: int, x_hi: int, bias: Integers | None = None, place: str = ""
) -> npt.NDArray[np.int64]:
    """``worst_case`` of a convolution or linear layer, after a proof that it fits int32.

    Raises:
        LoweringError: a channel can leave int32; ``place`` names the layer.
    """
    worst = worst_case(weight, x_lo, x_hi, bias)
    if worst.max() > LIMIT:
        channel = int(worst.argmax())
        raise _too_large(f"the accumulator of channel {channel} can reach {worst[channel]}", place)
    return worst


def prove_sum(count: int, x_lo: int, x_hi: int, place: str = "") -> int:
    """Largest magnitude of a sum of ``count`` centred activations, after a proof that it fits int32.

    Raises:
        LoweringError: the sum can leave int32.
    """
    worst = count * max(abs(x_lo), abs(x_hi))
    if worst > LIMIT:
        raise _too_large(f"a sum of {count} activations can reach {worst}", place)
    return worst


def prove_product(a_lo: int, a_hi: int, b_lo: int, b_hi: int, place: str = "") -> int:
    """Largest magnitude of a product of two centred activations, after a proof that it fits int32.

    Raises:
        LoweringError: the product can leave int32.
    """
    worst = max(abs(a_lo), abs(a_hi)) * max(abs(b_lo), abs(b_hi))
    if worst > LIMIT:
        raise _too_large(f"a product of two activations can reach {worst}", place)
    return worst


def depth(w_max: int, x_max: int) -> int:
    """How many pair sums of products a 16-bit accumulator holds: ``floor(32767 / (2 * w_max * x_max))``.

    A multiply-add instruction adds two products at once, hence the 2. Depth 0: not even one pair is safe.

    Args:
        w_max: largest magnitude of a weight integer.
        x_max: largest magnitude of an activation integer.

    Raises:
        LoweringError: a magnitude is below 1.
    """
    if w_max < 1 or x_max < 1:
        raise LoweringError(
            f"magnitudes {w_max} and {x_max}",
            "both magnitudes are at least 1",
            "leave out layers whose weights or activations are all zero",
        )
    return 32767 // (2 * w_max * x_max)


def _too_large(seen: str, place: str) -> LoweringError:
    return LoweringError(
        seen,
        f"sums stay within {LIMIT} in magnitude, proved from the weights",
        "use fewer bits for weights or activations, or split the layer",
        place,
    )
