"""Batch norm, affines, constants, activations and pads move into layers, exactly where they may."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from subbyte.errors import GraphError
from subbyte.graph.ir import Graph
from subbyte.graph.ops.add import Add
from subbyte.graph.ops.conv import Conv
from subbyte.graph.ops.rectify import Rectify
from subbyte.graph.passes.batchnorm_to_affine import BatchNormToAffine
from subbyte.graph.passes.constants_to_affine import ConstantsToAffine
from subbyte.graph.passes.dead_code import DeadCode
from subbyte.graph.passes.fold_batchnorm import FoldBatchNorm
from subbyte.graph.passes.fold_pad import FoldPad
from subbyte.graph.passes.fuse_activation import FuseActivation, join
from subbyte.graph.passes.merge_affine import MergeAffine
from tests.graph.networks import LEAKY, RELU, RELU6, Net, apply, ops


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_batch_norm_folds_into_convolution(bias: bool, groups: int) -> None:
    net = Net()
    conv = net.conv(net.input("x", 4, 6, 5), 8, bias=bias, groups=groups, padding=(1, 0, 1, 2), name="layer")
    y = net.batch_norm(conv, name="bn")
    graph = apply(FoldBatchNorm(), net.graph(y), folded=True).graph
    assert ops(graph) == ["conv"]
    assert graph.nodes[0].name == "layer"
    assert graph.nodes[0].output == "bn"
    assert set(graph.constants) == {"layer.weight", "layer.bias"}


def test_batch_norm_folds_into_linear_and_channels_last_and_1d() -> None:
    net = Net()
    a = net.batch_norm(net.linear(net.input("a", 3, 5), 4), axis=2)
    b = net.batch_norm(net.conv(net.input("b", 6, 6, 3), 4, layout="channels_last"), axis=3)
    c = net.batch_norm(net.conv(net.input("c", 3, 9), 4))
    assert ops(apply(FoldBatchNorm(), net.graph(a, b, c), folded=True).graph) == ["linear", "conv", "conv"]


def test_batch_norm_along_another_axis_stays() -> None:
    net = Net()
    graph = net.graph(net.batch_norm(net.conv(net.input("x", 3, 6, 6), 4, kernel=1), axis=2))
    assert not apply(FoldBatchNorm(), graph).changed
    assert ops(apply(BatchNormToAffine(), graph).graph) == ["conv", "affine"]


@pytest.mark.parametrize("reason", ["read twice", "an output", "activated"])
def test_batch_norm_stays_where_the_layer_has_other_uses(reason: str) -> None:
    net = Net()
    conv = net.conv(net.input("x", 3, 6, 6), 4)
    between = net.relu(conv) if reason == "activated" else conv
    outputs = [net.batch_norm(between)]
    if reason == "read twice":
        outputs.append(net.unary(conv))
    if reason == "an output":
        outputs.append(conv)
    assert not apply(FoldBatchNorm(), net.graph(*outputs)).changed


def test_tied_weights_are_folded_apart() -> None:
    net = Net()
    x = net.input("x", 3, 6, 6)
    first = net.conv(x, 4)
    second = net.node(Conv(), x, "conv0.weight")
    graph = net.graph(net.batch_norm(first), net.unary(second))
    folded = apply(FoldBatchNorm(), graph, folded=True).graph
    np.testing.assert_array_equal(folded.constants["conv0.weight"], graph.constants["conv0.weight"])


def test_constants_of_the_source_graph_are_not_changed() -> None:
    net = Net()
    graph = net.graph(net.batch_norm(net.conv(net.input("x", 3, 6, 6), 4)))
    before = {name: np.array(c) for name, c in graph.constants.items()}
    apply(FoldBatchNorm(), graph, folded=True)
    for name, array in before.items():
        np.testing.assert_array_equal(graph.constants[name], array)


def test_tiny_variance_is_folded_in_double_precision_and_a_negative_one_refused() -> None:
    net = Net()
    graph = net.graph(net.batch_norm(net.conv(net.input("x", 3, 6, 6), 4), name="bn"))
    apply(FoldBatchNorm(), _with(graph, "bn.var", np.full(4, 1e-12)), folded=True)
    with pytest.raises(GraphError, match=r"module.bn"):
        FoldBatchNorm()(_with(graph, "bn.var", np.full(4, -1.0)))


def test_weights_that_overflow_are_refused() -> None:
    net = Net()
    graph = net.graph(net.batch_norm(net.conv(net.input("x", 3, 6, 6), 4), name="bn"))
    with pytest.raises(GraphError, match="not finite"):
        FoldBatchNorm()(_with(graph, "bn.gamma", np.full(4, 3e38)))


def _with(graph: Graph, name: str, array: object) -> Graph:
    return graph.evolve(constants={**graph.constants, name: np.asarray(array, dtype=np.float32)})


def test_batch_norm_after_an_add_and_before_padding_becomes_affine() -> None:
    net = Net()
    x = net.input("x", 4, 6, 6)
    y = net.conv(net.batch_norm(net.add(x, net.relu(x))), 4, padding=(1, 1, 1, 1))
    graph = apply(BatchNormToAffine(), net.graph(y)).graph
    assert ops(graph) == ["rectify", "add", "affine", "conv"]


CONSTANTS = [(4, 1, 1), (), (1,), (1, 1, 1), (5,), (6, 1), (1, 4, 1)]


@pytest.mark.parametrize("kind", ["add", "mul", "sub", "rsub"])
@pytest.mark.parametrize("shape", [s for s in CONSTANTS if s != (1, 4, 1)])
def test_arithmetic_with_constants_is_affine(kind: str, shape: tuple[int, ...]) -> None:
    net = Net()
    x, c = net.input("x", 4, 6, 5), net.number(*shape)
    y = {"add": net.add, "mul": net.mul, "sub": net.sub, "rsub": lambda a, b: net.sub(b, a)}[kind](x, c)
    graph = apply(ConstantsToAffine(), net.graph(net.unary(y, "tanh"))).graph
    assert ops(graph) == ["affine", "unary"]


def test_constant_images_and_constants_that_widen_stay() -> None:
    net = Net()
    x, narrow = net.input("x", 4, 6, 5), net.input("narrow", 1, 6, 5)
    graph = net.graph(net.add(x, net.number(6, 5)), net.mul(narrow, net.number(4, 1, 1)))
    assert not apply(ConstantsToAffine(), graph).changed


def test_activation_of_an_add_stays_on_its_affine() -> None:
    net = Net()
    y = net.node(Add(rectify=RELU6), net.number(4, 1, 1), net.input("x", 4, 6, 5))
    graph = apply(ConstantsToAffine(), net.graph(y)).graph
    assert ops(graph) == ["affine"]
    assert getattr(graph.nodes[0].op, "rectify", None) == RELU6


def test_affines_merge_into_layers_and_each_other() -> None:
    net = Net()
    x = net.input("x", 4, 6, 5)
    conv = net.affine(net.affine(net.conv(x, 4)))
    alone = net.affine(net.affine(x))
    other_axis = net.affine(net.affine(x, 2), 3)
    graph = apply(MergeAffine(), net.graph(conv, alone, other_axis), folded=True).graph
    assert ops(graph) == ["conv", "affine", "affine", "affine"]


def test_scalars_merge_across_axes() -> None:
    net = Net()
    x = net.input("x", 4, 6, 5)
    a = net.mul(net.affine(x, 3), net.number())
    b = net.affine(net.add(net.relu(x), net.number()), 3)
    graph = apply(ConstantsToAffine(), net.graph(a, b)).graph
    graph = apply(MergeAffine(), graph).graph
    assert ops(graph) == ["affine", "rectify", "affine"]


@pytest.mark.parametrize("maker", ["conv", "linear", "add", "sub", "mul", "affine"])
@pytest.mark.parametrize("rectify", [RELU, RELU6, LEAKY])
def test_activation_fuses_into_its_maker(maker: str, rectify: Rectify) -> None:
    net = Net()
    x = net.input("x", 4, 6, 5)
    made = {
        "conv": lambda: net.conv(x, 3),
        "linear": lambda: net.linear(x, 3),
        "add": lambda: net.add(x, x),
        "sub": lambda: net.sub(x, net.number(6, 5)),
        "mul": lambda: net.mul(x, x),
        "affine": lambda: net.affine(x),
    }[maker]()
    graph = apply(FuseActivation(), net.graph(net.relu(made, rectify, name="y"))).graph
    assert ops(graph) == [maker]
    assert graph.nodes[0].output == "y"
    assert getattr(graph.nodes[0].op, "rectify", None) == rectify


@pytest.mark.parametrize("reason", ["read twice", "an output", "a pool"])
def test_activation_stays(reason: str) -> None:
    net = Net()
    x = net.input("x", 4, 6, 6)
    made = net.max_pool(x) if reason == "a pool" else net.conv(x, 3)
    outputs = [net.relu(made)]
    if reason == "read twice":
        outputs.append(net.unary(made))
    if reason == "an output":
        outputs.append(made)
    assert not apply(FuseActivation(), net.graph(*outputs)).changed


SLOPES = st.sampled_from([1.0, 0.1, 0.0, -0.5, 2.0])
BOUNDS = st.sampled_from([-math.inf, -1.0, 0.0, 0.5, 6.0, math.inf])


@given(SLOPES, BOUNDS, BOUNDS, SLOPES, BOUNDS, BOUNDS)
def test_joined_rectifies_equal_one_after_the_other(
    slope: float, lo: float, hi: float, slope2: float, lo2: float, hi2: float
) -> None:
    first = Rectify(slope=slope, lo=min(lo, hi), hi=max(lo, hi))
    second = Rectify(slope=slope2, lo=min(lo2, hi2), hi=max(lo2, hi2))
    both = join(first, second)
    if both is not None:
        x = torch.linspace(-20, 20, 401, dtype=torch.float64)
        torch.testing.assert_close(both.torch(x), second.torch(first.torch(x)), rtol=0, atol=1e-12)


def test_relu_then_relu6_is_relu6() -> None:
    net = Net()
    graph = apply(FuseActivation(), net.graph(net.relu(net.relu(net.conv(net.input("x", 3, 6, 6), 2)), RELU6))).graph
    assert ops(graph) == ["conv"]
    assert getattr(graph.nodes[0].op, "rectify", None) == RELU6


def test_pad_folds_into_convolution_and_stays_for_others() -> None:
    net = Net()
    padded = net.pad(net.input("x", 3, 6, 6), (0, 1, 2), (0, 2, 0))
    conv = net.conv(padded, 4, stride=(2, 2), padding=(1, 0, 0, 1))
    graph = apply(FoldPad(), net.graph(conv)).graph
    assert ops(apply(DeadCode(), graph).graph) == ["conv"]
    assert isinstance(graph.nodes[1].op, Conv)
    assert graph.nodes[1].op.padding == (2, 2, 2, 1)
    both = net.graph(conv, net.unary(padded))
    assert ops(apply(DeadCode(), apply(FoldPad(), both).graph).graph) == ["pad", "conv", "unary"]


@pytest.mark.parametrize("pad", [((1, 0, 0), (0, 0, 0), 0.0), ((0, 1, 1), (0, 1, 1), 1.0)])
def test_pad_of_channels_or_with_another_value_stays(pad: tuple) -> None:
    net = Net()
    assert not apply(FoldPad(), net.graph(net.conv(net.pad(net.input("x", 3, 6, 6), *pad), 4))).changed


@pytest.mark.parametrize("counted", [False, True])
@pytest.mark.parametrize("own", [0, 1])
@pytest.mark.parametrize("ceil", [False, True])
def test_pad_folds_into_average_pool_only_where_it_is_counted(counted: bool, own: int, ceil: bool) -> None:
    net = Net()
    padded = net.pad(net.input("x", 3, 6, 7), (0, 1, 1), (0, 1, 1))
    pool = net.avg_pool(padded, 4, padding=(own,) * 4, count_include_pad=counted, ceil_mode=ceil, stride=(2, 2))
    assert apply(FoldPad(), net.graph(pool)).changed == (not ceil and (counted or own == 0))


@pytest.mark.parametrize("positive", [False, True])
def test_pad_folds_into_max_pool_only_where_zero_never_wins(positive: bool) -> None:
    net = Net()
    x = net.input("x", 3, 6, 6)
    padded = net.pad(net.relu(x) if positive else x, (0, 1, 1), (0, 1, 1))
    assert apply(FoldPad(), net.graph(net.max_pool(padded, 3, stride=(2, 2)))).changed == positive


def test_pad_that_fills_whole_windows_of_a_max_pool_stays() -> None:
    net = Net()
    corner = net.pad(net.relu(net.input("x", 3, 6, 6)), (0, 3, 0), (0, 0, 0))
    assert not apply(FoldPad(), net.graph(net.max_pool(corner, 3))).changed
