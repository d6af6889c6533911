"""Ranges moved by output error: readers come nearer to the float network, and a recipe may ask for it."""

from __future__ import annotations

import numpy as np

import subbyte as sb
from subbyte.graph.ops.conv import Conv
from subbyte.graph.ops.rectify import Rectify
from subbyte.graph.torch_executor import run_float
from subbyte.quantization.calibrate import calibrate
from subbyte.quantization.clipping import output_error_clipping
from subbyte.quantization.clusters import find_clusters
from subbyte.quantization.recipe import Recipe, Rule
from subbyte.quantization.resolve import resolve
from subbyte.quantization.scheme import make_scheme
from subbyte.quantization.slots import find_slots
from tests.quantization.nets import Net


def outliers():
    """The channel with the outliers is the one that the next layer hardly weighs."""
    net = Net(4, 8, 8)
    net.add("a", Conv(rectify=Rectify(lo=0.0)), "x", net.weight(6, 4, 1, 1, name="first"))
    net.add("b", Conv(rectify=Rectify(lo=0.0)), "a", net.weight(8, 6, 1, 1, name="second"))
    net.add("c", Conv(), "b", net.weight(3, 8, 1, 1))
    net.constants["first"][0] *= 12
    net.constants["second"][:, 0] *= 0.001
    return net.graph("c")


def scheme_of(graph, recipe, data):
    choices = resolve(recipe, graph)
    clusters = find_clusters(graph)
    slots = find_slots(graph, clusters, choices, recipe)
    types = calibrate(graph, slots, data, 32, lambda stage, done, total: None)
    return make_scheme(graph, clusters, slots, types, choices, "m31")


def samples(count):
    return np.random.default_rng(5).standard_normal((count, 4, 8, 8)).astype(np.float32)


def test_ranges_of_what_counts_shrink_and_only_low_ones_move():
    graph, x = outliers(), samples(32)
    recipe = Recipe(name="t", rules=(Rule(weights="int8", activations="uint4"),))
    before = scheme_of(graph, recipe, [{"x": x}])
    said = []
    after = output_error_clipping(before, [{"x": x}], 32, lambda stage, done, total: said.append(stage))
    (value,) = (n.output for n in graph if n.name == "a")
    assert after.stored(value).scale < 0.6 * before.stored(value).scale
    low = {k for k, t in before.types.items() if t.format.levels < 128}
    assert low
    assert all(after.types[k] == before.types[k] for k in before.types.keys() - low)
    assert len(said) == 3


def test_networks_come_nearer_where_outliers_do_not_count():
    graph, x = outliers(), samples(64)
    exact = run_float(graph, {"x": x})["c"].numpy()
    errors = []
    for methods in (("bias_correction",), ("output_error_clipping", "bias_correction")):
        recipe = Recipe(name="t", rules=(Rule(weights="int8", activations="uint4"),), methods=methods)
        got = np.asarray(sb.quantize(graph, x, recipe=recipe, samples=64)(x))
        errors.append(np.square(got - exact).sum())
    assert errors[1] < 0.8 * errors[0]


def test_nothing_low_nothing_moved():
    graph = outliers()
    before = scheme_of(graph, Recipe(name="t", rules=(Rule(),)), [{"x": samples(8)}])
    assert output_error_clipping(before, [{"x": samples(8)}], 8, lambda stage, done, total: None) is before


def test_the_observer_that_a_rule_names_stands():
    graph, x = outliers(), samples(32)
    recipe = Recipe(name="t", rules=(Rule(weights="int8", activations="uint4", observer="min_max"),))
    before = scheme_of(graph, recipe, [{"x": x}])
    after = output_error_clipping(before, [{"x": x}], 32, lambda stage, done, total: None)
    assert dict(after.types) == dict(before.types)
