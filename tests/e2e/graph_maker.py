"""A random integer graph under construction: formats, zero points, weights and multipliers, extremes often."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from subbyte.arithmetic.requant import multiplier
from subbyte.formats import Format, get_format
from subbyte.formats.groups import Groups, group_count
from subbyte.formats.qtensor import QTensor
from subbyte.graph.ir import Constant, Graph, IntType, Node
from subbyte.graph.ops.op import Op
from subbyte.graph.verify import verify

GAPS = (
    get_format("binary"),
    get_format("midrise2"),
    get_format("midrise4"),
    Format(name="gaps6", table=(-2, -1, 0, 1, 2, 4)),
    Format(name="powers13", table=(-32, -16, -8, -4, -2, -1, 0, 1, 2, 4, 8, 16, 32)),
    Format(name="far_ends", table=(-128, -3, 5, 127)),
)
"""Formats of values that are not consecutive: weights, inputs and operands made by a table, never results."""

CONSECUTIVE = tuple(
    get_format(name)
    for name in (
        "uint8", "uint7", "uint5", "uint4", "uint3", "uint2", "uint1", "levels31", "levels17", "ternary", "int8",
    )
)  # fmt: skip
WIDE = get_format("int16")
RESULTS = (*CONSECUTIVE, get_format("uint8"), get_format("uint8"), WIDE, WIDE, WIDE)
WEIGHTS = GAPS + tuple(
    get_format(name)
    for name in (
        "int8", "int7", "int5", "int4", "int3", "int2", "uint4", "uint2", "levels17", "levels23", "levels31",
        "levels127", "ternary",
    )
)  # fmt: skip
ARITHMETICS = ("m31", "m15", "shift")
LENGTHS = (15, 16, 17, 31, 32, 33, 63, 64, 65)
"""Numbers of channels on both sides of a register's width."""


class GraphMaker:
    """Grows one graph; every choice comes from one seeded generator."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.arithmetic = self.pick(ARITHMETICS)
        self.types: dict[str, IntType] = {}
        self.constants: dict[str, Constant] = {}
        self.nodes: list[Node] = []
        self.inputs: list[str] = []

    def graph(self) -> Graph:
        """What has been made, verified; values that nobody reads are its outputs."""
        read = {i for n in self.nodes for i in n.inputs}
        outputs = tuple(n.output for n in self.nodes if n.output not in read)
        graph = Graph(
            name="random",
            inputs=tuple(self.inputs),
            outputs=outputs,
            types=self.types,
            constants=self.constants,
            nodes=tuple(self.nodes),
        )
        verify(graph, "integer")
        return graph

    def pick(self, options):
        return options[int(self.rng.integers(len(options)))]

    def integer(self, lo: int, hi: int) -> int:
        """Uniform in lo..hi, both included."""
        return int(self.rng.integers(lo, hi + 1))

    def coin(self, p: float = 0.5) -> bool:
        return bool(self.rng.random() < p)

    def input(self, name: str) -> None:
        """An image with a short or awkward number of channels, or a row."""
        channels = self.integer(1, 19) if self.coin(0.7) else self.pick(LENGTHS)
        shape = (None, self.integer(1, 9), self.integer(1, 9), channels)
        if self.coin(0.2):
            shape = (None, self.integer(1, 70) if self.coin() else 2 * self.pick(LENGTHS) + self.integer(-1, 1))
        self.types[name] = self.type(shape, self.pick(GAPS) if self.coin(0.2) else self.pick(CONSECUTIVE))
        self.inputs.append(name)

    def type(self, shape, format_: Format | None = None) -> IntType:
        """Of a random result, or of a given format; the zero point is often at an end."""
        format_ = format_ or self.pick(RESULTS)
        zero = 0 if format_.storage == "int16" else self.integer(format_.stored_lo, format_.stored_hi)
        if format_.storage == "uint8" and self.coin(0.3):
            zero = self.pick((format_.stored_lo, format_.stored_hi))
        scale = float(np.float32(2.0 ** self.integer(-8, 0)))
        return IntType(shape=shape, format=format_, scale=scale, zero_point=zero)

    def value(self, suits: Callable[[IntType], bool]) -> str | None:
        """A random value that suits, or None."""
        options = [v for v, t in self.types.items() if suits(t)]
        return self.pick(options) if options else None

    def put(self, op: Op, inputs: tuple[str, ...], out: IntType) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(Node(name=f"{op.name}_{len(self.nodes)}", op=op, inputs=inputs, output=name))
        self.types[name] = out
        return name

    def shaped(self, op: Op, inputs: tuple[str, ...], like: IntType) -> IntType:
        """``like`` with the shape that the operator infers."""
        operands = [self.types.get(i, self.constants.get(i)) for i in inputs]
        return IntType(shape=op.infer(operands), format=like.format, scale=like.scale, zero_point=like.zero_point)

    def constant(self, array: Constant) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = array
        return name

    def ratio(self, magnitude: float) -> tuple[int, int]:
        """(m, n) of a random ratio near 1/magnitude, so that results spread over the format."""
        real = 2.0 ** self.rng.uniform(-2, 2) / max(magnitude, 1.0)
        if self.arithmetic == "shift":
            real = 2.0 ** round(math.log2(real))
        return multiplier(real, self.arithmetic)

    def ratios(self, count: int, magnitude: float) -> tuple[str, str]:
        pairs = np.array([self.ratio(magnitude) for _ in range(count)], dtype=np.int32)
        return self.constant(np.ascontiguousarray(pairs[:, 0])), self.constant(np.ascontiguousarray(pairs[:, 1]))

    def bounds(self, out: IntType) -> tuple[int, int]:
        """The format's bounds, sometimes narrowed as a fused clip does."""
        if self.coin(0.6):
            return out.lo, out.hi
        a, b = sorted((self.integer(out.lo, out.hi), self.integer(out.lo, out.hi)))
        return a, b

    def weight(self, shape: tuple[int, ...]) -> QTensor:
        weight = self.plain_weight(shape)
        return self.grouped(weight) if self.coin(0.25) else weight

    def plain_weight(self, shape: tuple[int, ...]) -> QTensor:
        """Without groups."""
        format_ = self.pick(WEIGHTS)
        codes = self.rng.integers(0, format_.levels, shape)
        extreme = self.rng.random()
        if extreme < 0.15:
            codes[:] = 0
        elif extreme < 0.3:
            codes[:] = format_.levels - 1
        per_channel = self.coin(0.8)
        scale = np.full(shape[0] if per_channel else (), 0.5, np.float32)
        zero = np.zeros(scale.shape, np.int32)
        if format_.uniform and self.coin(0.3):
            lowest, highest = max(format_.lo, format_.hi - 127), min(format_.hi, format_.lo + 128)
            zero = self.rng.integers(lowest, highest + 1, scale.shape).astype(np.int32)
        return QTensor(codes=codes.astype(np.uint8), format=format_, scale=scale, zero_point=np.asarray(zero), axis=0)

    def grouped(self, weight: QTensor) -> QTensor:
        """The weight in groups whose scales are as large as int8 lets them be, or powers of two below."""
        size = self.integer(1, 2 * weight.codes.size // len(weight.codes) + 1)
        shape = len(weight.codes), group_count(weight.shape, size)
        most = max(1, 127 // max(1, *map(abs, weight.interval())))
        scale = self.rng.integers(1, most + 1, shape).astype(np.int32)
        if self.coin(0.3):
            scale = np.left_shift(1, np.log2(scale).astype(np.int32)).astype(np.int32)
        zero = np.broadcast_to(weight.zero_point.reshape(-1, 1), shape).astype(np.int32)
        return replace(weight, zero_point=zero, groups=Groups(size=size, scale=scale))

    def epilogue(self, outputs: int, magnitude: float) -> tuple[str, ...]:
        """bias, m, n and sometimes m_neg, n_neg."""
        bias = self.rng.integers(-int(magnitude) - 1, int(magnitude) + 2, outputs).astype(np.int32)
        names = (self.constant(bias), *self.ratios(outputs, magnitude / 100))
        return (*names, *self.ratios(outputs, magnitude / 10)) if self.coin(0.25) else names


def image(t: IntType) -> bool:
    return len(t.shape) == 4


def byte_image(t: IntType) -> bool:
    return image(t) and t.storage == "uint8"


def byte(t: IntType) -> bool:
    return t.storage == "uint8"


def small(t: IntType) -> bool:
    return math.prod(t.shape[1:]) <= 4000


def span(t: IntType) -> int:
    """Largest magnitude of a centred value."""
    return max(t.hi - t.zero_point, t.zero_point - t.lo, 1)


def legal(format_: Format) -> np.ndarray:
    """Every stored integer that means a value of the format."""
    return np.asarray(format_.integers) - (format_.lo if format_.storage == "uint8" else 0)
