"""Knobs of the engine: whatever is chosen, the integers are the reference's; what is not possible is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subbyte.errors import RunError
from subbyte.graph.ir import Graph
from subbyte.graph.ops.conv import IntConv
from subbyte.runtime.choices import Choice
from subbyte.runtime.engine import Engine
from subbyte.runtime.reference import run_reference
from tests.kernels import parity
from tests.kernels.test_dot_products import convolutions, epilogue, linears, small_windows
from tests.kernels.test_movement import network
from tests.limits import examples


def candidates(graph: Graph) -> Iterator[tuple[str, Choice]]:
    """Every way of every knob of every node, the other knobs left alone."""
    for node, knobs in Engine(graph).knobs.items():
        for knob in knobs:
            assert len(knob.ways) > 1
            assert knob.chosen in knob.ways
            yield from ((node, {knob.name: way}) for way in knob.ways)


def turned(graph: Graph, rng: np.random.Generator) -> dict[str, dict[str, str]]:
    """A random way for every knob, one knob after the other: the ways of a later one may depend on earlier ones."""
    choices: dict[str, dict[str, str]] = {node.name: {} for node in graph.nodes}
    while True:
        fresh = {
            node: next((k for k in knobs if k.name not in choices[node]), None)
            for node, knobs in Engine(graph, choices=choices).knobs.items()
        }
        if not any(fresh.values()):
            return choices
        for node, knob in fresh.items():
            if knob is not None:
                choices[node][knob.name] = str(rng.choice(knob.ways))


@st.composite
def images(draw: st.DrawFn) -> parity.Case:
    """3x3 convolutions of enough pixels for several blocks, with windows that slide and rows that fold."""
    size = draw(st.tuples(st.integers(4, 18), st.sampled_from([8, 9, 12, 16, 18])))
    channels, outputs = draw(st.sampled_from([1, 3, 4, 8])), draw(st.sampled_from([1, 3, 4, 8, 12, 16, 20, 70, 100]))
    x, y = draw(parity.kinds((*size, channels), "uint8")), draw(parity.kinds((*size, outputs)))
    weight = draw(parity.weights((outputs, 3, 3, channels)))
    op = IntConv(stride=(1, 1), dilation=(1, 1), padding=(1, 1, 1, 1), groups=1, **draw(parity.bounds(y)))
    return parity.feed(draw, parity.one_op(op, [x], y, [weight, *epilogue(draw, weight, 9 * channels)]))


def check(graph: Graph, codes: Any, choices: dict[str, Choice], expected: Any) -> None:
    engine = Engine(graph, choices=choices)
    for node, knobs in engine.knobs.items():
        taken = {knob.name: knob.chosen for knob in knobs}
        assert all(taken.get(name, way) == way for name, way in choices.get(node, {}).items())
    for threads in (1, 2):
        for name, got in engine.run(codes, threads=threads).items():
            np.testing.assert_array_equal(got, expected[name], f"{choices} on {engine.isa}")


@settings(max_examples=examples(120), deadline=None)
@given(
    st.one_of(convolutions(), images(), linears(), small_windows()),
    st.sampled_from(parity.ISAS),
    st.integers(0, 2**32 - 1),
)
def test_every_choice_gives_the_integers_of_the_reference(case: parity.Case, isa: str, seed: int) -> None:
    first = {name: codes[:1] for name, codes in case.codes.items()}
    expected = run_reference(case.graph, first)
    with parity.isa(isa):
        for node, choice in candidates(case.graph):
            check(case.graph, first, {node: choice}, expected)
        check(case.graph, first, turned(case.graph, np.random.default_rng(seed)), expected)


def test_a_whole_network_with_choices() -> None:
    graph = network(1)
    codes = {"x": np.random.default_rng(1).integers(0, 256, (3, 5, 4, 6)).astype(np.uint8)}
    expected = run_reference(graph, codes)
    for seed in range(4):
        check(graph, codes, turned(graph, np.random.default_rng(seed)), expected)


@pytest.mark.parametrize("choice", [{"nonsense": "1"}, {"block": "-1"}, {"block": "nonsense"}, {"block": ""}])
def test_what_is_not_possible_is_refused(choice: dict[str, str]) -> None:
    graph = network(1)
    node = next(n.name for n in graph.nodes if n.op.name in {"int_conv", "int_linear"})
    with pytest.raises(RunError, match="choice"):
        Engine(graph, choices={node: choice})
