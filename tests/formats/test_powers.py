"""Powers of two and sums of them: tables as defined, nearest in value."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from subbyte.errors import FormatError
from subbyte.formats import get_format
from subbyte.formats.apot import terms


@pytest.mark.parametrize("count", range(2, 8))
def test_powers(count: int) -> None:
    magnitudes = [2**e for e in range(count)]
    signed = sorted([*magnitudes, *(-m for m in magnitudes)])
    assert list(get_format(f"pow2_e{count}_nozero").table) == signed
    assert list(get_format(f"pow2_e{count}").table) == sorted([*signed, 0])
    assert get_format(f"pow2_e{count}").fits_int8


def test_fp130() -> None:
    f = get_format("fp130")
    assert f.levels == 16
    assert [v for v in f.table if v > 0] == [1, 2, 4, 8, 16, 32, 64, 127]
    assert (f.symmetric, f.has_zero, f.packing) == (True, False, "bits4")
    assert "0.0039" in f.title


@pytest.mark.parametrize("name", ["fp130", "pow2_e7", "pow2_e7_nozero"])
def test_nearest_in_value_not_in_exponent(name: str) -> None:
    """The middle of 2**e and 2**(e+1) is 1.5 * 2**e; in logarithms it would be 1.414 * 2**e."""
    f = get_format(name)
    for e in range(6):
        for sign in (1, -1):
            got = f.decode(f.encode(np.array([1.45, 1.49, 1.51]) * sign * 2.0**e))
            assert list(got) == [sign * 2**e, sign * 2**e, sign * 2 ** (e + 1)]


def test_where_there_is_no_zero_there_is_the_smallest() -> None:
    f = get_format("fp130")
    assert set(np.abs(f.decode(f.encode(np.array([0.0, -0.0, 1e-9, -1e-9]))))) == {1.0}


def test_apot_terms() -> None:
    """Section 2.2 of the paper has 4 bits of magnitude as {0, 1, 1/4, 1/16} + {0, 1/2, 1/8, 1/32}."""
    assert terms(4) == ((32, 8, 2), (16, 4, 1))
    assert terms(2) == ((4, 2, 1),)
    assert terms(3) == ((8, 4, 1), (2,))
    assert terms(5) == ((64, 16, 2), (32, 8, 1), (4,))
    for bits in range(2, 6):
        powers = [p for term in terms(bits) for p in term]
        assert len(set(powers)) == len(powers)
        assert sorted(powers) == [2**i for i in range(len(powers))]


def test_apot_tables() -> None:
    assert [v for v in get_format("apot4").table if v >= 0] == [0, 1, 2, 3, 4, 6, 8, 10]
    for bits in range(3, 7):
        f = get_format(f"apot{bits}")
        sums = {sum(c) for c in itertools.product(*((0, *t) for t in terms(bits - 1)))}
        assert {v for v in f.table if v >= 0} == sums
        assert f.levels == 2**bits - 1
        assert (f.symmetric, f.has_zero, f.fits_int8) == (True, True, True)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("pow2_e8", "pow2_e7"),
        ("pow2_e8_nozero", "fp130"),
        ("pow2_e1", "pow2_e2"),
        ("pow2_e0_nozero", "pow2_e2_nozero"),
        ("apot2", "apot3"),
        ("apot8", "apot6"),
        ("fp13", "fp130"),
    ],
)
def test_near_misses(name: str, near: str) -> None:
    with pytest.raises(FormatError) as caught:
        get_format(name)
    assert near in caught.value.remedy
    assert caught.value.seen
    assert caught.value.rule
