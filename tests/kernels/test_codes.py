"""Activations stored as codes of a table: layers that read and make them, and what moves them; all executors agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from subbyte import _native
from subbyte.arithmetic.bounds import LIMIT, MOST_WEIGHT, least_pre_shift
from subbyte.errors import GraphError, RunError
from subbyte.formats import get_format
from subbyte.formats.format import Format
from subbyte.formats.qtensor import QTensor
from subbyte.graph import ops
from subbyte.graph.ir import Constant, Graph, IntType, Node
from subbyte.graph.ops.centred import interval
from subbyte.graph.ops.op import Op
from subbyte.graph.verify import verify
from subbyte.runtime.engine import Engine
from subbyte.runtime.reference import run_reference
from tests.kernels import parity
from tests.kernels.test_dot_products import window
from tests.kernels.test_wide import FORMATS, agree, epilogue, plain, weights
from tests.limits import examples

E4M3 = get_format("fp8_e4m3fn")
FP6 = get_format("fp6_e3m2")
FAR = Format(name="far_codes", table=(-MOST_WEIGHT, -3, 0, 1, 40000, MOST_WEIGHT))
FULL = Format(name="full", table=(*range(-300, -45), 0))
TABLES = (E4M3, FP6, FAR, FULL, Format(name="two_codes", table=(0, 1000)))
"""253 codes beyond 16 bits, 63 within, as far as is allowed, 256 codes with 0 the last, and two."""


def codes_of(shape: Sequence[int], fmt: Format) -> IntType:
    """A type of codes."""
    return parity.kind(shape, fmt, fmt.zero_code)


def between(op: Op, x: IntType, y: IntType, constants: Sequence[Constant] = ()) -> Graph:
    """The operator behind and in front of tables that let codes in and out as they are; verified."""
    types, nodes = {"x0": x, "y": y}, []
    fixed = {f"c{i}": c for i, c in enumerate(constants)}
    each = np.arange(256, dtype=np.uint8)
    read, made = "x0", "y"
    if x.format.coded:
        types |= {"x0": replace(x, format=parity.uniform(0, x.hi)), "in": x}
        fixed["each"] = each
        nodes.append(Node(name="read", op=ops.IntLut(), inputs=("x0", "each"), output="in"))
        read = "in"
    if y.format.coded:
        types |= {"y": replace(y, format=parity.uniform(0, y.hi)), "out": y}
        fixed["each"] = each
        made = "out"
    nodes.append(Node(name="n", op=op, inputs=(read, *(f"c{i}" for i in range(len(constants)))), output=made))
    if y.format.coded:
        nodes.append(Node(name="made", op=ops.IntLut(), inputs=("out", "each"), output="y"))
    graph = Graph(name="g", inputs=("x0",), outputs=("y",), types=types, constants=fixed, nodes=tuple(nodes))
    verify(graph, "integer")
    return graph


@st.composite
def ends(draw: st.DrawFn, inside: Sequence[int], outside: Sequence[int]) -> tuple[IntType, IntType]:
    """Operand and result, at least one of them in codes."""
    which = draw(st.sampled_from(["both", "in", "out"]))
    x, y = (codes_of(shape, draw(st.sampled_from(TABLES))) for shape in (inside, outside))
    if which == "in":
        y = draw(parity.kinds(outside))
    if which == "out":
        x = draw(parity.kinds(inside))
    return x, y


def fits(weight: QTensor, x: IntType) -> bool:
    """Whether some shift brings the sums to int32, with room: larger ones are refused."""
    rows = np.abs(weight.integers().astype(np.int64)).reshape(len(weight.codes), -1).sum(axis=1)
    return int(rows.max()) * max(map(abs, interval(x))) < LIMIT << 30


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
    size = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    out = [window(size[i], kernel[i], stride[i], dilation[i], padding[i], padding[2 + i]) for i in (0, 1)]
    assume(min(out) >= 1)
    x, y = draw(ends((*size, groups * per_group), (*out, outputs)))
    weight = draw(weights((outputs, *kernel, per_group)))
    assume(fits(weight, x))
    shift, constants = draw(epilogue(weight, x))
    how = {"stride": stride, "dilation": dilation, "padding": padding}
    op = ops.IntConv(**how, groups=groups, pre_shift=shift, **draw(parity.bounds(y)))
    return parity.feed(draw, between(op, x, y, [weight, *constants]))


@st.composite
def linears(draw: st.DrawFn) -> parity.Case:
    depth = draw(st.one_of(st.integers(1, 70), st.sampled_from([73, 74, 255, 1023])))
    outputs = draw(st.integers(1, 70))
    rows = draw(st.lists(st.integers(1, 9), max_size=3))
    x, y = draw(ends((*rows, depth), (*rows, outputs)))
    weight = draw(weights((outputs, depth)))
    assume(fits(weight, x))
    shift, constants = draw(epilogue(weight, x))
    op = ops.IntLinear(pre_shift=shift, **draw(parity.bounds(y)))
    return parity.feed(draw, between(op, x, y, [weight, *constants]))


@st.composite
def rescales(draw: st.DrawFn) -> parity.Case:
    x = draw(parity.kinds((draw(st.integers(1, 70)), 3)))
    y = codes_of(x.shape[1:], draw(st.sampled_from(TABLES)))
    reach = max(abs(end) for end in interval(x)) or 1
    ratio = draw(st.sampled_from([0.3, 1.0, 3.0])) * y.format.max_abs / reach
    m, n = (int(v[0]) for v in parity.multipliers(draw, 1, ratio))
    return parity.feed(draw, between(ops.IntRescale(m=m, n=n, **draw(parity.bounds(y))), x, y))


@settings(max_examples=examples(300))
@given(convolutions())
def test_convolution(case: parity.Case) -> None:
    agree(case)


@settings(max_examples=examples(200))
@given(linears())
def test_linear(case: parity.Case) -> None:
    agree(case)


@settings(max_examples=examples(100))
@given(rescales())
def test_rescale(case: parity.Case) -> None:
    agree(case)


MOVES = (
    ops.MaxPool(kernel=(2, 3), stride=(1, 2), padding=(1, 1, 0, 1), layout="channels_last"),
    ops.IntPad(before=(0, 1, 0, 0), after=(0, 0, 2, 1), fill=5),
    ops.Transpose(perm=(0, 2, 3, 1)),
    ops.Slice(starts=(0, 0, 1, 0), ends=(None, 4, 5, 3), steps=(1, 3, 2, 1)),
    ops.Reshape(shape=(None, 60)),
    ops.ResizeNearest(size=(7, 6), layout="channels_last"),
    ops.Identity(),
)


@pytest.mark.parametrize("op", MOVES, ids=lambda op: op.name)
@pytest.mark.parametrize("fmt", TABLES[:4], ids=lambda f: f.name)
def test_codes_move_like_values(op: Op, fmt: Format) -> None:
    x = codes_of((4, 5, 3), fmt)
    graph = between(op, x, codes_of([d or 0 for d in op.infer([x])[1:]], fmt))
    data = np.random.default_rng(0).integers(0, fmt.levels, (3, 4, 5, 3)).astype(np.uint8)
    agree(parity.Case(graph, {"x0": data}))


def test_73_products_of_e4m3_and_bytes_fit_int32_and_one_more_does_not() -> None:
    """127 * 229,376 * 73 is below 2**31; on both sides the largest codes are multiplied rightly."""
    for depth, shift in ((73, 0), (74, 1)):
        weight = plain(np.full((2, depth), 255, np.uint8), parity.uniform(-128, 127))
        weight.codes[1] = 1
        x = codes_of((depth,), E4M3)
        assert least_pre_shift(weight.integers(), *interval(x), np.zeros(2)) == shift
        y = codes_of((2,), E4M3)
        ones = np.ones(2, np.int32)
        op = ops.IntLinear(lo=y.lo, hi=y.hi, pre_shift=shift)
        graph = between(op, x, y, [weight, 0 * ones, ones << 30, np.array([43, 44], np.int32)])
        data = np.stack([np.full(depth, q) for q in (0, 126, 252)]).astype(np.uint8)
        agree(parity.Case(graph, {"x0": data}))


@pytest.mark.parametrize("fmt", [E4M3, FORMATS[2]], ids=lambda f: f.name)
@pytest.mark.parametrize("depth", [1, 3, 17, 516, 3001])
def test_extremes_meet_extremes(fmt: Format, depth: int) -> None:
    """+-448 times the largest weights, from one product to far beyond int32, and what is made of nothing."""
    weight = plain(np.array([[0] * depth, [fmt.levels - 1] * depth], np.uint8), fmt)
    x, y = codes_of((depth,), E4M3), codes_of((2,), E4M3)
    shift = least_pre_shift(weight.integers(), *interval(x), np.zeros(2))
    sums = (depth * fmt.hi * E4M3.hi) >> shift
    one = np.ones(2, np.int32)
    n = 30 + max(1, sums.bit_length() - E4M3.hi.bit_length())
    op = ops.IntLinear(lo=y.lo, hi=y.hi, pre_shift=shift)
    graph = between(op, x, y, [weight, 0 * one, one << 30, n * one])
    turns = np.where(np.arange(depth) % 2, 0, 252)
    data = np.stack([np.full(depth, 0), np.full(depth, 252), np.full(depth, 126), turns]).astype(np.uint8)
    case = parity.Case(graph, {"x0": data})
    agree(case)
    made = run_reference(graph, case.codes)["y"]
    assert made[0].tolist() == made[1, ::-1].tolist()
    assert made[2].tolist() == [126, 126]
    assert (made[:2].min(), made[:2].max()) in {(q, 252 - q) for q in range(20)}


@pytest.mark.parametrize("isa", parity.ISAS)
def test_every_code_is_made_at_its_threshold(isa: str) -> None:
    """Accumulators on both sides of the middle between any two values, and in it: the larger one's code."""
    middles = (np.array(E4M3.table[1:]) + np.array(E4M3.table[:-1])).astype(np.int64)  # times two
    inputs = np.unique(np.concatenate([middles - 1, middles, middles + 1, [2 * E4M3.lo - 9, 2 * E4M3.hi + 9]]))
    x = parity.kind((1,), parity.INT16, 0)
    far = Format(name="thousand", table=(1, 1000))
    low, high = inputs % 1000, inputs // 1000
    weight = plain(np.array([[0, 1]], np.uint8), far)
    one = np.ones(1, np.int32)
    y = codes_of((1,), E4M3)
    op = ops.IntLinear(lo=y.lo, hi=y.hi)
    graph = between(op, replace(x, shape=(None, 2)), y, [weight, 0 * one, one, one])
    codes = {"x0": np.stack([low, high], axis=1).astype(np.int16)}
    expected = np.array([np.sum(middles <= v) for v in inputs])
    np.testing.assert_array_equal(run_reference(graph, codes)["y"][:, 0], expected)
    with parity.isa(isa):
        np.testing.assert_array_equal(Engine(graph).run(codes)["y"][:, 0], expected)
    assert set(expected.tolist()) == set(range(253))


def test_operators_of_even_steps_refuse_codes() -> None:
    x = codes_of((4,), E4M3)
    plain_type = parity.kind((4,), parity.INT16, 0)
    for op in (ops.IntRescale(m=1, n=1, lo=0, hi=9), ops.IntMean(axes=(1,), keepdims=True, m=1, n=1, lo=0, hi=9)):
        with pytest.raises(GraphError, match="stored as codes of fp8_e4m3fn"):
            op.infer([x])
    with pytest.raises(GraphError, match="codes"):
        ops.Argmax(axis=1).check([x], parity.kind((), parity.INT16, 0))
    with pytest.raises(GraphError, match="codes"):
        ops.IntMean(axes=(1,), keepdims=True, m=1, n=1, lo=0, hi=9).check([plain_type], codes_of((1,), E4M3))
    other = codes_of((4,), replace(E4M3, name="other", table=(*range(-300, -48), 0)))
    with pytest.raises(GraphError, match="keeps scale"):
        ops.Identity().check([x], replace(other, zero_point=x.zero_point))


def test_graphs_hold_codes_inside_only_and_their_zero_point_is_the_code_of_0() -> None:
    graph = between(ops.Identity(), codes_of((4,), E4M3), codes_of((4,), E4M3))
    for name in ("x0", "y"):
        with pytest.raises(GraphError, match="holds codes"):
            verify(graph.evolve(types={**graph.types, name: codes_of((4,), E4M3)}), "integer")
    with pytest.raises(GraphError, match="zero point of codes"):
        verify(graph.evolve(types={**graph.types, "in": replace(codes_of((4,), E4M3), zero_point=125)}), "integer")
    with pytest.raises(GraphError, match="24"):
        verify(graph.evolve(types={**graph.types, "in": codes_of((4,), get_format("fp8_e5m2"))}), "integer")


TABLE = [-300, 0, 7]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"table": [-300, 7, 0]}, "ascends"),
        ({"table": [-300, 0, 0]}, "ascends"),
        ({"table": [-(2**24), 0, 7]}, "24 bits"),
        ({"zero_point": 2}, "stands for 0"),
        ({"zero_point": 3}, "stands for 0"),
        ({"hi": 3}, "as many as"),
        ({"storage": "int16"}, "codes are bytes"),
        ({"table": list(range(-300, 1)), "hi": 255}, "as many as"),
        ({"kind": "int_mean"}, "reads no codes"),
        ({"out": [-300, 0, 8]}, "what codes stand for"),
        ({"outputs": [1]}, "between operators"),
    ],
)
def test_the_plan_doubts_tables(changes: dict[str, object], message: str) -> None:
    """Python has tested all of it before; the plan takes nothing on faith."""
    parts = {
        "table": TABLE,
        "zero_point": 1,
        "hi": 2,
        "storage": "uint8",
        "kind": "identity",
        "outputs": [3],
        **changes,
    }
    builder = _native.Builder()
    builder.value("x", [4], "uint8", 0, 0, 2)
    coded = (parts["zero_point"], 0, parts["hi"], 1.0)
    builder.value("a", [4], parts["storage"], *coded, parts["table"])  # type: ignore[arg-type]
    builder.value("b", [4], "uint8", 1, 0, 2, 1.0, parts.get("out", TABLE))  # type: ignore[arg-type]
    builder.value("y", [4], "uint8", 0, 0, 255)
    table = {"table": np.minimum(np.arange(256), 2).astype(np.uint8)}
    builder.op("int_lut", "read", [0], 1, {}, table)
    builder.op(parts["kind"], "n", [1], 2, {}, {})  # type: ignore[arg-type]
    builder.op("int_lut", "made", [2], 3, {}, table)
    with pytest.raises((RunError, ValueError), match=message):
        builder.build([0], parts["outputs"])  # type: ignore[arg-type]
