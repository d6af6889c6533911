"""Observers: each against its definition, all on degenerate data, memory, and the registry."""

from __future__ import annotations

import math
import tracemalloc
from statistics import NormalDist

import numpy as np
import pytest

from subbyte.errors import DataError, RecipeError
from subbyte.formats.format import Format
from subbyte.ranges import Observers, affine_params, get_observer, observer_names
from subbyte.ranges.entropy import _kl
from subbyte.ranges.octav import octav_clip

NAMES = ["min_max", "ema_0.9", "percentile_99.9", "mse", "octav", "entropy"]


def levels(count, first=0):
    return Format(name=f"levels{count}", table=range(first, first + count), packing="bits8")


UINT8, UINT4, UINT2, INT4 = levels(256), levels(16), levels(4), levels(16, -8)
SIX = Format(name="six", table=(-2, -1, 0, 1, 2, 4), packing="bits3")
MIDRISE = Format(name="midrise", table=(-3, -1, 1, 3), packing="bits2")
INT16 = Format(name="int16", table=range(-32768, 32768), packing="bits16")
FORMATS = [UINT8, UINT4, UINT2, INT4, SIX, MIDRISE, INT16, levels(2)]


def observed(name, *batches):
    observer = get_observer(name)
    for batch in batches:
        observer.observe(np.asarray(batch, np.float32))
    return observer


def kept(x, lo, hi, format):
    """x after quantization with a range, by brute force over the levels."""
    scale, zero_point = affine_params(lo, hi, format)
    grid = scale * (format.integers - (format.lo - format.stored_lo) - zero_point)
    return grid[np.abs(x[:, None] - grid[None]).argmin(1)] if grid.size <= 256 else np.clip(x, grid[0], grid[-1])


def mse(x, lo, hi, format):
    return float(np.mean((kept(x, lo, hi, format) - x) ** 2))


def test_min_max():
    assert observed("min_max", [1, 2], [[-3]], [0.5]).range(UINT8) == (-3, 2)


def test_ema_by_hand():
    observer = observed("ema_0.75", [0, 1], [-1, 3])
    assert observer.range(UINT8) == (-0.25, 1.5)
    observer.observe(np.array([1, 1.5], np.float32))
    assert observer.range(UINT8) == (0.0625, 1.5)
    assert observed("ema", [-1, 3], [5]).range(UINT8) == pytest.approx((-0.94, 3.02))


@pytest.mark.parametrize("count", [5000, 200_000])
def test_percentiles(count, rng):
    x = rng.normal(size=count).astype(np.float32)
    for percent in (99, 99.9, 99.99, 100):
        lo, hi = observed(f"percentile_{percent}", *np.array_split(x, 5)).range(UINT8)
        tolerance = 1e-6 if count <= 16384 else float(x.max() - x.min()) / 8192
        assert lo == pytest.approx(np.percentile(x, 100 - percent), abs=tolerance)
        assert hi == pytest.approx(np.percentile(x, percent), abs=tolerance)
    assert observed("percentile", x).range(UINT8) == observed("percentile_99.99", x).range(UINT8)


SHAPES = {
    "normal": lambda r, n: r.normal(size=n),
    "relu": lambda r, n: np.maximum(r.normal(size=n), 0),
    "laplace": lambda r, n: r.laplace(size=n),
    "lopsided": lambda r, n: np.where((v := 3 * r.normal(size=n)) < 0, 0.1 * v, v),
    "negative": lambda r, n: -np.abs(r.laplace(size=n)),
    "outlier": lambda r, n: np.append(r.normal(size=n - 1), 60),
}


@pytest.mark.parametrize("format", [UINT8, UINT4, UINT2, INT4, SIX, MIDRISE], ids=lambda f: f.name)
@pytest.mark.parametrize("shape", SHAPES)
def test_mse_finds_what_a_brute_search_finds(shape, format, rng):
    x = SHAPES[shape](rng, 2000).astype(np.float32)
    lo, hi = observed("mse", x).range(format)
    low, high = min(x.min(), 0), max(x.max(), 0)
    ratios = np.linspace(0.1, 1, 10)
    best = min(mse(x, a * low, b * high, format) for a in ratios for b in (ratios if low < 0 < high else (a,)))
    assert mse(x, lo, hi, format) <= best * 1.01 + 1e-12
    assert low <= lo <= 0 <= hi <= high


def test_mse_on_the_histogram_agrees_with_the_exact_values(rng):
    x = rng.laplace(size=300_000).astype(np.float32)
    lo, hi = observed("mse", x).range(UINT4)
    few = observed("mse", x[:16_000]).range(UINT4)
    assert mse(x, lo, hi, UINT4) <= mse(x, few[0], few[1], UINT4) * 1.001


def test_mse_leaves_wide_formats_at_the_extremes(rng):
    x = rng.standard_t(2, size=1000).astype(np.float32)
    assert observed("mse", x).range(INT16) == (x.min(), x.max())


NORMAL = NormalDist()
FIXED_POINTS = {  # the side of the fixed point's equation that holds E[x; x > s] - s * P(x > s), and P(x <= s)
    "normal": (lambda s: 2 * (NORMAL.pdf(s) - s * NORMAL.cdf(-s)), lambda s: 1 - 2 * NORMAL.cdf(-s)),
    "laplace": (lambda s: math.exp(-s), lambda s: 1 - math.exp(-s)),
}


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 8])
@pytest.mark.parametrize("shape", FIXED_POINTS)
def test_octav_finds_the_optimum_of_known_distributions(bits, shape):
    """Against the equation noise * s * P(x <= s) = E[x - s; x > s], solved by halving; noise 4**-bits / 3."""
    noise = 4.0**-bits / 3
    tail, inside = FIXED_POINTS[shape]
    low, high = 0.5, 15.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if tail(middle) > noise * middle * inside(middle) else (low, middle)

    places = np.sort(np.concatenate([(np.arange(200_000) + 0.5) / 200_000, 1 - 10.0 ** -np.arange(5.4, 9, 0.002)]))
    weights = np.diff(np.concatenate([[0], (places[1:] + places[:-1]) / 2, [1]]))
    values = np.array([NORMAL.inv_cdf(0.5 + p / 2) for p in places]) if shape == "normal" else -np.log1p(-places)
    clip, converged = octav_clip(values, weights, lambda s: noise)
    assert converged
    assert clip == pytest.approx(low, rel=1e-3)
    if (bits, shape) in KNOWN:
        assert clip == pytest.approx(KNOWN[bits, shape], abs=0.012)  # measured on samples


KNOWN = {(2, "normal"): 1.740, (3, "normal"): 2.164, (4, "normal"): 2.566, (4, "laplace"): 5.024, (2, "laplace"): 2.871}


@pytest.mark.parametrize("count", [1, 2, 3, 10, 1000])
def test_octav_minimises_its_own_estimate_on_few_values(count, rng):
    for noise in (1 / 12, 1 / 300, 1 / 70_000):
        x = np.sort(np.abs(rng.laplace(size=count)))
        clip, converged = octav_clip(x, np.ones(count, np.int64), lambda s, noise=noise: noise)

        def estimate(s, x=x, noise=noise):
            return noise * s**2 * np.sum(x <= s) + np.sum(np.maximum(x - s, 0) ** 2)

        assert np.isfinite(clip)
        assert clip > 0
        if converged and clip < x[-1]:  # a fixed point: no better clip between its neighbours among the values
            near = np.linspace(x[x <= clip].max(initial=0) + 1e-9, x[x > clip].min(initial=clip) - 1e-9, 50)
            assert estimate(clip) <= min(estimate(s) for s in near) * (1 + 1e-6)


def test_octav_clips_outliers_and_keeps_the_side(rng):
    x = np.append(np.abs(rng.normal(size=20_000)), 50).astype(np.float32)
    lo, hi = observed("octav", x).range(UINT4)
    assert lo == 0
    assert 2 < hi < 8
    assert observed("octav", -x).range(UINT4) == pytest.approx((-hi, 0), rel=1e-3)
    assert mse(x, lo, hi, UINT4) < mse(x, 0, 50, UINT4)


def test_entropy_clips_outliers_but_not_a_uniform_body(rng):
    body = rng.uniform(0, 1, 100_000)
    x = np.append(body, np.full(3, 30)).astype(np.float32)
    lo, hi = observed("entropy", x).range(UINT8)
    assert lo == 0
    assert 0.99 <= hi < 10
    assert observed("entropy", body).range(UINT8)[1] > 0.98


def test_entropy_is_the_definition_on_a_small_histogram():
    p, q = np.array([0.5, 0.25, 0.25, 0]), np.array([0.25, 0.25, 0.25, 0.25])
    assert _kl(p, q) == pytest.approx(0.5 * np.log(2))
    assert _kl(p, p) == 0
    assert _kl(np.array([0.5, 0.5]), np.array([1.0, 0.0])) > 10


def test_entropy_does_not_see_zeros(rng):
    x = np.abs(rng.normal(size=50_000)).astype(np.float32)
    assert observed("entropy", x, np.zeros(10**6)).range(UINT8) == observed("entropy", x).range(UINT8)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("format", FORMATS, ids=lambda f: f.name)
def test_degenerate_data_gives_a_legal_range(name, format):
    cases = [[0], [0] * 50_000, [3], [-3] * 20_000, [1e-45], [3e38], [-3e38, 3e38], [0] * 999 + [1e-30], [0, 0, -5]]
    for case in cases:
        x = np.array(case, np.float32)
        lo, hi = observed(name, x).range(format)
        assert type(lo) is type(hi) is float
        assert np.isfinite([lo, hi]).all()
        assert min(x.min(), 0) <= lo <= hi <= max(x.max(), 0)
        affine_params(lo, hi, format)


@pytest.mark.parametrize("name", NAMES)
def test_cuts_do_not_matter_and_empty_batches_are_ignored(name, rng):
    x = rng.laplace(size=(64, 1000)).astype(np.float32)
    parts = [*np.array_split(x, 9), np.zeros((0, 1000), np.float32), x[:1, :1].T]
    if not name.startswith("ema"):
        assert observed(name, *parts).range(UINT4) == observed(name, x, x[:1, :1]).range(UINT4)
    observed(name, *parts).range(UINT4)


@pytest.mark.parametrize("name", NAMES)
def test_ranges_may_be_asked_again_and_for_other_formats(name, rng):
    observer = observed(name, rng.normal(size=3000))
    first = observer.range(UINT4)
    observer.range(UINT8)
    assert observer.range(UINT4) == first
    observer.observe(np.full(9000, 0.5, np.float32))
    observer.range(UINT4)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_observed_and_bad_values(name):
    observer = get_observer(name)
    with pytest.raises(DataError, match="nothing was observed"):
        observer.range(UINT8)
    for bad in (np.nan, np.inf):
        with pytest.raises(DataError, match="finite"):
            observer.observe(np.array([0, bad], np.float32))


@pytest.mark.parametrize("name", NAMES)
def test_memory_is_flat_in_the_number_of_batches(name, rng):
    batch = rng.laplace(size=50_000).astype(np.float32)

    def held(count):
        tracemalloc.start()
        try:
            observer = get_observer(name)
            for i in range(count):
                observer.observe(batch * np.float32(1 + i))
            return tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()

    assert held(40) < held(2) + 150_000


def test_several_observers_share_one_histogram_and_agree(rng):
    parts = [rng.laplace(size=5000).astype(np.float32) for _ in range(6)]
    together = Observers(NAMES)
    for part in parts:
        together.observe(part)
    for name in NAMES:
        assert together.range(name, UINT4) == observed(name, *parts).range(UINT4)


def test_registry():
    assert observer_names() == ["ema_0.99", "entropy", "min_max", "mse", "octav", "percentile_99.99"]
    for name in observer_names():
        get_observer(name)
    for name, near in (("minmax", "min_max"), ("percentil_99.9", "percentile"), ("octave", "octav"), ("mse_2", "mse")):
        with pytest.raises(RecipeError) as caught:
            get_observer(name)
        assert near in caught.value.remedy
    for name in ("percentile_50", "percentile_100.5", "ema_1", "ema_1.5"):
        with pytest.raises(RecipeError, match="use "):
            get_observer(name)
    for name in ("", "ema_", "ema_-1", "min_max_3", "percentile_nan", "percentile_99.9.9"):
        with pytest.raises(RecipeError):
            get_observer(name)
