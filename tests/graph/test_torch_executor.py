from __future__ import annotations

import numpy as np
import pytest
import torch

from subbyte.errors import GraphError, RunError
from subbyte.graph.ir import FloatType, Graph, IntType, Node
from subbyte.graph.ops import Add, Conv, IntAdd, IntConv, IntRescale, Linear, Mean, Rectify, Unary
from subbyte.graph.torch_executor import FloatExecutor, run_float, run_integer
from subbyte.runtime.reference import run_reference
from tests.graph.ops.cases import epilogue, floats, i32, ints, real, weights


def float_graph() -> Graph:
    """conv, relu, residual through a sigmoid, mean, linear."""
    nodes = (
        Node(name="conv", op=Conv(padding=(1, 1, 1, 1), rectify=Rectify(lo=0.0)), inputs=("x", "w", "b"), output="c"),
        Node(name="gate", op=Unary(function="sigmoid"), inputs=("c",), output="g"),
        Node(name="sum", op=Add(), inputs=("c", "g"), output="s"),
        Node(name="mean", op=Mean(axes=(2, 3)), inputs=("s",), output="p"),
        Node(name="head", op=Linear(), inputs=("p", "v"), output="y"),
    )
    types = {"x": floats(2, 5, 5), "c": floats(3, 5, 5), "g": floats(3, 5, 5), "s": floats(3, 5, 5)}
    return Graph(
        name="net",
        inputs=("x",),
        outputs=("y",),
        types=types | {"p": floats(3), "y": floats(4)},
        constants={"w": real(3, 2, 3, 3), "b": real(3), "v": real(4, 3)},
        nodes=nodes,
    )


def integer_graph() -> Graph:
    """int_conv, a branch, and a sum read twice."""
    op = IntConv(stride=(1, 1), dilation=(1, 1), padding=(1, 1, 1, 1), groups=1, lo=0, hi=255)
    bias, m, n = epilogue(3, n=37)
    same = ints(4, 4, 3, zero=20)
    return Graph(
        name="net",
        inputs=("x",),
        outputs=("s", "r"),
        types={"x": ints(4, 4, 2), "c": same, "r": same, "s": ints(4, 4, 3, fmt="int16", zero=0)},
        constants={"w": weights(3, 3, 3, 2), "b": bias, "m": m, "n": n, "k": i32(2**30, -(2**29))},
        nodes=(
            Node(name="conv", op=op, inputs=("x", "w", "b", "m", "n"), output="c"),
            Node(name="re", op=IntRescale(m=3, n=2, lo=0, hi=200), inputs=("c",), output="r"),
            Node(name="sum", op=IntAdd(n=29, lo=-9999, hi=9999), inputs=("c", "r", "k"), output="s"),
        ),
    )


X = torch.randn((2, 2, 5, 5), generator=torch.Generator().manual_seed(0))


def plain(x):
    c = torch.nn.functional.conv2d(x, torch.tensor(real(3, 2, 3, 3)), torch.tensor(real(3)), padding=1).relu()
    return (c + c.sigmoid()).mean((2, 3)) @ torch.tensor(real(4, 3)).T


def test_float_run_equals_plain_torch():
    graph = float_graph()
    env = run_float(graph, {"x": X})
    assert set(env) == set(graph.types)
    torch.testing.assert_close(env["y"], plain(X))
    torch.testing.assert_close(run_float(graph, {"x": X.numpy()})["y"], plain(X))


def test_float_run_is_differentiable():
    x, other = X.clone().requires_grad_(), X.clone().requires_grad_()
    run_float(float_graph(), {"x": x})["y"].square().sum().backward()
    plain(other).square().sum().backward()
    torch.testing.assert_close(x.grad, other.grad)


def test_constants_are_converted_once_and_may_become_parameters():
    executor = FloatExecutor(float_graph())
    first = executor.constants["w"]
    executor.run({"x": X})
    assert executor.constants["w"] is first
    executor.constants["w"] = torch.nn.Parameter(first)
    executor.run({"x": X})["y"].sum().backward()
    assert executor.constants["w"].grad is not None


def test_steps_walk_layer_by_layer():
    graph = float_graph()
    executor, env = FloatExecutor(graph), {"x": X}
    for node in graph:
        result = executor.step(node, env)
        assert node.output not in env
        env[node.output] = result
    torch.testing.assert_close(env["y"], plain(X))


def test_values_are_observed_and_may_be_replaced():
    graph = float_graph()
    seen = []
    exact = run_float(graph, {"x": X}, lambda name, _: seen.append(name))
    assert seen == list(graph.types)
    changed = run_float(graph, {"x": X}, lambda name, v: v * 2 if name == "p" else None)
    torch.testing.assert_close(changed["y"], exact["y"] * 2)
    torch.testing.assert_close(changed["p"], exact["p"] * 2)


def test_integer_run_equals_the_reference_on_every_value():
    graph = integer_graph()
    codes = {"x": np.random.default_rng(0).integers(0, 256, (3, 4, 4, 2), dtype=np.uint8)}
    expected = run_reference(graph, codes, keep=True)
    got = run_integer(graph, codes)
    assert set(expected) == set(got) == set(graph.types)
    for name, array in expected.items():
        kind = graph.types[name]
        assert isinstance(kind, IntType)
        assert array.dtype == np.dtype(kind.storage)
        assert got[name].dtype == torch.int64
        np.testing.assert_array_equal(got[name].numpy(), array)
    assert len(np.unique(expected["s"])) > 10
    assert list(run_reference(graph, codes)) == list(run_integer(graph, codes, keep=False)) == ["s", "r"]


def test_reference_returns_inputs_that_are_outputs():
    graph = integer_graph().evolve(outputs=("x", "s"))
    codes = {"x": np.zeros((1, 4, 4, 2), np.int64)}
    result = run_reference(graph, codes)
    assert list(result) == ["x", "s"]
    assert result["x"].dtype == np.uint8


@pytest.mark.parametrize(
    "feeds",
    [
        {},
        {"z": X},
        {"x": X, "z": X},
        {"x": X[0]},
        {"x": X[:, :, :4]},
        {"x": X[:0]},
    ],
)
def test_wrong_feeds_are_refused(feeds):
    with pytest.raises(RunError) as caught:
        run_float(float_graph(), feeds)
    assert all((caught.value.seen, caught.value.rule, caught.value.remedy, caught.value.place))


def test_batches_agree():
    graph = Graph(
        name="two",
        inputs=("a", "b"),
        outputs=("c",),
        types={name: FloatType(shape=(None, 3)) for name in "abc"},
        nodes=(Node(name="add", op=Add(), inputs=("a", "b"), output="c"),),
    )
    with pytest.raises(RunError, match="same batch"):
        run_float(graph, {"a": torch.zeros(1, 3), "b": torch.zeros(2, 3)})


@pytest.mark.parametrize("run", [run_reference, run_integer])
@pytest.mark.parametrize(
    ("codes", "match"),
    [
        (np.full((1, 4, 4, 2), 256), "0..255"),
        (np.full((1, 4, 4, 2), -1), "0..255"),
        (np.zeros((1, 4, 4, 2), np.float32), "stored integers"),
        (np.zeros((1, 4, 2, 4), np.uint8), "shape"),
    ],
)
def test_wrong_codes_are_refused(run, codes, match):
    with pytest.raises(RunError, match=match.replace(".", r"\.")):
        run(integer_graph(), {"x": codes})


def test_dialects_are_not_mixed():
    with pytest.raises(GraphError, match="quantized"):
        FloatExecutor(integer_graph())
    with pytest.raises(RunError, match="stored integers"):
        run_reference(float_graph(), {"x": np.zeros((1, 2, 5, 5), np.int64)})
    mixed = integer_graph().evolve(types=dict(integer_graph().types) | {"r": floats(4, 4, 3)})
    with pytest.raises(GraphError, match="float value"):
        run_reference(mixed, {"x": np.zeros((1, 4, 4, 2), np.uint8)})
    with pytest.raises(GraphError, match="no torch meaning"):
        IntRescale(m=1, n=1, lo=0, hi=1).torch(X)
    with pytest.raises(GraphError, match="no numpy meaning"):
        Add().numpy(None)
