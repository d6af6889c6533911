"""The streaming histogram: the same for every order and cut of the data, exact while small, flat in memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subbyte.errors import DataError
from subbyte.ranges.sketch import Sketch
from tests.limits import examples

DISTRIBUTIONS = {
    "normal": lambda r, n: r.normal(size=n),
    "relu": lambda r, n: np.maximum(r.normal(size=n), 0),
    "heavy": lambda r, n: r.standard_t(1.5, size=n),
    "far from zero": lambda r, n: 1e6 + r.normal(size=n),
    "negative": lambda r, n: -np.exp(r.normal(size=n)),
    "tiny": lambda r, n: 1e-42 * r.normal(size=n),
    "huge": lambda r, n: 1e37 * r.normal(size=n),
    "many scales": lambda r, n: r.choice([-1, 1], n) * 10.0 ** r.uniform(-40, 38, n),
    "few values": lambda r, n: r.integers(-3, 4, n),
}


def drawn(name, rng, count):
    return DISTRIBUTIONS[name](rng, count).astype(np.float32)


def sketched(parts):
    sketch = Sketch()
    for part in parts:
        sketch.add(part)
    return sketch


def state(sketch):
    first, width, counts = sketch.bins()
    return sketch.lo, sketch.hi, sketch.zeros, sketch.count, first, width, counts.tolist()


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_order_and_cuts_do_not_matter(name, rng):
    x = drawn(name, rng, 60_000)
    whole = state(sketched([x]))
    assert state(sketched(np.array_split(x, 7))) == whole
    assert state(sketched(np.array_split(np.sort(x), 13))) == whole
    assert state(sketched([np.sort(np.abs(x))[:0], *np.array_split(np.sort(x)[::-1], 3)])) == whole
    assert whole[3] == x.size == whole[2] + sum(whole[-1])


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_bins_hold_what_they_say(name, rng):
    x = drawn(name, rng, 50_000)
    first, width, counts = sketched([x]).bins()
    x = x[x != 0].astype(np.float64)
    edges = (first + np.arange(counts.size + 1)) * width
    np.testing.assert_array_equal(np.diff(np.searchsorted(np.sort(x), edges)), counts)
    assert counts.size <= 1 << 14
    assert np.log2(width) == np.rint(np.log2(width))


@settings(max_examples=examples(300))
@given(
    st.lists(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), max_size=30), max_size=5),
    st.floats(0, 1),
)
def test_quantiles_of_few_values_are_exact(parts, fraction):
    arrays = [np.array(p, np.float32) for p in parts]
    x = np.concatenate([*arrays, np.zeros(1, np.float32)]).astype(np.float64)
    sketch = sketched([*arrays, np.zeros(1, np.float32)])
    scale = np.abs(x).max() or 1.0
    np.testing.assert_allclose(sketch.quantile(fraction) / scale, np.quantile(x / scale, fraction), atol=1e-12)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_quantiles_of_many_values_are_off_by_a_bin_at_most(name, rng):
    x = drawn(name, rng, 100_000)
    sketch = sketched([x])
    for fraction in (0, 0.001, 0.3, 0.5, 0.9, 0.999, 1):
        wanted = np.quantile(x.astype(np.float64), fraction)
        assert abs(sketch.quantile(fraction) - wanted) <= sketch.bins().width
    assert (sketch.quantile(0), sketch.quantile(1)) == (x.min(), x.max())


def test_points_are_ascending_and_complete(rng):
    for count in (100, 50_000):
        x = drawn("relu", rng, count)
        values, counts = sketched([x]).points()
        assert np.all(np.diff(values) > 0)
        assert counts.sum() == count
        assert counts[values == 0] == np.sum(x == 0)
    np.testing.assert_allclose(np.average(values, weights=counts), x.mean(), rtol=1e-4)


def test_a_late_outlier_widens_the_bins():
    x = np.linspace(0.5, 1, 40_000, dtype=np.float32)
    sketch = sketched([x, np.array([1e6], np.float32)])
    assert sketch.bins().counts.sum() == 40_001
    assert sketch.bins().counts[-1] == 1
    assert sketch.quantile(0.5) <= sketch.bins().width


def test_coarser_bins_keep_counts_and_places(rng):
    bins = sketched([drawn("normal", rng, 50_000)]).bins()
    coarse = bins.coarser(64)
    assert 32 < coarse.counts.size <= 64
    assert coarse.counts.sum() == bins.counts.sum()
    factor = round(coarse.width / bins.width)
    index = (bins.first + np.arange(bins.counts.size)) // factor - coarse.first
    np.testing.assert_array_equal(np.bincount(index, bins.counts), coarse.counts)


def test_only_zeros_and_constants():
    zeros = sketched([np.zeros((3, 4), np.float32)])
    assert (zeros.lo, zeros.hi, zeros.zeros, zeros.bins().counts.size) == (0, 0, 12, 0)
    assert zeros.quantile(0.7) == 0
    for value in (3.0, -1e-45, 3e38):
        constant = sketched([np.full(40_000, value, np.float32)])
        assert constant.quantile(0.3) == np.float32(value)
        assert constant.bins().counts.tolist() == [40_000]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(bad):
    sketch = sketched([np.ones(3, np.float32)])
    with pytest.raises(DataError):
        sketch.add(np.array([1, bad, 2], np.float32))
    assert sketch.count == 3


def test_nothing_added():
    for ask in (Sketch().bins, Sketch().points, lambda: Sketch().quantile(0.5)):
        with pytest.raises(DataError):
            ask()
    sketched([np.zeros((0, 3), np.float32)])


def test_memory_is_flat_in_the_number_of_batches(rng):
    batches = [drawn("heavy", rng, 100_000) for _ in range(3)]

    def held(count):
        tracemalloc.start()
        try:
            sketch = Sketch()
            for i in range(count):
                sketch.add(batches[i % 3] * np.float32(1 + i / 100))
            return tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()

    few, many = held(4), held(60)
    assert many < few + 200_000
    assert many < 500_000
