"""Channels last: nothing moves inside ordinary networks, and what does move computes the same."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from subbyte.graph.ir import BATCH, Graph
from subbyte.graph.ops.argmax import Argmax
from subbyte.graph.ops.conv import Conv
from subbyte.graph.ops.resize_nearest import ResizeNearest
from subbyte.graph.ops.slice import Slice
from subbyte.graph.ops.softmax import Softmax
from subbyte.graph.passes.canonical import PREPARED, prepare
from subbyte.graph.passes.channels_last import ChannelsLast
from subbyte.graph.passes.layout import Shuffle, regroup, reshaped
from subbyte.graph.passes.properties import violation
from subbyte.graph.passes.widen_1d import Widen1d
from tests.graph.networks import Net, apply, assert_same, ops


def transposes(graph: Graph) -> int:
    return ops(graph).count("transpose")


def layout(graph: Graph) -> Graph:
    """The channels-last graph, checked, with no name of a value that reaches the outside changed."""
    return apply(ChannelsLast(), graph).graph


def prepared(graph: Graph) -> Graph:
    result = prepare(graph)
    assert_same(graph, result, folded=True)
    for name in PREPARED:
        assert violation(result, name) is None
    return result


def test_plain_network_moves_only_its_input() -> None:
    net = Net()
    x = net.input("x", 3, 8, 8)
    y = net.relu(net.conv(x, 6, padding=(1, 1, 1, 1), bias=True))
    y = net.max_pool(y)
    y = net.relu(net.conv(y, 6, groups=6, padding=(1, 1, 1, 1)))
    y = net.linear(net.reshape(net.mean(y, 2, 3, keepdims=True), 6), 4, name="y")
    graph = layout(net.graph(y))
    assert [n.name for n in graph if n.op.name == "transpose"] == ["conv0.layout"]
    assert graph.nodes[0].inputs == ("x",)


def test_single_channel_input_is_only_reshaped() -> None:
    net = Net()
    y = net.mean(net.conv(net.input("x", 1, 8, 8), 6), 2, 3)
    graph = layout(net.graph(y))
    assert ops(graph) == ["reshape", "conv", "mean"]


def test_network_that_is_already_channels_last_is_untouched() -> None:
    net = Net()
    y = net.conv(net.input("x", 8, 8, 3), 6, layout="channels_last")
    assert not apply(ChannelsLast(), net.graph(net.unary(y))).changed
    mlp = Net()
    assert not apply(ChannelsLast(), mlp.graph(mlp.linear(mlp.input("x", 5), 4))).changed


def test_leading_and_trailing_transposes_of_the_user_vanish() -> None:
    net = Net()
    x = net.transpose(net.input("x", 8, 9, 3), 3, 1, 2)
    y = net.conv(net.relu(net.conv(x, 4)), 5)
    back = net.transpose(y, 2, 3, 1, name="back")
    graph = prepared(net.graph(back))
    assert ops(graph) == ["conv", "conv"]
    assert graph.outputs == ("back",)
    assert graph.nodes[-1].output == "back"


def test_outputs_come_back_in_the_users_order_while_readers_take_them_as_they_lie() -> None:
    net = Net()
    first = net.conv(net.input("x", 3, 8, 8), 4, name="first")
    second = net.conv(net.relu(first), 4, name="second")
    graph = prepared(net.graph(first, second))
    assert transposes(graph) == 3  # one in, two out
    assert {n.output for n in graph if n.op.name == "transpose"} >= {"first", "second"}


def test_residual_network_has_no_inner_transposes() -> None:
    net = Net()
    x = net.batch_norm(net.conv(net.input("x", 3, 8, 8), 4, padding=(1, 1, 1, 1)))
    for _ in range(2):
        branch = net.relu(net.batch_norm(net.conv(x, 4, padding=(1, 1, 1, 1))))
        x = net.relu(net.add(net.batch_norm(net.conv(branch, 4, padding=(1, 1, 1, 1))), x))
    y = net.linear(net.reshape(net.avg_pool(x, 8), 4), 10)
    graph = prepared(net.graph(y))
    assert transposes(graph) == 1
    assert set(ops(graph)) == {"transpose", "conv", "add", "avg_pool", "reshape", "linear"}
    assert ops(graph).count("conv") == 5


def test_squeeze_and_excite() -> None:
    net = Net()
    x = net.conv(net.input("x", 1, 8, 8), 6)
    gate = net.reshape(net.unary(net.linear(net.reshape(net.mean(x, 2, 3, keepdims=True), 6), 6)), 6, 1, 1)
    y = net.mean(net.conv(net.mul(x, gate), 3), 2, 3)
    assert transposes(prepared(net.graph(y))) == 0


@pytest.mark.parametrize("between", ["nothing", "relu", "affine", "add", "twice"])
def test_linear_behind_a_flattened_map_takes_its_columns_as_they_lie(between: str) -> None:
    net = Net()
    flat = net.reshape(net.conv(net.input("x", 1, 6, 5), 4), 48)
    if between == "relu":
        flat = net.relu(flat)
    if between == "affine":
        flat = net.affine(flat)
    if between == "add":
        flat = net.add(net.mul(flat, net.unary(flat)), net.number(48))
    outputs = [net.linear(flat, 7)]
    if between == "twice":
        outputs.append(net.linear(flat, 5))
    assert transposes(layout(net.graph(*outputs))) == 0


def test_flattened_map_that_leaves_the_graph_is_in_the_users_order() -> None:
    net = Net()
    flat = net.reshape(net.conv(net.input("x", 1, 6, 5), 4), 48, name="flat")
    graph = layout(net.graph(net.linear(flat, 7), flat))
    assert transposes(graph) == 1
    assert graph.outputs[1] == "flat"


def test_flattened_map_and_an_ordinary_value_meet() -> None:
    net = Net()
    flat = net.reshape(net.conv(net.input("x", 1, 6, 5), 4), 48)
    y = net.add(flat, net.input("z", 48))
    layout(net.graph(net.linear(y, 3), net.node(Softmax(axis=1), flat), net.node(Argmax(axis=1), flat)))
    layout(net.graph(net.concat(1, flat, y), net.mean(flat, 1), net.reshape(flat, 4, 12)))


def test_channel_shuffle_costs_one_transpose() -> None:
    net = Net()
    x = net.conv(net.input("x", 1, 6, 5), 8)
    split = net.transpose(net.reshape(x, 2, 4, 4, 3), 2, 1, 3, 4)
    y = net.mean(net.conv(net.reshape(split, 8, 4, 3), 4, groups=4, kernel=1), 2, 3)
    assert transposes(prepared(net.graph(y))) == 1


@pytest.mark.parametrize(
    "case", ["pad", "slice", "concat", "resize", "softmax", "argmax", "mean", "image", "bn", "lone"]
)
def test_operators_work_in_the_order_of_their_operand(case: str) -> None:
    net = Net()
    x = net.conv(net.input("x", 1, 8, 9), 5)
    z = net.conv("x", 5)
    y = {
        "pad": lambda: net.pad(x, (1, 0, 2), (0, 3, 1), 0.5),
        "slice": lambda: net.node(Slice(starts=(0, 1, 0, 2), ends=(None, 5, 6, 7), steps=(1, 2, 1, 3)), x),
        "concat": lambda: net.concat(3, x, z),
        "resize": lambda: net.node(ResizeNearest(size=(9, 4)), x),
        "softmax": lambda: net.node(Softmax(axis=1), x),
        "argmax": lambda: net.node(Argmax(axis=2, keepdims=True), x),
        "mean": lambda: net.mean(x, 3, keepdims=True),
        "image": lambda: net.add(net.mul(x, net.number(6, 1)), net.number(5, 6, 7)),
        "bn": lambda: net.batch_norm(x, axis=2),
        "lone": lambda: net.affine(net.sub(net.number(5, 1, 1), x), 3),
    }[case]()
    last = layout(net.graph(net.unary(y)))
    assert transposes(last) == 1  # the output's
    assert last.nodes[-1].op.name == "transpose"


@pytest.mark.parametrize("keepdims", [False, True])
def test_reductions_that_drop_axes(keepdims: bool) -> None:
    net = Net()
    x = net.conv(net.input("x", 1, 8, 9), 5)
    outputs = [
        net.mean(x, *axes, keepdims=keepdims) for n in (1, 2, 3) for axes in itertools.combinations((1, 2, 3), n)
    ]
    outputs += [net.node(Argmax(axis=axis, keepdims=keepdims), x) for axis in (1, 2, 3)]
    layout(net.graph(*outputs))


def test_a_value_that_treats_channels_alike_runs_along_the_last_axis() -> None:
    net = Net()
    x = net.transpose(net.input("x", 8, 9, 3), 3, 1, 2)
    y = net.conv(net.unary(net.mul(x, net.number())), 4)
    graph = prepared(net.graph(y))
    affine = next(n for n in graph if n.op.name == "affine")
    assert getattr(affine.op, "axis", None) == 3


def test_linear_and_softmax_over_transposed_sequences() -> None:
    net = Net()
    x = net.conv(net.input("x", 3, 10), 6)
    sequence = net.transpose(x, 2, 1)
    y = net.linear(net.unary(sequence), 4)
    graph = prepared(net.graph(net.node(Softmax(axis=2), y), net.linear(x, 2)))
    assert transposes(graph) == 2  # behind the input; in front of the linear layer over time


def test_shared_convolution_weights_in_both_layouts() -> None:
    net = Net()
    x = net.input("x", 3, 8, 8)
    first = net.conv(x, 3, kernel=3, padding=(1, 1, 1, 1), name="first")
    second = net.node(Conv(padding=(1, 1, 1, 1)), first, "first.weight")
    layout(net.graph(second))


def test_names_of_inner_values_survive() -> None:
    net = Net()
    x = net.input("x", 3, 8, 8)
    a = net.conv(x, 4, name="features.0")
    b = net.max_pool(net.relu(a, name="features.1"))
    graph = prepared(net.graph(net.mean(net.conv(b, 4, name="features.3"), 2, 3)))
    assert {n.name for n in graph} >= {"features.0", "features.3"}
    assert {"features.1", "features.3"} <= set(graph.types)
    assert {"features.0.weight", "features.3.weight"} == set(graph.constants)


@pytest.mark.parametrize("kind", ["conv", "depthwise", "max_pool", "avg_pool", "last"])
def test_one_spatial_axis_becomes_two(kind: str) -> None:
    net = Net()
    x = net.input("x", 4, 11)
    y = {
        "conv": lambda: net.conv(x, 6, padding=(2, 1), stride=(2,), dilation=(2,), bias=True),
        "depthwise": lambda: net.conv(x, 8, groups=4, kernel=5),
        "max_pool": lambda: net.max_pool(x, 3, stride=(2,), padding=(1, 0), dilation=(2,), ceil_mode=True),
        "avg_pool": lambda: net.avg_pool(x, 3, stride=(2,), padding=(1, 1), ceil_mode=True),
        "last": lambda: net.conv(x, 6, kernel=3, padding=(0, 2), layout="channels_last"),
    }[kind]()
    graph = apply(Widen1d(), net.graph(y)).graph
    assert graph.nodes[1].name == y
    assert graph.outputs == (y,)
    prepared(net.graph(y))


def test_one_dimensional_network_moves_only_its_input() -> None:
    net = Net()
    x = net.input("x", 3, 32)
    for _ in range(3):
        x = net.max_pool(net.relu(net.batch_norm(net.conv(x, 4, padding=(1, 1)))), 2)
    graph = prepared(net.graph(net.linear(net.reshape(x, 16), 5)))
    assert transposes(graph) == 1
    assert ops(graph).count("reshape") == 2  # behind the input, in front of the linear layer


# The rule for reshapes, against NumPy


@given(st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=1, max_size=4), st.data())
def test_reshape_of_a_permuted_value(before: list[int], data: st.DataObject) -> None:
    after = data.draw(_shapes_of(math.prod(before)))
    perm = (0, *(axis + 1 for axis in data.draw(st.permutations(range(len(before))))))
    wanted, result = reshaped(tuple(before), after, perm)
    assert sorted(wanted) == list(range(len(before) + 1))
    assert sorted(result) == list(range(len(after) + 1))
    value = np.arange(2 * math.prod(before)).reshape(2, *before)
    lies = value.transpose(wanted)
    expected = value.reshape(2, *after).transpose(result)
    np.testing.assert_array_equal(lies.reshape(expected.shape), expected)


@st.composite
def _shapes_of(draw: st.DrawFn, product: int) -> tuple[int, ...]:
    sizes: list[int] = []
    while product > 1:
        size = draw(st.sampled_from([d for d in range(2, product + 1) if product % d == 0]))
        sizes.append(size)
        product //= size
    for _ in range(draw(st.integers(0, 2))):
        sizes.insert(draw(st.integers(0, len(sizes))), 1)
    assume(len(sizes) > 0)
    return tuple(sizes)


def test_groups_of_a_reshape_are_the_smallest() -> None:
    assert regroup((2, 6, 1, 5), (4, 3, 5)) == [([0, 1], [0, 1]), ([3], [2])]
    assert regroup((1, 1), (1,)) == []


def test_units_travel_with_the_axis_behind_them() -> None:
    assert reshaped((4, 7), (4, 1, 7), (0, 2, 1)) == ((0, 2, 1), (0, 2, 3, 1))
    assert reshaped((4,), (4, 1, 1), (0, 1)) == ((0, 1), (0, 1, 2, 3))


def test_shuffle_columns() -> None:
    shuffle = Shuffle((2, 3), (1, 0))
    np.testing.assert_array_equal(shuffle.columns(), np.arange(6).reshape(2, 3).T.reshape(-1))


def test_batch_is_symbolic_everywhere() -> None:
    net = Net()
    graph = prepared(net.graph(net.conv(net.input("x", 3, 8, 8), 4)))
    assert all(kind.shape[0] is BATCH for kind in graph.types.values())
