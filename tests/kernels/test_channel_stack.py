"""Stacks of convolutions within channels, on every instruction set: against the reference, and that against loops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from subbyte.arithmetic.bounds import LIMIT, prove_stack
from subbyte.errors import GraphError, LoweringError
from subbyte.formats import Format, get_format
from subbyte.formats.groups import Groups
from subbyte.formats.qtensor import QTensor
from subbyte.graph.ir import Graph, IntType
from subbyte.graph.ops.channel_stack import IntChannelStack
from subbyte.runtime.reference import run_reference
from tests.e2e.executors import check_agreement
from tests.kernels import parity
from tests.limits import examples

Plane = list[list[int]]


def one_stage(v: Plane, window: Plane, shift: int, pool: int, largest: list[int]) -> Plane:
    """The definition in Python integers; appends the largest magnitude of any part of a sum."""
    size = len(window)
    sums = []
    for i in range(len(v) - size + 1):
        row = []
        for j in range(len(v[0]) - size + 1):
            acc = 0
            for ky in range(size):
                for kx in range(size):
                    acc += window[ky][kx] * v[i + ky][j + kx]
                    largest.append(abs(acc))
            row.append(max(acc, 0) >> shift)
        sums.append(row)
    return [
        [
            max(r[j + b] for r in sums[i : i + pool] for b in range(pool))
            for j in range(0, len(sums[0]) - pool + 1, pool)
        ]
        for i in range(0, len(sums) - pool + 1, pool)
    ]


def plain(x: np.ndarray, weight: np.ndarray, op: IntChannelStack, largest: list[int]) -> list[int]:
    """One centred image through all channels, one after the other."""
    numbers: list[int] = []
    for row in weight.tolist():
        v, at = x.tolist(), 0
        for kernel, shift, pool in zip(op.kernels, op.shifts, op.pools, strict=True):
            window = [row[at + kernel * i : at + kernel * (i + 1)] for i in range(kernel)]
            at += kernel * kernel
            v = one_stage(v, window, shift, pool, largest)
        numbers += [n for line in v for n in line]
    shift = 0
    while max(numbers) >> shift > op.hi:
        shift += 1
    return [min((n + ((1 << shift) >> 1)) >> shift, op.hi) for n in numbers]


def constant(codes: np.ndarray, f: Format) -> QTensor:
    ones = np.ones(len(codes), np.float32)
    return QTensor(codes=codes.astype(np.uint8), format=f, scale=ones, zero_point=np.zeros(len(codes), np.int32))


def graph_of(op: IntChannelStack, x: IntType, weight: QTensor, fmt: Format = parity.UINT8) -> Graph:
    return parity.one_op(op, [x], parity.kind(op.infer([x, weight])[1:], fmt), [weight])


@st.composite
def stacks(draw: st.DrawFn) -> IntChannelStack:
    count = draw(st.integers(1, 4))
    lists = (st.lists(e, min_size=count, max_size=count) for e in (st.integers(1, 4), st.integers(0, 12)))
    kernels, shifts = (tuple(draw(lengths)) for lengths in lists)
    pools = tuple(draw(st.lists(st.sampled_from([1, 1, 2, 3]), min_size=count, max_size=count)))
    return IntChannelStack(kernels=kernels, shifts=shifts, pools=pools, hi=draw(st.sampled_from([1, 100, 127, 255])))


def least_image(op: IntChannelStack) -> int:
    side = 1
    for kernel, pool in zip(reversed(op.kernels), reversed(op.pools), strict=True):
        side = side * pool + kernel - 1
    return side


@st.composite
def cases(draw: st.DrawFn) -> parity.Case:
    op = draw(stacks())
    more = st.integers(0, 5)
    x = draw(parity.kinds((least_image(op) + draw(more), least_image(op) + draw(more))))
    channels = draw(st.sampled_from([1, 2, 15, 16, 17, 33]))
    weight = draw(parity.plain_weights((channels, sum(k * k for k in op.kernels))))
    try:
        op.largest_sums([x, weight])
    except LoweringError:
        assume(False)
    wide = draw(st.booleans())
    op = replace(op, hi=32767) if wide else op
    return parity.feed(draw, graph_of(op, x, weight, parity.INT16 if wide else parity.UINT8))


@settings(max_examples=examples(200))
@given(cases())
def test_every_executor(case: parity.Case) -> None:
    parity.agree(case)
    check_agreement(case.graph, dict(case.codes))


@settings(max_examples=examples(100))
@given(stacks(), st.integers(0, 2**32 - 1))
def test_the_reference_is_the_definition(op: IntChannelStack, seed: int) -> None:
    """Also: no sum, nor any part of one, exceeds what was proved."""
    rng = np.random.default_rng(seed)
    f = parity.uniform(-3, 4)
    weight = constant(rng.integers(0, f.levels, (3, sum(k * k for k in op.kernels))), f)
    zero, side = int(rng.integers(0, 256)), least_image(op)
    x = rng.integers(0, 256, (4, side, side + 1)).astype(np.uint8)
    x[1], x[2], x[3] = 0, 255, zero
    kind = parity.kind((side, side + 1), parity.UINT8, zero)
    largest: list[int] = []
    wanted = [plain(image.astype(int) - zero, weight.integers(), op, largest) for image in x]
    assert run_reference(graph_of(op, kind, weight), {"x0": x})["y"].tolist() == wanted
    assert max(largest) <= op.largest_sums([kind, weight]).max()


def test_bounds_are_reached() -> None:
    """Images of 127 and -128, where weights are positive and negative, reach in both stages what was proved."""
    f = get_format("int8")
    rows = np.array([[127, -128, 3, -7, 127, 0, 1, -1, 127, 127], [-128] * 9 + [127]])
    weight = constant(rows + 128, f)
    op = IntChannelStack(kernels=(3, 1), shifts=(4, 0), pools=(1, 1), hi=127)
    kind = parity.kind((3, 3), f, 128)
    bounds = op.largest_sums([kind, weight])
    for c in range(2):
        x = np.where(rows[c, :9] > 0, 127, -128).reshape(3, 3)
        reached: list[int] = []
        plain(x, rows[c : c + 1], op, reached)
        assert max(reached) == bounds[c]
    check_agreement(graph_of(op, kind, weight), {"x0": (x + 128).astype(np.uint8)[None]})


def test_sums_up_to_the_end_of_int32() -> None:
    """32767 of the first stage times 32767 + 32767 + 3 + 1 is 2**31 - 2 and fits; with 4 for 3 it is refused."""
    op = IntChannelStack(kernels=(1, 2), shifts=(0, 0), pools=(1, 1), hi=127)
    kind = parity.kind((2, 2), parity.uniform(0, 1))
    weight = constant(np.array([[3, 3, 3, 2, 1]]), Format(name="fits", table=(-32767, 1, 3, 32767)))
    assert op.largest_sums([kind, weight]).tolist() == [LIMIT - 1]
    check_agreement(graph_of(op, kind, weight), {"x0": np.ones((1, 2, 2), np.uint8)})
    weight = constant(np.array([[3, 3, 3, 2, 1]]), Format(name="exceeds", table=(-32767, 1, 4, 32767)))
    with pytest.raises(LoweringError, match="stage 2 can reach"):
        graph_of(op, kind, weight)
    assert prove_stack([np.array([[-5]])], [0], -7, 3).tolist() == [35]


def test_no_positive_sum_is_zeros() -> None:
    weight = constant(np.zeros((2, 9)), parity.uniform(-3, 4))
    op = IntChannelStack(kernels=(3,), shifts=(4,), pools=(1,), hi=127)
    graph = graph_of(op, parity.kind((4, 3), parity.UINT8), weight)
    x = np.stack([np.full((4, 3), 255, np.uint8), np.zeros((4, 3), np.uint8)])
    assert check_agreement(graph, {"x0": x})["y"].tolist() == [[0] * 4] * 2


def test_what_is_refused() -> None:
    good = IntChannelStack(kernels=(3, 2), shifts=(4, 4), pools=(1, 2), hi=127)
    weight, x = constant(np.zeros((2, 13)), parity.uniform(-3, 4)), parity.kind((6, 6), parity.UINT8)
    graph_of(good, x, weight)
    for changes in (
        {"kernels": ()},
        {"kernels": (3, 2, 1)},
        {"kernels": (3, 0)},
        {"kernels": (3, 256)},
        {"kernels": [3, 2]},
        {"shifts": (4, 32)},
        {"shifts": (4, -1)},
        {"pools": (1, 0)},
        {"pools": (1, 4)},
        {"hi": 0},
        {"kernels": (1,) * 17, "shifts": (0,) * 17, "pools": (1,) * 17},
    ):
        with pytest.raises(GraphError):
            graph_of(replace(good, **changes), x, weight)
    with pytest.raises(GraphError, match="left of every stage"):
        graph_of(good, parity.kind((6, 4), parity.UINT8), weight)
    with pytest.raises(GraphError, match="images are"):
        graph_of(good, parity.kind((6, 6, 1), parity.UINT8), weight)
    for y in (parity.kind((2,), parity.UINT8, 5), parity.kind((2,), parity.uniform(0, 100))):
        with pytest.raises(GraphError, match="zero point 0"):
            parity.one_op(good, [x], y, [weight])
    groups = Groups(size=2, scale=np.ones((2, 7), np.int32))
    with pytest.raises(GraphError, match="groups"):
        graph_of(good, x, replace(weight, groups=groups, zero_point=np.zeros((2, 7), np.int32)))
    far = constant(np.full((2, 13), 1), Format(name="far", table=(-40_000, 40_000)))
    with pytest.raises(GraphError, match="32768"):
        graph_of(good, x, far)


def test_macs_count_every_stage() -> None:
    op = IntChannelStack(kernels=(3, 3, 3), shifts=(4, 4, 4), pools=(1, 2, 2), hi=127)
    weight, x = constant(np.zeros((64, 27)), get_format("int8")), parity.kind((16, 16), parity.UINT8)
    assert op.infer([x, weight]) == (None, 256)
    assert op.macs([x, weight], (None, 256)) == 64 * 9 * (14 * 14 + 12 * 12 + 4 * 4)
