from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from subbyte.arithmetic.requant import multiplier
from subbyte.errors import GraphError
from subbyte.graph import ops
from subbyte.graph.ops.softmax import OCTAVE, pow2_table
from tests.graph.ops import naive
from tests.graph.ops.cases import Case, evaluate, floats, ints
from tests.limits import examples

OUT = ints(1, fmt="int16", zero=0, scale=2.0**-15)


def softmax_of(scale: float, axis: int = 1) -> ops.IntSoftmax:
    m, n = multiplier(scale * math.log2(math.e) * OCTAVE, "m31")
    return ops.IntSoftmax(axis=axis, m=m, n=n)


def log_softmax_of(scale: float, out: float) -> ops.IntLogSoftmax:
    m, n = multiplier(scale * math.log2(math.e) * OCTAVE, "m31")
    ratios = (scale / out, math.log(2) / 65536 / out)
    _, shift = multiplier(max(ratios), "m31")
    m_in, m_log = (min(round(r * 2**shift), 2**31 - 1) for r in ratios)
    return ops.IntLogSoftmax(axis=1, m=m, n=n, m_in=m_in, m_log=m_log, shift=shift, lo=-32768, hi=32767)


def rows(fmt: str, seed: int, length: int) -> np.ndarray:
    """Random rows, near ties, one-hot extremes and constants."""
    rng = np.random.default_rng(seed)
    kind = ints(length, fmt=fmt)
    q = rng.integers(kind.lo, kind.hi + 1, (5, length))
    q[1] = kind.hi - rng.integers(0, 3, length)
    q[2] = np.where(np.arange(length) == 0, kind.hi, kind.lo)
    q[3] = kind.lo
    q[4] = kind.hi - np.minimum(np.arange(length) * 7, kind.hi - kind.lo)
    return q.astype(kind.storage)


def exact_softmax(reals: np.ndarray) -> np.ndarray:
    e = np.exp(reals - reals.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


SCALES = st.sampled_from([1e-4, 0.003, 0.02, 0.11, 0.7, 3.0])


@settings(max_examples=examples(200))
@given(st.sampled_from(["uint8", "int16"]), st.integers(0, 999), st.integers(1, 70), SCALES)
def test_softmax_is_its_definition_and_close_to_the_real_one(fmt, seed, length, scale):
    q = rows(fmt, seed, length)
    op = softmax_of(scale)
    y = evaluate(Case(op, [ints(length, fmt=fmt)], OUT), [q])
    assert y.tolist() == [naive.softmax(row, op.m, op.n) for row in q.tolist()]
    assert np.abs(y / 2**15 - exact_softmax(scale * q.astype(np.float64))).max() <= 0.001


@settings(max_examples=examples(200))
@given(st.sampled_from(["uint8", "int16"]), st.integers(0, 999), st.integers(1, 70), SCALES)
def test_log_softmax_is_its_definition_and_close_to_the_real_one(fmt, seed, length, scale):
    q = rows(fmt, seed, length)
    reals = scale * q.astype(np.float64)
    exact = reals - reals.max(axis=1, keepdims=True)
    exact = exact - np.log(np.exp(exact).sum(axis=1, keepdims=True))
    out = max(float(-exact.min()) / 65000, 1e-6)
    op = log_softmax_of(scale, out)
    y = evaluate(Case(op, [ints(length, fmt=fmt)], ints(1, fmt="int16", zero=32767)), [q])
    assert y.tolist() == [naive.log_softmax(row, op, 32767) for row in q.tolist()]
    assert np.abs(out * (y - 32767.0) - exact).max() <= out / 2 + 0.0015


def test_log_softmax_clips():
    op = log_softmax_of(0.5, 0.001)
    y = evaluate(Case(op, [ints(2)], ints(1, fmt="int16", zero=0)), [np.array([[0, 255]], np.uint8)])
    assert y.tolist() == [[-32768, 0]]


@pytest.mark.parametrize("axis", [1, 2])
def test_integer_forms_take_any_axis(axis):
    rng = np.random.default_rng(0)
    q = rng.integers(0, 256, (2, 3, 4), dtype=np.uint8)
    y = evaluate(Case(softmax_of(0.1, axis), [ints(3, 4)], OUT), [q])
    np.testing.assert_allclose((y / 2**15).sum(axis=axis), 1.0, atol=0.001)


def test_powers_of_two_table():
    table = pow2_table()
    assert table[0] == 2**30
    assert table[128] == 759250125  # 2**30 / sqrt(2)
    assert np.all(np.diff(table) < 0)
    assert table.tolist() == [round(2.0 ** (30 - f / 256)) for f in range(256)]


@pytest.mark.parametrize("axis", [1, 2])
def test_float_forms(axis):
    x = torch.randn((2, 3, 4), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ops.Softmax(axis=axis).torch(x), torch.softmax(x, axis))
    torch.testing.assert_close(ops.LogSoftmax(axis=axis).torch(x), torch.log_softmax(x, axis))


@pytest.mark.parametrize("axis", [0, 3, -1, True])
def test_axis_lies_behind_the_batch(axis):
    for op in (ops.Softmax(axis=axis), ops.LogSoftmax(axis=axis)):
        with pytest.raises(GraphError, match="axis is an integer in 1"):
            op.infer([floats(3, 4)])
    with pytest.raises(GraphError, match="axis is an integer in 1"):
        ops.IntSoftmax(axis=axis, m=1, n=1).infer([ints(3, 4)])


def test_softmax_result_has_its_one_scale():
    op = softmax_of(0.1)
    for bad in (ints(5), ints(5, fmt="int16", zero=1, scale=2.0**-15), ints(5, fmt="int16", zero=0, scale=2.0**-14)):
        with pytest.raises(GraphError):
            op.check([ints(5)], bad)
