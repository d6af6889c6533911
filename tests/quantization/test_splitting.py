"""Channels made twice, half a step apart: finer operands where most is lost, within the work that copies may add."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import subbyte as sb
from subbyte.formats.qtensor import QTensor
from subbyte.graph.ops.conv import Conv
from subbyte.graph.ops.max_pool import MaxPool
from subbyte.graph.ops.rectify import Rectify
from subbyte.graph.passes.links import links
from subbyte.graph.passes.protocol import run_passes
from subbyte.graph.passes.split_channels import SplitChannels
from subbyte.graph.torch_executor import run_float
from subbyte.quantization.methods.network import Network
from subbyte.quantization.methods.normals import Normal
from subbyte.quantization.recipe import Recipe, Rule
from subbyte.quantization.scheme import on_graph
from subbyte.quantization.splitting import MORE_WORK, activation_splitting
from tests.quantization.nets import Net
from tests.quantization.test_clipping import scheme_of

FOUR = Recipe(name="t", rules=(Rule(weights="int8", activations="uint4"),), last_input="uint4")


def high_and_narrow(groups=1):
    """Channel 0 of what ``b`` reads stays near 2 and counts most; the range is there for the others."""
    net = Net(4, 8, 8)
    net.add("a", Conv(rectify=Rectify(lo=0.0)), "x", net.weight(6, 4, 1, 1, name="first"), net.weight(6, name="bias"))
    net.add("p", MaxPool(kernel=(2, 2), stride=(2, 2)), "a")
    net.add("b", Conv(groups=groups), "p", net.weight(12, 6 // groups, 3, 3, name="second"))
    net.constants["first"][0] *= 0.2
    net.constants["bias"][0] = 2.0
    net.constants["second"][:, 0] *= 8
    return net.graph("b")


def samples(count=32):
    return np.random.default_rng(5).standard_normal((count, 4, 8, 8)).astype(np.float32)


def split(graph, recipe=FOUR, normals=None):
    x = samples()
    network = Network(graph=graph, batches=[{"x": x}], normals=normals or {})
    return activation_splitting(network, scheme_of(graph, recipe, network.batches), 32)


def test_the_channel_that_counts_is_made_twice_around_its_old_value():
    graph = high_and_narrow()
    normal = Normal(mean=np.arange(6.0), deviation=np.ones(6))
    after = split(graph, normals={"a": normal})
    (link, *_) = links(after.graph)
    assert link.maker.name == "a"
    assert link.channels > 6
    scheme = scheme_of(graph, FOUR, [{"x": samples()}])
    step = scheme.operand(graph.producer("b"), "p").scale
    old, new = (np.asarray(g.constants[n.inputs[2]]) for g in (graph, after.graph) for n in g if n.name == "a")
    assert np.isclose(new[0], old[0] - step / 4)
    assert np.isclose(new[6:], old[0] + step / 4).any()
    assert after.normals["a"].mean[0] == pytest.approx(-step / 4)
    assert len(after.normals["a"].mean) == link.channels
    reader = next(n for n in after.graph if n.name == "b")
    weights = np.asarray(after.graph.constants[reader.inputs[1]])
    assert np.array_equal(weights[..., 0], weights[..., 6])


def test_the_function_stays_where_the_activation_is_straight():
    graph, x = high_and_narrow(), samples()
    (name,) = (n.name for n in graph if n.name == "a")
    pass_ = SplitChannels({name: np.array([0, 1, 2, 3, 4, 5, 0])}, {name: np.array([-0.1, 0, 0, 0, 0, 0, 0.1])})
    wider = run_passes(graph, [pass_]).graph
    before, after = (run_float(g, {"x": x})["b"].numpy() for g in (graph, wider))
    assert not np.array_equal(before, after)  # rounded otherwise
    assert np.allclose(before, after, atol=1e-4)


def test_integer_networks_come_nearer_for_little_work():
    graph, x = high_and_narrow(), samples(64)
    exact = run_float(graph, {"x": x})["b"].numpy()
    errors, sizes = [], []
    for methods in (("bias_correction",), ("activation_splitting", "bias_correction")):
        q = sb.quantize(graph, x, recipe=replace(FOUR, methods=methods), samples=64)
        errors.append(np.square(np.asarray(q(x)) - exact).sum())
        sizes.append(sum(np.asarray(c.codes).size for c in q.graph.constants.values() if isinstance(c, QTensor)))
    assert errors[1] < 0.5 * errors[0]
    assert sizes[0] < sizes[1]


def test_nothing_changes_where_operands_have_eight_bits_or_channels_are_tied():
    eight = high_and_narrow()
    assert split(eight, Recipe(name="t", rules=(Rule(),))).graph is eight
    tied = high_and_narrow(groups=6)
    after = split(tied)
    assert [np.asarray(c).shape for c in after.graph.constants.values()] == [
        np.asarray(c).shape for c in tied.constants.values()
    ]


def test_the_scheme_keeps_its_ranges_on_the_wider_graph():
    graph = high_and_narrow()
    scheme = scheme_of(graph, FOUR, [{"x": samples()}])
    wider = on_graph(scheme, split(graph).graph, FOUR)
    assert dict(wider.types) == dict(scheme.types)
    assert wider.stored("a").shape == wider.graph.types["a"].shape != graph.types["a"].shape


def test_copies_add_no_more_work_than_they_may():
    graph = high_and_narrow()

    def work(g):
        layers = [n for n in g if isinstance(n.op, Conv)]
        return sum(np.asarray(g.constants[n.inputs[1]]).size * np.prod(g.types[n.output].shape[1:3]) for n in layers)

    assert work(graph) < work(split(graph).graph) <= (1 + MORE_WORK) * work(graph)
