"""The runner trusts no pass; the rewriter keeps its indexes."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from subbyte.errors import GraphError
from subbyte.graph.ir import BATCH, FloatType, Graph, Node
from subbyte.graph.ops.identity import Identity
from subbyte.graph.ops.rectify import Rectify
from subbyte.graph.passes import CANONICAL, PassResult, prepare, run_passes
from subbyte.graph.passes.properties import PROPERTIES, violation
from subbyte.graph.passes.rewriter import Rewriter
from tests.graph.networks import Net


@dataclass(frozen=True)
class Fake:
    """A pass that claims what it likes."""

    result: Graph
    name: str = "fake"
    requires: frozenset[str] = frozenset()
    ensures: frozenset[str] = field(default_factory=frozenset)

    def __call__(self, graph: Graph) -> PassResult:
        return PassResult(self.result, self.result is not graph)


def plain() -> Graph:
    net = Net()
    return net.graph(net.batch_norm(net.conv(net.input("x", 3, 6, 6), 4, name="conv"), name="y"))


def test_required_properties_are_tested() -> None:
    graph = plain()
    with pytest.raises(GraphError, match=r"'?conv'? breaks channels_last") as caught:
        run_passes(graph, [Fake(graph, requires=frozenset({"channels_last"}))])
    assert "requires" in caught.value.rule


def test_promised_properties_are_tested() -> None:
    graph = plain()
    with pytest.raises(GraphError, match="y breaks no_batch_norm"):
        run_passes(graph, [Fake(graph, ensures=frozenset({"no_batch_norm"}))])


def test_results_are_verified() -> None:
    graph = plain()
    with pytest.raises(GraphError, match="defect"):
        run_passes(graph, [Fake(graph.evolve(nodes=graph.nodes[::-1]))])


def test_inputs_and_outputs_are_kept() -> None:
    graph = plain()
    with pytest.raises(GraphError, match="changed the inputs or outputs"):
        run_passes(graph, [Fake(graph.evolve(outputs=("y", "conv")))])


def test_every_property_named_by_a_pass_exists() -> None:
    for rewrite in CANONICAL:
        assert rewrite.requires | rewrite.ensures <= set(PROPERTIES)
        assert rewrite.__doc__
    with pytest.raises(GraphError, match="channels_last"):
        violation(plain(), "channel_last")


def test_every_property_is_broken_by_some_graph() -> None:
    net = Net()
    x = net.input("x", 3, 6, 6)
    net.relu(x, name="unread")
    conv = net.conv(net.node(Identity(), x, name="idle"), 4, name="conv")
    narrow = net.conv(net.reshape(x, 3, 36), 2, name="narrow")
    graph = net.graph(net.relu(net.batch_norm(conv, name="bn")), net.relu(narrow, name="fusable"))
    broken = {name: violation(graph, name) for name in PROPERTIES}
    assert broken.pop("folded_constants") is None
    assert broken == {
        "no_identity": "idle",
        "no_dead_code": "unread",
        "no_batch_norm": "bn",
        "fused_activations": "fusable",
        "spatial_2d": "narrow",
        "channels_last": "conv",
    }
    constant = Node(name="constant", op=Rectify(), inputs=("conv.weight",), output="constant")
    assert violation(graph.evolve(nodes=(constant, *graph.nodes)), "folded_constants") == "constant"


def test_prepare_refuses_a_broken_graph() -> None:
    graph = plain()
    with pytest.raises(GraphError, match="later node"):
        prepare(graph.evolve(nodes=graph.nodes[::-1]))


def test_nothing_to_do_returns_the_same_object() -> None:
    net = Net()
    graph = prepare(net.graph(net.linear(net.input("x", 4), 3)))
    assert prepare(graph) is graph


def test_rewriter_inserts_in_execution_order_under_fresh_names() -> None:
    graph = plain()
    rewriter = Rewriter(graph)
    bn = rewriter.maker("y")
    assert bn is not None
    value = rewriter.insert("conv", Rectify(lo=0.0), ("conv",), module="m")
    assert value == "conv.1"
    rewriter.replace(bn, inputs=(value, *bn.inputs[1:]))
    result = rewriter.finish().graph
    assert [n.name for n in result] == ["conv", "conv.1", "y"]
    assert result.types["conv.1"] == FloatType(shape=(BATCH, 4, 4, 4))


def test_rewriter_counts_reads_not_readers() -> None:
    net = Net()
    a = net.relu(net.input("x", 4))
    rewriter = Rewriter(net.graph(net.add(a, a)))
    assert rewriter.private_maker(a) is None
    assert len(rewriter.readers(a)) == 1


def test_rewriter_keeps_constants_that_others_read() -> None:
    net = Net()
    x = net.input("x", 4)
    first = net.linear(x, 4, bias=False, name="first")
    second = net.node(net.nodes[0].op, first, "first.weight")
    rewriter = Rewriter(net.graph(second))
    name = rewriter.revise("first.weight", np.zeros((4, 4)))
    assert name != "first.weight"
    assert np.any(np.asarray(rewriter.constants["first.weight"]) != 0)


def test_bypass_renames_the_producer_of_an_output() -> None:
    net = Net()
    a = net.relu(net.input("x", 4), name="a")
    graph = net.graph(net.node(Identity(), a, name="y"))
    rewriter = Rewriter(graph)
    assert rewriter.bypass(graph.nodes[1])
    result = rewriter.finish().graph
    assert [(n.name, n.output) for n in result] == [("a", "y")]
    assert set(result.types) == {"x", "y"}


def test_ten_thousand_nodes_in_a_chain_are_quick() -> None:
    net = Net()
    value = net.input("x", 2)
    for _ in range(5000):
        value = net.node(Identity(), net.relu(value))
    assert len(prepare(net.graph(value)).nodes) == 1
