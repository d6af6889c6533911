"""Identities, constants, dead code and neighbouring movements."""

from __future__ import annotations

import numpy as np
import pytest

from subbyte.errors import GraphError
from subbyte.graph.ir import BATCH, FloatType, Graph, Node
from subbyte.graph.ops.add import Add
from subbyte.graph.ops.identity import Identity
from subbyte.graph.ops.rectify import Rectify
from subbyte.graph.ops.slice import Slice
from subbyte.graph.ops.transpose import Transpose
from subbyte.graph.passes.canonical import prepare
from subbyte.graph.passes.dead_code import DeadCode
from subbyte.graph.passes.fold_constants import FoldConstants
from subbyte.graph.passes.merge_movement import MergeMovement
from subbyte.graph.passes.remove_identity import RemoveIdentity
from subbyte.graph.verify import verify
from tests.graph.networks import Net, apply, ops


def test_identity_between_nodes_vanishes_and_the_operand_keeps_its_name() -> None:
    net = Net()
    a = net.relu(net.input("x", 4), name="a")
    b = net.node(Identity(), a, name="dropout")
    graph = apply(RemoveIdentity(), net.graph(net.unary(b), net.unary(b))).graph
    assert ops(graph) == ["rectify", "unary", "unary"]
    assert [n.inputs for n in graph][1:] == [("a",), ("a",)]


def test_identity_that_makes_an_output_gives_its_name_to_the_producer() -> None:
    net = Net()
    a = net.relu(net.input("x", 4), name="a")
    other = net.unary(a)
    graph = apply(RemoveIdentity(), net.graph(other, net.node(Identity(), a, name="y"))).graph
    assert ops(graph) == ["rectify", "unary"]
    assert graph.nodes[0].name == "a"
    assert graph.nodes[0].output == "y"
    assert graph.nodes[1].inputs == ("y",)


def test_identity_between_input_and_output_or_two_outputs_stays() -> None:
    net = Net()
    x = net.input("x", 4)
    first = net.node(Identity(), x, name="first")
    a = net.relu(x, name="a")
    graph = apply(RemoveIdentity(), net.graph(first, a, net.node(Identity(), a, name="b"))).graph
    assert ops(graph) == ["identity", "rectify", "identity"]


def test_chain_of_identities_to_two_outputs() -> None:
    net = Net()
    a = net.node(Identity(), net.input("x", 4))
    b = net.node(Identity(), net.node(Identity(), net.relu(a)))
    c = net.node(Identity(), b)
    graph = apply(RemoveIdentity(), net.graph(c, b)).graph
    assert sorted(ops(graph)) == ["identity", "rectify"]


@pytest.mark.parametrize("kind", ["reshape", "transpose", "slice", "pad", "concat", "rectify"])
def test_operators_that_do_nothing_are_identities(kind: str) -> None:
    net = Net()
    x = net.relu(net.input("x", 3, 4))
    made = {
        "reshape": lambda: net.reshape(x, 3, 4),
        "transpose": lambda: net.transpose(x, 1, 2),
        "slice": lambda: net.node(Slice(starts=(0, 0, 0), ends=(None, 3, 4), steps=(1, 1, 1)), x),
        "pad": lambda: net.pad(x, (0, 0), (0, 0), 7.0),
        "concat": lambda: net.concat(1, x),
        "rectify": lambda: net.node(Rectify(), x),
    }[kind]()
    assert ops(apply(RemoveIdentity(), net.graph(net.unary(made))).graph) == ["rectify", "unary"]


def test_what_only_looks_idle_stays() -> None:
    net = Net()
    x = net.input("x", 3, 3)
    values = [net.transpose(x, 2, 1), net.relu(x), net.reshape(x, 9)]
    graph = net.graph(*(net.unary(v) for v in values))
    assert not apply(RemoveIdentity(), graph).changed


def _constant_graph(*, values: object = (1.0, -2.0, 3.0)) -> Graph:
    nodes = (
        Node(name="r", op=Rectify(lo=0.0), inputs=("c",), output="r"),
        Node(name="t", op=Add(), inputs=("r", "c"), output="t"),
        Node(name="y", op=Add(), inputs=("x", "t"), output="y"),
    )
    types = {
        "x": FloatType(shape=(BATCH, 3)),
        "r": FloatType(shape=(3,)),
        "t": FloatType(shape=(3,)),
        "y": FloatType(shape=(BATCH, 3)),
    }
    constants = {"c": np.array(values, dtype=np.float32)}
    return Graph(name="net", inputs=("x",), outputs=("y",), types=types, constants=constants, nodes=nodes)


def test_constants_fold_through_several_nodes() -> None:
    graph = FoldConstants()(_constant_graph()).graph
    verify(graph, "float")
    assert ops(graph) == ["add"]
    assert ops(prepare(_constant_graph())) == ["affine"]
    assert set(graph.constants) == {"t"}
    np.testing.assert_array_equal(graph.constants["t"], np.array([2, -2, 6], dtype=np.float32))
    assert not apply(FoldConstants(), graph).changed


def test_constants_that_do_not_fit_their_operator_are_refused() -> None:
    graph = _constant_graph()
    wrong = {**graph.constants, "d": np.zeros((2, 2), dtype=np.float32)}
    nodes = (graph.nodes[0], Node(name="t", op=Add(), inputs=("r", "d"), output="t", module="block.t"), graph.nodes[2])
    with pytest.raises(GraphError, match=r"block.t"):
        prepare(graph.evolve(constants=wrong, nodes=nodes))


def test_constants_that_overflow_are_refused() -> None:
    with pytest.raises(GraphError, match="finite"):
        FoldConstants()(_constant_graph(values=(3e38, 1.0, 1.0)))


def test_dead_code_and_constants_go_but_inputs_stay() -> None:
    net = Net()
    x, unused = net.input("x", 4), net.input("unused", 2)
    y = net.linear(x, 3)
    net.unary(net.linear(x, 5))
    net.unary(unused)
    net.number(7)
    graph = apply(DeadCode(), net.graph(y)).graph
    assert ops(graph) == ["linear"]
    assert len(graph.constants) == 2
    assert graph.inputs == ("x", "unused")


def test_transposes_compose_and_cancel() -> None:
    net = Net()
    x = net.input("x", 2, 3, 4)
    there = net.transpose(x, 2, 3, 1)
    back = net.transpose(there, 3, 1, 2)
    graph = apply(MergeMovement(), net.graph(net.unary(back), net.unary(there))).graph
    graph = apply(DeadCode(), apply(RemoveIdentity(), graph).graph).graph
    assert sorted(ops(graph)) == ["transpose", "unary", "unary"]
    assert next(n for n in graph if n.op.name == "unary").inputs == ("x",)


def test_three_transposes_are_one() -> None:
    net = Net()
    x = net.input("x", 2, 3, 4)
    y = net.transpose(net.transpose(net.transpose(x, 2, 3, 1), 2, 1, 3), 1, 3, 2)
    graph = apply(DeadCode(), apply(MergeMovement(), net.graph(y)).graph).graph
    assert ops(graph) == ["transpose"]


def test_reshapes_merge_and_a_transpose_of_ones_is_a_reshape() -> None:
    net = Net()
    x = net.input("x", 1, 6, 1)
    y = net.reshape(net.reshape(net.transpose(x, 3, 2, 1), 3, 2), 6)
    graph = apply(DeadCode(), apply(MergeMovement(), net.graph(y)).graph).graph
    assert ops(graph) == ["reshape"]
    assert not any(isinstance(n.op, Transpose) for n in graph)


def test_reshape_with_other_readers_stays_for_them() -> None:
    net = Net()
    first = net.reshape(net.input("x", 12), 3, 4)
    graph = apply(MergeMovement(), net.graph(first, net.reshape(first, 2, 6))).graph
    assert [n.inputs for n in graph] == [("x",), ("x",)]
