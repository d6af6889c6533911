"""Linear layers whose rows have scales of their own: executors agree, at the extremes, and refuse what is no proof."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from subbyte.arithmetic.bounds import LIMIT, MOST_PRE_SHIFT, least_pre_shift
from subbyte.arithmetic.per_token import row_codes
from subbyte.arithmetic.requant import round_shift
from subbyte.errors import GraphError, LoweringError, RunError
from subbyte.formats import get_format
from subbyte.formats.qtensor import QTensor
from subbyte.graph.ir import Graph, IntType
from subbyte.graph.ops.linear_per_token import IntLinearPerToken, coded_reach
from subbyte.graph.verify import verify
from subbyte.runtime.engine import Engine
from subbyte.runtime.reference import run_reference
from tests.kernels import parity
from tests.kernels.test_caller_memory import guarded
from tests.kernels.test_engine import plan
from tests.kernels.test_wide import agree, plain
from tests.limits import examples

LARGEST = (1, 2, 15, 30, 127, 255)


@st.composite
def layers(draw: st.DrawFn) -> parity.Case:
    depth = draw(st.one_of(st.integers(1, 70), st.sampled_from([255, 1023, 4096])))
    outputs = draw(st.integers(1, 140))
    rows = draw(st.lists(st.integers(1, 9), max_size=3))
    x, y = draw(parity.kinds((*rows, depth))), draw(parity.kinds((*rows, outputs)))
    largest = draw(st.sampled_from(LARGEST))
    weight = draw(parity.weights((outputs, depth)))
    integers = weight.integers().astype(np.int64)
    assume(integers.min() >= -128 and integers.max() <= 127)
    shift, constants = draw(epilogue(integers, coded_reach(x, largest)))
    op = IntLinearPerToken(largest=largest, pre_shift=shift, **draw(parity.bounds(y)))
    case = parity.feed(draw, parity.one_op(op, [x], y, [weight, *constants]))
    return with_odd_rows(case, x)


@st.composite
def epilogue(draw: st.DrawFn, integers: parity.Array, reach: int) -> tuple[int, list[parity.Array]]:
    """A legal pre-shift, mostly the least; bias up to what the proof leaves; multipliers, and perhaps leaky ones."""
    channels = len(integers)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shift = least_pre_shift(integers, -reach, reach, np.zeros(channels))
    shift = min(MOST_PRE_SHIFT, shift + draw(st.sampled_from([0, 0, 0, 1, 5])))
    sums = np.abs(integers).sum(axis=1) * reach
    worst = round_shift(sums, shift) if shift else sums
    bias = (rng.choice([-1, 1, 0.01], channels) * (LIMIT - worst)).astype(np.int32)
    ratio = 1.0 / max(1.0, float(worst.max()) * draw(st.sampled_from([1e-5, 1e-2, 1.0])))
    pairs = [*parity.multipliers(draw, channels, ratio)]
    if draw(st.booleans()):
        pairs += parity.multipliers(draw, channels, ratio / 7)
    return shift, [bias, *pairs]


def with_odd_rows(case: parity.Case, x: IntType) -> parity.Case:
    """The first row is all zeros, the last has one number that is not; others differ in size by powers of two."""
    codes = case.codes["x0"].astype(np.int64)
    rows = codes.reshape(-1, codes.shape[-1]) - x.zero_point
    rows >>= np.arange(len(rows))[:, None] % 13
    rows[0] = 0
    rows[-1, :-1] = 0
    codes = np.clip(rows + x.zero_point, x.lo, x.hi).reshape(codes.shape)
    return replace(case, codes={"x0": codes.astype(case.codes["x0"].dtype)})


@settings(max_examples=examples(300))
@given(layers())
def test_executors_agree(case: parity.Case) -> None:
    agree(case)


def layer(weight: QTensor, x: IntType, largest: int = 255, rows: tuple[int, ...] = (), bias: int = 0) -> Graph:
    """One layer whose results use most of int16."""
    outputs, depth = weight.shape
    integers, reach = weight.integers().astype(np.int64), coded_reach(x, largest)
    shift = least_pre_shift(integers, -reach, reach, np.full(outputs, float(bias)))
    most = int(np.abs(integers).sum(axis=1).max()) * reach >> shift
    n = 30 + max(1, most.bit_length() - 15)
    ones = np.ones(outputs, np.int32)
    y = parity.kind((*rows, outputs), parity.INT16, 0)
    op = IntLinearPerToken(lo=y.lo, hi=y.hi, largest=largest, pre_shift=shift)
    constants = [weight, bias * ones, ones << 30, n * ones]
    return parity.one_op(op, [replace(x, shape=(None, *rows, depth))], y, constants)


WIDE = parity.kind((1,), parity.INT16, 0)
KINDS = {
    "even": WIDE,
    "low": parity.kind((1,), parity.INT16, -32768),
    "high": parity.kind((1,), parity.INT16, 32767),
    "bytes": parity.kind((1,), parity.UINT8, 7),
}


@pytest.mark.parametrize("largest", [1, 15, 255])
@pytest.mark.parametrize("x", KINDS.values(), ids=KINDS)
def test_extremes_meet_extremes(x: IntType, largest: int) -> None:
    """Rows of ends of the range, constant and alternating, zeros, and one number, with weights at their ends."""
    for depth in (1, 2, 3, 4, 17, 4097):
        fmt = parity.uniform(-128, 127)
        alternating = np.where(np.arange(depth) % 2, 0, fmt.levels - 1)
        codes = np.stack([np.full(depth, 0), np.full(depth, fmt.levels - 1), alternating]).astype(np.uint8)
        turns = np.where(np.arange(depth) % 2, x.lo, x.hi)
        single = np.where(np.arange(depth) == depth - 1, x.lo, x.zero_point)
        data = np.stack([np.full(depth, v) for v in (x.lo, x.hi, x.zero_point)] + [turns, turns[::-1], single])
        agree(parity.Case(layer(plain(codes, fmt), x, largest), {"x0": data.astype(x.storage)}))


@pytest.mark.parametrize("isa", parity.ISAS)
@pytest.mark.parametrize("largest", [1, 15, 255])
def test_every_byte_in_every_spread(isa: str, largest: int) -> None:
    """The reciprocal of kernels gives the division's codes: all numbers of bytes between all ends."""
    x = KINDS["bytes"]
    for spread in range(1, 256, 1 if largest == 255 else 7):
        low = (255 - spread) // 2 - x.zero_point
        check_codes(isa, np.arange(low, low + spread + 1), x, largest)


@pytest.mark.parametrize("isa", parity.ISAS)
@pytest.mark.parametrize("name", ["even", "low", "high"])
def test_words_where_codes_change(isa: str, name: str) -> None:
    """The same of 16 bits, for the numbers around every half code: divisions are hard there and nowhere else."""
    x = KINDS[name]
    lo, hi = x.lo - x.zero_point, x.hi - x.zero_point
    near = {2**k + d for k in range(16) for d in (-1, 0, 1)}
    for spread in sorted({*near, 43691, 52429, 65535, *np.random.default_rng(0).integers(1, 65536, 20).tolist()} - {0}):
        low = lo + (hi - lo - spread) * spread % 3 // 2
        changes = (2 * np.arange(256) + 1) * spread // 510
        around = np.clip(np.concatenate([changes - 1, changes, changes + 1, [0, spread]]), 0, spread)
        check_codes(isa, low + np.unique(around), x, 255)


def check_codes(isa: str, row: parity.Array, x: IntType, largest: int) -> None:
    """Codes of a row of centred integers, one by one: weights of 1 on the diagonal, spread and low end taken out."""
    depth, low, spread = len(row), int(row.min()), int(row.max() - row.min())
    codes, scale, zero = np.eye(depth, dtype=np.uint8), np.ones(depth, np.float32), np.zeros(depth, np.int32)
    weight = QTensor(codes=codes, format=parity.uniform(0, 1), scale=scale, zero_point=zero)
    y, ones = parity.kind((depth,), parity.INT16, 0), np.ones(depth, np.int32)
    op = IntLinearPerToken(lo=y.lo, hi=y.hi, largest=largest)
    constants = [weight, -largest * low * ones, round(2**30 / spread) * ones, 30 * ones]
    graph = parity.one_op(op, [replace(x, shape=(None, depth))], y, constants)
    with parity.isa(isa):
        found = Engine(graph).run({"x0": (row[None] + x.zero_point).astype(x.storage)})["y"]
    whole = [(2 * int(c - low) * largest + spread) // (2 * spread) for c in row]
    np.testing.assert_array_equal(found[0], whole)
    np.testing.assert_array_equal(row_codes(row, largest)[0], whole)


def test_sums_that_leave_int32_are_refused() -> None:
    """Codes of 255 and weights of 127: 66,311 fit, and one more does not."""
    fmt = parity.uniform(-127, 127)
    most = LIMIT // (127 * 255)
    assert most == 66_311
    for depth in (most, most + 1):
        weight = plain(np.full((1, depth), fmt.levels - 1, np.uint8), fmt)
        if depth > most:
            with pytest.raises(LoweringError, match="can reach"):
                layer(weight, WIDE)
            continue
        data = np.stack([np.full(depth, 32767), np.full(depth, -32768)]).astype(np.int16)
        data[:, 0] = -1
        agree(parity.Case(layer(weight, WIDE), {"x0": data}))


def test_a_smaller_pre_shift_is_refused() -> None:
    weight = plain(np.full((2, 300), 254, np.uint8), parity.uniform(-127, 127))
    graph = layer(weight, WIDE)
    (node,) = graph.nodes
    assert isinstance(node.op, IntLinearPerToken)
    assert node.op.pre_shift > 0
    smaller = graph.evolve(nodes=(replace(node, op=replace(node.op, pre_shift=node.op.pre_shift - 1)),))
    with pytest.raises(LoweringError, match="can reach"):
        verify(smaller, "integer")
    with pytest.raises(RunError, match="may exceed"):
        Engine(smaller)


@pytest.mark.parametrize("largest", [0, 256, -1, True])
def test_codes_beyond_bytes_are_refused(largest: int) -> None:
    graph = layer(plain(np.ones((2, 3), np.uint8), parity.uniform(-1, 1)), WIDE)
    (node,) = graph.nodes
    assert isinstance(node.op, IntLinearPerToken)
    wrong = graph.evolve(nodes=(replace(node, op=replace(node.op, largest=largest)),))
    with pytest.raises(GraphError, match="largest is"):
        verify(wrong, "integer")


def test_weights_beyond_int8_are_refused() -> None:
    weight = plain(np.full((2, 3), 60, np.uint8), get_format("fp6_e3m2"))
    with pytest.raises(GraphError, match="fit int8"):
        layer(weight, WIDE)


HONEST: dict[str, object] = {
    "kind": "int_linear_per_token",
    "x": ("x", [4, 2], "int16", 3, -32768, 32767),
    "y": ("y", [4, 3], "uint8", 0, 0, 255),
    "codes": np.zeros((3, 2), np.uint8),
    "largest": [255],
    "pre_shift": [1],
    **dict.fromkeys(("stride", "dilation", "padding", "groups")),
}


@pytest.mark.parametrize(
    "changes",
    [
        {"largest": [0]},
        {"largest": [256]},
        {"largest": None},
        {"pre_shift": [33]},
        {"pre_shift": [-1]},
        {"groups": [1]},
        {"x": ("x", [4, 3], "int16", 3, -32768, 32767)},
        {"x": ("x", [], "int16", 3, -32768, 32767)},
        {"x": ("x", [4, 2], "int16", 32768, -32768, 32767)},
        {"y": ("y", [4, 4], "uint8", 0, 0, 255)},
        {"table": np.array([-1, 128], np.int16), "codes": np.ones((3, 2), np.uint8)},
        {"bias": np.full(3, 2**31 - 1, np.int32)},
        {"table": np.array([127, 1], np.int16), "pre_shift": [0], "bias": np.full(3, 2**31 - 1, np.int32)},
        {"m": np.zeros(2, np.int32)},
        {"n": np.zeros(3, np.int32)},
        {"hi": [256]},
        {"stranger": np.zeros(3, np.int32)},
    ],
)
def test_hostile_plans_are_refused(changes: dict[str, object]) -> None:
    plan(**HONEST)
    with pytest.raises((ValueError, TypeError)):
        plan(**{**HONEST, **changes})


@pytest.mark.parametrize("isa", parity.ISAS)
def test_reads_and_writes_stay_inside(isa: str) -> None:
    """Inputs and outputs of odd lengths that end where nobody may touch."""
    rng = np.random.default_rng(1)
    for depth, outputs in ((1, 1), (3, 5), (7, 33), (65, 70)):
        weight = plain(rng.integers(0, 16, (outputs, depth)).astype(np.uint8), parity.uniform(-8, 7))
        graph = layer(weight, replace(WIDE, zero_point=-7), rows=(3, 5))
        codes = {"x0": guarded(rng.integers(-32768, 32768, (2, 3, 5, depth)).astype(np.int16))}
        with parity.isa(isa):
            engine = Engine(graph)
        np.testing.assert_array_equal(engine.run(codes)["y"], run_reference(graph, codes)["y"])
