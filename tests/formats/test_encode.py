"""Encoding against a brute-force search over the table."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subbyte.arithmetic.rounding import ROUNDINGS
from subbyte.errors import DataError, FormatError
from subbyte.formats import Format, formats, get_format
from tests.limits import examples

SIX = Format(name="six_levels", table=(-2, -1, 0, 1, 2, 4))
SMALL = [f for f in formats() if f.levels <= 256]


def nearest_distance(f: Format, x: np.ndarray, scale: float) -> np.ndarray:
    return np.asarray(np.abs(x[:, None] - scale * f.values[None, :]).min(axis=1))


@pytest.mark.parametrize("f", [*SMALL, SIX], ids=lambda f: f.name)
def test_nearest(f: Format) -> None:
    rng = np.random.default_rng(f.levels)
    for scale in (1.0, 0.37, 3e-30):
        x = rng.uniform(1.3 * min(f.lo, -1), 1.3 * max(f.hi, 1), 400) * scale
        x[:4] = 0.0, -0.0, 1e300 * scale, -1e300 * scale
        codes = f.encode(x, scale=scale)
        assert codes.dtype == np.uint8
        got = np.abs(x - f.decode(codes, scale=scale))
        assert np.all(got <= nearest_distance(f, x, scale) * (1 + 1e-9))


@pytest.mark.parametrize("f", [*SMALL, SIX, get_format("int16")], ids=lambda f: f.name)
def test_values_code_themselves(f: Format) -> None:
    every = np.arange(f.levels)
    for scale in (1.0, 0.1, 2.0**-140):
        assert np.array_equal(f.encode(f.values * scale, scale=scale), every)
    for rounding in ROUNDINGS:
        assert np.array_equal(f.encode(f.values, rounding=rounding, seed=0), every)


def test_ties() -> None:
    whole = get_format("levels15")
    x = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5])
    assert whole.decode(whole.encode(x)).tolist() == [-2, -2, 0, 0, 2, 2]
    assert whole.decode(whole.encode(x, rounding="half_up")).tolist() == [-2, -1, 0, 1, 2, 3]
    assert whole.decode(whole.encode(x, rounding="half_away")).tolist() == [-3, -2, -1, 1, 2, 3]
    # codes:      -2 -1  0  1  2  4
    middles = np.array([-1.5, -0.5, 0.5, 1.5, 3.0])
    assert SIX.encode(middles).tolist() == [0, 2, 2, 4, 4]
    assert SIX.encode(middles, rounding="half_up").tolist() == [1, 2, 3, 4, 5]
    assert SIX.encode(middles, rounding="half_away").tolist() == [0, 1, 3, 4, 5]
    assert SIX.encode([2.1, 3.9, -9.0, 9.0], rounding="floor").tolist() == [4, 4, 0, 5]
    assert SIX.encode([2.1, 3.9, -9.0, 9.0], rounding="ceil").tolist() == [5, 5, 0, 5]


def test_boundary_rule_in_float32() -> None:
    """float32 in: code = clamp(rint(x / s) + z, lo, hi) with a float32 division."""
    f = get_format("uint8")
    rng = np.random.default_rng(5)
    scale = np.float32(0.0173)
    x = np.concatenate([rng.normal(0, 3, 5000), (np.arange(-300, 300) + 0.5) * float(scale)]).astype(np.float32)
    expected = np.clip(np.rint(x / scale) + 100, 0, 255)
    assert np.array_equal(f.encode(x, scale=scale, zero_point=100), expected)


def test_zero_points_spread_over_channels() -> None:
    f = get_format("uint4")
    x = np.array([[-1.0, 0.0, 2.0], [-3.0, 0.0, 0.6]])
    codes = f.encode(x, scale=np.array([[0.25], [0.5]]), zero_point=np.array([[4], [6]]))
    assert codes.tolist() == [[0, 4, 12], [0, 6, 7]]
    assert f.decode(codes, np.array([[0.25], [0.5]]), np.array([[4], [6]])).tolist() == [[-1, 0, 2], [-3, 0, 0.5]]


@settings(max_examples=examples(1000))
@given(
    st.sampled_from([*SMALL, SIX]),
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=20),
    st.floats(2.0**-149, 2.0**127, width=32),
    st.sampled_from(ROUNDINGS),
)
def test_any_finite_number_has_a_code(f: Format, numbers: list[float], scale: float, rounding: str) -> None:
    x = np.array(numbers, dtype=np.float32)
    codes = f.encode(x, scale=np.float32(scale), rounding=rounding, seed=1)
    assert int(codes.max()) < f.levels
    inside = np.clip(x.astype(np.float64) / scale, f.lo, f.hi)
    step = float(np.diff(f.values).max())
    assert np.all(np.abs(f.values[codes] - inside) <= step * (1 + 1e-6))


def test_stochastic_is_unbiased_between_uneven_neighbours() -> None:
    n = 100_000
    for x in (2.5, 3.9, 0.25, -1.75):
        drawn = SIX.values[SIX.encode(np.full(n, x), rounding="stochastic", seed=11)]
        assert abs(float(drawn.mean()) - x) < 4.5 * float(drawn.std()) / math.sqrt(n)


def test_refusals() -> None:
    f = get_format("int4")
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(DataError, match="finite"):
            f.encode(np.array([0.0, bad], dtype=np.float32))
    with pytest.raises(DataError, match="real numbers"):
        f.encode(np.array([1j]))
    for scale in (0.0, -1.0, np.nan, np.inf, 1e-60):
        with pytest.raises(FormatError, match="positive"):
            f.encode(np.zeros(2, np.float32), scale=scale)
    with pytest.raises(FormatError, match="consecutive"):
        SIX.encode([0.0], zero_point=1)
    with pytest.raises(FormatError, match="integers"):
        f.encode([0.0], zero_point=0.5)
    for codes in ([16], [-1], [0.5]):
        with pytest.raises(FormatError, match="codes of int4"):
            f.decode(codes)


def test_denormals_are_ordinary() -> None:
    f = get_format("int8")
    tiny = np.float32(2.0**-149)
    x = np.array([0, 1, -3, 127, 200], dtype=np.float32) * tiny
    assert f.decode(f.encode(x, scale=tiny)).tolist() == [0, 1, -3, 127, 127]
    assert f.encode(np.float32(-0.0)) == f.encode(np.float32(0.0))


def test_empty_arrays_have_empty_codes() -> None:
    assert get_format("int4").encode(np.zeros((0, 3))).shape == (0, 3)
    assert SIX.encode(np.zeros((2, 0))).shape == (2, 0)
