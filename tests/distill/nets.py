"""Small float networks, quantized, for tests of learned methods."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np

from subbyte.graph.ops.add import Add
from subbyte.graph.ops.conv import Conv
from subbyte.graph.ops.linear import Linear
from subbyte.graph.ops.mean import Mean
from subbyte.graph.ops.rectify import Rectify
from subbyte.graph.ops.softmax import Softmax
from subbyte.quantization.calibrate import calibrate
from subbyte.quantization.clusters import find_clusters
from subbyte.quantization.layers import default_methods, quantize_layers
from subbyte.quantization.recipe import load_recipe
from subbyte.quantization.resolve import resolve
from subbyte.quantization.scheme import make_scheme
from subbyte.quantization.slots import find_slots
from subbyte.quantization.snap import snap_scales
from subbyte.quantization.unbend import unbend
from tests.quantization.nets import Net

SAME = {"padding": (1, 1, 1, 1)}


def silent(stage, done, total):
    """No progress."""


@cache
def residual():
    """Convolutions with a residual sum, a leaky one, a mean and a classifier behind a softmax."""
    net = Net(3, 8, 8)
    net.add("a", Conv(**SAME), "x", net.weight(8, 3, 3, 3), net.weight(8))
    net.add("ar", Rectify(lo=0.0), "a")
    net.add("b", Conv(**SAME), "ar", net.weight(8, 8, 3, 3), net.weight(8))
    net.add("br", Rectify(slope=0.1), "b")
    net.add("c", Conv(**SAME), "br", net.weight(8, 8, 3, 3))
    net.add("sum", Add(), "ar", "c")
    net.add("sr", Rectify(lo=0.0), "sum")
    net.add("d", Conv(groups=8, **SAME), "sr", net.weight(8, 1, 3, 3))
    net.add("mean", Mean(axes=(2, 3), keepdims=False), "d")
    net.add("fc", Linear(), "mean", net.weight(5, 8), net.weight(5))
    net.constants[net.nodes[-1].inputs[1]] *= 8
    net.add("p", Softmax(axis=1), "fc")
    return net.graph("p")


def samples(count, seed=1):
    """Inputs of ``residual``."""
    return np.random.default_rng(seed).standard_normal((count, 3, 8, 8)).astype(np.float32)


def quantized(recipe, count=64, arithmetic="m31", graph=None, methods=None):
    """Scheme, layers and feeds of a network behind the default methods."""
    graph, x = unbend(graph or residual(), arithmetic), samples(count)
    chosen = replace(load_recipe(recipe), methods=methods)
    choices, clusters, feeds = resolve(chosen, graph), find_clusters(graph), {"x": x}
    slots = find_slots(graph, clusters, choices, chosen)
    types = calibrate(graph, slots, [feeds], 64, silent)
    if arithmetic == "shift":
        types = snap_scales(graph, clusters, types)
    scheme = make_scheme(graph, clusters, slots, types, choices, arithmetic)
    layers = quantize_layers(scheme, feeds, default_methods(choices) if methods is None else methods, silent)
    return scheme, layers, feeds
