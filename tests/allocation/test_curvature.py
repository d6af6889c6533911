"""Estimates against exact Hessians of networks small enough to write them down."""

import numpy as np
import pytest
import torch

from subbyte.allocation.curvature import fisher_diagonals, hessian_traces
from subbyte.errors import DataError
from subbyte.graph.answer import find_answer
from subbyte.graph.ops.add import Add
from subbyte.graph.ops.conv import Conv
from subbyte.graph.ops.linear import Linear
from subbyte.graph.ops.max_pool import MaxPool
from subbyte.graph.ops.mean import Mean
from subbyte.graph.ops.rectify import Rectify
from subbyte.graph.ops.softmax import Softmax
from subbyte.graph.ops.unary import Unary
from subbyte.graph.torch_executor import FloatExecutor
from tests.quantization.nets import Net


def conv(**changes):
    usual = {"stride": (1, 1), "dilation": (1, 1), "padding": (1, 1, 1, 1), "groups": 1, "layout": "channels_first"}
    return Conv(**{**usual, **changes})


def mlp():
    net = Net(5)
    net.add("one", Linear(), "x", net.weight(6, 5), net.weight(6))
    net.add("bend", Unary(function="tanh"), "one")
    net.add("two", Linear(), "bend", net.weight(3, 6))
    net.add("p", Softmax(axis=1), "two")
    return net.graph("p"), {"x": net.rng.standard_normal((40, 5)).astype(np.float32)}


def residual_convolutions():
    net = Net(2, 5, 5, seed=1)
    net.add("stem", conv(), "x", net.weight(3, 2, 3, 3), net.weight(3))
    net.add("relu", Rectify(), "stem")
    net.add("deep", conv(groups=3), "relu", net.weight(3, 1, 3, 3))
    net.add("sum", Add(), "deep", "relu")
    net.add("pool", MaxPool(kernel=(2, 2), stride=(2, 2), dilation=(1, 1), padding=(0, 0, 0, 0), ceil_mode=False,
                            layout="channels_first"), "sum")  # fmt: skip
    net.add("mean", Mean(axes=(2, 3), keepdims=False), "pool")
    net.add("head", Linear(), "mean", net.weight(4, 3))
    return net.graph("head"), {"x": net.rng.standard_normal((35, 2, 5, 5)).astype(np.float32)}


def exact_hessians(graph, feeds, kind):
    """Block of each layer, by float64 autograd of the whole loss."""
    answer = find_answer(graph).value
    layers = [n for n in graph if n.op.name in {"conv", "linear"}]
    executor = FloatExecutor(graph)
    executor.constants = {k: v.double() for k, v in executor.constants.items()}
    double = {k: torch.from_numpy(v).double() for k, v in feeds.items()}

    def loss(node, flat):
        env = dict(double)
        for n in graph:
            constants = dict(env)
            if n.name == node.name:
                constants[n.inputs[1]] = flat.reshape(executor.constants[n.inputs[1]].shape)
            env[n.output] = executor.step(n, constants)
        scores = env[answer].reshape(len(double["x"]), -1)
        fixed = plain[answer].reshape(len(double["x"]), -1)
        if kind == "reals":
            return (scores - fixed).square().sum() / 2 / len(scores)
        p = torch.softmax(fixed, 1)
        return (p * (torch.log(p) - torch.log_softmax(scores, 1))).sum() / len(scores)

    plain = dict(double)
    for n in graph:
        plain[n.output] = executor.step(n, plain)
    return {
        n.name: torch.autograd.functional.hessian(
            lambda flat, n=n: loss(n, flat), executor.constants[n.inputs[1]].reshape(-1)
        ).numpy()
        for n in layers
    }


@pytest.mark.parametrize("make", [mlp, residual_convolutions])
@pytest.mark.parametrize("kind", ["classes", "reals"])
def test_traces_equal_exact_ones(make, kind):
    graph, feeds = make()
    exact = exact_hessians(graph, feeds, kind)
    found = hessian_traces(graph, feeds, probes=32, kind=kind, seed=3)
    assert set(found) == set(exact)
    for name, trace in found.items():
        true = float(np.trace(exact[name]))
        assert abs(trace.mean - true) <= 4 * trace.error, name
        assert trace.error < 0.5 * true, "an error bar that says something"
        assert trace.weights == len(exact[name])
        assert trace.per_weight == pytest.approx(trace.mean / trace.weights)


def test_standard_errors_are_honest():
    """Over many seeds the distance to the truth has the size that the error bar says."""
    graph, feeds = mlp()
    true = float(np.trace(exact_hessians(graph, feeds, "classes")["one"]))
    found = [hessian_traces(graph, feeds, probes=8, seed=s)["one"] for s in range(16)]
    ratio = np.sqrt(np.mean([((t.mean - true) / t.error) ** 2 for t in found]))
    assert 0.5 < ratio < 1.8


@pytest.mark.parametrize("make", [mlp, residual_convolutions])
@pytest.mark.parametrize("kind", ["classes", "reals"])
def test_fisher_equals_the_hessians_diagonal(make, kind):
    graph, feeds = make()
    exact = exact_hessians(graph, feeds, kind)
    runs = [fisher_diagonals(graph, feeds, probes=16, kind=kind, seed=s) for s in range(6)]
    for name, block in exact.items():
        totals = np.array([r[name].sum() for r in runs])
        error = totals.std(ddof=1) / np.sqrt(len(totals))
        assert abs(totals.mean() - np.trace(block)) <= 5 * error
        mean = np.mean([r[name] for r in runs], axis=0).reshape(-1)
        assert np.corrcoef(mean, np.diag(block))[0, 1] > 0.9


def test_traces_predict_the_divergence_of_noise():
    """The mean loss under weight noise of power s^2 is s^2 / 2 times the trace."""
    graph, feeds = mlp()
    hessian = exact_hessians(graph, feeds, "classes")["one"]
    trace = hessian_traces(graph, feeds, probes=32)["one"]
    assert abs(trace.mean - np.trace(hessian)) <= 4 * trace.error
    assert np.linalg.eigvalsh(hessian).min() > -1e-9


def test_seeded():
    graph, feeds = mlp()
    assert hessian_traces(graph, feeds, probes=3) == hessian_traces(graph, feeds, probes=3)
    assert hessian_traces(graph, feeds, probes=3) != hessian_traces(graph, feeds, probes=3, seed=1)


def test_softmax_and_argmax_are_left_out():
    graph, _ = mlp()
    assert find_answer(graph).value == "two"
    assert find_answer(graph).kind == "classes"


def test_bad_input():
    graph, feeds = mlp()
    with pytest.raises(DataError, match="1 probes"):
        hessian_traces(graph, feeds, probes=1)
    with pytest.raises(DataError, match="trace is nan"):
        hessian_traces(graph, {"x": feeds["x"] * np.float32("nan")}, probes=2)
    net = Net(4)
    net.add("y", Unary(function="tanh"), "x")
    with pytest.raises(DataError, match="depends on no layer"):
        hessian_traces(net.graph("y"), {"x": np.zeros((2, 4), np.float32)})
