"""Proofs that integer accumulators cannot leave int32, from the actual weights and the legal activations.

A layer whose products do not fit sums them in int64, and shifts the sum back to 32 bits before the bias is added: then
the sum is proved to stay below 2**62, and what the shift leaves of it, with the bias, within int32.

For activations X in [x_lo, x_hi] the largest sum takes x_hi at positive weights and x_lo at negative ones, so the
interval is exact, not an estimate. It is widened to hold X = 0: then each term may also be absent, and the proof
covers padding and every partial sum, in any order and in any number of parallel accumulators.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from subbyte.arithmetic.requant import round_shift
from subbyte.errors import LoweringError

LIMIT = 2**31 - 1
"""Largest magnitude of an accumulator."""

WIDE_LIMIT = 2**62 - 1
"""Largest magnitude of a sum of products in 64 bits, with room for the rounding of its shift."""

MOST_PRE_SHIFT = 32
"""Brings any sum within ``WIDE_LIMIT`` back to 31 bits."""

MOST_WEIGHT = 2**24 - 1
"""Largest magnitude of a weight's integer, and of what a stored code stands for; fp8_e4m3fn reaches 229,376."""

Integers = npt.NDArray[Any]
"""Any signed integers of at most 64 bits."""


def worst_case(weight: Integers, x_lo: int, x_hi: int, bias: Integers | None = None) -> npt.NDArray[np.int64]:
    """Largest magnitude that each output channel's accumulator, or any part of its sum, can reach.

    Args:
        weight: integers [O, ...], |w| <= MOST_WEIGHT.
        x_lo: smallest centred activation ``q - zero_point``, |x_lo| <= 2**24.
        x_hi: largest centred activation.
        bias: int32[O], added at any time.

    Returns:
        int64[O].

    Raises:
        LoweringError: a sum may pass ``WIDE_LIMIT``.
    """
    positive, negative = _signed_sums(weight)
    lo, hi = min(x_lo, 0), max(x_hi, 0)
    extreme = max(int((positive - negative).max()) * max(-lo, hi), 0)
    if extreme > WIDE_LIMIT:  # nor would int64 hold it
        raise _too_large(f"a sum of products can reach {extreme}", "", WIDE_LIMIT)
    smallest = positive * lo + negative * hi
    largest = positive * hi + negative * lo
    if bias is not None:
        wide = bias.astype(np.int64)
        smallest = smallest + np.minimum(wide, 0)
        largest = largest + np.maximum(wide, 0)
    return np.asarray(np.maximum(-smallest, largest), dtype=np.int64)


def prove_conv(
    weight: Integers, x_lo: int, x_hi: int, bias: Integers | None = None, place: str = "", pre_shift: int = 0
) -> npt.NDArray[np.int64]:
    """Largest magnitude of each accumulator of a convolution or linear layer, after a proof that it fits int32.

    Args:
        weight: as for ``worst_case``.
        x_lo: as there.
        x_hi: as there.
        bias: as there; added behind the shift.
        place: names the layer in errors.
        pre_shift: of the sum of products. With 0 they and the bias are one sum, every part of which fits int32.

    Raises:
        LoweringError: a channel can leave int32, or its sum int64.
    """
    try:
        worst = worst_case(weight, x_lo, x_hi, None if pre_shift else bias)
    except LoweringError as error:
        raise error.at(place) from error
    if pre_shift:
        worst = round_shift(worst, pre_shift) + (0 if bias is None else np.abs(bias.astype(np.int64)))
    if worst.max() > LIMIT:
        channel = int(worst.argmax())
        raise _too_large(f"the accumulator of channel {channel} can reach {worst[channel]}", place)
    return worst


def prove_stack(
    stages: Sequence[Integers], shifts: Sequence[int], x_lo: int, x_hi: int, place: str = ""
) -> npt.NDArray[np.int64]:
    """Largest magnitude of each channel's sums in a stack of convolutions, after a proof that all of them fit int32.

    Behind each stage what is negative becomes 0 and the rest loses bits; a maximum over windows changes no bound.

    Args:
        stages: integers [O, ...] of each stage, of one channel each, sums of their magnitudes at most 2**31.
        shifts: bits that sums lose behind each stage, 0 or more.
        x_lo: smallest centred activation, |x_lo| <= 2**17.
        x_hi: largest centred activation.
        place: names the layer in errors.

    Returns:
        int64[O].

    Raises:
        LoweringError: a sum, or any part of it, can leave int32.
    """
    channels = len(stages[0])
    lo, hi = np.full(channels, min(x_lo, 0)), np.full(channels, max(x_hi, 0))
    worst = np.zeros(channels, np.int64)
    for number, (weight, shift) in enumerate(zip(stages, shifts, strict=True), 1):
        positive, negative = _signed_sums(weight)
        largest = positive * hi + negative * lo
        worst = np.maximum(worst, np.maximum(largest, -(positive * lo + negative * hi)))
        if worst.max() > LIMIT:
            channel = int(worst.argmax())
            raise _too_large(f"the sum of channel {channel} in stage {number} can reach {worst[channel]}", place)
        lo, hi = np.zeros_like(lo), largest >> shift
    return worst


def _signed_sums(weight: Integers) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Of positive and of negative weights, int64[O]."""
    rows = weight.reshape(weight.shape[0], -1).astype(np.int64)
    return np.maximum(rows, 0).sum(axis=1), np.minimum(rows, 0).sum(axis=1)


def least_pre_shift(weight: Integers, x_lo: int, x_hi: int, bias: npt.NDArray[np.float64]) -> int:
    """The smallest shift of a layer's sums with which ``prove_conv`` holds; MOST_PRE_SHIFT where none is large enough.

    Args:
        weight: as for ``worst_case``.
        x_lo: as there.
        x_hi: as there.
        bias: in units of the products, float64[O]; it is rounded to units of the shifted sum.

    Raises:
        LoweringError: a sum may pass ``WIDE_LIMIT``.
    """
    sums = worst_case(weight, x_lo, x_hi)
    for shift in range(MOST_PRE_SHIFT):
        sure = sums if shift == 0 else round_shift(sums, shift)
        if np.all(sure + np.abs(np.rint(bias / 2.0**shift)) <= LIMIT):
            return shift
    return MOST_PRE_SHIFT


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


def _too_large(seen: str, place: str, limit: int = LIMIT) -> LoweringError:
    return LoweringError(
        seen,
        f"sums stay within {limit} in magnitude, proved from the weights",
        "use fewer bits for weights or activations, or split the layer",
        place,
    )
