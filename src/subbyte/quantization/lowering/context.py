"""What every lowering rule works with: emit integer nodes, re-code operands, turn scale ratios into integers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from subbyte.arithmetic.requant import Arithmetic, multiplier, powers_of_two
from subbyte.errors import LoweringError
from subbyte.formats import get_format
from subbyte.formats.trims import Trim
from subbyte.graph.ir import Constant, Graph, IntType, Node, Shape, TensorType
from subbyte.graph.ops.lut import IntLut
from subbyte.graph.ops.op import Op
from subbyte.graph.ops.rectify import Rectify
from subbyte.graph.ops.rescale import IntRescale
from subbyte.graph.ops.trim import IntTrim, trimmed_type
from subbyte.graph.verify import place_of
from subbyte.quantization.fake_quant import nearest_stored
from subbyte.quantization.layers import LayerWeights
from subbyte.quantization.scheme import Scheme

Rule: TypeAlias = "Callable[[Lowering, Node, Any], None]"
"""Emits the integer form of a node; called with its operator, of the class under which the rule is listed."""

Function: TypeAlias = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]


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
        self._recoded: dict[tuple[str, str, float, int], str] = {}
        self._trims: dict[tuple[str, str, int], str] = {}
        self._taken = {*scheme.graph.types, *(n.name for n in scheme.graph)}

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

    # Emitting

    def emit(self, source: Node, op: Op, inputs: tuple[str, ...], hint: str, type_: IntType) -> str:
        """Append a node that the float graph does not have; returns its output's name, made from ``hint``."""
        name = self._fresh(hint)
        self.types[name] = type_
        self.nodes.append(Node(name=name, op=op, inputs=inputs, output=name, module=source.module or source.name))
        return name

    def finish(self, source: Node, op: Op, inputs: tuple[str, ...]) -> None:
        """Append the node that makes the source node's own output, under its own name."""
        self.types[source.output] = self.scheme.stored(source.output)
        self.nodes.append(replace(source, op=op, inputs=inputs, module=source.module or source.name))

    def constant(self, source: Node, role: str, array: Constant) -> str:
        """Store a constant named after its node and role; returns the name."""
        name = self._fresh(f"{source.name}.{role}")
        self.constants[name] = array
        return name

    def pairs(self, source: Node, suffix: str, pairs: list[tuple[int, int]]) -> tuple[str, str]:
        """Store multipliers and shifts as two int32 constants; returns their names."""
        m, n = np.array(pairs, dtype=np.int32).T
        return (
            self.constant(source, f"m{suffix}", np.ascontiguousarray(m)),
            self.constant(source, f"n{suffix}", np.ascontiguousarray(n)),
        )

    def _fresh(self, name: str) -> str:
        while name in self._taken:
            name += "'"
        self._taken.add(name)
        return name

    # Operands

    def is_value(self, name: str) -> bool:
        """Whether a name stands for activations, not for a constant."""
        return name in self.types

    def int_type(self, value: str) -> IntType:
        """Type of a value already emitted."""
        type_ = self.types[value]
        assert isinstance(type_, IntType)
        return type_

    def operand(self, node: Node, value: str) -> tuple[str, IntType]:
        """The value as the node reads it, re-coded and trimmed where its choice asks for it."""
        name, type_ = self.recode(node, value, self.scheme.operand(node, value))
        kept = self.scheme.trim(node)
        return (name, type_) if kept is None else self._trimmed(node, name, type_, *kept)

    def _trimmed(self, node: Node, value: str, type_: IntType, trim: Trim, group: int) -> tuple[str, IntType]:
        """``value::trim``, made once for all readers that multiply as many channels together."""
        wanted = trimmed_type(type_, trim)
        key = (value, trim.name, group)
        if key not in self._trims:
            op = IntTrim(trim=trim.name, group=group)
            self._trims[key] = self.emit(node, op, (value,), f"{value}::{trim.name}", wanted)
        return self._trims[key], wanted

    def recode(self, node: Node, value: str, wanted: IntType) -> tuple[str, IntType]:
        """The value in another quantization: itself if equal, else ``value::format``, made once for all readers."""
        stored = self.int_type(value)
        if (stored.format, stored.scale, stored.zero_point) == (wanted.format, wanted.scale, wanted.zero_point):
            return value, stored
        wanted = replace(wanted, shape=stored.shape)
        key = (value, wanted.format.name, wanted.scale, wanted.zero_point)
        if key not in self._recoded:
            self._recoded[key] = self._recode(node, value, stored, wanted)
        return self._recoded[key], wanted

    def _recode(self, node: Node, value: str, stored: IntType, wanted: IntType) -> str:
        hint = f"{value}::{wanted.format.name}"
        if wanted.format.uniform or (wanted.format.coded and stored.storage != "uint8"):
            m, n = self.ratio(stored.scale, wanted.scale, node)
            return self.emit(node, IntRescale(m=m, n=n, lo=wanted.lo, hi=wanted.hi), (value,), hint, wanted)
        if stored.storage != "uint8":
            value, stored = self.recode(node, value, _bytes_over(wanted, stored.scale))
        table = self.table(node, f"recode.{wanted.format.name}", stored, wanted, lambda reals: reals)
        return self.emit(node, IntLut(), (value, table), hint, wanted)

    # Numbers

    def table(self, node: Node, role: str, source: IntType, target: IntType, function: Function) -> str:
        """A 256-entry table constant of a real function between two quantizations; the source is stored in bytes."""
        reals = source.scale * (np.arange(256, dtype=np.float64) - source.zero_point)
        steps = function(reals) / target.scale
        return self.constant(node, f"table.{role}", nearest(steps, target).astype(target.storage))

    def ratio(
        self, numerator: float, denominator: float, node: Node, arithmetic: Arithmetic | None = None
    ) -> tuple[int, int]:
        """(m, n) of a ratio of scales; in shift arithmetic scales are powers of two apart up to float32 rounding."""
        arithmetic = arithmetic or self.scheme.arithmetic
        value = numerator / denominator
        if arithmetic == "shift":
            value = float(powers_of_two(np.array(value)))
        try:
            return multiplier(value, arithmetic)
        except LoweringError as error:
            raise error.at(place_of(self.scheme.graph, node)) from error

    def bounds(self, rectify: Rectify | None, out: IntType) -> tuple[int, int]:
        """Stored bounds of a result under a fused clip."""
        lo, hi = out.lo, out.hi
        if rectify is not None:
            low = max(rectify.lo, 0.0) if rectify.slope == 0.0 else rectify.lo
            lo, hi = (nearest_to(min(real, rectify.hi), out) for real in (low, rectify.hi))
        return lo, hi


def nearest_to(real: float, out: IntType) -> int:
    """The stored integer nearest to a real, which may be infinite."""
    steps = min(max(real / out.scale, -(2.0**25)), 2.0**25)  # beyond every format, and finite
    return int(nearest(np.array([steps]), out)[0])


def nearest(steps: npt.NDArray[np.float64], out: IntType) -> npt.NDArray[np.int64]:
    """The stored integers nearest to reals divided by the scale, even ones on ties; of tables ``nearest_stored``."""
    if not out.format.uniform:
        return nearest_stored(steps, out)
    return np.asarray(np.clip(np.rint(steps) + out.zero_point, out.lo, out.hi).astype(np.int64))


def _bytes_over(wanted: IntType, scale: float) -> IntType:
    """A uint8 type that covers what another type can hold, of ``scale`` times the smallest power of two."""
    centred = wanted.format.centred(wanted.zero_point) * wanted.scale
    bottom, top = min(float(centred[0]), 0.0), max(float(centred[-1]), 0.0)
    step = scale * 2.0 ** math.ceil(math.log2((top - bottom) / 254 / scale))
    return IntType(shape=wanted.shape, format=get_format("uint8"), scale=step, zero_point=round(-bottom / step))


def shaped(type_: IntType, shape: Shape) -> IntType:
    """The type with another shape."""
    return replace(type_, shape=shape)
