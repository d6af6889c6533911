"""Scales for shift arithmetic: factors of odd windows travel, joined values agree or are refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

import subbyte as sb
from subbyte.errors import LoweringError
from subbyte.formats import get_format
from subbyte.graph.ir import IntType
from subbyte.graph.passes import prepare
from subbyte.quantization.clusters import find_clusters
from subbyte.quantization.snap import snap_scales
from subbyte.quantization.unbend import unbend
from tests.graph.networks import LEAKY, RELU, Net


def snapped(graph, scale=0.0173, zero_point=100):
    """Type of every cluster of a prepared graph after snapping one and the same type."""
    clusters = find_clusters(graph)
    before = IntType(shape=(None, 1), format=get_format("uint8"), scale=float(np.float32(scale)), zero_point=zero_point)
    types = snap_scales(graph, clusters, {(g.root, "uint8"): before for g in clusters})
    return before, {v: types[g.root, "uint8"] for g in clusters for v in g.values}


def same_up_to_a_power_of_two(a, b):
    exponent = math.log2(a / b)
    return abs(exponent - round(exponent)) < 1e-6


def test_free_values_get_powers_of_two_and_keep_the_lower_end_of_their_range():
    net = Net()
    net.relu(net.conv(net.input("x", 3, 4, 4), 4))
    before, types = snapped(prepare(net.graph("rectify1")))
    for after in types.values():
        assert math.log2(after.scale).is_integer()
        assert before.scale <= after.scale < 2 * before.scale
        low = before.scale * (before.lo - before.zero_point)
        assert abs(after.scale * (after.lo - after.zero_point) - low) <= after.scale / 2


def test_odd_windows_travel_through_sums_means_and_products():
    net = Net()
    x = net.input("x", 4, 6, 5)
    pool = net.avg_pool(x, 3)  # 1/9
    total = net.add(pool, net.conv(x, 4, 3, stride=(3, 3)))  # joined with a layer's result, which is free
    mean = net.mean(total, 2)  # over 2 rows
    whole = net.mean(x, 2, 3, keepdims=True)  # over 30 cells
    gate = net.unary(whole)  # a table: free
    product = net.mul(total, gate)
    square = net.mul(total, total)
    graph = prepare(net.graph(mean, product, square))
    _, types = snapped(graph)
    ninth = 1 / 9
    for value in (pool, total, mean, product):
        assert same_up_to_a_power_of_two(types[value].scale, ninth), value
    assert same_up_to_a_power_of_two(types[square].scale, ninth * ninth)
    assert same_up_to_a_power_of_two(types[whole].scale, 1 / 15)
    assert same_up_to_a_power_of_two(types[gate].scale, 1)


def test_a_gated_residual_agrees_with_itself():
    net = Net()
    x = net.avg_pool(net.input("x", 4, 6, 6), 3)
    gate = net.unary(net.conv(x, 4, 1))
    y = net.add(net.mul(x, gate), x)
    _, types = snapped(prepare(net.graph(y)))
    assert same_up_to_a_power_of_two(types[y].scale, types[x].scale)


@pytest.mark.parametrize("operator", ["add", "sub", "concat"])
def test_a_mean_of_three_joined_with_its_operand_is_refused(operator):
    net = Net()
    x = net.conv(net.input("x", 4, 3, 5), 4, 1)
    mean = net.mean(x, 2, keepdims=True)
    y = net.concat(2, x, mean) if operator == "concat" else getattr(net, operator)(x, mean)
    other = net.relu(net.conv(x, 2, 1))
    graph = prepare(net.graph(y, mean, other, x))
    with pytest.raises(LoweringError, match="factors that differ") as error:
        snapped(graph)
    assert "m15" in error.value.remedy
    assert "node '" in error.value.place


def test_a_pool_with_unlike_divisors_is_refused_and_with_like_ones_is_not():
    net = Net()
    net.avg_pool(net.input("x", 2, 6, 6), 3, padding=(1, 1, 1, 1))
    with pytest.raises(LoweringError, match="divide by 4, 6, 9") as error:
        snapped(prepare(net.graph("avg_pool0")))
    assert "avg_pool0" in error.value.place
    net = Net()
    net.avg_pool(net.input("x", 2, 6, 6), 2, padding=(1, 1, 1, 1))
    x = np.random.default_rng(0).standard_normal((8, 2, 6, 6)).astype(np.float32)
    q = sb.quantize(net.graph("avg_pool0"), x, arithmetic="shift")
    pool = next(n for n in q.graph if n.op.name == "int_avg_pool")
    assert list(q.graph.constants[pool.inputs[1]]) == [1, 2, 4]


def test_leaky_slopes_stay_with_layers_unless_arithmetic_is_shift():
    net = Net()
    x = net.relu(net.conv(net.input("x", 3, 4, 4), 3, 1), LEAKY)
    y = net.relu(net.add(x, net.relu(net.conv(x, 3, 1), RELU)), LEAKY)
    graph = prepare(net.graph(y))
    assert "rectify" not in [n.op.name for n in graph]
    assert [n.op.name for n in unbend(graph, "m31")].count("rectify") == 1  # of the add: it has one multiplier
    assert [n.op.name for n in unbend(graph, "shift")].count("rectify") == 2
    straight = unbend(graph, "shift")
    assert straight.outputs == graph.outputs
    assert straight.types.keys() >= graph.types.keys()
