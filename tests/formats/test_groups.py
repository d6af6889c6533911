"""Group scales: the invariant that makes int8 of them, errors that fall, tails, and what is refused."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subbyte.errors import FormatError
from subbyte.formats import (
    DualGrained,
    Format,
    Mx,
    PerChannel,
    PerGroup,
    QTensor,
    formats,
    get_format,
    get_granularity,
    quantize_weight,
    requantize_with_scale,
)
from subbyte.formats.granularity import GRANULARITIES, Granularity, granularities
from subbyte.formats.group_scales import carried
from subbyte.formats.quantize import squared_error
from tests.limits import examples

KINDS = {kind.name: kind for kind in (PerGroup, DualGrained, Mx)}


def spelled(kind: str) -> str:
    return next(name for name in GRANULARITIES if name.startswith(kind))


def heavy_tailed(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.standard_t(3, shape) * np.exp(rng.normal(0, 1, (shape[0], *[1] * (len(shape) - 1))))).astype(np.float32)


def nearest_possible(w: np.ndarray, q: QTensor) -> np.ndarray:
    """Distance of each weight to the nearest real that its group can take, written as a loop."""
    assert q.groups is not None
    rows, gaps = w.astype(np.float64).reshape(len(w), -1), []
    scale = np.broadcast_to(q.scale.astype(np.float64), (len(w),))
    for o, row in enumerate(rows):
        for k, x in enumerate(row):
            m, z = (int(v[o, k // q.groups.size]) for v in (q.groups.scale, q.zero_point))
            integers = [m * (v - z) for v in q.format.table if abs(m * (v - z)) <= 127]
            gaps.append(min(abs(scale[o] * i - x) for i in integers))
    return np.reshape(gaps, w.shape)


@pytest.mark.parametrize("method", ["min_max", "mse"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["int4", "fp4_e2m1", "ternary", "binary", "int2", "uint4"])
def test_codes_are_the_nearest_that_stay_within_int8(name: str, kind: str, method: str) -> None:
    symmetric = name != "uint4"
    if spelled(kind) not in granularities(get_format(name), symmetric):
        return
    w = heavy_tailed((5, 2, 3, 7))
    for size in (1, 4, 32, 42, 1000):
        q = quantize_weight(w, get_format(name), KINDS[kind](size), method, symmetric=symmetric)
        q.check()
        assert q.groups is not None
        assert q.groups.scale.shape == q.zero_point.shape == (5, -(-42 // size))
        assert max(map(abs, q.interval())) <= 127
        gap = np.abs(w - q.integers() * q.scale.astype(np.float64).reshape(-1, 1, 1, 1))
        assert np.array_equal(gap, nearest_possible(w, q))


@settings(max_examples=examples(300), deadline=None)
@given(st.sampled_from(sorted(KINDS)), st.integers(1, 40), st.integers(1, 70), st.integers(0, 2**32 - 1))
def test_search_is_never_worse_than_min_max(kind: str, size: int, inputs: int, seed: int) -> None:
    w = heavy_tailed((3, inputs), seed)
    weight = np.random.default_rng(seed).exponential(size=inputs)
    f = get_format("int4")
    errors = [
        squared_error(w, quantize_weight(w, f, KINDS[kind](size), method, weight), weight)
        for method in ("min_max", "mse")
    ]
    assert errors[1] <= errors[0] * (1 + 1e-6)


@pytest.mark.parametrize("name", ["int4", "fp4_e2m1", "int3", "int2"])
def test_smaller_groups_follow_the_weights_better(name: str) -> None:
    w, f = heavy_tailed((32, 256)), get_format(name)
    ladder: list[Granularity] = [PerChannel(0), PerGroup(128), PerGroup(32), PerGroup(8)]
    errors = [squared_error(w, quantize_weight(w, f, g, "mse")) for g in ladder]
    assert all(b < 0.95 * a for a, b in itertools.pairwise(errors))
    mx, group = (squared_error(w, quantize_weight(w, f, g, "mse")) for g in (Mx(32), PerGroup(32)))
    assert errors[0] > mx > group


def test_zero_points_follow_one_sided_groups() -> None:
    w = np.abs(heavy_tailed((8, 64)))
    plain, dual = (
        squared_error(w, quantize_weight(w, get_format("int4"), DualGrained(16), "mse", symmetric=s))
        for s in (True, False)
    )
    assert dual < 0.5 * plain


def test_importance_decides_for_whom_scales_are_chosen() -> None:
    w, f = heavy_tailed((16, 96)), get_format("int2")
    weight = np.where(np.arange(96) % 2, 1.0, 1e-6)
    plain, fitted = (quantize_weight(w, f, PerGroup(32), "mse", i) for i in (None, weight))
    assert squared_error(w, fitted, weight) < 0.9 * squared_error(w, plain, weight)


def test_mx_scales_are_powers_of_two() -> None:
    w = heavy_tailed((9, 70))
    for method in ("min_max", "mse"):
        q = quantize_weight(w, get_format("fp4_e2m1"), Mx(), method)
        assert q.groups is not None
        assert q.groups.powers
        assert int(q.groups.scale.max()) == 8  # 8 * 12 <= 127
        assert np.all(np.frexp(q.scale)[0] == 0.5)


def test_min_max_clips_nothing_where_groups_are_alike() -> None:
    w = np.random.default_rng(0).uniform(-1, 1, (4, 64)).astype(np.float32)
    for granularity in (PerGroup(8), Mx(8)):
        q = quantize_weight(w, get_format("levels15"), granularity, "min_max")
        assert q.groups is not None
        step = q.scale[:, None] * q.groups.spread(q.groups.scale, q.shape)
        assert np.all(np.abs(w - q.dequantize()) <= step * 0.501)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["int4", "binary", "ternary"])
def test_zeros_tiny_and_huge_weights(kind: str, name: str) -> None:
    if spelled(kind) not in granularities(get_format(name)):
        return
    w = heavy_tailed((6, 20))
    w[0] = 0
    w[1, :8] = 0
    w[2] *= np.float32(1e-30)
    w[3] *= np.float32(1e30)
    w[4] *= np.float32(1e-44)
    for method in ("min_max", "mse"):
        q = quantize_weight(w, get_format(name), KINDS[kind](8), method)
        q.check()
        if name != "binary":
            assert not q.integers()[0].any()
            assert not q.integers()[1, :8].any()
        for row in (2, 3):
            gap = (w[row] - q.dequantize()[row].astype(np.float64)) / np.abs(w[row]).max()
            assert np.sqrt(np.mean(gap**2)) < (1.5 if name == "binary" else 0.5)
    zeros = quantize_weight(np.zeros((2, 3), np.float32), get_format("int4"), KINDS[kind](2), "mse")
    assert not zeros.dequantize().any()


def test_scales_of_channels_change_and_groups_follow() -> None:
    w = heavy_tailed((4, 30))
    for granularity in (PerGroup(8), Mx(8)):
        q = quantize_weight(w, get_format("int4"), granularity, "mse")
        kept = requantize_with_scale(w, q, q.scale)
        assert np.array_equal(kept.codes, q.codes)
        twice = carried(q, 2 * q.scale)
        assert twice.groups is not None
        assert q.groups is not None
        assert twice.groups.powers >= q.groups.powers
        assert np.all(np.abs(twice.groups.scale - q.groups.scale / 2) <= 0.5)
        taken = requantize_with_scale(w, twice, 2 * q.scale)
        assert squared_error(w, taken) < 4 * squared_error(w, q) + 1e-6
    with pytest.raises(FormatError, match="of shape"):
        requantize_with_scale(w[:, :29], q, q.scale)


@pytest.mark.parametrize(
    ("name", "granularity", "symmetric", "rule"),
    [
        ("int8", PerGroup(32), True, "int8"),
        ("int7", PerGroup(32), True, "int8"),
        ("int8", DualGrained(32), False, "int8"),
        ("fp4_e2m1", DualGrained(32), True, "consecutive"),
        ("int4", Mx(32), False, "no zero point"),
        ("int7", Mx(32), True, "int8"),
    ],
)
def test_what_groups_refuse(name: str, granularity: PerGroup, symmetric: bool, rule: str) -> None:
    with pytest.raises(FormatError) as error:
        quantize_weight(heavy_tailed((2, 8)), get_format(name), granularity, symmetric=symmetric)
    assert rule in error.value.rule
    assert error.value.remedy


def test_vectors_have_no_groups() -> None:
    with pytest.raises(FormatError, match="two axes"):
        quantize_weight(heavy_tailed((8,)), get_format("int4"), PerGroup(4))


@pytest.mark.parametrize("size", [0, -1, 2**24 + 1, True, 4.0])
def test_sizes_that_are_none(size: int) -> None:
    with pytest.raises(FormatError, match="a group has"):
        PerGroup(size)


def test_names() -> None:
    for text in ("per_tensor", "per_channel", "per_group(32)", "dual_grained(64)", "mx(16)"):
        assert str(get_granularity(text)) == text
    assert get_granularity("mx") == Mx(32)
    assert get_granularity("per_group(7)") == PerGroup(7) != DualGrained(7)
    for text in (
        "per_group",
        "per_group()",
        "per_group(0)",
        "per_group(x)",
        "mx(-1)",
        "block(4)",
        "mx(9999999999)",
    ):
        with pytest.raises(FormatError):
            get_granularity(text)


def test_any_format_of_at_most_six_bits_goes_into_groups() -> None:
    listed = {f.name: granularities(f) for f in formats() if f.max_abs <= 63}
    assert len(listed) > 20
    assert all("per_group(32)" in names and "mx" in names for names in listed.values())
    assert "dual_grained(64)" not in granularities(Format(name="gaps", table=(-2, 0, 1)))
