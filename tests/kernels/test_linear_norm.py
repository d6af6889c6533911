"""Linear layers renormalised at run time, on every instruction set: against the reference, and that against a loop."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from subbyte.arithmetic.bounds import LIMIT, worst_case
from subbyte.errors import GraphError, LoweringError
from subbyte.formats import Format
from subbyte.formats.groups import Groups
from subbyte.formats.qtensor import QTensor
from subbyte.graph.ir import IntType
from subbyte.graph.ops.centred import interval
from subbyte.graph.ops.linear_norm import IntLinearArgmax, IntLinearNorm
from subbyte.graph.torch_executor import run_integer
from subbyte.runtime.reference import run_reference
from tests.e2e.executors import check_agreement
from tests.kernels import parity
from tests.limits import examples

WIDE = Format(name="wide_powers", table=(-128, -64, -1, 1, 2, 64, 128))


def plain(x: np.ndarray, zero: int, weight: np.ndarray, hi: int) -> tuple[list[list[int]], list[int]]:
    """The definition in Python integers: codes and positions of [samples, K]."""
    codes, places = [], []
    for row in x.tolist():
        acc = [sum(int(w) * (v - zero) for w, v in zip(ws, row, strict=True)) for ws in weight.tolist()]
        shift = 0
        while max(acc) >> shift > hi:
            shift += 1
        half = (1 << shift) >> 1
        codes.append([min((max(a, 0) + half) >> shift, hi) for a in acc])
        places.append(acc.index(max(acc)))
    return codes, places


def constant(codes: np.ndarray, f: Format) -> QTensor:
    ones = np.ones(len(codes), np.float32)
    return QTensor(codes=codes.astype(np.uint8), format=f, scale=ones, zero_point=np.zeros(len(codes), np.int32))


@st.composite
def layers(draw: st.DrawFn) -> parity.Case:
    shape = draw(st.sampled_from([(1,), (7,), (64,), (257,), (3, 33), (2, 2, 5), (2, 3, 4, 9)]))
    x = draw(parity.kinds(shape))
    outputs = draw(st.sampled_from([1, 2, 10, 33]))
    weight = draw(parity.plain_weights((outputs, shape[-1])))
    if draw(st.booleans()):
        codes = np.random.default_rng(draw(st.integers(0, 999))).integers(0, WIDE.levels, (outputs, shape[-1]))
        weight = constant(codes, WIDE)
    assume(worst_case(weight.integers(), *interval(x)).max() <= LIMIT)
    if draw(st.booleans()):
        y = IntType(shape=x.shape[:-1], format=parity.INT16, scale=1.0, zero_point=0)
        return parity.feed(draw, parity.one_op(IntLinearArgmax(), [x], y, [weight]))
    fmt, hi = draw(
        st.sampled_from([(parity.UINT8, 127), (parity.UINT8, 255), (parity.UINT8, 1), (parity.INT16, 32767)])
    )
    y = parity.kind((*shape[:-1], outputs), fmt)
    return parity.feed(draw, parity.one_op(IntLinearNorm(hi=hi), [x], y, [weight]))


@settings(max_examples=examples(300))
@given(layers())
def test_every_executor(case: parity.Case) -> None:
    parity.agree(case)
    check_agreement(case.graph, dict(case.codes))


@settings(max_examples=examples(200))
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 100, 127, 255]), st.integers(1, 40), st.integers(1, 12))
def test_the_reference_is_the_definition(seed, hi, k, outputs) -> None:
    rng = np.random.default_rng(seed)
    f = WIDE if rng.random() < 0.5 else parity.uniform(-3, 4)
    weight = constant(rng.integers(0, f.levels, (outputs, k)), f)
    zero = int(rng.integers(0, 256))
    x = rng.integers(0, 256, (6, k)).astype(np.uint8)
    x[1], x[2], x[3] = 0, 255, zero
    codes, places = plain(x, zero, weight.integers(), hi)
    kind = parity.kind((k,), parity.UINT8, zero)
    norm = parity.one_op(IntLinearNorm(hi=hi), [kind], parity.kind((outputs,), parity.UINT8), [weight])
    place = parity.one_op(IntLinearArgmax(), [kind], parity.kind((), parity.INT16), [weight])
    assert run_reference(norm, {"x0": x})["y"].tolist() == codes
    assert run_reference(place, {"x0": x})["y"].tolist() == places
    assert np.asarray(run_integer(place, {"x0": x})["y"]).tolist() == places


@pytest.mark.parametrize(
    ("accumulators", "codes"),
    [
        ([127, -5, 0], [127, 0, 0]),  # nothing is shifted up
        ([128, 127, 1], [64, 64, 1]),  # 1 >> 1 rounds up
        ([255, 254, 3], [127, 127, 2]),  # 128 is clipped
        ([256, 2, 1], [64, 1, 0]),
        ([-1, -2, -3], [0, 0, 0]),  # no positive one
        ([0, 0, 0], [0, 0, 0]),
        ([2**31 - 1, 2**30, 2**24], [127, 64, 1]),
        ([2**31 - 1, 2**23, 2**23 - 1], [127, 1, 0]),
    ],
)
def test_shifts_and_rounding(accumulators, codes) -> None:
    """Accumulators up to the end of int32: as many weights of 32767 as go into each, what is left, and zeros."""
    parts = [[32767] * (v // 32767) + [v % 32767] if v > 0 else [v] for v in accumulators]
    table = sorted({0, *(w for row in parts for w in row)})
    f = Format(name="parts", table=[*table, *({1, 2} - set(table) if len(table) < 2 else [])])
    depth = max(len(row) for row in parts)
    weight = constant(np.array([[table.index(w) for w in (*row, *[0] * (depth - len(row)))] for row in parts]), f)
    kind = parity.kind((depth,), parity.uniform(0, 1))
    graph = parity.one_op(IntLinearNorm(hi=127), [kind], parity.kind((3,), parity.UINT8), [weight])
    assert check_agreement(graph, {"x0": np.ones((1, depth), np.uint8)})["y"].tolist() == [codes]


def test_ties_go_to_the_first() -> None:
    weight = constant(np.array([[0, 0], [2, 2], [2, 2]]), parity.uniform(-1, 1))
    kind = parity.kind((2,), parity.UINT8)
    graph = parity.one_op(IntLinearArgmax(), [kind], parity.kind((), parity.INT16), [weight])
    assert check_agreement(graph, {"x0": np.array([[3, 4], [0, 0]], np.uint8)})["y"].tolist() == [1, 0]


def test_what_is_refused() -> None:
    weight = constant(np.full((2, 20_000), 6), WIDE)
    wide = parity.kind((20_000,), parity.INT16)
    with pytest.raises(LoweringError, match="accumulator"):
        parity.one_op(IntLinearNorm(hi=127), [wide], parity.kind((2,), parity.UINT8), [weight])
    small, x = constant(np.full((2, 3), 6), WIDE), parity.kind((3,), parity.UINT8)
    for op, y in (
        (IntLinearNorm(hi=127), parity.kind((2,), parity.UINT8, 5)),
        (IntLinearNorm(hi=127), parity.kind((2,), parity.uniform(0, 100))),
        (IntLinearNorm(hi=0), parity.kind((2,), parity.UINT8)),
        (IntLinearNorm(hi=127), parity.kind((3,), parity.UINT8)),
        (IntLinearArgmax(), parity.kind((), parity.UINT8)),
        (IntLinearArgmax(), parity.kind((2,), parity.INT16)),
    ):
        with pytest.raises(GraphError):
            parity.one_op(op, [x], y, [small])
    groups = Groups(size=2, scale=np.ones((2, 2), np.int32))
    grouped = replace(small, groups=groups, zero_point=np.zeros((2, 2), np.int32))
    with pytest.raises(GraphError, match="groups"):
        parity.one_op(IntLinearNorm(hi=127), [x], parity.kind((2,), parity.UINT8), [grouped])
    far = constant(np.full((2, 3), 1), Format(name="far", table=(-40_000, 40_000)))
    with pytest.raises(GraphError, match="32768"):
        parity.one_op(IntLinearNorm(hi=127), [x], parity.kind((2,), parity.UINT8), [far])
