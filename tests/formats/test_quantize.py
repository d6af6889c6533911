"""Weights to quantized tensors: nearest codes, scales, dead channels, zero points, speed."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subbyte.errors import DataError, FormatError
from subbyte.formats import Format, PerChannel, PerTensor, QTensor, formats, get_format, quantize_weight
from subbyte.formats.encode import ENCODE_ROUNDINGS
from subbyte.formats.quantize import requantize_with_scale, squared_error
from subbyte.formats.refusals import refusal
from tests.limits import examples

SIX = Format(name="six_levels", table=(-2, -1, 0, 1, 2, 4))
WEIGHTS = [*[f for f in formats() if refusal(f, "weight") is None], SIX]
AFFINE = [f for f in formats() if refusal(f, "affine_weight") is None and f.levels <= 128]


def heavy_tailed(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    spread = np.exp(rng.normal(0, 1, (shape[0], *[1] * (len(shape) - 1))))
    return (rng.standard_t(3, shape) * spread).astype(np.float32)


def brute_errors(w: np.ndarray, q: QTensor) -> np.ndarray:
    """Distance of each weight to the nearest value that its channel can take."""
    scale = q.scale.astype(np.float64)
    zero = q.zero_point.astype(np.float64)
    if scale.ndim:
        spread = [-1 if i == q.axis else 1 for i in range(w.ndim)]
        scale, zero = scale.reshape(spread), zero.reshape(spread)
    reals = scale[..., None] * (q.format.values - zero[..., None])
    return np.asarray(np.abs(w.astype(np.float64)[..., None] - reals).min(axis=-1))


def errors(w: np.ndarray, q: QTensor) -> np.ndarray:
    scale = q.scale.astype(np.float64)
    if scale.ndim:
        scale = scale.reshape([-1 if i == q.axis else 1 for i in range(w.ndim)])
    return np.abs(w.astype(np.float64) - q.integers() * scale)


@pytest.mark.parametrize("method", ["min_max", "mse"])
@pytest.mark.parametrize("f", WEIGHTS, ids=lambda f: f.name)
def test_codes_are_nearest(f: Format, method: str) -> None:
    w = heavy_tailed((6, 5, 3))
    for granularity in (PerTensor(), PerChannel(0), PerChannel(2)):
        q = quantize_weight(w, f, granularity, method=method)
        q.check()
        assert q.scale.shape == granularity.scale_shape(w.shape)
        assert np.array_equal(errors(w, q), brute_errors(w, q))


@pytest.mark.parametrize("f", WEIGHTS, ids=lambda f: f.name)
def test_min_max_clips_nothing_and_wastes_nothing(f: Format) -> None:
    w = heavy_tailed((9, 40), seed=4)
    w[0] = np.abs(w[0])
    w[1] = -np.abs(w[1])
    q = quantize_weight(w, f)
    reach_hi, reach_lo = q.scale * np.float32(f.hi), q.scale * np.float32(f.lo)
    assert np.all(w.max(axis=1) <= reach_hi * 1.0000002)
    assert np.all(w.min(axis=1) >= reach_lo * 1.0000002)
    touches = np.isclose(w.max(axis=1), reach_hi, rtol=1e-6) | np.isclose(w.min(axis=1), reach_lo, rtol=1e-6)
    assert np.all(touches)


@settings(max_examples=examples(1000))
@given(
    f=st.sampled_from(WEIGHTS),
    seed=st.integers(0, 10**6),
    shape=st.sampled_from([(1, 1), (3, 1), (1, 7), (4, 9), (2, 3, 5), (5, 300)]),
    size=st.sampled_from([1e-30, 1.0, 1e30]),
    weighted=st.booleans(),
)
def test_mse_is_never_worse(f: Format, seed: int, shape: tuple[int, ...], size: float, weighted: bool) -> None:
    w = (heavy_tailed(shape, seed) * np.float32(size)).astype(np.float32)
    importance = np.random.default_rng(seed).uniform(0, 5, shape[1:]) if weighted else None
    plain = quantize_weight(w, f)
    searched = quantize_weight(w, f, method="mse", importance=importance)
    for c in range(shape[0]):
        one = [
            squared_error(
                w[c],
                QTensor(codes=q.codes[c], format=f, scale=q.scale[c], zero_point=q.zero_point[c]),
                importance,
            )
            for q in (plain, searched)
        ]
        assert one[1] <= one[0] * (1 + 1e-12)


@pytest.mark.parametrize("f", WEIGHTS, ids=lambda f: f.name)
def test_mse_is_near_the_optimum_of_a_dense_scan(f: Format) -> None:
    w = np.random.default_rng(2).laplace(0, 1, (1, 600)).astype(np.float32)
    q = quantize_weight(w, f, method="mse")
    top = float(quantize_weight(w, f).scale[0]) * 1.3
    scan = [
        squared_error(w, requantize_with_scale(w, f, np.array([s], np.float32)))
        for s in np.linspace(top / 400, top, 400)
    ]
    # The largest weights of a float with few mantissa bits lie octaves apart: the error has teeth, one missed at worst.
    assert squared_error(w, q) <= (1.03 if f.fits_int8 else 1.2) * min(scan)


def test_binary_takes_the_mean_magnitude() -> None:
    w = heavy_tailed((8, 64), seed=1)
    q = quantize_weight(w, get_format("binary"), method="mse")
    assert np.allclose(q.scale, np.abs(w).mean(axis=1), rtol=1e-6)
    assert np.array_equal(q.integers() > 0, w > 0)


def test_importance_moves_the_scale_to_what_matters() -> None:
    w = np.array([[1.0] * 8 + [0.3] * 8], dtype=np.float32)
    importance = np.array([0.0] * 8 + [1.0] * 8)
    q = quantize_weight(w, get_format("ternary"), method="mse", importance=importance)
    assert q.scale[0] == pytest.approx(0.3, rel=1e-6)
    assert quantize_weight(w, get_format("ternary"), method="mse").scale[0] > 0.5
    same = quantize_weight(w, get_format("ternary"), method="mse", importance=np.zeros(16))
    assert same.scale[0] == quantize_weight(w, get_format("ternary"), method="mse").scale[0]


@pytest.mark.parametrize("method", ["min_max", "mse"])
def test_channels_of_zeros(method: str) -> None:
    w = heavy_tailed((4, 10))
    w[1] = 0.0
    w[2] = 1e-42  # its scale would be no normal float32
    for f in WEIGHTS:
        q = quantize_weight(w, f, method=method)
        pick = max if f.has_zero else min
        assert q.scale[1] == q.scale[2] == pick(q.scale[0], q.scale[3])
        assert np.all(q.codes[1] == f.zero_code)
        assert f.encode(0.0) == f.zero_code
        empty = quantize_weight(np.zeros((3, 2), np.float32), f, method=method)
        assert np.array_equal(empty.scale, np.ones(3, np.float32))
        assert np.all(empty.codes == f.zero_code)


@pytest.mark.parametrize("method", ["min_max", "mse"])
@pytest.mark.parametrize("f", WEIGHTS, ids=lambda f: f.name)
def test_constant_channels_are_exact(f: Format, method: str) -> None:
    w = np.array([[0.7] * 5, [-0.7] * 5, [1e-20] * 5, [-3e37] * 5], dtype=np.float32)
    q = quantize_weight(w, f, method=method)
    assert np.allclose(q.dequantize() / w, 1.0, rtol=1e-6)


@pytest.mark.parametrize("method", ["min_max", "mse"])
@pytest.mark.parametrize("f", AFFINE, ids=lambda f: f.name)
def test_affine_weights(f: Format, method: str) -> None:
    w = heavy_tailed((5, 30)) + np.float32(0.5)
    w[3] = np.abs(w[3])
    w[4] = 0.0
    q = quantize_weight(w, f, method=method, symmetric=False)
    assert np.array_equal(errors(w, q), brute_errors(w, q))
    assert np.all((q.zero_point >= f.lo) & (q.zero_point <= f.hi))
    assert int(np.abs(q.integers()).max()) <= 127
    assert np.all(q.integers()[4] == 0)
    if method == "min_max" and f.levels > 2:
        assert np.all(errors(w, q) <= 0.5001 * q.scale[:, None])
    else:
        plain = quantize_weight(w, f, symmetric=False)
        assert squared_error(w, q) <= squared_error(w, plain) * (1 + 1e-12)


def test_affine_beats_symmetric_on_one_sided_weights() -> None:
    w = np.random.default_rng(0).uniform(0, 1, (4, 100)).astype(np.float32)
    f = get_format("int4")
    assert squared_error(w, quantize_weight(w, f, symmetric=False)) < 0.3 * squared_error(w, quantize_weight(w, f))


def test_affine_eight_bits_must_recentre() -> None:
    centred = np.linspace(-1, 1, 50, dtype=np.float32).reshape(1, 50)
    q = quantize_weight(centred, get_format("uint8"), symmetric=False)
    assert int(q.zero_point[0]) == 128
    assert int(q.integers().max()) <= 127
    with pytest.raises(FormatError, match="re-centred") as caught:
        quantize_weight(np.abs(centred), get_format("uint8"), symmetric=False)
    assert "symmetric=True" in caught.value.remedy


def test_requantize_with_scale() -> None:
    w = heavy_tailed((4, 3, 3), seed=9)
    for f in (get_format("int4"), SIX):
        q = quantize_weight(w, f)
        doubled = requantize_with_scale(w, q, 2 * q.scale)
        assert np.array_equal(doubled.scale, 2 * q.scale)
        assert np.array_equal(errors(w, doubled), brute_errors(w, doubled))
        assert np.array_equal(requantize_with_scale(w, f, q.scale).codes, q.codes)
        assert requantize_with_scale(w, f, 0.5).scale.shape == ()
    affine = quantize_weight(w, get_format("uint4"), symmetric=False)
    again = requantize_with_scale(w, affine, affine.scale)
    assert np.array_equal(again.codes, affine.codes)
    assert np.array_equal(again.zero_point, affine.zero_point)
    last = requantize_with_scale(w, get_format("int4"), np.ones(3), axis=2)
    assert (last.axis, last.scale.shape) == (2, (3,))
    for scale in (np.ones(5), np.ones((4, 1)), 0.0, np.full(4, np.nan)):
        with pytest.raises(FormatError):
            requantize_with_scale(w, get_format("int4"), scale)
    with pytest.raises(FormatError, match="uint4"):
        requantize_with_scale(w, get_format("uint4"), 1.0)


def test_bad_weights() -> None:
    f = get_format("int4")
    for bad in ([[np.nan, 1]], [[np.inf, 1]], np.zeros((3, 0)), np.float32(1), np.array([["a"]]), [[1e39]]):
        with pytest.raises(DataError), np.errstate(over="ignore"):
            quantize_weight(np.asarray(bad), f)
    w = np.ones((2, 3), np.float32)
    with pytest.raises(FormatError, match="min_max"):
        quantize_weight(w, f, method="minmax")
    with pytest.raises(FormatError, match="axis"):
        quantize_weight(w, f, PerChannel(2))
    for importance in (np.ones(2), [-1, 0, 0], [np.nan, 0, 0]):
        with pytest.raises(DataError, match="importance"):
            quantize_weight(w, f, method="mse", importance=importance)


@pytest.mark.parametrize("name", ["uint4", "int1", "int16", "uint8"])
def test_formats_refused_for_weights(name: str) -> None:
    with pytest.raises(FormatError) as caught:
        quantize_weight(np.ones((2, 2), np.float32), get_format(name))
    assert caught.value.remedy


def test_stochastic_weights_are_seeded() -> None:
    w = heavy_tailed((3, 50))
    f = get_format("int4")
    first, second = (quantize_weight(w, f, rounding="stochastic", seed=s) for s in (1, 2))
    assert not np.array_equal(first.codes, second.codes)
    assert np.array_equal(first.codes, quantize_weight(w, f, rounding="stochastic", seed=1).codes)


@pytest.mark.parametrize("name", ["int8", "int4", "binary"])
def test_a_million_weights_take_seconds_at_most(name: str) -> None:
    w = heavy_tailed((512, 2048))
    start = time.process_time()
    quantize_weight(w, get_format(name), method="mse")
    assert time.process_time() - start < 8  # about 0.4 s on an idle core; the limit only catches a lost vectorisation


@pytest.mark.parametrize("rounding", ENCODE_ROUNDINGS)
def test_every_rounding_reaches_the_codes_of_weights(rounding: str) -> None:
    w = np.random.default_rng(0).normal(size=(4, 60)).astype(np.float32)
    for f in (get_format(n) for n in ("int4", "levels17", "nf4", "fp130", "ternary", "fp6_e2m3")):
        if rounding == "log_floor" and f.name not in {"fp130", "ternary"}:
            with pytest.raises(FormatError, match="powers of two"):
                quantize_weight(w, f, rounding=rounding)
            continue
        tensor = quantize_weight(w, f, method="mse", rounding=rounding, seed=5)
        scale = tensor.scale.astype(np.float64)[:, None]
        np.testing.assert_array_equal(tensor.codes, f.encode(w.astype(np.float64), scale, rounding=rounding, seed=5))
        if rounding in {"floor", "ceil", "stochastic"}:
            assert (tensor.codes != quantize_weight(w, f, method="mse").codes).any()
