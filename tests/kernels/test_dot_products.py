"""Convolution and linear layers: every instruction set equals the reference, tails, borders and extremes included."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from subbyte.arithmetic.fast_requant import fused
from subbyte.arithmetic.requant import requantize
from subbyte.errors import LoweringError
from subbyte.formats.qtensor import QTensor
from subbyte.graph.ir import Constant, Graph, IntType
from subbyte.graph.ops.conv import IntConv
from subbyte.graph.ops.linear import IntLinear
from subbyte.runtime.engine import Engine
from subbyte.runtime.reference import run_reference
from tests.kernels import parity
from tests.limits import examples


def window(size: int, kernel: int, stride: int, dilation: int, before: int, after: int) -> int:
    return (size + before + after - (kernel - 1) * dilation - 1) // stride + 1


def epilogue(draw: st.DrawFn, weight: QTensor, depth: int) -> list[Constant]:
    """Bias, multipliers and, for half of the cases, those of a leaky slope."""
    channels = weight.codes.shape[0]
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    reach = draw(st.sampled_from([0, 3000, 2**30]))
    bias = rng.integers(-reach, reach + 1, channels).astype(np.int32)
    ratio = 1.0 / max(1.0, weight.format.max_abs * depth**0.5 * draw(st.sampled_from([0.1, 1.0, 100.0])))
    pairs = [*parity.multipliers(draw, channels, ratio)]
    if draw(st.booleans()):
        pairs += parity.multipliers(draw, channels, ratio / 7)
    return [np.asarray(bias), *pairs]


@st.composite
def convolutions(draw: st.DrawFn) -> parity.Case:
    form = draw(st.sampled_from(["plain", "plain", "grouped", "depthwise", "multiplier"]))
    groups = 1 if form == "plain" else draw(st.integers(2, 5 if form == "grouped" else 40))
    per_group = draw(st.integers(1, 20)) if form in {"plain", "grouped"} else 1
    outputs = draw(st.integers(1, 80)) if form == "plain" else groups
    outputs *= {"grouped": draw(st.integers(1, 9)), "multiplier": 2}.get(form, 1)
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    padding = draw(st.tuples(*[st.integers(0, 3)] * 4))
    size = draw(st.tuples(st.integers(1, 11), st.integers(1, 11)))
    out = [window(size[i], kernel[i], stride[i], dilation[i], padding[i], padding[2 + i]) for i in (0, 1)]
    assume(min(out) >= 1)
    x = draw(parity.kinds((*size, groups * per_group), "uint8"))
    y = draw(parity.kinds((*out, outputs)))
    weight = draw(parity.weights((outputs, *kernel, per_group)))
    limits = draw(parity.bounds(y))
    op = IntConv(stride=stride, dilation=dilation, padding=padding, groups=groups, **limits)
    constants = epilogue(draw, weight, kernel[0] * kernel[1] * per_group)
    return parity.feed(draw, parity.one_op(op, [x], y, [weight, *constants]))


SMALL = (st.one_of(st.integers(2, 70), st.sampled_from([72, 80, 96, 100, 112, 128, 144, 192])), st.integers(1, 13))
WIDE = (st.one_of(st.integers(1, 20), st.sampled_from([24, 32, 33, 40, 64, 72])), st.integers(60, 200))


@st.composite
def small_windows(
    draw: st.DrawFn, extent: tuple[st.SearchStrategy[int], st.SearchStrategy[int]] = SMALL
) -> parity.Case:
    """3x3 depthwise convolutions: every way in which channels and widths fill vectors, sums near 16 bits."""
    channels = draw(extent[0])
    stride = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    padding = draw(st.tuples(*[st.integers(0, 1)] * 4))
    out = draw(st.tuples(st.integers(1, 5), extent[1]))
    size = [
        (out[i] - 1) * stride[i] + 3 - padding[i] - padding[2 + i] + draw(st.integers(0, stride[i] - 1)) for i in (0, 1)
    ]
    assume(min(size) >= 1)
    out = [window(size[i], 3, stride[i], 1, padding[i], padding[2 + i]) for i in (0, 1)]
    x = draw(parity.kinds((*size, channels), "uint8"))
    y = draw(parity.kinds((*out, channels)))
    weight = draw(parity.weights((channels, 3, 3, 1)))
    op = IntConv(stride=stride, dilation=(1, 1), padding=padding, groups=channels, **draw(parity.bounds(y)))
    return parity.feed(draw, parity.one_op(op, [x], y, [weight, *epilogue(draw, weight, 9)]))


@st.composite
def linears(draw: st.DrawFn) -> parity.Case:
    depth = draw(st.one_of(st.integers(1, 70), st.sampled_from([255, 256, 257, 1023, 4096])))
    outputs = draw(st.one_of(st.integers(1, 70), st.sampled_from([127, 128, 129])))
    rows = draw(st.lists(st.integers(1, 7), max_size=3))
    x = draw(parity.kinds((*rows, depth), "uint8"))
    y = draw(parity.kinds((*rows, outputs)))
    weight = draw(parity.weights((outputs, depth)))
    op = IntLinear(**draw(parity.bounds(y)))
    return parity.feed(draw, parity.one_op(op, [x], y, [weight, *epilogue(draw, weight, depth)]))


@settings(max_examples=examples(600))
@given(convolutions())
def test_convolution(case: parity.Case) -> None:
    parity.agree(case)


@settings(max_examples=examples(600))
@given(small_windows())
def test_depthwise_of_small_windows(case: parity.Case) -> None:
    parity.agree(case)


@settings(max_examples=examples(100))
@given(small_windows(WIDE))
def test_depthwise_of_rows_wider_than_a_tile(case: parity.Case) -> None:
    parity.agree(case)


def extreme_window(channels: int, width: int, stride: int) -> parity.Case:
    """A 3x3 depthwise convolution, padded on the left and below, of extreme weights and activations side by side."""
    size, out = (6, stride * (width - 1) + 2), ((6 - 2) // stride + 1, width)
    rng = np.random.default_rng([channels, width, stride])
    weight = QTensor(
        codes=rng.choice([0, 255], (channels, 3, 3, 1)).astype(np.uint8),
        format=parity.uniform(-128, 127),
        scale=np.ones(channels, dtype=np.float32),
        zero_point=np.zeros(channels, dtype=np.int32),
    )
    x = parity.kind((*size, channels), parity.UINT8, 255)
    y = parity.kind((*out, channels), parity.UINT8, 128)
    ones = np.ones(channels, dtype=np.int32)
    m = rng.integers(2**30, 2**31 - 1, channels).astype(np.int32)
    op = IntConv(stride=(stride, stride), dilation=(1, 1), padding=(0, 1, 1, 0), groups=channels, lo=1, hi=254)
    graph = parity.one_op(op, [x], y, [weight, rng.integers(-999, 999, channels).astype(np.int32), m, 41 * ones])
    return parity.Case(graph, {"x0": rng.choice([0, 255], (2, *size, channels)).astype(np.uint8)})


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("channels", [1, 3, 8, 16, 20, 32, 48, 64, 100, 144])
def test_depthwise_of_narrow_rows(channels: int, stride: int) -> None:
    for width in range(1, 6):
        parity.agree(extreme_window(channels, width, stride))


@settings(max_examples=examples(300))
@given(linears())
def test_linear(case: parity.Case) -> None:
    parity.agree(case)


def saturating(weight_code: int, x_code: int, depth: int) -> parity.Case:
    """A dot product of equal extremes, which overflows kernels that saturate at 16 bits."""
    fmt = parity.uniform(-128, 127)
    weight = QTensor(
        codes=np.full((17, depth), weight_code, dtype=np.uint8),
        format=fmt,
        scale=np.ones(17, dtype=np.float32),
        zero_point=np.zeros(17, dtype=np.int32),
    )
    x = parity.kind((depth,), parity.UINT8, 0)
    y = parity.kind((17,), parity.INT16, 0)
    ones = np.ones(17, dtype=np.int32)
    constants: list[Constant] = [weight, 0 * ones, ones << 14, 27 * ones]
    graph = parity.one_op(IntLinear(lo=y.lo, hi=y.hi), [x], y, constants)
    return parity.Case(graph, {"x0": np.full((3, depth), x_code, dtype=np.uint8)})


@pytest.mark.parametrize("weight_code", [0, 255])
@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5, 31, 64, 65, 4099, 65793])
def test_extremes_meet_extremes(weight_code: int, depth: int) -> None:
    parity.agree(saturating(weight_code, 255, depth))


def test_accumulators_that_may_overflow_are_refused() -> None:
    with pytest.raises(LoweringError):
        saturating(0, 255, 2**31 // (128 * 255) + 1)


def test_accumulators_at_the_very_limit() -> None:
    """The bias brings the largest sum to exactly 2**31 - 1 on either side."""
    room = 2**31 - 1 - 2 * 128 * 255
    weight = QTensor(
        codes=np.array([[0, 0], [0, 0], [255, 255]], dtype=np.uint8),
        format=parity.uniform(-128, 127),
        scale=np.ones(3, dtype=np.float32),
        zero_point=np.zeros(3, dtype=np.int32),
    )
    x = parity.kind((2,), parity.UINT8, 0)
    y = parity.kind((3,), parity.INT16, 0)
    three = np.ones(3, dtype=np.int32)
    for m, n in ((2**31 - 1, 47), (-(2**31), 48), (1, 16), (2**14, 30), (2**31 - 1, 33), (2**31 - 1, 1)):
        constants: list[Constant] = [
            weight,
            np.array([-room, room, room], dtype=np.int32),
            three * np.int32(m),
            three * np.int32(n),
        ]
        graph = parity.one_op(IntLinear(lo=y.lo, hi=y.hi), [x], y, constants)
        parity.agree(parity.Case(graph, {"x0": np.array([[255, 255], [0, 0]], dtype=np.uint8)}))


@pytest.mark.parametrize("unit", [1, 128])
@pytest.mark.parametrize("leaky", [False, True])
@pytest.mark.parametrize(
    ("ratio", "zero_point", "lo", "hi"), [(0.0173, 0, 0, 255), (0.031, 131, 0, 255), (0.9, 9, 7, 90)]
)
def test_every_accumulator_of_a_range(ratio: float, zero_point: int, lo: int, hi: int, leaky: bool, unit: int) -> None:
    """80 columns whose biases lie 256 apart see every sum in turn, with multipliers that float32 holds or not."""
    columns = 80
    rng = np.random.default_rng(columns)
    weight = QTensor(
        codes=np.full((columns, 1), 129, dtype=np.uint8),
        format=parity.uniform(-128, 127),
        scale=np.ones(columns, dtype=np.float32),
        zero_point=np.zeros(columns, dtype=np.int32),
    )
    bias = np.arange(-columns // 2, columns // 2, dtype=np.int32) * 256
    m = (rng.integers(2**30, 2**31, columns) // unit * unit).astype(np.int32)
    n = np.rint(30.5 - np.log2(ratio) + 0 * m).astype(np.int32)
    constants: list[Constant] = [weight, bias, m, n, *([m, n + 3] if leaky else [])]
    x, y = parity.kind((1,), parity.UINT8, 0), parity.kind((columns,), parity.UINT8, zero_point)
    graph = parity.one_op(IntLinear(lo=lo, hi=hi), [x], y, constants)
    parity.agree(parity.Case(graph, {"x0": np.arange(256, dtype=np.uint8)[:, None]}))


@pytest.mark.parametrize("zero_point", [0, 130, 255])
@pytest.mark.parametrize("n", [32, 33, 34, 54, 55, 56, 57, 60, 62])
def test_large_sums_meet_large_shifts(n: int, zero_point: int) -> None:
    """The zero point must not overflow what kernels add to the high half of a product."""
    rng = np.random.default_rng(n)
    count = 80
    weight = QTensor(
        codes=np.ones((count, 1), dtype=np.uint8),
        format=parity.uniform(0, 1),
        scale=np.ones(count, dtype=np.float32),
        zero_point=np.zeros(count, dtype=np.int32),
    )
    bias = rng.integers(-(2**31) + 256, 2**31 - 256, count).astype(np.int32)
    m = rng.integers(2**30, 2**31, count).astype(np.int32)
    constants: list[Constant] = [weight, bias, m, np.full(count, n, dtype=np.int32)]
    x, y = parity.kind((1,), parity.UINT8, 0), parity.kind((count,), parity.UINT8, zero_point)
    graph = parity.one_op(IntLinear(lo=0, hi=255), [x], y, constants)
    parity.agree(parity.Case(graph, {"x0": np.arange(4, dtype=np.uint8)[:, None]}))


@pytest.mark.parametrize("leaky", [False, True])
def test_where_float32_would_round_otherwise(leaky: bool) -> None:
    """Multipliers of too many bits, each with an accumulator for which the float32 form is off by one."""
    rng = np.random.default_rng(7)
    m, zero_point = rng.integers(2**30, 2**31, 4000), 130
    n = np.full(m.size, 40)
    steps = -(-((np.arange(1, 256) - zero_point) * 2**40 - 2**39) // m[:, None])
    sides = np.concatenate([steps - 1, steps], axis=1)
    wanted = requantize(sides, m[:, None], 40, zero_point, 0, 255)
    wrong = fused(sides, np.ldexp(m, -n).astype(np.float32)[:, None], zero_point).clip(0, 255) != wanted
    chosen = np.flatnonzero(wrong.any(axis=1))[:80]
    assert chosen.size == 80
    bias = sides[chosen, wrong[chosen].argmax(axis=1)].astype(np.int32)
    weight = QTensor(
        codes=np.ones((80, 1), dtype=np.uint8),
        format=parity.uniform(0, 1),
        scale=np.ones(80, dtype=np.float32),
        zero_point=np.zeros(80, dtype=np.int32),
    )
    pair: list[Constant] = [m[chosen].astype(np.int32), n[chosen].astype(np.int32)]
    x, y = parity.kind((1,), parity.UINT8, 0), parity.kind((80,), parity.UINT8, zero_point)
    graph = parity.one_op(IntLinear(lo=0, hi=255), [x], y, [weight, bias, *pair, *(pair if leaky else [])])
    parity.agree(parity.Case(graph, {"x0": np.arange(4, dtype=np.uint8)[:, None]}))


def broken(graph: Graph, **changes: object) -> Graph:
    """The graph with a defect in its one convolution."""
    (node,) = graph.nodes
    op = node.op
    assert isinstance(op, IntConv)
    return graph.evolve(nodes=(replace(node, op=replace(op, **changes)),))


def test_defects_of_one_step_would_be_seen() -> None:
    """The comparison has teeth: an engine that is off by one in padding, tail, rounding or zero point differs."""
    rng = np.random.default_rng(5)
    x = parity.kind((6, 6, 5), parity.UINT8, 7)
    y = parity.kind((6, 6, 3), parity.INT16, 0)
    codes = rng.integers(0, 256, (3, 3, 3, 5)).astype(np.uint8)
    ones = np.ones(3, dtype=np.int32)

    def graph(zero: int, weight_codes: parity.Array, bias: int) -> Graph:
        weight = QTensor(
            codes=weight_codes,
            format=parity.uniform(-128, 127),
            scale=np.ones(3, dtype=np.float32),
            zero_point=0 * ones,
        )
        op = IntConv(stride=(1, 1), dilation=(1, 1), padding=(1, 1, 1, 1), groups=1, lo=y.lo, hi=y.hi)
        source = IntType(shape=x.shape, format=x.format, scale=1.0, zero_point=zero)
        return parity.one_op(op, [source], y, [weight, bias * ones, ones, 3 * ones])

    feeds = {"x0": rng.integers(0, 256, (2, 6, 6, 5)).astype(np.uint8)}
    good = graph(7, codes, 0)
    parity.agree(parity.Case(good, feeds))
    tail = codes.copy()
    tail[..., -1] = 128  # integer 0: the last k is forgotten
    defects = {
        "padding": broken(good, padding=(0, 1, 2, 1)),
        "tail": graph(7, tail, 0),
        "rounding": graph(7, codes, -1),  # floor((acc + 3) / 8) in place of floor((acc + 4) / 8)
        "zero point": graph(8, codes, 0),
    }
    expected = run_reference(good, feeds)["y"]
    for name, defect in defects.items():
        assert np.any(Engine(defect).run(feeds)["y"] != expected), name
