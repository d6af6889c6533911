"""Named roundings: each against its definition, ties and extremes included."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from subbyte.arithmetic.rounding import ROUNDINGS, round_reals
from subbyte.errors import FormatError


def exact(x: float, rounding: str) -> int:
    value = Fraction(x)
    below = math.floor(value)
    half = value - below - Fraction(1, 2)
    if rounding == "keep_nonzero" and 0 < abs(value) <= Fraction(1, 2):
        return 1 if value > 0 else -1
    up = {
        "half_even": half > 0 or (half == 0 and below % 2 == 1),
        "keep_nonzero": half > 0 or (half == 0 and below % 2 == 1),
        "half_up": half >= 0,
        "half_away": half > 0 or (half == 0 and value > 0),
        "floor": False,
        "ceil": value > below,
    }[rounding]
    return below + up


HARD = [0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 0.0, -0.0, 0.49999999999999994, -0.49999999999999994, 5e-324, -5e-324]
HARD += [2.0**52 + 1, 2.0**53, -(2.0**52) - 1, 4503599627370495.5, 126.5, 127.5, -128.5]


@pytest.mark.parametrize("rounding", [r for r in ROUNDINGS if r != "stochastic"])
def test_hard_numbers(rounding: str) -> None:
    result = round_reals(HARD, rounding)
    assert [int(v) for v in result] == [exact(x, rounding) for x in HARD]
    assert not np.any(np.signbit(result[result == 0]))


@given(st.floats(-1e9, 1e9), st.sampled_from([r for r in ROUNDINGS if r != "stochastic"]))
def test_definition(x: float, rounding: str) -> None:
    assert int(round_reals(x, rounding)) == exact(x, rounding)


@given(st.integers(-1000, 1000), st.sampled_from([r for r in ROUNDINGS if r != "stochastic"]))
def test_halves(n: int, rounding: str) -> None:
    assert int(round_reals(n / 2, rounding)) == exact(n / 2, rounding)


@pytest.mark.parametrize("x", [-3.75, -0.25, 0.1, 2.5, 100.9])
def test_stochastic_is_unbiased(x: float) -> None:
    n = 200_000
    drawn = round_reals(np.full(n, x), "stochastic", seed=3)
    assert set(np.unique(drawn)) == {math.floor(x), math.ceil(x)}
    fraction = x - math.floor(x)
    deviation = math.sqrt(fraction * (1 - fraction) / n)
    assert abs(float(drawn.mean()) - x) < 4.5 * deviation


def test_stochastic_leaves_integers_alone() -> None:
    integers = np.arange(-500.0, 500.0)
    assert np.array_equal(round_reals(integers, "stochastic", seed=0), integers)


def test_stochastic_repeats_with_the_seed_and_draws_on_with_a_generator() -> None:
    x = np.full(64, 0.5)
    assert np.array_equal(round_reals(x, "stochastic", seed=1), round_reals(x, "stochastic", seed=1))
    generator = np.random.default_rng(1)
    first, second = round_reals(x, "stochastic", generator), round_reals(x, "stochastic", generator)
    assert not np.array_equal(first, second)


def test_stochastic_without_seed_is_refused() -> None:
    with pytest.raises(FormatError, match="seed"):
        round_reals([0.5], "stochastic")


def test_unknown_name_is_refused_with_near_misses() -> None:
    with pytest.raises(FormatError, match="half_even"):
        round_reals([0.5], "halfeven")


def test_keep_nonzero_keeps_the_smallest_doubles() -> None:
    assert round_reals([5e-324, -5e-324, 0.0, -0.0, 0.5, -0.5, 2.5], "keep_nonzero").tolist() == [1, -1, 0, 0, 1, -1, 2]
