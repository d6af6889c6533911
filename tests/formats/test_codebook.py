"""Codebooks: integer forms of float tables, and tables fitted to weights."""

from __future__ import annotations

import itertools
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subbyte.errors import DataError, FormatError
from subbyte.formats import PerChannel, codebook, fit_codebook, get_format, quantize_weight, requantize_with_scale
from subbyte.formats.fitting import _ascending
from subbyte.formats.nf4 import REALS, nf4_codebook
from subbyte.formats.quantize import squared_error
from tests.limits import examples


def test_nf4_is_the_table_of_the_paper() -> None:
    """Quantiles as its authors' code spaces them: 8 above 0 and 7 below, of largest magnitude 1."""
    edge = 0.9677083
    above = [NormalDist().inv_cdf(p) for p in np.linspace(edge, 0.5, 9)[:-1]]
    below = [-NormalDist().inv_cdf(p) for p in np.linspace(edge, 0.5, 8)[:-1]]
    np.testing.assert_allclose(REALS, sorted([*above, 0.0, *below] / np.max(above)), atol=2e-6)


def test_nf4_in_integers() -> None:
    f = get_format("nf4")
    assert f.table == (-127, -88, -67, -50, -36, -23, -12, 0, 10, 20, 31, 43, 56, 71, 92, 127)
    assert f.fits_int8
    assert (f.packing, f.has_zero, f.symmetric) == ("bits4", True, False)
    book = nf4_codebook()
    assert book.worst <= 0.5 / 127
    assert book.worst == pytest.approx(max(abs(t / 127 - v) for t, v in zip(f.table, REALS, strict=True)))
    assert f"{book.worst:.4f}" in f.title


def test_nf4_costs_normal_weights_next_to_nothing() -> None:
    """The integer form against the float table, on what it was made for: less than 0.01 dB."""
    x = np.random.default_rng(3).normal(size=100_000)
    x /= np.abs(x).max()
    reals = np.asarray(REALS)
    exact = np.mean((x - reals[np.abs(x[:, None] - reals).argmin(axis=1)]) ** 2)
    f = get_format("nf4")
    integer = np.mean((x - f.decode(f.encode(x, scale=1 / 127), scale=1 / 127)) ** 2)
    assert abs(10 * np.log10(integer / exact)) < 0.01


def test_a_codebook_of_ones_own() -> None:
    book = codebook("own", [-0.5, 0, 0.1, 2.0], title="four", source="own")
    assert book.format.table == (-32, 0, 6, 127)
    assert book.unit == pytest.approx(2 / 127)
    np.testing.assert_allclose(book.deviations, book.unit * book.format.values / 2 - np.array([-0.25, 0, 0.05, 1]))
    assert codebook("whole", range(-127, 128)).worst < 1e-15
    assert codebook("tiny", np.array([-1.0, 0.5, 1.0]) * 1e-300).format.table == (-127, 64, 127)


@pytest.mark.parametrize(
    ("entries", "seen", "remedy"),
    [
        ([0.0, 0.5, 0.5, 1.0], "0.5 behind 0.5", "duplicates"),
        ([0.0, 1.0, 0.5], "0.5 behind 1", "sort"),
        ([1.0], "1 entries", "16"),
        ([], "0 entries", "16"),
        (np.arange(257.0), "257 entries", "256"),
        ([0.0, 0.001, 1.0], "both become the integer 0", "fewer"),
        ([0.0, np.nan], "not finite", "number"),
        ([0.0, np.inf], "not finite", "number"),
        ([[0.0, 1.0]], "shape", "number"),
        (["a", "b"], "dtype", "number"),
        ([0j, 1j], "dtype", "number"),
    ],
)
def test_bad_codebooks(entries, seen, remedy) -> None:
    with pytest.raises(FormatError) as caught:
        codebook("own", entries)
    assert seen in caught.value.seen
    assert remedy in caught.value.remedy
    assert caught.value.rule


@pytest.mark.parametrize(("entries", "distortion"), [(2, 0.3634), (4, 0.1175), (8, 0.03454), (16, 0.009497)])
def test_normal_numbers_get_the_quantizer_of_max(entries, distortion) -> None:
    """Mean squared errors of Max 1960, table I, for a normal density; the draw is even, not random."""
    n = 20_000
    x = np.array([NormalDist().inv_cdf((i + 0.5) / n) for i in range(n)])
    fit = fit_codebook(x, entries, "own")
    assert fit.float_error == pytest.approx(distortion, rel=0.01)
    assert fit.format.levels == entries
    assert fit.integer_error < fit.float_error * 1.02


@settings(max_examples=examples(100))
@given(
    st.lists(st.integers(-40, 40), min_size=4, max_size=9, unique=True),
    st.integers(2, 4),
    st.integers(0, 2**32 - 1),
)
def test_fits_against_all_partitions(numbers, entries, seed) -> None:
    """Never better than the best partition into intervals (so its error is right), and seldom far from it."""
    x = np.sort(np.array(numbers, dtype=np.float64))
    mass = np.random.default_rng(seed).uniform(0.1, 1.0, x.size)
    fit = fit_codebook(x, entries, "own", importance=mass)
    best = min(_cost(x, mass, cuts) for cuts in itertools.combinations(range(1, x.size), entries - 1))
    whole = np.sum(mass * x * x)
    assert fit.float_error >= best / whole - 1e-12
    entry = fit.codebook.reals * np.abs(x).max()
    nearest = np.abs(x[:, None] - entry).argmin(axis=1)
    assert set(nearest) == set(range(entries))
    for i in range(entries):
        cell = nearest == i
        assert entry[i] == pytest.approx(np.average(x[cell], weights=mass[cell]), abs=1e-6)
    assert fit.float_error == pytest.approx(np.sum(mass * (x - entry[nearest]) ** 2) / whole, abs=1e-9)


def _cost(x, mass, cuts):
    parts = zip(np.split(x, cuts), np.split(mass, cuts), strict=True)
    return sum(np.sum(m * (p - np.average(p, weights=m)) ** 2) for p, m in parts)


def test_importance_moves_the_entries() -> None:
    x = np.linspace(-1, 1, 201)
    plain, right = (fit_codebook(x, 4, "own", importance=m).codebook.reals for m in (None, np.where(x > 0, 100.0, 1.0)))
    np.testing.assert_allclose(plain, [-0.75, -0.25, 0.25, 0.75], atol=0.02)
    assert np.sum(right > 0) == 3


@pytest.mark.parametrize("entries", [4, 5, 16, 100, 255, 256])
def test_fitted_tables_quantize_weights(rng, entries) -> None:
    """With the error that the fit states, less than other tables of as many entries, and fit for packing."""
    w = (rng.normal(size=(8, 300)) * rng.uniform(0.1, 10, (8, 1))).astype(np.float32)
    fit = fit_codebook(w, entries, "own", granularity=PerChannel(0))
    q = requantize_with_scale(w, fit.format, np.abs(w).max(axis=1) * fit.codebook.unit)
    share = np.sum((q.dequantize() - w).astype(np.float64) ** 2) / np.sum(w.astype(np.float64) ** 2)
    assert share == pytest.approx(fit.integer_error, rel=1e-3)
    searched = squared_error(w, quantize_weight(w, fit.format, method="mse"))
    assert searched < 1.0001 * squared_error(w, q)
    assert np.array_equal(fit.format.unpack(q.pack(), w.size), q.codes.reshape(-1))
    if entries == 16:
        for rival in ("int4", "nf4", "levels15"):
            assert squared_error(w, quantize_weight(w, get_format(rival), method="mse")) > searched


def test_what_cannot_be_fitted() -> None:
    with pytest.raises(FormatError, match="3 distinct") as caught:
        fit_codebook([1.0, 2.0, 2.0, 3.0], 4, "own")
    assert "3 entries" in caught.value.remedy
    with pytest.raises(FormatError, match="0 distinct"):
        fit_codebook(np.zeros((3, 4)), 4, "own")
    with pytest.raises(FormatError, match="2 distinct"):
        fit_codebook([1.0, 2.0, 3.0], 3, "own", importance=[1.0, 0.0, 1.0])
    for count in (1, 257):
        with pytest.raises(FormatError, match=f"{count} entries"):
            fit_codebook(np.arange(300.0), count, "own")
    with pytest.raises(DataError, match="NaN"):
        fit_codebook([1.0, np.nan], 2, "own")
    with pytest.raises(DataError, match="importance"):
        fit_codebook([1.0, 2.0], 2, "own", importance=[-1.0, 1.0])


def test_larger_integers_lose_less() -> None:
    """8 bits fitted to long tails: 127 cannot tell small entries apart, 32767 is the float table."""
    w = np.random.default_rng(5).laplace(size=5000) ** 3
    coarse, fine = (fit_codebook(w, 256, "own", largest=n) for n in (127, 32767))
    assert fine.format.max_abs == 32767
    assert fine.format.fits_int16
    assert fine.float_error == coarse.float_error
    assert fine.integer_error < 1.05 * fine.float_error < 0.5 * coarse.integer_error
    assert "e-0" in fine.format.title
    book = codebook("own", [-1.0, 0.0, 1e-4, 0.5], largest=32767)
    assert book.format.table == (-32767, 0, 3, 16384)
    with pytest.raises(FormatError, match="both become the integer 0") as caught:
        codebook("own", [-1.0, 0.0, 1e-4, 0.5])
    assert "largest=32767" in caught.value.remedy
    for bad in (0, 2**24, 127.0, True):
        with pytest.raises(FormatError, match="magnitude"):
            codebook("own", [0.0, 1.0], largest=bad)
    with pytest.raises(FormatError, match="200 entries"):
        fit_codebook(np.arange(300.0), 200, "own", largest=98)


@settings(max_examples=examples(200))
@given(st.lists(st.integers(-70, 70), min_size=1, max_size=5), st.integers(2, 4), st.data())
def test_the_integer_form_is_the_best_there_is(tenths, largest, data) -> None:
    """Against every ascending choice of integers."""
    targets = np.sort(np.asarray(tenths) / 10)
    mass = np.asarray(data.draw(st.lists(st.integers(1, 9), min_size=len(targets), max_size=len(targets))), float)
    grid = range(-largest - 1, largest + 1)
    least = min(float(np.sum(mass * np.square(targets - c))) for c in itertools.combinations(grid, len(targets)))
    found = _ascending(targets, mass, largest)
    assert tuple(found) in set(itertools.combinations(grid, len(targets)))
    assert float(np.sum(mass * np.square(targets - found))) == pytest.approx(least)


def test_entries_that_would_share_an_integer_are_kept_apart() -> None:
    """200 numbers within 1/1000 of the largest: codes stay distinct and in order, as cheaply as can be."""
    x = np.concatenate([np.linspace(0, 0.001, 200), [1.0]])
    fit = fit_codebook(x, 100, "own")
    assert fit.format.levels == 100
    assert fit.format.hi == 127
    assert fit.float_error < fit.integer_error
