"""Encoding against a brute-force search over the table."""

from __future__ import annotations

import math
from fractions import Fraction

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


def exact_code(f: Format, x: float, rounding: str) -> int:
    """The definition of a rounding between neighbouring values, by exact fractions over the whole table."""
    table = [int(v) for v in f.integers]
    inside = min(max(Fraction(x), table[0]), table[-1])
    below = max(i for i, v in enumerate(table) if v <= inside)
    above = min(i for i, v in enumerate(table) if v >= inside)
    if rounding in {"floor", "ceil"}:
        return below if rounding == "floor" else above
    gaps = inside - table[below], table[above] - inside
    code = below if gaps[0] <= gaps[1] else above
    if below != above and gaps[0] == gaps[1]:
        even = below if (below - f.zero_code) % 2 == 0 else above
        away = above if table[below] + table[above] >= 0 else below
        code = {"half_up": above, "half_away": away}.get(rounding, even)
    if rounding == "keep_nonzero" and table[code] == 0 and x != 0:
        code = min(max(code + (1 if x > 0 else -1), 0), f.levels - 1)
    return code


@pytest.mark.parametrize("f", [*SMALL, SIX], ids=lambda f: f.name)
def test_every_rounding_is_its_definition(f: Format) -> None:
    rng = np.random.default_rng(f.levels)
    middles = (f.values[1:] + f.values[:-1]) / 2
    spots = rng.choice(np.concatenate([f.values, middles]), 30)
    x = np.concatenate([spots, np.nextafter(spots, np.inf), np.nextafter(spots, -np.inf), rng.normal(size=20) * f.hi])
    x = np.concatenate([x, [0.0, -0.0, 0.3, -0.3, 1e-300, -1e-300, 5e-324, -5e-324, 1e300, -1e300]])
    for rounding in ROUNDINGS:
        if rounding != "stochastic":
            got = f.encode(x, rounding=rounding).tolist()
            assert got == [exact_code(f, v, rounding) for v in x.tolist()], rounding


@pytest.mark.parametrize("f", [*SMALL, SIX], ids=lambda f: f.name)
def test_stochastic_rounding_is_unbiased_in_every_format(f: Format) -> None:
    """Between each of a few pairs of neighbours: both occur, nothing else does, and the mean is the number."""
    n, rng = 20_000, np.random.default_rng(1)
    for left in rng.choice(f.levels - 1, min(4, f.levels - 1), replace=False).tolist():
        below, above = f.values[left], f.values[left + 1]
        for share in (0.1, 0.5, 0.8):
            x = below + share * (above - below)
            drawn = f.encode(np.full(n, x), rounding="stochastic", seed=left)
            assert set(np.unique(drawn)) == {left, left + 1}
            assert abs(float((drawn == left + 1).mean()) - share) < 5 * math.sqrt(share * (1 - share) / n)


def test_a_quotient_that_vanishes_keeps_its_side() -> None:
    f, x = get_format("int4"), np.array([1e-38, -1e-38, 0.0], np.float32)
    codes = {r: (f.encode(x, scale=np.float32(1e38), rounding=r, seed=0) - 8.0).tolist() for r in ROUNDINGS}
    assert codes["floor"] == [0, -1, 0]
    assert codes["ceil"] == [1, 0, 0]
    assert codes["keep_nonzero"] == [1, -1, 0]
    assert all(codes[r] == [0, 0, 0] for r in ("half_even", "half_up", "half_away", "stochastic"))


def test_log_floor() -> None:
    """FP1.3.0 as BitNetMCU has it: sign times two to the floor of the logarithm, from 1 to 128."""
    fp130, x = get_format("fp130"), np.array([1, 1.99, 2, 3, 3.9999, 4, 63.9, 64, 127.9, 128, 300, 0.2, 1e-30, 1e30])
    exponents = np.clip(np.floor(np.log2(x)), 0, 7)
    wanted = np.minimum(2**exponents, 127)  # 127 stands for 128
    for sign in (1, -1):
        got = fp130.values[fp130.encode(sign * x, rounding="log_floor")]
        assert got.tolist() == (sign * wanted).tolist()
    assert fp130.values[fp130.encode(3.0)] == 4.0  # the nearest value, ties to the even exponent
    assert fp130.values[fp130.encode(1.45)] == 1.0
    assert fp130.encode([0.0, -0.0], rounding="log_floor").tolist() == [fp130.zero_code] * 2
    assert get_format("pow2_e4").decode(
        get_format("pow2_e4").encode([7.9, 0.9, -0.5, -9], rounding="log_floor")
    ).tolist() == [
        4,
        0,
        0,
        -8,
    ]
    for name in ("ternary", "binary", "pow2_e7_nozero"):
        get_format(name).encode(x, rounding="log_floor")
    for name in ("int4", "nf4", "apot4", "uint8"):
        with pytest.raises(FormatError, match="fp130"):
            get_format(name).encode(x, rounding="log_floor")


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
