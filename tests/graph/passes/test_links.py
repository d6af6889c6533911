"""Passes that move factors, offsets and copies of channels along links: the function stays the same."""

from __future__ import annotations

import numpy as np
import pytest

from subbyte.errors import GraphError
from subbyte.graph.ops.add import Add
from subbyte.graph.ops.affine import Affine
from subbyte.graph.ops.avg_pool import AvgPool
from subbyte.graph.ops.conv import Conv
from subbyte.graph.ops.linear import Linear
from subbyte.graph.ops.max_pool import MaxPool
from subbyte.graph.ops.mean import Mean
from subbyte.graph.ops.rectify import Rectify
from subbyte.graph.passes import run_passes
from subbyte.graph.passes.absorb_offsets import AbsorbOffsets
from subbyte.graph.passes.links import links
from subbyte.graph.passes.rescale_channels import RescaleChannels
from subbyte.graph.passes.split_channels import SplitChannels
from subbyte.graph.torch_executor import run_float
from tests.quantization.nets import Net

PADDED = {"padding": (1, 1, 1, 1)}
POOL = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0, 0, 0)}


def chain(padding=True, slope=0.0, hi=np.inf):
    """Convolution, depthwise convolution, grouped convolution, pools, linear layer."""
    net = Net(3, 8, 8)
    window = PADDED if padding else {}
    act = Rectify(slope=slope, lo=-np.inf if slope else 0.0, hi=hi)
    net.add("a", Conv(**PADDED), "x", net.weight(8, 3, 3, 3), net.weight(8))
    net.add("ar", act, "a")
    net.add("dw", Conv(groups=8, **window), "ar", net.weight(8, 1, 3, 3), net.weight(8))
    net.add("dwr", act, "dw")
    net.add("max", MaxPool(dilation=(1, 1), ceil_mode=False, layout="channels_first", **POOL), "dwr")
    net.add("g", Conv(groups=2), "max", net.weight(12, 4, 1, 1), net.weight(12))
    net.add("gr", act, "g")
    net.add("mean", Mean(axes=(2, 3), keepdims=False), "gr")
    net.add("fc", Linear(), "mean", net.weight(5, 12), net.weight(5))
    return net.graph("fc")


def results(graph, count=6):
    x = np.random.default_rng(3).standard_normal((count, 3, 8, 8)).astype(np.float32)
    return run_float(graph, {"x": x})[graph.outputs[0]].numpy()


def same(before, after):
    wanted = results(before)
    np.testing.assert_allclose(results(after), wanted, rtol=0, atol=2e-5 * np.abs(wanted).max())


def factors(graph, rng):
    return {k.maker.name: np.exp2(rng.uniform(-4, 4, k.channels)) for k in links(graph)}


def test_links_go_through_pools_and_depthwise_layers_to_every_reader():
    graph = chain()
    found = {k.maker.name: ([n.op.name for n in k.movers], [n.name for n in k.readers]) for k in links(graph)}
    assert found == {"a": ([], ["dw"]), "dw": (["max_pool"], ["g"]), "g": (["mean"], ["fc"])}


def node(graph, name):
    """A node of a graph by its name."""
    (found,) = (n for n in graph if n.name == name)
    return found


def test_no_link_where_something_else_reads_the_channels_or_the_numbers():
    net = Net(4)
    net.add("a", Linear(), "x", net.weight(4, 4))
    net.add("b", Linear(), "a", net.weight(4, 4))
    net.add("sum", Add(), "a", "b")
    net.add("c", Linear(), "sum", net.weight(4, 4, name="shared"))
    net.add("d", Linear(), "c", "shared")
    net.add("e", Linear(), "d", net.weight(4, 4))
    net.add("f", Linear(), "e", net.weight(4, 4))
    net.add("g", Linear(), "f", net.weight(4, 4))
    assert [k.maker.name for k in links(net.graph("g", "f"))] == ["e"]


@pytest.mark.parametrize("slope", [0.0, 0.1])
def test_rescaling_keeps_the_function_and_moves_the_numbers(rng, slope):
    graph = chain(slope=slope)
    chosen = factors(graph, rng)
    after = run_passes(graph, [RescaleChannels(chosen)]).graph
    same(graph, after)
    x = rng.standard_normal((2, 3, 8, 8)).astype(np.float32)
    before_a, after_a = (run_float(g, {"x": x})[node(g, "a").output].numpy() for g in (graph, after))
    np.testing.assert_allclose(after_a * chosen["a"], before_a, rtol=1e-4, atol=1e-5)


def test_rescaling_an_affine_with_two_readers(rng):
    net = Net(6, 4, 4)
    net.add("first", Conv(rectify=Rectify(lo=0.0)), "x", net.weight(6, 6, 1, 1))
    net.add("n", Affine(axis=1, rectify=Rectify(lo=0.0)), "first", net.weight(6), net.weight(6))
    net.add("a", Conv(**PADDED), "n", net.weight(4, 6, 3, 3))
    net.add("b", Conv(), "n", net.weight(4, 6, 1, 1))
    net.add("sum", Add(), "a", "b")
    graph = net.graph("sum")
    after = run_passes(graph, [RescaleChannels({"n": np.exp2(rng.uniform(-3, 3, 6))})]).graph
    x = rng.standard_normal((3, 6, 4, 4)).astype(np.float32)
    wanted, got = (run_float(g, {"x": x})["sum"].numpy() for g in (graph, after))
    np.testing.assert_allclose(got, wanted, atol=2e-5 * np.abs(wanted).max())


@pytest.mark.parametrize(
    ("chosen", "text"),
    [({"a": np.zeros(8)}, "positive"), ({"a": np.ones(7)}, "one positive factor"), ({"fc": np.ones(5)}, "no link")],
)
def test_factors_that_mean_nothing_are_refused(chosen, text):
    with pytest.raises(GraphError, match=text):
        RescaleChannels(chosen)(chain())


def test_a_layer_cut_at_other_bounds_is_refused():
    net = Net(4)
    net.add("a", Linear(rectify=Rectify(lo=-1.0, hi=1.0)), "x", net.weight(4, 4))
    net.add("b", Linear(), "a", net.weight(4, 4))
    with pytest.raises(GraphError, match="bounds"):
        RescaleChannels({"a": np.full(4, 2.0)})(net.graph("b"))


def test_nothing_to_do_returns_the_very_graph():
    graph = chain()
    assert RescaleChannels({"a": np.ones(8)})(graph).graph is graph
    assert AbsorbOffsets({"a": -np.ones(8)})(graph).graph is graph
    assert SplitChannels({"a": np.arange(8)})(graph).graph is graph


def high(graph):
    """The first bias raised until no channel of that layer is ever cut."""
    name = node(graph, "a").inputs[2]
    return graph.evolve(constants={**graph.constants, name: graph.constants[name] + np.float32(20)})


def test_absorbing_what_is_always_there_keeps_the_function_but_behind_padding():
    graph = high(chain(padding=False))
    lowest = {"a": run_lowest(graph, node(graph, "a").output)}
    assert np.all(lowest["a"] > 5)
    after = run_passes(graph, [AbsorbOffsets(lowest)]).graph
    same(graph, after)
    bias = node(graph, "a").inputs[2]
    np.testing.assert_allclose(after.constants[bias], graph.constants[bias] - lowest["a"], rtol=1e-5, atol=1e-5)
    padded = high(chain(padding=True))
    rewritten = run_passes(padded, [AbsorbOffsets({"a": np.ones(8)})]).graph
    assert rewritten is padded


def run_lowest(graph, value):
    x = np.random.default_rng(3).standard_normal((6, 3, 8, 8)).astype(np.float32)
    y = run_float(graph, {"x": x})[value].numpy()
    return y.reshape(-1, y.shape[-1]).min(axis=0).astype(np.float64)


def test_absorbing_more_than_is_there_changes_the_function():
    graph = chain(padding=False)
    after = run_passes(graph, [AbsorbOffsets({"a": np.full(8, 5.0)})]).graph
    assert np.abs(results(after) - results(graph)).max() > 0.1


def test_split_channels_share_the_weight_and_the_function_stays():
    net = Net(3, 8, 8)
    net.add("a", Conv(**PADDED, rectify=Rectify(lo=0.0)), "x", net.weight(4, 3, 3, 3), net.weight(4))
    pool = AvgPool(ceil_mode=False, count_include_pad=False, layout="channels_first", **POOL)
    net.add("pool", pool, "a")
    net.add("b", Conv(**PADDED), "pool", net.weight(6, 4, 3, 3), net.weight(6))
    graph = net.graph("b")
    after = run_passes(graph, [SplitChannels({"a": np.array([0, 1, 2, 3, 2, 2])})]).graph
    same(graph, after)
    old, new = (g.constants[node(g, "b").inputs[1]] for g in (graph, after))
    np.testing.assert_array_equal(new[..., 2], old[..., 2] / 3)
    np.testing.assert_array_equal(new[..., [2, 4, 5]], np.repeat(old[..., 2:3] / 3, 3, axis=-1))
    assert [after.types[node(after, name).output].shape[-1] for name in ("a", "pool", "b")] == [6, 6, 6]


def test_depthwise_neighbours_cannot_split():
    graph = chain()
    assert SplitChannels({"a": np.array([*range(8), 0])})(graph).graph is graph
