"""The float32 form of the rescale rule: proved where it is the same function, refused where it is not."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subbyte.arithmetic.fast_requant import ROUNDING, ROUNDING_BITS, agrees, fused, nudge
from subbyte.arithmetic.requant import multiplier, requantize
from tests.limits import examples


def one(value: int) -> np.ndarray:
    return np.array([value], dtype=np.int64)


def float32_exactly(value: Fraction) -> np.float32:
    """The nearest float32, ties to even, without any intermediate rounding."""
    guess = np.float32(float(value))
    near = [np.nextafter(guess, np.float32(-np.inf)), guess, np.nextafter(guess, np.float32(np.inf))]
    return min(near, key=lambda f: (abs(Fraction(float(f)) - value), int(f.view(np.int32)) & 1))


@settings(max_examples=examples(500))
@given(st.integers(-(2**31) + 1, 2**31 - 1), st.integers(2**23, 2**24 - 1), st.integers(10, 60), st.integers(0, 255))
def test_fused_rounds_once(acc: int, mantissa: int, shift: int, zero_point: int) -> None:
    scale = np.float32(np.ldexp(mantissa, -shift))
    x = Fraction(float(np.float32(acc)))
    total = float32_exactly(x * Fraction(float(scale)) + ROUNDING + zero_point)
    assert int(fused(one(acc), np.array([scale]), zero_point)[0]) == int(total.view(np.int32)) - ROUNDING_BITS


@settings(max_examples=examples(300))
@given(
    st.floats(1e-6, 2.0),
    st.sampled_from(["m31", "m31", "m15"]),
    st.integers(0, 255),
    st.integers(0, 254),
    st.integers(0, 2**32 - 1),
)
def test_what_agrees_is_the_same_function(ratio: float, mode: str, zero_point: int, lo: int, seed: int) -> None:
    """Every accumulator near a step, and random ones, against the rule; a disagreement found is one reported."""
    rng = np.random.default_rng(seed)
    m, n = multiplier(ratio, mode)  # type: ignore[arg-type]
    hi = int(rng.integers(lo, 256))
    reach = int(2 ** rng.uniform(4, 31)) - 1
    nudged = int(nudge(one(m), one(n), zero_point, lo, hi, one(-reach), one(reach))[0])
    steps = np.rint((np.arange(lo - 1, hi + 2) - zero_point - 0.5) / (m * 2.0**-n))
    near = (steps[:, None] + np.arange(-40, 41)).ravel()
    acc = np.concatenate([near, rng.integers(-reach, reach + 1, 2000), [-reach, reach]]).clip(-reach, reach)
    acc = acc.astype(np.int64)
    for factor in (m, nudged):
        if mode == "m31" and factor == nudged and ratio > 2e-5 and reach * ratio < 2**22:
            assert agrees(one(factor), one(n), zero_point, lo, hi, one(-reach), one(reach))[0]
        if agrees(one(factor), one(n), zero_point, lo, hi, one(-reach), one(reach))[0]:
            scale = np.array([np.ldexp(factor, -n)], dtype=np.float32)
            got = fused(acc, scale, zero_point).clip(lo, hi)
            np.testing.assert_array_equal(got, requantize(acc, factor, n, zero_point, lo, hi))


def test_a_multiplier_with_too_many_bits_is_refused_and_moved_a_little() -> None:
    rng = np.random.default_rng(0)
    m = rng.integers(2**30, 2**31, 2000)
    n = np.full(2000, 40)
    reach = np.full(2000, 5_000_000)
    before = agrees(m, n, 130, 0, 255, -reach, reach)
    moved = nudge(m, n, 130, 0, 255, -reach, reach)
    assert 0.2 < before.mean() < 0.98
    assert agrees(moved, n, 130, 0, 255, -reach, reach).all()
    np.testing.assert_array_equal(moved[before], m[before])
    assert np.abs(moved / m - 1).max() < 1e-6


def test_what_cannot_be_moved_stays() -> None:
    m = np.array([0, 1, 2**14 + 1, -(2**30) - 1, 2**31 - 1])
    n = np.array([1, 1, 20, 40, 1])
    reach = np.full(5, 2**31 - 1)
    np.testing.assert_array_equal(nudge(m, n, 0, 0, 255, -reach, reach), m)


def test_accumulators_that_float32_cannot_tell_apart_are_refused() -> None:
    reach = one(2**30)
    assert not agrees(one(2**30 + 128), one(57), 0, 0, 255, -reach, reach)[0]
    assert agrees(one(0), one(1), 7, 0, 255, -reach, reach)[0]
    assert not agrees(one(-(2**30)), one(40), 0, 0, 255, one(-5), one(5))[0]


@pytest.mark.parametrize("zero_point", [-1025, 1025])
def test_far_zero_points_are_refused(zero_point: int) -> None:
    assert not agrees(one(2**30), one(40), zero_point, 0, 255, one(-5), one(5))[0]
