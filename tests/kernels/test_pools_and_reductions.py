"""Pooling, mean, argmax and softmax on every instruction set."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from subbyte.errors import GraphError
from subbyte.graph.ir import FloatType, IntType, TensorType
from subbyte.graph.ops.argmax import Argmax
from subbyte.graph.ops.avg_pool import AvgPool, IntAvgPool, divisors
from subbyte.graph.ops.log_softmax import IntLogSoftmax
from subbyte.graph.ops.max_pool import MaxPool
from subbyte.graph.ops.mean import IntMean
from subbyte.graph.ops.softmax import IntSoftmax
from tests.kernels import parity
from tests.limits import examples


def windows(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "kernel": draw(st.tuples(st.integers(1, 4), st.integers(1, 4))),
        "stride": draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        "padding": draw(st.tuples(*[st.integers(0, 2)] * 4)),
        "ceil_mode": draw(st.booleans()),
    }


def inferred(op: Any, x: TensorType, *constants: parity.Array) -> tuple[int, ...]:
    """Shape of a sample of the result; the case is dropped where the window does not fit."""
    try:
        shape = op.infer([x, *constants])
    except GraphError:
        assume(False)
    return tuple(shape[1:])


@st.composite
def max_pools(draw: st.DrawFn) -> parity.Case:
    channels = draw(st.one_of(st.integers(1, 40), st.sampled_from([2, 4, 8, 16, 32])))
    x = draw(parity.kinds((draw(st.integers(1, 9)), draw(st.integers(1, 24)), channels)))
    dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    op = MaxPool(dilation=dilation, layout="channels_last", **windows(draw))
    y = parity.kind(inferred(op, x), x.format, x.zero_point)
    return parity.feed(draw, parity.one_op(op, [x], y))


@st.composite
def avg_pools(draw: st.DrawFn) -> parity.Case:
    channels = draw(st.one_of(st.integers(1, 40), st.sampled_from([256, 300])))
    x = draw(parity.kinds((draw(st.integers(1, 9)), draw(st.integers(1, 9)), channels)))
    window = windows(draw)
    include = draw(st.booleans())
    twin = AvgPool(count_include_pad=include, layout="channels_last", **window)
    shape = inferred(twin, FloatType(shape=x.shape))
    y = draw(parity.kinds(shape))
    found = np.array(divisors(twin, x.shape), dtype=np.int32)
    m, n = parity.multipliers(draw, len(found), draw(st.sampled_from([0.01, 0.3])))
    op = IntAvgPool(count_include_pad=include, **window, **draw(parity.bounds(y)))
    inferred(op, x, found, m, n)
    return parity.feed(draw, parity.one_op(op, [x], y, [found, m, n]))


SHAPES = st.lists(st.one_of(st.integers(1, 6), st.sampled_from([1, 17, 270])), min_size=1, max_size=4).filter(
    lambda s: np.prod(s) <= 20000
)


@st.composite
def means(draw: st.DrawFn) -> parity.Case:
    shape = draw(SHAPES)
    x = draw(parity.kinds(shape))
    axes = draw(st.lists(st.integers(1, len(shape)), min_size=1, unique=True).map(sorted))
    keepdims = draw(st.booleans())
    m, n = parity.multipliers(draw, 1, draw(st.sampled_from([0.001, 0.1])))
    plain = {"axes": tuple(axes), "keepdims": keepdims, "m": int(m[0]), "n": int(n[0])}
    y = draw(parity.kinds(inferred(IntMean(**plain, lo=0, hi=0), x)))
    return parity.feed(draw, parity.one_op(IntMean(**plain, **draw(parity.bounds(y))), [x], y))


@st.composite
def argmaxes(draw: st.DrawFn) -> parity.Case:
    x = draw(parity.kinds(draw(SHAPES)))
    op = Argmax(axis=draw(st.integers(1, len(x.shape) - 1)), keepdims=draw(st.booleans()))
    return parity.feed(draw, parity.one_op(op, [x], parity.kind(inferred(op, x), parity.INT16)))


@st.composite
def softmaxes(draw: st.DrawFn) -> parity.Case:
    x = draw(parity.kinds(draw(SHAPES)))
    shape = [d for d in x.shape if d is not None]
    axis = draw(st.integers(1, len(shape)))
    m, n = parity.multipliers(draw, 1, draw(st.sampled_from([0.01, 1.0, 50.0])))
    plain = {"axis": axis, "m": int(m[0]), "n": int(n[0])}
    if draw(st.booleans()):
        y = IntType(shape=x.shape, format=parity.INT16, scale=2.0**-15, zero_point=0)
        return parity.feed(draw, parity.one_op(IntSoftmax(**plain), [x], y))
    y = draw(parity.kinds(shape, "int16"))
    ratios, shift = parity.multipliers(draw, 2, draw(st.sampled_from([0.01, 1.0])))
    op = IntLogSoftmax(
        **plain, m_in=int(ratios[0]), m_log=int(ratios[1]), shift=int(shift[0]), **draw(parity.bounds(y))
    )
    return parity.feed(draw, parity.one_op(op, [x], y))


@settings(max_examples=examples(200))
@given(max_pools())
def test_max_pool(case: parity.Case) -> None:
    parity.agree(case)


@settings(max_examples=examples(200))
@given(avg_pools())
def test_avg_pool(case: parity.Case) -> None:
    parity.agree(case)


@settings(max_examples=examples(200))
@given(means())
def test_mean(case: parity.Case) -> None:
    parity.agree(case)


@settings(max_examples=examples(100))
@given(argmaxes())
def test_argmax(case: parity.Case) -> None:
    parity.agree(case)


@settings(max_examples=examples(200))
@given(softmaxes())
def test_softmax(case: parity.Case) -> None:
    parity.agree(case)
