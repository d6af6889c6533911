"""Random integer graphs: NumPy reference, torch and every native instruction set give the same bits everywhere."""

from __future__ import annotations

from collections import Counter
from statistics import median

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subbyte.arithmetic import requant
from subbyte.graph.ops import geometry
from subbyte.runtime.engine import Engine
from subbyte.runtime.reference import run_reference
from tests.e2e.executors import check_agreement
from tests.e2e.graph_maker import legal
from tests.e2e.random_graphs import random_codes, random_graph
from tests.e2e.random_operators import MAKERS
from tests.limits import examples

SEEDS = st.integers(0, 2**32 - 1)


@settings(max_examples=examples(500))
@given(SEEDS)
def test_three_executors_agree_on_every_value(seed):
    graph = random_graph(seed)
    values = check_agreement(graph, random_codes(graph, seed + 1, batch=1 + seed % 3), threads=1 + seed % 2)
    for name, kind in graph.types.items():
        assert np.isin(values[name], legal(kind.format)).all(), name


def test_the_generator_covers_what_it_promises():
    """500 graphs: median size, every operator often, residuals and concats in half of them."""
    graphs = [random_graph(seed) for seed in range(500)]
    assert median(len(g.nodes) for g in graphs) >= 8
    count = Counter(node.op.name for g in graphs for node in g)
    assert set(count) == set(MAKERS)
    assert min(count.values()) >= 30, count
    both = sum({"int_add", "concat"} <= {n.op.name for n in g} for g in graphs)
    assert both >= 250
    seen = Counter(feature for g in graphs for node in g for feature in _features(g, node))
    assert len(seen) == 8
    assert min(seen.values()) >= 100, seen


def _features(graph, node):
    """What kernels are most often wrong about, as far as a node has it."""
    x, y = graph.types[node.inputs[0]], graph.types[node.output]
    if node.op.name in {"int_conv", "int_linear"}:
        products = graph.constants[node.inputs[1]].codes[0].size
        if node.op.name == "int_conv" and node.op.groups == x.shape[3] > 1:
            yield "depthwise"
        if products % 4:
            yield "tail of 4"
        if products > 64 and products % 64:
            yield "tail of 64"
        if not x.format.uniform:
            yield "operand with gaps"
        if x.zero_point in (x.lo, x.hi):
            yield "extreme zero point of an operand"
        if y.storage == "int16":
            yield "layer with 16-bit results"
        if len(node.inputs) == 7:
            yield "leaky"
    elif x.storage == "int16":
        yield "16-bit operand"


def _first_mismatch(limit):
    """Index of the first random graph on which the (mutated) reference differs from the native engine."""
    for seed in range(limit):
        graph = random_graph(seed)
        codes = random_codes(graph, seed, batch=2)
        native = Engine(graph).run_all(codes)
        try:
            reference = run_reference(graph, codes, keep=True)
        except Exception:  # a wrong kernel may also break a shape or a storage check
            return seed
        if any(not np.array_equal(native[n.output], reference[n.output]) for n in graph):
            return seed
    return None


def _rounding(monkeypatch):
    def floor(product, n):
        return product.astype(np.int64) >> np.asarray(n, dtype=np.int64)

    monkeypatch.setattr(requant, "round_shift", floor)


def _padding(monkeypatch):
    original = geometry.Axis.reach.fget
    monkeypatch.setattr(geometry.Axis, "reach", property(lambda self: original(self)[::-1]))


def _zero_point(monkeypatch):
    from subbyte.graph.ops import conv

    original = conv.centred
    monkeypatch.setattr(conv, "centred", lambda call, i: original(call, i) + 1)


def _tail(monkeypatch):
    from subbyte.graph.ops import linear

    original = linear.matmul

    def short(a, b):
        a = a.copy()
        a[..., -1] = 0
        return original(a, b)

    monkeypatch.setattr(linear, "matmul", short)


@pytest.mark.parametrize("mutate", [_rounding, _padding, _zero_point, _tail])
def test_a_kernel_that_is_off_by_one_is_caught(mutate, monkeypatch):
    assert _first_mismatch(3) is None
    mutate(monkeypatch)
    assert _first_mismatch(60) is not None
