"""Weights as codes: scales that shift arithmetic can use and that leave room for the bias."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from subbyte.formats import PerChannel, PerTensor, get_format
from subbyte.quantization.resolve import LayerChoice
from subbyte.quantization.weights import BIAS_LIMIT, affine_weight, fit_bias, quantize_layer_weight

S_X, S_Y = float(np.float32(0.0173)), float(np.float32(0.311))


def weights(rng, *shape):
    w = rng.standard_normal(shape).astype(np.float32)
    return w * (2.0 ** rng.integers(-3, 4, (shape[0], *[1] * (len(shape) - 1)))).astype(np.float32)


def choice(name="int4", **changes):
    return LayerChoice(weights=get_format(name), operand=get_format("uint8"), **changes)


@pytest.mark.parametrize("name", ["int8", "int4", "ternary", "binary", "levels17", "midrise3"])
@pytest.mark.parametrize("granularity", [PerChannel(0), PerTensor()])
def test_shift_scales_are_exact_powers_of_two_of_the_ratio(name, granularity, rng):
    w = weights(rng, 6, 3, 3, 4)
    free = quantize_layer_weight(w, choice(name, granularity=granularity), "m31", np.zeros(6), S_X, S_Y)
    tensor = quantize_layer_weight(w, choice(name, granularity=granularity), "shift", np.zeros(6), S_X, S_Y)
    assert tensor.scale.shape == free.scale.shape == granularity.scale_shape(w.shape)
    exponent = np.log2(tensor.scale.astype(np.float64) * S_X / S_Y)
    np.testing.assert_allclose(exponent, np.rint(exponent), atol=1e-6)
    assert np.all(np.abs(np.log2(tensor.scale / free.scale)) < 1)  # a neighbour, not just any power of two


def test_shift_takes_the_better_neighbour_for_each_channel(rng):
    w = weights(rng, 8, 5, 5, 2)
    tensor = quantize_layer_weight(w, choice(), "shift", np.zeros(8), S_X, S_Y)
    error = np.square(tensor.dequantize() - w).sum(axis=(1, 2, 3))
    for factor in (0.5, 2.0):
        scale = (tensor.scale * np.float32(factor)).reshape(-1, 1, 1, 1)
        other = np.square(np.clip(np.rint(w / scale), -8, 7) * scale - w).sum(axis=(1, 2, 3))
        assert np.all(error <= other * (1 + 1e-6))


@pytest.mark.parametrize("arithmetic", ["m31", "m15", "shift"])
def test_scales_rise_until_the_bias_fits(arithmetic, rng):
    w = weights(rng, 4, 3, 3, 2)
    bias = np.array([0.0, 1.0, -1e7, 3e12])
    plain = quantize_layer_weight(w, choice("int8"), arithmetic, np.zeros(4), S_X, S_Y)
    tensor = quantize_layer_weight(w, choice("int8"), arithmetic, bias, S_X, S_Y)
    assert np.all(np.abs(np.rint(bias / (tensor.scale.astype(np.float64) * S_X))) <= BIAS_LIMIT + 64)
    raised = np.log2(tensor.scale / plain.scale)
    np.testing.assert_array_equal(raised, np.rint(raised))  # doubled, so that shift ratios stay exact
    assert list(raised[:2]) == [0, 0]
    assert raised[3] > 0
    smaller = np.abs(bias[3]) / (tensor.scale[3].astype(np.float64) / 2 * S_X)
    assert smaller > BIAS_LIMIT  # not raised more than needed


def test_one_scale_for_all_rises_for_the_largest_bias(rng):
    w = weights(rng, 4, 6)
    tensor = quantize_layer_weight(w, choice("int8", granularity=PerTensor()), "m31", np.zeros(4), S_X, S_Y)
    raised = fit_bias(w, tensor, np.array([0, 0, 1e9, 0]), S_X)
    assert raised.scale.shape == ()
    assert 1e9 / (float(raised.scale) * S_X) <= BIAS_LIMIT * (1 + 1e-6)


def test_weights_with_zero_points_keep_them_in_shift_arithmetic(rng):
    w = (weights(rng, 5, 3, 3, 2) + 0.7).astype(np.float32)
    tensor = quantize_layer_weight(w, choice("int5", symmetric=False), "shift", np.zeros(5), S_X, S_Y)
    assert np.any(tensor.zero_point != 0)
    exponent = np.log2(tensor.scale.astype(np.float64) * S_X / S_Y)
    np.testing.assert_allclose(exponent, np.rint(exponent), atol=1e-6)


def test_an_affine_is_exact_but_for_shift_arithmetic(rng):
    gain = np.array([0.5, -3.0, 1e-3, 0.0], np.float32)
    tensor = affine_weight(gain, "m31", np.zeros(4), S_X, S_Y)
    np.testing.assert_array_equal(tensor.integers().reshape(-1), [127, -128, 127, 0])
    np.testing.assert_allclose(tensor.dequantize().reshape(-1), gain, rtol=1e-6)
    shifted = affine_weight(gain, "shift", np.zeros(4), S_X, S_Y)
    np.testing.assert_allclose(shifted.dequantize().reshape(-1), gain, rtol=1 / 127)
    assert np.all(np.abs(shifted.integers().reshape(-1)[:3]) >= 63)


@pytest.mark.parametrize("arithmetic", ["m31", "shift"])
def test_each_channel_takes_the_nearer_of_a_grid_and_its_mirror_image(arithmetic):
    w = np.array([[2.0, 1.0, -1.0, -1.0], [-2.0, -1.0, 1.0, 1.0], [-1.9, -1.0, 1.1, 0.9]], np.float32)
    tensor = quantize_layer_weight(w, choice("int2"), arithmetic, np.zeros(3), 0.5, 1.0)
    tensor.check()
    np.testing.assert_array_equal(tensor.zero_point, [-1, 0, 0])
    np.testing.assert_array_equal(tensor.integers()[:2], [[2, 1, -1, -1], [-2, -1, 1, 1]])


def test_grids_that_have_no_odd_value_or_many_values_are_not_mirrored(rng):
    w = rng.standard_normal((32, 40)).astype(np.float32)
    for name in ("ternary", "binary", "levels17", "int5", "int8"):
        assert not np.any(quantize_layer_weight(w, choice(name), "m31", np.zeros(32), S_X, S_Y).zero_point), name
    assert np.any(quantize_layer_weight(w, choice("int4"), "m31", np.zeros(32), S_X, S_Y).zero_point)


def test_a_channel_raised_for_its_bias_leaves_the_codes_of_others(rng):
    w = rng.standard_normal((4, 30)).astype(np.float32)
    tensor = quantize_layer_weight(w, choice("int4"), "m31", np.zeros(4), S_X, S_Y)
    moved = replace(tensor, codes=15 - tensor.codes)  # as error feedback might have it
    raised = fit_bias(w, moved, np.array([0.0, 3e12, 0.0, 0.0]), S_X)
    np.testing.assert_array_equal(raised.codes[[0, 2, 3]], moved.codes[[0, 2, 3]])
    assert raised.scale[1] > tensor.scale[1]
