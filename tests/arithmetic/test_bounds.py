from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subbyte.arithmetic.bounds import LIMIT, depth, prove_conv, prove_product, prove_sum, worst_case
from subbyte.errors import LoweringError
from tests.limits import examples


@settings(max_examples=examples(300))
@given(
    st.lists(st.integers(-128, 127), min_size=1, max_size=5),
    st.integers(-300, 300),
    st.integers(0, 300),
    st.one_of(st.none(), st.integers(-1000, 1000)),
)
def test_the_bound_is_reached_and_never_passed(weights, x_lo, span, bias):
    """Every choice of extreme or absent activations, with and without the bias: the largest sum is the bound."""
    x_hi = x_lo + span
    sums = [
        sum(w * x for w, x in zip(weights, xs, strict=True)) + b
        for xs in itertools.product((x_lo, x_hi, 0), repeat=len(weights))
        for b in {0, bias or 0}
    ]
    given_bias = None if bias is None else np.array([bias], np.int32)
    assert worst_case(np.array([weights]), x_lo, x_hi, given_bias).tolist() == [max(abs(s) for s in sums)]


def test_channels_are_separate():
    weight = np.array([[[1, -2]], [[100, 100]]], np.int8)
    assert worst_case(weight, -5, 250).tolist() == [505, 50000]


@pytest.mark.parametrize("sign", [1, -1])
def test_the_limit_is_sharp(sign):
    weight = np.full((1, 2), sign, np.int32)
    room = LIMIT - 2 * 65535
    assert prove_conv(weight, 0, 65535, np.array([sign * room], np.int32)).tolist() == [LIMIT]
    with pytest.raises(LoweringError, match="channel 0 can reach 2147483648") as caught:
        prove_conv(weight, 0, 65535, np.array([sign * (room + 1)], np.int32), "node 'a'")
    assert caught.value.place == "node 'a'"
    assert caught.value.rule
    assert caught.value.remedy


def test_the_worst_channel_is_named():
    weight = np.zeros((3, 600), np.int32)
    weight[1] = 127
    with pytest.raises(LoweringError, match="channel 1"):
        prove_conv(weight, -32768, 32767, np.zeros(3, np.int32))


def test_large_biases_alone_are_caught():
    weight = np.ones((1, 1), np.int8)
    with pytest.raises(LoweringError):
        prove_conv(weight, -1, 1, np.array([-(2**31)], np.int32))


def test_sums_and_products():
    assert prove_sum(8421504, 0, 255) == 8421504 * 255
    assert prove_product(-32768, 32767, 0, 65535) == 32768 * 65535
    with pytest.raises(LoweringError, match="a sum of 8421505"):
        prove_sum(8421505, -255, 0)
    with pytest.raises(LoweringError, match="product"):
        prove_product(-65535, 0, -65535, 0)


@pytest.mark.parametrize(("w", "x", "pairs"), [(8, 15, 136), (127, 255, 0), (15, 8, 136), (1, 1, 16383), (127, 127, 1)])
def test_depth_is_the_number_of_safe_pair_sums(w, x, pairs):
    assert depth(w, x) == pairs
    assert pairs * 2 * w * x <= 32767 < (pairs + 1) * 2 * w * x


@pytest.mark.parametrize(("w", "x"), [(0, 5), (5, 0), (-1, 5)])
def test_depth_wants_magnitudes(w, x):
    with pytest.raises(LoweringError, match="at least 1"):
        depth(w, x)
