"""The rescale rule to codes of a table, against fractions; consecutive values make it the ordinary one."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from subbyte.arithmetic.requant import nearest_codes, requantize
from subbyte.formats import get_format

INT32 = st.integers(-(2**31), 2**31 - 1)
E4M3 = get_format("fp8_e4m3fn")


def exact(acc: int, m: int, n: int, values: list[int]) -> int:
    """Of the nearest value; the larger one of two."""
    real = Fraction(acc * m, 2**n)
    return min(range(len(values)), key=lambda code: (abs(values[code] - real), -code))


@given(INT32, INT32, st.integers(1, 62), st.lists(st.integers(-(2**24) + 1, 2**24 - 1), min_size=2, unique=True))
def test_definition(acc: int, m: int, n: int, table: list[int]) -> None:
    values = sorted(table)
    made = nearest_codes(np.array([acc]), m, n, np.array(values), 0, len(values) - 1)
    assert made.tolist() == [exact(acc, m, n, values)]


@given(st.integers(0, 251), st.sampled_from([-1, 0, 1]), st.integers(0, 30))
def test_middles_go_up(code: int, aside: int, shift: int) -> None:
    """Twice the middle, in units of 2**-shift, and one unit on both sides of it."""
    values = E4M3.integers.astype(np.int64)
    acc = ((int(values[code]) + int(values[code + 1])) << min(shift, 10)) + aside
    made = nearest_codes(np.array([acc]), 1 << max(shift - 10, 0), 1 + shift, values, 0, 252)
    assert made.tolist() == [code + (aside >= 0)]


@given(INT32, INT32, st.integers(1, 62), st.integers(0, 255), st.integers(0, 100), st.integers(100, 255))
def test_consecutive_values_are_the_ordinary_rule(acc: int, m: int, n: int, zero: int, lo: int, hi: int) -> None:
    made = nearest_codes(np.array([acc]), m, n, np.arange(256) - zero, lo, hi)
    assert made.tolist() == requantize(np.array([acc]), m, n, zero, lo, hi).tolist()
