"""Comparison blames the layer that is wrong, and no other."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

import subbyte as sb
from subbyte.comparison import sqnr
from subbyte.graph.ir import Graph, IntType
from subbyte.graph.passes import prepare
from subbyte.graph.torch_executor import run_float
from subbyte.runtime.reference import run_reference
from tests.cli.conftest import write_onnx


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """(float graph, integer model, samples) of a small convolutional network with 4-bit operands."""
    path = tmp_path_factory.mktemp("net") / "small.onnx"
    write_onnx(path)
    graph = sb.load_model(path)
    x = np.random.default_rng(0).uniform(0, 1, (24, 3, 8, 8)).astype(np.float32)
    return graph, sb.quantize(graph, x, recipe="w4a4"), x


def test_errors_are_those_of_each_node_alone_and_of_the_whole_prefix(network):
    graph, model, x = network
    exact_values = {k: v.detach().numpy() for k, v in run_float(prepare(graph), {graph.inputs[0]: x}).items()}
    codes = model.reference(model.encode(x), keep=True)
    rows = {row.name: row for row in model.compare(graph, x)}
    checked = 0
    for node in model.graph:
        values = model.graph.activations(node)
        if node.output not in exact_values or not all(v in exact_values for v in values):
            continue
        out = model.graph.types[node.output]
        assert isinstance(out, IntType)
        exact = exact_values[node.output]
        alone = Graph(
            name="alone",
            inputs=values,
            outputs=(node.output,),
            types={v: model.graph.types[v] for v in (*values, node.output)},
            constants={c: model.graph.constants[c] for c in node.inputs if c in model.graph.constants},
            nodes=(node,),
        )
        fed = {v: encode(model.graph.types[v], exact_values[v]) for v in values}
        local = out.scale * (run_reference(alone, fed)[node.output].astype(float) - out.zero_point)
        whole = out.scale * (codes[node.output].astype(float) - out.zero_point)
        assert rows[node.name].sqnr_local == pytest.approx(decibels(exact, local), abs=1e-3)
        assert rows[node.name].sqnr_cumulative == pytest.approx(decibels(exact, whole), abs=1e-3)
        assert (rows[node.name].lo, rows[node.name].hi) == (exact.min(), exact.max())
        checked += 1
    assert checked >= 3


def encode(kind, reals):
    q = np.rint(reals / np.float32(kind.scale)) + kind.zero_point
    return np.clip(q, kind.lo, kind.hi).astype(kind.storage)


def decibels(exact, found):
    return 10 * math.log10(np.square(exact.astype(float)).sum() / np.square(exact - found).sum())


@pytest.mark.parametrize("layer", ["first", "second", "last"])
def test_a_wrong_layer_comes_first(layer, network):
    graph, model, x = network
    bias = model.graph.constants[f"{layer}.bias"]
    wrong = {**model.graph.constants, f"{layer}.bias": (bias + 3 * np.abs(bias).max() + 999).astype(np.int32)}
    damaged = sb.QuantizedModel(model.graph.evolve(constants=wrong), model.metadata)
    honest = {row.name: row for row in model.compare(graph, x)}
    rows = damaged.compare(graph, x)
    assert rows[0].name == layer
    assert [row.sqnr_local for row in rows] == sorted(row.sqnr_local for row in rows)
    for row in rows[1:]:  # the others stay as good as they were, but those behind the wrong one inherit its error
        assert row.sqnr_local == honest[row.name].sqnr_local
    worse = {row.name for row in rows if row.sqnr_cumulative < honest[row.name].sqnr_cumulative - 1}
    names = [node.name for node in damaged.graph if node.name in honest]
    assert worse == set(names[names.index(layer) :])


def test_sqnr():
    exact = np.array([3.0, -4.0])
    assert sqnr(exact, exact) == math.inf
    assert sqnr(np.zeros(2), exact) == -math.inf
    assert sqnr(exact, exact + np.array([0.5, 0])) == pytest.approx(20)


def test_clipped_share(network):
    graph, model, x = network
    rows = {row.name: row for row in model.compare(graph, 1000 * x)}
    assert rows["first"].clipped > 0.2
    assert dataclasses.asdict(rows["first"])["format"]
