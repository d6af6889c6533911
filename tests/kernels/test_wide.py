"""Layers of 16-bit activations, weights beyond int8, sums beyond int32: all executors agree, at the extremes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from subbyte.arithmetic.bounds import LIMIT, MOST_PRE_SHIFT, MOST_WEIGHT, least_pre_shift
from subbyte.arithmetic.requant import round_shift
from subbyte.errors import LoweringError, RunError
from subbyte.formats import get_format
from subbyte.formats.format import Format
from subbyte.formats.qtensor import QTensor
from subbyte.graph.ir import IntType
from subbyte.graph.ops.centred import interval
from subbyte.graph.ops.conv import IntConv
from subbyte.graph.ops.linear import IntLinear
from subbyte.graph.torch_executor import run_integer
from subbyte.graph.verify import verify
from subbyte.runtime.engine import Engine
from subbyte.runtime.reference import run_reference
from tests.kernels import parity
from tests.kernels.test_caller_memory import guarded
from tests.kernels.test_dot_products import window
from tests.limits import examples

FORMATS = (
    parity.uniform(-128, 127),
    parity.uniform(-8, 7),
    get_format("fp6_e3m2"),
    get_format("fp8_e4m3fn"),
    Format(name="words", table=tuple(range(-32768, 32767, 257))),
    Format(name="far", table=(-MOST_WEIGHT, -70000, 1, 3, 32768, MOST_WEIGHT)),
)
"""Of weights: int8, below it, and beyond int8, 16 bits and as far as is allowed."""


def agree(case: parity.Case) -> None:
    """As in ``parity``, and torch too."""
    parity.agree(case)
    expected = run_reference(case.graph, case.codes)
    torch = run_integer(case.graph, case.codes)
    for name, codes in expected.items():
        np.testing.assert_array_equal(np.asarray(torch[name]), codes, "torch")


@st.composite
def weights(draw: st.DrawFn, shape: tuple[int, ...]) -> QTensor:
    """Random codes, or the lowest or highest throughout."""
    fmt = draw(st.sampled_from(FORMATS))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    low, high = draw(st.sampled_from([(0, fmt.levels), (0, 1), (fmt.levels - 1, fmt.levels)]))
    return plain(rng.integers(low, high, shape).astype(np.uint8), fmt)


def plain(codes: parity.Array, fmt: Format) -> QTensor:
    """Weights of scale 1."""
    channels = len(codes)
    return QTensor(
        codes=codes, format=fmt, scale=np.ones(channels, np.float32), zero_point=np.zeros(channels, np.int32)
    )


@st.composite
def epilogue(draw: st.DrawFn, weight: QTensor, x: IntType) -> tuple[int, list[parity.Array]]:
    """A legal pre-shift, mostly the least; bias up to what the proof leaves; multipliers, and perhaps leaky ones."""
    channels = len(weight.codes)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shift = least_pre_shift(weight.integers(), *interval(x), np.zeros(channels))
    shift = min(MOST_PRE_SHIFT, shift + draw(st.sampled_from([0, 0, 0, 1, 5])))
    rows = np.abs(weight.integers().astype(np.int64)).reshape(channels, -1).sum(axis=1)
    sums = rows * max(-interval(x)[0], interval(x)[1], 0)
    reach = round_shift(sums, shift) if shift else sums
    assume(bool(np.all(reach <= LIMIT)))  # the proof is sharper; here it is simpler
    bias = (rng.choice([-1, 1, 0.01], channels) * (LIMIT - reach)).astype(np.int32)
    ratio = 1.0 / max(1.0, float(reach.max()) * draw(st.sampled_from([1e-5, 1e-2, 1.0])))
    pairs = [*parity.multipliers(draw, channels, ratio)]
    if draw(st.booleans()):
        pairs += parity.multipliers(draw, channels, ratio / 7)
    return shift, [bias, *pairs]


@st.composite
def convolutions(draw: st.DrawFn) -> parity.Case:
    form = draw(st.sampled_from(["plain", "plain", "grouped", "depthwise", "multiplier"]))
    groups = 1 if form == "plain" else draw(st.integers(2, 5 if form == "grouped" else 40))
    per_group = draw(st.integers(1, 20)) if form in {"plain", "grouped"} else 1
    outputs = draw(st.integers(1, 50)) if form == "plain" else groups
    outputs *= {"grouped": draw(st.integers(1, 9)), "multiplier": 2}.get(form, 1)
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    stride, dilation = (draw(st.tuples(st.integers(1, k), st.integers(1, k))) for k in (3, 2))
    padding = draw(st.tuples(*[st.integers(0, 3)] * 4))
    size = draw(st.tuples(st.integers(1, 11), st.integers(1, 11)))
    out = [window(size[i], kernel[i], stride[i], dilation[i], padding[i], padding[2 + i]) for i in (0, 1)]
    assume(min(out) >= 1)
    x = draw(parity.kinds((*size, groups * per_group)))
    y = draw(parity.kinds((*out, outputs)))
    weight = draw(weights((outputs, *kernel, per_group)))
    shift, constants = draw(epilogue(weight, x))
    how = {"stride": stride, "dilation": dilation, "padding": padding}
    op = IntConv(**how, groups=groups, pre_shift=shift, **draw(parity.bounds(y)))
    return parity.feed(draw, parity.one_op(op, [x], y, [weight, *constants]))


@st.composite
def linears(draw: st.DrawFn) -> parity.Case:
    depth = draw(st.one_of(st.integers(1, 70), st.sampled_from([255, 1023, 4096])))
    outputs = draw(st.integers(1, 70))
    rows = draw(st.lists(st.integers(1, 9), max_size=3))
    x, y = draw(parity.kinds((*rows, depth))), draw(parity.kinds((*rows, outputs)))
    weight = draw(weights((outputs, depth)))
    shift, constants = draw(epilogue(weight, x))
    op = IntLinear(pre_shift=shift, **draw(parity.bounds(y)))
    return parity.feed(draw, parity.one_op(op, [x], y, [weight, *constants]))


@settings(max_examples=examples(400))
@given(convolutions())
def test_convolution(case: parity.Case) -> None:
    agree(case)


@settings(max_examples=examples(200))
@given(linears())
def test_linear(case: parity.Case) -> None:
    agree(case)


def extreme(fmt: Format, x: IntType, depth: int, signs: tuple[int, ...] = (1, -1)) -> parity.Case:
    """Rows of the largest and of the lowest weight meet the lowest, the largest and mixed activations."""
    ends = {1: fmt.levels - 1, -1: 0}
    codes = np.array([[ends[s]] * depth for s in signs], np.uint8)
    weight = plain(codes, fmt)
    shift = least_pre_shift(weight.integers(), *interval(x), np.zeros(len(signs)))
    y = parity.kind((len(signs),), parity.INT16, 0)
    ones = np.ones(len(signs), np.int32)
    reach = int(np.abs(weight.integers().astype(np.int64)).sum(axis=1).max()) * max(map(abs, interval(x))) >> shift
    n = 62 - 30 if reach == 0 else min(62, 30 + max(1, reach.bit_length() - 15))
    op = IntLinear(lo=y.lo, hi=y.hi, pre_shift=shift)
    graph = parity.one_op(op, [replace(x, shape=(None, depth))], y, [weight, 0 * ones, ones << 30, n * ones])
    turns = np.where(np.arange(depth) % 2, x.lo, x.hi)
    data = np.stack([np.full(depth, x.lo), np.full(depth, x.hi), np.full(depth, x.zero_point), turns])
    return parity.Case(graph, {"x0": data.astype(x.storage)})


WIDE_X = parity.kind((1,), parity.INT16, 0)
SKEWED = [parity.kind((1,), parity.INT16, z) for z in (-32768, 32767)]


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda f: f.name)
@pytest.mark.parametrize(
    "x", [WIDE_X, *SKEWED, parity.kind((1,), parity.UINT8, 7)], ids=["even", "low", "high", "bytes"]
)
def test_extremes_meet_extremes(fmt: Format, x: IntType) -> None:
    """From one product to more than int32 holds, and than float64 holds where weights are as large as they may be."""
    for depth in (1, 2, 3, 17, 516, 517, 20_001):
        agree(extreme(fmt, x, depth))


def test_int32_holds_so_many_products_and_int64_the_rest() -> None:
    """516 products of int16 and -128 fit, and one more does not; the result is right on both sides."""
    least = 2**31 // (128 * 32768)  # 512 products of -128 and -32768 are 2**31
    for depth, shift in ((least - 1, 0), (least, 1)):
        case = extreme(parity.uniform(-128, 127), WIDE_X, depth, signs=(-1,))
        op = case.graph.nodes[0].op
        assert isinstance(op, IntLinear)
        assert op.pre_shift == shift
        agree(case)


def test_a_sum_beyond_2_to_the_53() -> None:
    """float64 would lose the last unit of this sum, which decides a rounding."""
    depth = 2**15
    weight = plain(np.full((1, depth), 1, np.uint8), Format(name="two", table=(0, MOST_WEIGHT)))
    weight.codes[0, -1] = 1
    x = parity.kind((depth,), parity.INT16, -32768)
    y = parity.kind((1,), parity.INT16, 0)
    sums = depth * MOST_WEIGHT * 65535
    assert sums > 2**53
    shift = least_pre_shift(weight.integers(), *interval(x), np.array([-float(sums)]))
    low = (sums + (1 << (shift - 1)) >> shift) - 100
    one = np.ones(1, np.int32)
    constants = [weight, -low * one, 2 * one, one]
    case = parity.one_op(IntLinear(lo=y.lo, hi=y.hi, pre_shift=shift), [x], y, constants)
    data = np.full((2, depth), 32767, np.int16)
    data[1, 0] -= 1
    agree(parity.Case(case, {"x0": data}))


def test_what_no_shift_helps_is_refused() -> None:
    fmt = Format(name="far", table=(-MOST_WEIGHT, MOST_WEIGHT))
    with pytest.raises(LoweringError, match="can reach"):
        extreme(fmt, SKEWED[0], 2**22 + 2**10)
    graph = extreme(parity.uniform(-128, 127), WIDE_X, 600).graph
    (node,) = graph.nodes
    assert isinstance(node.op, IntLinear)
    smaller = graph.evolve(nodes=(replace(node, op=replace(node.op, pre_shift=node.op.pre_shift - 1)),))
    with pytest.raises(LoweringError, match="can reach"):
        verify(smaller, "integer")
    with pytest.raises(RunError, match="may exceed"):
        Engine(smaller)


@pytest.mark.parametrize("isa", parity.ISAS)
@pytest.mark.parametrize("fmt", FORMATS[::3], ids=lambda f: f.name)
def test_reads_and_writes_stay_inside(isa: str, fmt: Format) -> None:
    """Inputs and outputs of odd lengths that end where nobody may touch."""
    rng = np.random.default_rng(1)
    for channels, outputs in ((1, 1), (3, 5), (7, 33)):
        x = parity.kind((3, 5, channels), parity.INT16, -7)
        y = parity.kind((3, 5, outputs), parity.INT16, 5)
        weight = plain(rng.integers(0, fmt.levels, (outputs, 3, 3, channels)).astype(np.uint8), fmt)
        shift = least_pre_shift(weight.integers(), *interval(x), np.zeros(outputs))
        ones = np.ones(outputs, np.int32)
        how = {"stride": (1, 1), "dilation": (1, 1), "padding": (1, 1, 1, 1)}
        op = IntConv(**how, groups=1, lo=y.lo, hi=y.hi, pre_shift=shift)
        graph = parity.one_op(op, [x], y, [weight, 0 * ones, ones << 30, 44 * ones])
        codes = {"x0": guarded(rng.integers(-32768, 32768, (2, 3, 5, channels)).astype(np.int16))}
        with parity.isa(isa):
            engine = Engine(graph)
        np.testing.assert_array_equal(engine.run(codes)["y"], run_reference(graph, codes)["y"])
