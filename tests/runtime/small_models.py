"""Hand-built integer graphs for tests of the model file: small, but with every kind of constant and attribute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

import subbyte.graph.ops as ops
from subbyte.formats import Format, Groups, get_format
from subbyte.formats.groups import group_count
from subbyte.formats.qtensor import QTensor
from subbyte.graph.ir import Constant, Graph, IntType, Node
from subbyte.graph.ops.op import Op
from subbyte.runtime.ratios import Ratio

SIX = Format(name="six", table=(-4, -2, -1, 0, 1, 2), title="six levels", source="test")
"""A format that no registry knows."""

METADATA: dict[str, Any] = {
    "recipe": "w4a8",
    "arithmetic": "m31",
    "samples": 7,
    "preprocess": {"mean": [0.5, 0.25], "layout": "channels_last", "none": None, "yes": True},
}


_AVERAGE = (("d", [1, 2, 3, 4, 6, 9]), ("m", [2**30] * 6), ("n", [30, 31, 32, 32, 33, 34]))


class Builder:
    """Adds nodes and infers their shapes."""

    def __init__(self, name: str, seed: int = 0) -> None:
        self.name = name
        self.rng = np.random.default_rng(seed)
        self.types: dict[str, IntType] = {}
        self.constants: dict[str, Constant] = {}
        self.nodes: list[Node] = []
        self.inputs: list[str] = []

    def input(self, name: str, shape: Sequence[int], format: str = "uint8", scale: float = 2**-7, zero: int = 128):
        self.types[name] = IntType(shape=(None, *shape), format=get_format(format), scale=scale, zero_point=zero)
        self.inputs.append(name)
        return name

    def constant(self, name: str, value: Constant) -> str:
        self.constants[name] = value
        return name

    def weight(self, name: str, shape: tuple[int, ...], format: Format, *, zero: bool = False) -> str:
        codes = self.rng.integers(0, format.levels, shape).astype(np.uint8)
        codes.flat[0], codes.flat[-1] = 0, format.levels - 1
        scale = self.rng.uniform(0.01, 1, shape[0]).astype(np.float32)
        offset = np.full(shape[0], 3 if zero else 0, dtype=np.int32)
        return self.constant(name, QTensor(codes=codes, format=format, scale=scale, zero_point=offset))

    def ints(self, name: str, values: Any, dtype: str = "int32") -> str:
        return self.constant(name, np.asarray(values, dtype=dtype))

    def add(self, name: str, op: Op, inputs: Sequence[str], format: str = "uint8", scale: float = 2**-6, zero: int = 9):
        operands = [self.types[i] if i in self.types else self.constants[i] for i in inputs]
        shape = op.infer(operands)
        self.types[name] = IntType(shape=shape, format=get_format(format), scale=scale, zero_point=zero)
        module = "" if name == "flat" else name if name == "sum" else f"net.{name}"
        self.nodes.append(Node(name=name, op=op, inputs=tuple(inputs), output=name, module=module))
        return name

    def layer(self, name: str, op: Op, x: str, weight: str, **kind: Any) -> str:
        """A convolution or linear layer with random bias and multipliers."""
        n = int(self.constants[weight].shape[0])
        bias = self.ints(f"{name}.bias", self.rng.integers(-9000, 9000, n))
        m = self.ints(f"{name}.m", self.rng.integers(2**30, 2**31 - 1, n))
        shift = self.ints(f"{name}.n", self.rng.integers(36, 40, n))
        return self.add(name, op, [x, weight, bias, m, shift], **kind)

    def graph(self, *outputs: str) -> Graph:
        return Graph(
            name=self.name,
            inputs=tuple(self.inputs),
            outputs=outputs,
            types=self.types,
            constants=self.constants,
            nodes=tuple(self.nodes),
        )


def linear_model() -> Graph:
    """One layer."""
    b = Builder("linear")
    x = b.input("x", [5])
    w = b.weight("fc.weight", (3, 5), get_format("int4"))
    return b.graph(b.layer("fc", ops.IntLinear(lo=0, hi=255), x, w))


def rows_model() -> Graph:
    """A layer on rows with scales of their own, whose multipliers follow from its scales and its largest code."""
    b = Builder("rows")
    x = b.input("x", [2, 5], format="int16", scale=2**-12, zero=0)
    w = b.weight("fc.weight", (3, 5), get_format("int4"))
    weight = b.constants[w]
    assert isinstance(weight, QTensor)
    m, n = Ratio("m31", 2.0**3 / 255).pairs(weight, (2**-12, 2**-6))
    names = [b.ints("fc.bias", [70, -800, 9]), b.ints("fc.m", m), b.ints("fc.n", n)]
    return b.graph(b.add("fc", ops.IntLinearPerToken(lo=0, hi=255, largest=255, pre_shift=3), [x, w, *names]))


def told_model() -> Graph:
    """A leaky layer and one behind it, whose multipliers follow from their scales, some moved a little."""
    b = Builder("told")
    x = b.input("x", [6])
    w = b.weight("leaky.weight", (3, 6), get_format("int4"))
    bias = b.ints("leaky.bias", [5, -7, 40_000])
    scales = 2**-7, 2**-6
    weight = b.constants[w]
    assert isinstance(weight, QTensor)
    above = Ratio("m31", 1.0, ((1, -3),)).pairs(weight, scales)
    below = Ratio("m31", float(np.float32(0.1)), ((0, 2), (2, 9))).pairs(weight, scales)
    names = [b.ints(f"leaky.{k}", v) for k, v in zip(("m", "n", "m_neg", "n_neg"), (*above, *below), strict=True)]
    leaky = b.add("leaky", ops.IntLinear(lo=0, hi=255), [x, w, bias, *names])
    w2 = b.weight("last.weight", (2, 3), get_format("int6"))
    one = b.constants[w2]
    assert isinstance(one, QTensor)
    flat = b.constant(w2, replace(one, scale=np.float32(0.25).reshape(()), zero_point=np.array(-2, np.int32)))
    tensor = b.constants[flat]
    assert isinstance(tensor, QTensor)
    m, n = (b.ints(f"last.{k}", v) for k, v in zip("mn", Ratio("m15").pairs(tensor, (2**-6, 2**-6)), strict=True))
    return b.graph(b.add("last", ops.IntLinear(lo=3, hi=255), [leaky, flat, b.ints("last.bias", [1, 2]), m, n]))


def grouped_model(powers: Sequence[int] = (1, 2, 4, 8)) -> Graph:
    """A convolution in groups with zero points and a tail, and a linear layer whose group scales are powers of two."""
    b = Builder("grouped")
    x = b.input("x", [4, 5, 3])
    w = in_groups(b, b.weight("conv.weight", (4, 2, 2, 3), get_format("int4")), 5, [1, 2, 3, 7, 15], zeros=True)
    conv = ops.IntConv(stride=(1, 1), dilation=(1, 1), padding=(0, 0, 0, 0), groups=1, lo=0, hi=255)
    y = b.layer("conv", conv, x, w)
    flat = b.add("flat", ops.Reshape(shape=(None, 48)), [y])
    w2 = in_groups(b, b.weight("fc.weight", (3, 48), get_format("fp4_e2m1")), 32, powers)
    return b.graph(b.layer("fc", ops.IntLinear(lo=0, hi=255), flat, w2))


OWN = Format(name="own_codes", table=(-(2**24) + 1, -70_000, -300, 0, 1, 256, 70_000))
"""Far apart, unknown to the registry, stored as codes where activations have it."""


def coded_model() -> Graph:
    """Activations stored as codes: made from bytes by a layer and from 16 bits by a rescale, pooled, padded, read."""
    b = Builder("coded")
    x = b.input("x", [4, 5, 3], format="int16", zero=0)
    q = b.add("encode", ops.IntRescale(m=3 * 2**29, n=35, lo=3, hi=251), [x], "fp8_e4m3fn", zero=126)
    conv = {"stride": (1, 1), "dilation": (1, 1), "padding": (1, 0, 0, 1), "groups": 1, "lo": 1, "hi": 6}
    w = b.weight("conv.weight", (4, 2, 2, 3), get_format("fp8_e4m3fn"))
    y = b.layer("conv", ops.IntConv(**conv, pre_shift=14), q, w, format="uint8", zero=3)
    b.types[y] = replace(b.types[y], format=OWN)
    p = b.add("pad", ops.IntPad(before=(0, 1, 0, 0), after=(0, 0, 0, 0), fill=2), [y], zero=3)
    b.types[p] = replace(b.types[p], format=OWN)
    flat = b.add("flat", ops.Reshape(shape=(None, 100)), [p], zero=3)
    b.types[flat] = replace(b.types[flat], format=OWN)
    w2 = b.weight("fc.weight", (3, 100), get_format("int4"))
    return b.graph(b.layer("fc", ops.IntLinear(lo=0, hi=255, pre_shift=9), flat, w2))


def scaleless_model() -> Graph:
    """A stack of convolutions and two linear layers behind it, as nets without scales have them."""
    b = Builder("scaleless")
    x = b.input("x", [7, 8], "int8", 1.0)
    w = b.weight("conv.weight", (3, 13), get_format("int8"))
    stack = ops.IntChannelStack(kernels=(3, 2), shifts=(4, 2), pools=(1, 2), hi=127)
    seen = b.add("conv", stack, [x, w], "uint7", 1.0, 0)
    hidden = b.weight("fc1.weight", (5, 12), get_format("midrise2"))
    kept = b.add("fc1", ops.IntLinearNorm(hi=127), [seen, hidden], "uint7", 1.0, 0)
    last = b.weight("fc2.weight", (4, 5), get_format("ternary"))
    return b.graph(b.add("fc2", ops.IntLinearArgmax(), [kept, last], "int16", 1.0, 0))


def in_groups(b: Builder, name: str, size: int, scales: Sequence[int], zeros: bool = False) -> str:
    """A weight of the builder in groups with some scales."""
    weight = b.constants[name]
    assert isinstance(weight, QTensor)
    shape = len(weight.codes), group_count(weight.shape, size)
    scale = b.rng.choice(scales, shape).astype(np.int32)
    scale.flat[:2] = scales[0], scales[-1]
    zero = b.rng.integers(-1, 1, shape) if zeros else np.zeros(shape)
    grouped = replace(weight, zero_point=zero.astype(np.int32), groups=Groups(size=size, scale=scale))
    return b.constant(name, grouped)


def branched_model(seed: int = 0) -> Graph:
    """A residual network with two outputs and weights in five formats, one of them unknown to the registry."""
    b = Builder("branched", seed)
    x = b.input("image", [8, 6, 3])
    conv = {"stride": (1, 1), "dilation": (1, 1), "padding": (1, 1, 1, 1), "groups": 1, "lo": 9, "hi": 255}
    w1 = b.weight("stem.weight", (4, 3, 3, 3), get_format("levels17"))
    stem = b.layer("stem", ops.IntConv(**conv), x, w1)
    w2 = b.weight("block.weight", (4, 3, 3, 2), SIX)
    grouped = ops.IntConv(**{**conv, "groups": 2})
    block = b.layer("block", grouped, stem, w2)
    both = b.ints("sum.m", [2**30 + 5, -(2**29)])
    total = b.add("sum", ops.IntAdd(n=31, lo=0, hi=255), [stem, block, both])
    table = b.ints("act.table", b.rng.integers(0, 256, 256), "uint8")
    act = b.add("act", ops.IntLut(), [total, table])
    pool = {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1, 1, 1)}
    high = b.add("max", ops.MaxPool(**pool, ceil_mode=True, layout="channels_last"), [act])
    div, m, n = (b.ints(f"avg.{k}", v) for k, v in _AVERAGE)
    average = ops.IntAvgPool(**pool, ceil_mode=True, count_include_pad=False, lo=0, hi=255)
    mean = b.add("avg", average, [act, div, m, n])
    cat = b.add("cat", ops.Concat(axis=3), [high, mean])
    flat = b.add("flat", ops.Reshape(shape=(None, 5 * 4 * 8)), [cat])
    w3 = b.weight("fc.weight", (5, 160), get_format("ternary"))
    fc = b.layer("fc", ops.IntLinear(lo=-32768, hi=32767), flat, w3, format="int16", scale=2**-9, zero=0)
    w4 = b.weight("side.weight", (2, 160), get_format("uint3"), zero=True)
    side = b.layer("side", ops.IntLinear(lo=0, hi=255), flat, w4)
    soft = ops.IntSoftmax(axis=1, m=2**30, n=32)
    probabilities = b.add("soft", soft, [fc], format="int16", scale=2**-15, zero=0)
    return b.graph(probabilities, side)


def codes_for(graph: Graph, batch: int = 2, seed: int = 0) -> dict[str, np.ndarray]:
    """Random stored integers for every input."""
    rng = np.random.default_rng(seed)
    result = {}
    for name in graph.inputs:
        kind = graph.types[name]
        assert isinstance(kind, IntType)
        shape = (batch, *(d or 0 for d in kind.shape[1:]))
        result[name] = rng.integers(kind.lo, kind.hi + 1, shape).astype(kind.storage)
    return result
