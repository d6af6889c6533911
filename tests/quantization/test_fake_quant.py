"""Fake quantization is what the integer model does at its boundary, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from subbyte.arithmetic import boundary
from subbyte.formats import get_format
from subbyte.graph.ir import IntType
from subbyte.quantization.fake_quant import fake_quantize, nearest_stored, stored_values

UNIFORM = ("uint8", "int8", "uint5", "uint1", "levels31", "levels255", "ternary", "int16")
GAPS = ("binary", "midrise2", "midrise5")


def make_type(name, scale, zero_point=None):
    f = get_format(name)
    if zero_point is None:
        zero_point = f.stored_lo - f.lo
    return IntType(shape=(None, 1), format=f, scale=float(np.float32(scale)), zero_point=zero_point)


@given(
    st.sampled_from(UNIFORM),
    st.floats(1e-6, 1e6),
    st.integers(0, 255),
    st.lists(st.floats(-1e9, 1e9, width=32), min_size=1, max_size=40),
)
def test_uniform_formats_equal_the_boundary(name, scale, zero, numbers):
    f = get_format(name)
    t = make_type(name, scale, 0 if f.storage == "int16" else min(zero, f.stored_hi))
    ties = np.float32(t.scale) * (np.arange(-5, 6, dtype=np.float32) + np.float32(0.5))
    x = np.concatenate([np.array(numbers, np.float32), ties])
    q = boundary.quantize(x, t.scale, t.zero_point, t.lo, t.hi, t.storage)
    expected = boundary.dequantize(q, t.scale, t.zero_point)
    np.testing.assert_array_equal(fake_quantize(torch.from_numpy(x), t).numpy(), expected)


@pytest.mark.parametrize("name", GAPS)
def test_formats_with_gaps_give_the_nearest_value_and_the_lower_one_on_a_tie(name):
    t = make_type(name, 0.5)
    reals = t.scale * (stored_values(t.format) - t.zero_point)
    assert list(reals) == [0.5 * v for v in t.format.table]
    x = np.linspace(reals[0] - 1, reals[-1] + 1, 257, dtype=np.float32)
    got = fake_quantize(torch.from_numpy(x), t).numpy()
    for value, result in zip(x, got, strict=True):
        distance = np.abs(reals - value)
        assert result == min(reals[distance == distance.min()])
    stored = nearest_stored(x.astype(np.float64) / t.scale, t)
    np.testing.assert_array_equal(t.scale * (stored - t.zero_point), got)


def test_no_gradient_and_no_change_of_the_operand():
    x = torch.ones(3, requires_grad=True)
    y = fake_quantize(x, make_type("uint8", 0.3))
    assert not y.requires_grad
    assert torch.equal(x, torch.ones(3))
