"""Addition, multiplication, rescaling and tables on every instruction set."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from subbyte.graph.ir import Constant, IntType
from subbyte.graph.ops.add import IntAdd
from subbyte.graph.ops.lut import IntLut
from subbyte.graph.ops.mul import IntMul
from subbyte.graph.ops.rescale import IntRescale
from tests.kernels import parity
from tests.limits import examples

SHAPES = st.lists(st.one_of(st.integers(1, 6), st.sampled_from([1, 17, 300])), min_size=1, max_size=4).filter(
    lambda s: np.prod(s) <= 20000
)


def thinned(draw: st.DrawFn, shape: Sequence[int]) -> tuple[int, ...]:
    """The shape with some axes reduced to 1, which broadcast back."""
    return tuple(1 if draw(st.integers(0, 3)) == 0 else d for d in shape)


def operands(draw: st.DrawFn) -> tuple[list[IntType], list[Constant], tuple[int, ...]]:
    """Two values, or a value and an int32 constant without batch; and their broadcast shape."""
    shape = draw(SHAPES)
    first = thinned(draw, shape)
    if draw(st.booleans()):
        second = thinned(draw, shape)
        result = tuple(max(pair) for pair in zip(first, second, strict=True))
        return [draw(parity.kinds(first)), draw(parity.kinds(second))], [], result
    second = thinned(draw, shape)[draw(st.integers(0, len(shape) - 1)) :]
    padded = (*(1,) * (len(shape) - len(second)), *second)
    result = tuple(max(pair) for pair in zip(first, padded, strict=True))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    reach = draw(st.sampled_from([1, 100, 40000]))
    constant = rng.integers(-reach, reach + 1, second).astype(np.int32)
    return [draw(parity.kinds(first))], [constant], result


@st.composite
def additions(draw: st.DrawFn) -> parity.Case:
    types, constants, shape = operands(draw)
    y = draw(parity.kinds(shape))
    m, n = parity.multipliers(draw, 2, draw(st.sampled_from([0.01, 0.5, 3.0])))
    if draw(st.booleans()):
        m = (m * np.array([1, -1])).clip(-(2**31), 2**31 - 1).astype(np.int32)
    op = IntAdd(n=int(n[0]), **draw(parity.bounds(y)))
    return parity.feed(draw, parity.one_op(op, types, y, [*constants, m]))


@st.composite
def products(draw: st.DrawFn) -> parity.Case:
    types, constants, shape = operands(draw)
    reach = [max(abs(t.lo - t.zero_point), abs(t.hi - t.zero_point)) for t in types]
    assume(math.prod(reach) < 2**31)  # verify refuses the others: a product may leave int32
    y = draw(parity.kinds(shape))
    m, n = parity.multipliers(draw, 1, draw(st.sampled_from([1e-5, 0.01, 1.0])))
    small = int(m[0]) if not constants else int(m[0]) >> 3  # so that every product fits int64
    op = IntMul(m=small, n=int(n[0]), **draw(parity.bounds(y)))
    return parity.feed(draw, parity.one_op(op, types, y, constants))


@st.composite
def rescales(draw: st.DrawFn) -> parity.Case:
    shape = draw(SHAPES)
    x, y = draw(parity.kinds(shape)), draw(parity.kinds(shape))
    m, n = parity.multipliers(draw, 1, draw(st.sampled_from([1e-4, 0.3, 40.0])))
    op = IntRescale(m=int(m[0]), n=int(n[0]), **draw(parity.bounds(y)))
    return parity.feed(draw, parity.one_op(op, [x], y))


@st.composite
def lookups(draw: st.DrawFn) -> parity.Case:
    shape = draw(SHAPES)
    x, y = draw(parity.kinds(shape, "uint8")), draw(parity.kinds(shape))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    table = rng.integers(y.lo, y.hi + 1, 256).astype(y.storage)
    return parity.feed(draw, parity.one_op(IntLut(), [x], y, [table]))


@settings(max_examples=examples(300))
@given(additions())
def test_addition(case: parity.Case) -> None:
    parity.agree(case)


@settings(max_examples=examples(300))
@given(products())
def test_product(case: parity.Case) -> None:
    parity.agree(case)


@settings(max_examples=examples(200))
@given(rescales())
def test_rescale(case: parity.Case) -> None:
    parity.agree(case)


@settings(max_examples=examples(100))
@given(lookups())
def test_table(case: parity.Case) -> None:
    parity.agree(case)
