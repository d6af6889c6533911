"""Equalization, absorption, smoothing and splitting against what they promise."""

from __future__ import annotations

import numpy as np
import pytest

import subbyte as sb
from subbyte.graph.ops.affine import Affine
from subbyte.graph.ops.conv import Conv
from subbyte.graph.ops.linear import Linear
from subbyte.graph.ops.mean import Mean
from subbyte.graph.ops.rectify import Rectify
from subbyte.graph.passes.links import by_input, links
from subbyte.graph.torch_executor import run_float
from subbyte.quantization.methods import GRAPH_METHODS
from subbyte.quantization.methods.network import Network
from subbyte.quantization.methods.normals import Normal
from tests.quantization.nets import Net

PADDED = {"padding": (1, 1, 1, 1)}


def separable(hi=np.inf, spread=3.0, seed=0):
    """Pointwise, depthwise, pointwise, linear; channels of very different weights."""
    net = Net(4, 6, 6, seed=seed)
    act = Rectify(lo=0.0, hi=hi)
    net.add("pw", Conv(rectify=act), "x", net.weight(8, 4, 1, 1, name="pw.weight"), net.weight(8))
    net.add("dw", Conv(groups=8, rectify=act, **PADDED), "pw", net.weight(8, 1, 3, 3, name="dw.weight"), net.weight(8))
    net.add("pw2", Conv(rectify=act), "dw", net.weight(6, 8, 1, 1), net.weight(6))
    net.add("mean", Mean(axes=(2, 3), keepdims=False), "pw2")
    net.add("fc", Linear(), "mean", net.weight(5, 6), net.weight(5))
    scale = np.exp(np.random.default_rng(seed).normal(0, spread, (8, 1, 1, 1))).astype(np.float32)
    net.constants["pw.weight"] *= scale
    net.constants["dw.weight"] /= scale
    return net


def samples(count=32, seed=1, shape=(4, 6, 6)):
    return np.random.default_rng(seed).standard_normal((count, *shape)).astype(np.float32)


def network(graph, x=None, **known):
    x = samples() if x is None else x
    return Network(graph=graph, batches=[{"x": x[:16]}, {"x": x[16:]}], **known)


def run(graph, x):
    return run_float(graph, {"x": x})[graph.outputs[0]].numpy()


def node(graph, name):
    """A node of a graph by its name."""
    (found,) = (n for n in graph if n.name == name)
    return found


def same(before, after, x=None, rel=2e-5):
    x = samples(seed=7) if x is None else x
    wanted = run(before, x)
    np.testing.assert_allclose(run(after, x), wanted, rtol=0, atol=rel * np.abs(wanted).max())


def ranges(graph):
    """By link: weight ranges of output channels in front, of input channels behind."""
    found = {}
    for link in links(graph):
        first = np.abs(graph.constants[link.maker.inputs[1]]).reshape(link.channels, -1).max(axis=1)
        (reader,) = link.readers
        second = np.abs(by_input(graph.constants[reader.inputs[1]].astype(np.float64), reader.op)).max(axis=1)
        found[link.maker.name] = first, second
    return found


def test_equalized_ranges_meet_along_a_depthwise_chain_and_the_function_stays():
    graph = separable().graph("fc")
    assert max(np.abs(np.log(a / b)).max() for a, b in ranges(graph).values()) > 3
    after = GRAPH_METHODS["equalization"](network(graph)).graph
    same(graph, after)
    for first, second in ranges(after).values():
        np.testing.assert_allclose(first, second, rtol=5e-3)


def test_equalization_saves_a_network_whose_weights_have_one_scale_per_tensor():
    graph, x = separable().graph("fc"), samples(64)
    exact = run(graph, x)
    errors = {}
    for methods in ((), ("equalization",)):
        rule = sb.Rule(weights="int8", granularity="per_tensor")
        q = sb.quantize(graph, x, recipe=sb.Recipe(name="t", rules=(rule,), methods=methods), samples=64)
        errors[methods] = np.square(np.asarray(q(x)) - exact).sum() / np.square(exact).sum()
    assert errors["equalization",] < 0.1 * errors[()]


def test_an_idle_relu6_becomes_relu_and_a_busy_one_keeps_its_channels():
    idle = separable(hi=1e4).graph("fc")
    after = GRAPH_METHODS["equalization"](network(idle)).graph
    assert [n.op.rectify.hi for n in after if isinstance(n.op, Conv)] == [np.inf] * 3
    same(idle, after)
    busy = separable(hi=6.0).graph("fc")
    after = GRAPH_METHODS["equalization"](network(busy)).graph
    assert any(n.op.rectify.hi == 6.0 for n in after if isinstance(n.op, Conv))
    same(busy, after, samples())
    assert any(np.any(busy.constants[c] != after.constants[c]) for c in after.constants if c in busy.constants)


def test_dead_channels_keep_their_numbers():
    net = separable()
    net.constants["pw.weight"][2] = 0
    net.constants["dw.weight"][3] = 0
    graph = net.graph("fc")
    x = samples()
    for name in ("equalization", "smoothing", "bias_absorption", "channel_splitting"):
        after = GRAPH_METHODS[name](network(graph, x)).graph
        assert all(np.all(np.isfinite(a)) for a in after.constants.values())
        same(graph, after, x)


def raised():
    """Two pointwise layers; a bias that keeps every channel far above 0."""
    net = Net(4, 6, 6)
    net.add("a", Conv(rectify=Rectify(lo=0.0)), "x", net.weight(6, 4, 1, 1), net.weight(6, name="bias"))
    net.add("b", Conv(), "a", net.weight(3, 6, 1, 1), net.weight(3))
    net.constants["bias"] += 100
    return net.graph("b")


def test_high_biases_are_absorbed_by_data_exactly():
    graph, x = raised(), samples()
    after = GRAPH_METHODS["bias_absorption"](network(graph, x)).graph
    same(graph, after, x)
    value = node(graph, "a").output
    before, behind = (run_float(g, {"x": x})[value].numpy().reshape(-1, 6) for g in (graph, after))
    assert before.min(axis=0).min() > 10
    np.testing.assert_allclose(behind.min(axis=0), 0, atol=1e-4)


def test_batch_norms_say_what_can_be_absorbed():
    graph = raised()
    mean, deviation = np.linspace(1, 6, 6), np.ones(6)
    known = network(graph, normals={"a": Normal(mean=mean, deviation=deviation)})
    after = GRAPH_METHODS["bias_absorption"](known)
    offsets = np.maximum(mean - 3, 0)
    bias = node(graph, "a").inputs[2]
    np.testing.assert_allclose(after.graph.constants[bias], graph.constants[bias] - offsets, rtol=1e-6)
    np.testing.assert_allclose(after.normals["a"].mean, mean - offsets)


def normalised():
    """A normalisation with channels of very different sizes in front of a convolution."""
    net = Net(8, 6, 6)
    net.add("first", Conv(rectify=Rectify(lo=0.0)), "x", net.weight(8, 8, 1, 1))
    net.add("n", Affine(axis=1), "first", net.weight(8, name="gain"), net.weight(8))
    net.add("c", Conv(**PADDED, rectify=Rectify(lo=0.0)), "n", net.weight(6, 8, 3, 3))
    net.add("d", Conv(), "c", net.weight(3, 6, 1, 1))
    net.constants["gain"] = np.logspace(-1, 2, 8).astype(np.float32)
    return net.graph("d")


def test_smoothing_narrows_activations_by_the_paper_s_formula():
    graph, x = normalised(), samples(shape=(8, 6, 6))
    after = GRAPH_METHODS["smoothing"](network(graph, x)).graph
    same(graph, after, x)
    value, reader = node(graph, "n").output, node(graph, "c")
    before, behind = (run_float(g, {"x": x})[value].numpy().reshape(-1, 8) for g in (graph, after))
    size = np.abs(before).max(axis=0)
    weight = np.abs(graph.constants[reader.inputs[1]]).reshape(-1, 8).max(axis=0)
    wanted = np.sqrt(size / weight)
    np.testing.assert_allclose(size / np.abs(behind).max(axis=0), wanted / np.exp(np.log(wanted).mean()), rtol=1e-4)


def test_smoothing_helps_low_bit_activations():
    graph, x = normalised(), samples(64, shape=(8, 6, 6))
    exact = run(graph, x)
    errors = []
    for methods in (("bias_correction",), ("smoothing", "bias_correction")):
        rules = (sb.Rule(weights="int8", activations="uint4"),)
        recipe = sb.Recipe(name="t", rules=rules, methods=methods, first_input="uint4", last_input="uint4")
        q = sb.quantize(graph, x, recipe=recipe, samples=64)
        errors.append(np.square(np.asarray(q(x)) - exact).sum())
    assert errors[1] < 0.8 * errors[0]


def test_splitting_halves_the_outlier():
    net = Net(4, 6, 6)
    net.add("a", Conv(rectify=Rectify(lo=0.0)), "x", net.weight(10, 4, 1, 1), net.weight(10))
    net.add("b", Conv(), "a", net.weight(3, 10, 1, 1, name="b.weight"))
    net.constants["b.weight"][:, 7] *= 20
    graph = net.graph("b")
    after = GRAPH_METHODS["channel_splitting"](network(graph)).graph
    same(graph, after)
    old, new = (np.abs(g.constants[node(g, "b").inputs[1]]).reshape(3, -1).max(axis=0) for g in (graph, after))
    assert len(new) == 11
    assert new[7] == new[10] == old[7] / 2


@pytest.mark.parametrize("name", sorted(GRAPH_METHODS))
def test_every_graph_method_makes_integer_models_that_stay_near_the_network(name):
    graph, x = separable(spread=1.0).graph("fc"), samples(48)
    recipe = sb.Recipe(name="t", rules=(sb.Rule(),), methods=(name, "bias_correction"))
    got = np.asarray(sb.quantize(graph, x, recipe=recipe, samples=48)(x))
    exact = run(graph, x)
    assert np.square(got - exact).sum() < 0.01 * np.square(exact).sum()


def test_a_network_without_links_stays_as_it_is():
    net = Net(8)
    net.add("fc", Linear(), "x", net.weight(5, 8))
    known = network(net.graph("fc"), samples(shape=(8,)))
    for method in GRAPH_METHODS.values():
        assert method(known).graph is known.graph
