from subbyte.allocation.problem import Tie
from subbyte.allocation.ties import partner_ties, restrict, sibling_ties
from subbyte.graph.ops.add import Add
from subbyte.graph.ops.concat import Concat
from subbyte.graph.ops.conv import Conv
from subbyte.graph.ops.rectify import Rectify
from tests.quantization.nets import Net

CONV = Conv(stride=(1, 1), dilation=(1, 1), padding=(0, 0, 0, 0), groups=1, layout="channels_first")


def conv(net, name, source, into=4, out=4):
    return net.add(name, CONV, source, net.weight(out, into, 1, 1))


def residual():
    net = Net(3, 6, 6)
    conv(net, "stem", "x", 3)
    conv(net, "main1", "stem")
    net.add("relu", Rectify(), "main1")
    conv(net, "main2", "relu")
    conv(net, "down", "stem")
    net.add("sum", Add(), "main2", "down")
    conv(net, "left", "sum")
    conv(net, "right", "sum")
    net.add("both", Concat(axis=1), "left", "right")
    conv(net, "head", "both", 8)
    return net.graph("head")


def test_siblings_read_one_value():
    found = {t.layers: t for t in sibling_ties(residual())}
    assert set(found) == {("main1", "down"), ("left", "right")}
    assert {t.by for t in found.values()} == {"activations"}


def test_partners_meet_in_sums_and_concats():
    found = {t.layers for t in partner_ties(residual())}
    assert found == {("main2", "down"), ("left", "right")}


def test_restricted_ties():
    ties = [Tie(layers=("a", "b", "c")), Tie(layers=("c", "d"))]
    assert [t.layers for t in restrict(ties, ["a", "c"])] == [("a", "c")]


def test_a_chain_has_none():
    net = Net(3, 6, 6)
    conv(net, "one", "x", 3)
    conv(net, "two", "one")
    graph = net.graph("two")
    assert sibling_ties(graph) == partner_ties(graph) == []
