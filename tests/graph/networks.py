"""Networks built by hand for tests of graphs and passes, and a loop that runs them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch

from subbyte.graph.ir import BATCH, FloatType, Graph, Node, TensorType
from subbyte.graph.ops.add import Add, Sub
from subbyte.graph.ops.affine import Affine
from subbyte.graph.ops.avg_pool import AvgPool
from subbyte.graph.ops.batch_norm import BatchNorm
from subbyte.graph.ops.concat import Concat
from subbyte.graph.ops.conv import Conv
from subbyte.graph.ops.linear import Linear
from subbyte.graph.ops.max_pool import MaxPool
from subbyte.graph.ops.mean import Mean
from subbyte.graph.ops.mul import Mul
from subbyte.graph.ops.op import Op
from subbyte.graph.ops.pad import Pad
from subbyte.graph.ops.rectify import Rectify
from subbyte.graph.ops.reshape import Reshape
from subbyte.graph.ops.transpose import Transpose
from subbyte.graph.ops.unary import Unary
from subbyte.graph.passes import PassResult, run_passes
from subbyte.graph.passes.dead_code import DeadCode
from subbyte.graph.passes.merge_movement import MergeMovement
from subbyte.graph.passes.protocol import Pass
from subbyte.graph.passes.remove_identity import RemoveIdentity
from subbyte.graph.verify import verify
from tests.limits import FLOAT_REL_ERROR, FLOAT_REL_ERROR_FOLDED

RELU = Rectify(lo=0.0)
RELU6 = Rectify(lo=0.0, hi=6.0)
LEAKY = Rectify(slope=0.1)
TIDY: tuple[Pass, ...] = (MergeMovement(), RemoveIdentity(), DeadCode())

Arrays = dict[str, npt.NDArray[np.float32]]


class Net:
    """Grows a float graph; every method adds one node and returns the name of its value."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.inputs: list[str] = []
        self.types: dict[str, TensorType] = {}
        self.constants: dict[str, npt.NDArray[np.float32]] = {}
        self.nodes: list[Node] = []

    def shape(self, value: str) -> tuple[int, ...]:
        """Sizes without batch."""
        return tuple(d for d in self.types[value].shape[1:] if d is not None)

    def input(self, name: str, *sizes: int) -> str:
        self.inputs.append(name)
        self.types[name] = FloatType(shape=(BATCH, *sizes))
        return name

    def constant(self, name: str, array: npt.ArrayLike) -> str:
        self.constants[name] = np.asarray(array, dtype=np.float32)
        return name

    def node(self, op: Op, *inputs: str, name: str = "") -> str:
        name = name or f"{op.name}{len(self.nodes)}"
        operands = [self.types[i] if i in self.types else self.constants[i] for i in inputs]
        self.types[name] = FloatType(shape=op.infer(operands))
        self.nodes.append(Node(name=name, op=op, inputs=inputs, output=name, module=f"module.{name}"))
        return name

    def conv(
        self, x: str, out: int, kernel: int = 3, *, bias: bool = False, groups: int = 1, name: str = "", **attributes
    ) -> str:
        name = name or f"conv{len(self.nodes)}"
        channels, *spatial = self.shape(x)
        rank = len(spatial)
        if attributes.get("layout") == "channels_last":
            *spatial, channels = self.shape(x)
        taps = (kernel,) * rank
        last = attributes.get("layout") == "channels_last"
        shape = (out, *taps, channels // groups) if last else (out, channels // groups, *taps)
        scale = (channels // groups * kernel**rank) ** -0.5
        names = [x, self.constant(f"{name}.weight", self.rng.normal(size=shape) * scale)]
        if bias:
            names.append(self.constant(f"{name}.bias", self.rng.normal(size=out)))
        defaults = {"stride": (1,) * rank, "dilation": (1,) * rank, "padding": (0,) * (2 * rank)}
        return self.node(Conv(groups=groups, **{**defaults, **attributes}), *names, name=name)

    def linear(self, x: str, out: int, *, bias: bool = True, name: str = "") -> str:
        name = name or f"linear{len(self.nodes)}"
        size = self.shape(x)[-1]
        names = [x, self.constant(f"{name}.weight", self.rng.normal(size=(out, size)) * size**-0.5)]
        if bias:
            names.append(self.constant(f"{name}.bias", self.rng.normal(size=out)))
        return self.node(Linear(), *names, name=name)

    def batch_norm(self, x: str, axis: int = 1, name: str = "") -> str:
        name = name or f"bn{len(self.nodes)}"
        size = self.shape(x)[axis - 1]
        numbers = {
            "gamma": self.rng.uniform(-1.5, 1.5, size),
            "beta": self.rng.normal(size=size),
            "mean": self.rng.normal(size=size),
            "var": self.rng.uniform(0.2, 2.0, size),
        }
        names = [self.constant(f"{name}.{key}", array) for key, array in numbers.items()]
        return self.node(BatchNorm(axis=axis, epsilon=1e-5), x, *names, name=name)

    def affine(self, x: str, axis: int = 1) -> str:
        size, name = self.shape(x)[axis - 1], f"affine{len(self.nodes)}"
        scale = self.constant(f"{name}.a", self.rng.normal(size=size))
        shift = self.constant(f"{name}.b", self.rng.normal(size=size))
        return self.node(Affine(axis=axis), x, scale, shift, name=name)

    def number(self, *sizes: int) -> str:
        return self.constant(f"constant{len(self.constants)}", self.rng.normal(size=sizes))

    def relu(self, x: str, op: Rectify = RELU, name: str = "") -> str:
        return self.node(op, x, name=name)

    def add(self, a: str, b: str, name: str = "") -> str:
        return self.node(Add(), a, b, name=name)

    def sub(self, a: str, b: str) -> str:
        return self.node(Sub(), a, b)

    def mul(self, a: str, b: str) -> str:
        return self.node(Mul(), a, b)

    def unary(self, x: str, function: str = "sigmoid") -> str:
        return self.node(Unary(function=function), x)

    def concat(self, axis: int, *values: str) -> str:
        return self.node(Concat(axis=axis), *values)

    def max_pool(self, x: str, kernel: int = 2, **attributes) -> str:
        rank = len(self.shape(x)) - 1
        defaults = {"stride": (kernel,) * rank, "padding": (0,) * (2 * rank), "dilation": (1,) * rank}
        return self.node(MaxPool(kernel=(kernel,) * rank, **{**defaults, **attributes}), x)

    def avg_pool(self, x: str, kernel: int = 2, **attributes) -> str:
        rank = len(self.shape(x)) - 1
        defaults = {"stride": (kernel,) * rank, "padding": (0,) * (2 * rank)}
        return self.node(AvgPool(kernel=(kernel,) * rank, **{**defaults, **attributes}), x)

    def mean(self, x: str, *axes: int, keepdims: bool = False) -> str:
        return self.node(Mean(axes=axes, keepdims=keepdims), x)

    def pad(self, x: str, before: tuple[int, ...], after: tuple[int, ...], value: float = 0.0) -> str:
        return self.node(Pad(before=(0, *before), after=(0, *after), value=value), x)

    def reshape(self, x: str, *sizes: int, name: str = "") -> str:
        return self.node(Reshape(shape=(BATCH, *sizes)), x, name=name)

    def transpose(self, x: str, *perm: int, name: str = "") -> str:
        return self.node(Transpose(perm=(0, *perm)), x, name=name)

    def graph(self, *outputs: str) -> Graph:
        """The graph, verified."""
        graph = Graph(
            name="net",
            inputs=tuple(self.inputs),
            outputs=outputs,
            types=self.types,
            constants=self.constants,
            nodes=tuple(self.nodes),
        )
        verify(graph, "float")
        return graph


def feeds(graph: Graph, seed: int = 1, batch: int = 2) -> Arrays:
    """Random inputs."""
    rng = np.random.default_rng(seed)
    shapes = {name: tuple(batch if d is None else d for d in graph.types[name].shape) for name in graph.inputs}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def run(graph: Graph, inputs: Mapping[str, npt.NDArray[np.float32]]) -> Arrays:
    """Outputs in float64 arithmetic, so that what remains of a difference is the pass's own."""
    values = {name: torch.from_numpy(x).double() for name, x in inputs.items()}
    values |= {name: torch.from_numpy(np.array(c)).double() for name, c in graph.constants.items()}
    for node in graph:
        values[node.output] = node.op.torch(*(values[i] for i in node.inputs))
        assert tuple(values[node.output].shape)[1:] == graph.types[node.output].shape[1:], node.name
    return {name: values[name].numpy() for name in graph.outputs}


def assert_same(before: Graph, after: Graph, *, folded: bool = False) -> None:
    """Both graphs compute the same outputs of the same names, up to the limits for rewrites."""
    assert before.inputs == after.inputs
    assert before.outputs == after.outputs
    inputs = feeds(before)
    first, second = run(before, inputs), run(after, inputs)
    for name in before.outputs:
        assert first[name].shape == second[name].shape, name
        largest = np.abs(first[name]).max()
        limit = FLOAT_REL_ERROR_FOLDED if folded else FLOAT_REL_ERROR
        assert np.abs(first[name] - second[name]).max() <= limit * max(largest, 1e-3), name


def apply(rewrite: Pass, graph: Graph, *, folded: bool = False) -> PassResult:
    """Run one pass with all checks; the result computes the same and is a fixed point of the pass (but for tidying)."""
    result = run_passes(graph, [rewrite])
    assert result.changed == (result.graph is not graph)
    assert_same(graph, result.graph, folded=folded)
    again = run_passes(result.graph, [rewrite, *TIDY]).graph
    assert _operators(again) == _operators(run_passes(result.graph, TIDY).graph)
    return result


def _operators(graph: Graph) -> list[str]:
    return sorted(repr(n.op) for n in graph)


def ops(graph: Graph) -> list[str]:
    """Operator names in order."""
    return [n.op.name for n in graph]
