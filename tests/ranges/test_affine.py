"""Scale and zero point: 0 exact, ends within half a step, every degenerate range legal."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subbyte.errors import DataError, FormatError
from subbyte.formats.format import Format
from subbyte.ranges import affine_params, symmetric_scale
from tests.limits import examples


def of(*table, name="test"):
    return Format(name=name, table=table, packing="bits8")


UINT8, INT4 = of(*range(256)), of(*range(-8, 8))
LEVELS31 = of(*range(-15, 16))
INT16 = Format(name="int16", table=range(-32768, 32768), packing="bits16")
SIX, MIDRISE, POWERS = of(-2, -1, 0, 1, 2, 4), of(-3, -1, 1, 3), of(0, 1, 2, 4, 8)
TINY = float(np.finfo(np.float32).tiny)

finite = st.floats(allow_nan=False, allow_infinity=False, width=32)


def represented(x, scale, zero_point, format):
    """The real that the boundary rule keeps for x."""
    stored = np.clip(np.rint(x / scale) + zero_point, format.stored_lo, format.stored_hi)
    return scale * (stored - zero_point)


@settings(max_examples=examples(2000))
@given(finite, finite, st.integers(2, 256), st.integers(-128, 127))
def test_uniform_formats_keep_zero_exact_and_ends_within_half_a_step(a, b, levels, first):
    format = of(*range(first, first + levels))
    lo, hi = min(a, b), max(a, b)
    scale, zero_point = affine_params(lo, hi, format)
    assert float(np.float32(scale)) == scale >= TINY
    assert np.isfinite(scale)
    assert isinstance(zero_point, int)
    assert 0 <= zero_point <= levels - 1
    assert represented(0.0, scale, zero_point, format) == 0
    for end in (min(lo, 0.0), max(hi, 0.0)):
        error = abs(represented(end, scale, zero_point, format) - end)
        # float32 rounds the scale: levels - 1 steps of it may miss the range by 2**-24 of it.
        assert error <= scale / 2 + (max(hi, 0) - min(lo, 0)) * 2.0**-22 or scale in {TINY, 3.4028234663852886e38}


@settings(max_examples=examples(500))
@given(finite, finite, st.sampled_from([SIX, MIDRISE, INT16, POWERS]))
def test_other_formats_have_their_zero_where_the_table_has_it(a, b, format):
    lo, hi = min(a, b), max(a, b)
    scale, zero_point = affine_params(lo, hi, format)
    assert float(np.float32(scale)) == scale >= TINY
    assert zero_point == (0 if format.storage == "int16" else -format.lo)
    slack = 1 + 2.0**-23
    assert scale * slack * format.hi >= hi or hi <= 0
    assert scale * slack * format.lo <= lo or lo >= 0 or format.lo >= 0


@pytest.mark.parametrize("format", [UINT8, INT4, LEVELS31, INT16, SIX, MIDRISE, POWERS])
@pytest.mark.parametrize(
    ("lo", "hi"),
    [
        (0, 0),
        (0, 5),
        (5, 5),
        (-5, -5),
        (-5, 0),
        (0, 1e-45),
        (-1e-45, 1e-45),
        (-3e38, 3e38),
        (3e38, 3e38),
        (-1e-40, 3e38),
    ],
)
def test_degenerate_ranges(lo, hi, format):
    scale, zero_point = affine_params(lo, hi, format)
    assert TINY <= scale <= 3.5e38
    assert float(np.float32(scale)) == scale
    assert format.stored_lo <= zero_point <= format.stored_hi


def test_values():
    assert affine_params(0, 0, UINT8) == (1.0, 0)
    assert affine_params(0, 255, UINT8) == (1.0, 0)
    assert affine_params(1, 255, UINT8) == (1.0, 0)  # widened to include 0
    assert affine_params(-255, -1, UINT8) == (1.0, 255)
    assert affine_params(-128, 127, UINT8) == (1.0, 128)
    assert affine_params(-5, 25, LEVELS31) == (1.0, 5)
    assert affine_params(-30, 0, LEVELS31) == (1.0, 30)
    assert affine_params(-2, 2, MIDRISE) == (float(np.float32(2 / 3)), 3)
    assert affine_params(-3, 4, SIX) == (1.5, 2)
    assert affine_params(0, 4, SIX) == (1.0, 2)
    assert affine_params(-32768, 5, INT16) == (1.0, 0)
    assert affine_params(-7, 16, POWERS) == (2.0, 0)  # what lies below 0 is clipped
    assert affine_params(-16, 0, POWERS) == (2.0, 0)
    assert symmetric_scale(-7, 16, INT4) == float(np.float32(16 / 7))
    assert symmetric_scale(-24, 16, INT4) == 3.0
    assert symmetric_scale(0, 0, INT4) == 1.0


@pytest.mark.parametrize(("lo", "hi"), [(np.nan, 1), (0, np.inf), (-np.inf, 0), (2, 1)])
def test_bad_ranges(lo, hi):
    for make in (affine_params, symmetric_scale):
        with pytest.raises(DataError):
            make(lo, hi, UINT8)


@pytest.mark.parametrize("table", [(1, 2, 4), (-4, -2, -1)])
def test_formats_on_one_side_of_zero(table):
    with pytest.raises(FormatError):
        affine_params(-1, 1, of(*table))
