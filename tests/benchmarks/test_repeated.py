"""Ranges that are remembered change nothing: the models of repeated recipes are those of single calls."""

from __future__ import annotations

import numpy as np

import subbyte as sb
from benchmarks.nets import Fold
from benchmarks.repeated import Repeated
from subbyte.graph.ops.conv import Conv
from subbyte.graph.ops.rectify import Rectify
from tests.quantization.nets import Net


def test_models_are_those_of_single_calls():
    net = Net(3, 8, 8)
    net.add("a", Conv(rectify=Rectify(lo=0.0)), "x", net.weight(6, 3, 3, 3))
    net.add("b", Conv(rectify=Rectify(lo=0.0)), "a", net.weight(6, 6, 3, 3))
    net.add("c", Conv(), "b", net.weight(4, 6, 4, 4))
    graph = net.graph("c")
    x = np.random.default_rng(1).standard_normal((48, 3, 8, 8)).astype(np.float32)
    trial = Repeated(graph, Fold(calibration=x[:32], x=x[32:], y=None))
    for recipe in ("w8a8", "w4a4", "wint3_a8", "w4a8"):
        outputs, size, _ = trial.made(recipe)
        q = sb.quantize(graph, x[:32], recipe=recipe)
        assert np.array_equal(outputs, np.asarray(q(x[32:])))
        assert size == q.nbytes
    assert trial.ranges
