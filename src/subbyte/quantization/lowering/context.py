"""What every lowering rule works with: emit integer nodes, re-code operands, turn scale ratios into integers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from subbyte.arithmetic.requant import multiplier
from subbyte.errors import LoweringError
from subbyte.graph.ir import Constant, Graph, IntType, Node, TensorType
from subbyte.graph.ops.lut import IntLut
from subbyte.graph.ops.op import Op
from subbyte.graph.ops.rectify import Rectify
from subbyte.graph.ops.rescale import IntRescale
from subbyte.quantization.fake_quant import nearest_stored
from subbyte.quantization.layers import LayerWeights
from subbyte.quantization.scheme import Scheme

Rule: TypeAlias = "Callable[[Lowering, Node], None]"

RECODED = "::"
"""A value re-coded for a layer is named ``value::format``."""

_RULES: dict[str, Rule] = {}


def lowers(*operators: str) -> Callable[[Rule], Rule]:
    """Decorator: the function lowers these float operators."""

    def register(rule: Rule) -> Rule:
        for name in operators:
            _RULES[name] = rule
        return rule

    return register


class Lowering:
    """An integer graph under construction.

    Args:
        scheme: the quantized float graph.
        layers: weights and biases of its layers.
    """

    def __init__(self, scheme: Scheme, layers: Mapping[str, LayerWeights]) -> None:
        self.scheme = scheme
        self.layers = layers
        self.types: dict[str, TensorType] = {v: scheme.stored(v) for v in scheme.graph.inputs}
        self.constants: dict[str, Constant] = {}
        self.nodes: list[Node] = []

    def lower(self, node: Node) -> None:
        """Emit the integer form of one float node."""
        if node.op.name not in _RULES:
            raise LoweringError(
                f"operator {node.op.name!r} has no integer form",
                f"operators with one are {', '.join(sorted(_RULES))}",
                "replace it in the network",
                f"node {node.name!r} ({node.module})",
            )
        _RULES[node.op.name](self, node)

    def graph(self) -> Graph:
        """The finished integer graph."""
        source = self.scheme.graph
        return Graph(
            name=source.name,
            inputs=source.inputs,
            outputs=source.outputs,
            types=self.types,
            constants=self.constants,
            nodes=tuple(self.nodes),
        )

    def int_type(self, value: str) -> IntType:
        """Type of a value already emitted."""
        type_ = self.types[value]
        assert isinstance(type_, IntType)
        return type_

    def emit(self, source: Node, op: Op, inputs: tuple[str, ...], output: str, type_: IntType) -> str:
        """Append a node; returns its output's name."""
        name = source.name if output == source.output else output
        self.types[output] = type_
        self.nodes.append(Node(name=name, op=op, inputs=inputs, output=output, module=source.module or source.name))
        return output

    def finish(self, source: Node, op: Op, inputs: tuple[str, ...]) -> None:
        """Append the node that makes the source node's own output."""
        self.emit(source, op, inputs, source.output, self.scheme.stored(source.output))

    def constant(self, source: Node, role: str, array: Constant) -> str:
        """Store a constant named after its node and role; returns the name."""
        name = f"{source.name}.{role}"
        self.constants[name] = array
        return name

    def operand(self, node: Node, value: str) -> tuple[str, IntType]:
        """The value as the node reads it, re-coded where its format asks for it."""
        return self.recode(node, value, self.scheme.operand(node, value))

    def recode(self, node: Node, value: str, wanted: IntType) -> tuple[str, IntType]:
        """The value in another quantization: itself if equal, else one shared rescale or table lookup."""
        stored = self.int_type(value)
        if _same(stored, wanted):
            return value, stored
        name = f"{value}{RECODED}{wanted.format.name}"
        while name in self.types and not _same(self.int_type(name), wanted):
            name += "'"
        wanted = replace(wanted, shape=stored.shape)
        if name in self.types:
            return name, wanted
        if wanted.format.uniform:
            m, n = self.ratio(stored.scale, wanted.scale, node)
            self.emit(node, IntRescale(m=m, n=n, lo=wanted.lo, hi=wanted.hi), (value,), name, wanted)
        else:
            table = self.table(node, f"recode.{wanted.format.name}", stored, wanted, lambda real: real)
            self.emit(node, IntLut(), (value, table), name, wanted)
        return name, wanted

    def table(
        self,
        node: Node,
        role: str,
        source: IntType,
        target: IntType,
        function: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]],
    ) -> str:
        """A 256-entry table constant of a real function between two quantizations."""
        if source.storage != "uint8":
            raise LoweringError(
                f"{source.format.name} operand of a table lookup",
                "tables have 256 entries",
                "store the value in 8 bits",
                f"node {node.name!r}",
            )
        reals = source.scale * (np.arange(256, dtype=np.float64) - source.zero_point)
        steps = function(reals) / target.scale
        if target.format.uniform:
            entries = np.clip(np.rint(steps) + target.zero_point, target.lo, target.hi)
        else:
            entries = nearest_stored(steps, target).astype(np.float64)
        return self.constant(node, f"table.{role}", entries.astype(target.storage))

    def ratio(self, numerator: float, denominator: float, node: Node) -> tuple[int, int]:
        """(m, n) of a ratio of scales; in shift arithmetic scales are powers of two apart up to float32 rounding."""
        value = numerator / denominator
        if self.scheme.arithmetic == "shift":
            exponent = math.log2(value)
            if abs(exponent - round(exponent)) < 1e-5:
                value = 2.0 ** round(exponent)
        try:
            return multiplier(value, self.scheme.arithmetic)
        except LoweringError as error:
            raise LoweringError(error.seen, error.rule, error.remedy, f"node {node.name!r} ({node.module})") from error

    def bounds(self, rectify: Rectify | None, out: IntType) -> tuple[int, int]:
        """Stored bounds of a result under a fused clip."""
        lo, hi = out.lo, out.hi
        if rectify is not None:
            low = 0.0 if rectify.slope == 0.0 else rectify.lo
            if low > -math.inf:
                lo = min(max(lo, round(low / out.scale) + out.zero_point), hi)
            if rectify.hi < math.inf:
                hi = max(min(hi, round(rectify.hi / out.scale) + out.zero_point), lo)
        return lo, hi


def _same(a: IntType, b: IntType) -> bool:
    return (a.format.name, a.scale, a.zero_point) == (b.format.name, b.scale, b.zero_point)
