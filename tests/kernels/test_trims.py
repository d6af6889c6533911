"""Trims on every instruction set: odd tails, groups, zero points, chunks and borders."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subbyte.errors import RunError
from subbyte.formats.trims import get_trim, trims
from subbyte.graph.ir import Graph, IntType, Node
from subbyte.graph.ops.conv import IntConv
from subbyte.graph.ops.trim import IntTrim, trimmed_type
from subbyte.runtime import native_plan
from subbyte.runtime.engine import Engine
from tests.graph.ops.cases import epilogue, weights
from tests.kernels import parity
from tests.limits import examples

NAMES = [t.name for t in trims()]


def sparse(x: IntType, batch: int, seed: int) -> parity.Array:
    """Codes of which half are zero points, and some the largest."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 256, (batch, *(d or 0 for d in x.shape[1:])))
    drawn = rng.random(codes.shape)
    return np.where(drawn < 0.5, x.zero_point, np.where(drawn > 0.95, 255, codes)).astype(np.uint8)


@st.composite
def cases(draw: st.DrawFn) -> parity.Case:
    group = draw(st.sampled_from([1, 2, 3, 4, 5, 7, 8, 16, 31, 33, 64, 129]))
    outer = draw(st.lists(st.integers(1, 9), max_size=3))
    x = parity.kind((*outer, group * draw(st.integers(1, 3))), parity.UINT8, draw(st.sampled_from([0, 1, 128, 255])))
    op = IntTrim(trim=draw(st.sampled_from(NAMES)), group=group)
    graph = parity.one_op(op, [x], trimmed_type(x, get_trim(op.trim)))
    return parity.Case(graph, {"x0": sparse(x, draw(st.integers(1, 3)), draw(st.integers(0, 2**32 - 1)))})


@settings(max_examples=examples(400))
@given(cases())
def test_every_instruction_set_gives_the_definition(case: parity.Case) -> None:
    parity.agree(case)


@pytest.mark.parametrize("name", ["sparq4_5opt_v", "sparq2_7opt_round_v", "sparq3_6opt_round_shared32"])
@pytest.mark.parametrize("group", [2047, 2048, 2049, 4099])
def test_longer_than_a_chunk(name: str, group: int) -> None:
    x = parity.kind((2 * group,), parity.UINT8, 3)
    graph = parity.one_op(IntTrim(trim=name, group=group), [x], x)
    parity.agree(parity.Case(graph, {"x0": sparse(x, 2, group)}))


@pytest.mark.parametrize("name", ["sparq4_5opt_round_v", "sparq2_7opt", "sparq4_3opt_shared16", "sparq3_6opt_stc"])
def test_between_layers_whose_windows_reach_beyond_the_image(name: str) -> None:
    """The result has a border that the trim does not write, and the operand one that it does not read."""
    x = parity.kind((5, 6, 12), parity.UINT8, 9)
    conv = {"stride": (1, 1), "dilation": (1, 1), "padding": (1, 1, 1, 1), "groups": 3, "lo": 0, "hi": 255}
    y = trimmed_type(x, get_trim(name))
    fixed = dict(zip("wbmn", [weights(12, 3, 3, 4), *epilogue(12)], strict=True))
    wide = y.shape[-1] // 3
    fixed |= dict(zip("WBMN", [weights(6, 3, 3, wide, seed=1), *epilogue(6)], strict=True))
    nodes = (
        Node(name="a", op=IntConv(**conv), inputs=("x", *"wbmn"), output="a"),
        Node(name="t", op=IntTrim(trim=name, group=4), inputs=("a",), output="t"),
        Node(name="c", op=IntConv(**conv), inputs=("a", "w", *"bmn"), output="c"),
        Node(name="d", op=IntConv(**conv), inputs=("t", *"WBMN"), output="d"),
    )
    types = {"x": x, "a": x, "t": y, "c": x, "d": parity.kind((5, 6, 6), parity.UINT8, 9)}
    graph = Graph(name="g", inputs=("x",), outputs=("c", "d"), types=types, constants=fixed, nodes=nodes)
    parity.agree(parity.Case(graph, {"x": sparse(x, 3, 0)}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"group": [5]}, "does not divide"),
        ({"group": [0]}, "outside"),
        ({"pairing": [3]}, "outside"),
        ({"run": [16]}, "have no pairs"),
        ({"tables": np.zeros((1, 256), np.uint8)}, "tables have shape"),
        ({"tables": np.zeros((2, 255), np.uint8)}, "tables have shape"),
        ({"pairing": [0], "run": [16], "reach": [15, 31]}, "rise to 255"),
        ({"pairing": [0], "run": [16], "reach": []}, "rise to 255"),
        ({"pairing": [2]}, "the result has shape"),
    ],
)
def test_broken_claims_are_refused(changes, message, monkeypatch) -> None:
    x = parity.kind((4, 6), parity.UINT8)
    graph = parity.one_op(IntTrim(trim="sparq4_5opt_v", group=6), [x], x)
    honest = native_plan.trim_parts

    def lying(op, zero_point):
        plain, arrays = honest(op, zero_point)
        arrays |= {k: v for k, v in changes.items() if k == "tables"}
        return plain | {k: v for k, v in changes.items() if k != "tables"}, arrays

    monkeypatch.setattr("subbyte.runtime.engine.trim_parts", lying)
    with pytest.raises(RunError, match=message):
        Engine(graph)
