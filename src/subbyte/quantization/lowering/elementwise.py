"""Add, sub, mul, clips and functions of one variable in integers."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from subbyte.graph.ir import IntType, Node
from subbyte.graph.ops.add import Add, IntAdd, Sub
from subbyte.graph.ops.lut import IntLut
from subbyte.graph.ops.mul import IntMul, Mul
from subbyte.graph.ops.op import Op
from subbyte.graph.ops.rectify import Rectify
from subbyte.graph.ops.rescale import IntRescale
from subbyte.graph.ops.unary import Unary
from subbyte.quantization.lowering.context import Lowering, Rule
from subbyte.quantization.parts import bent

_CONSTANT_SPAN = 32767
"""Constants of add and mul are rounded to this many steps each way."""


def lower_add(low: Lowering, node: Node, op: Add | Sub) -> None:
    """Both operands brought to one scale, one rounding."""
    out = low.scheme.stored(node.output)
    a, b = node.inputs
    signs = (1, -1 if isinstance(op, Sub) else 1)
    if not low.is_value(a):  # integer adds take a constant second
        a, b, signs = b, a, signs[::-1]
    first, s_a = _value(low, node, a)
    if low.is_value(b):
        second, s_b = _value(low, node, b)
    else:
        m, n = low.ratio(s_a, out.scale, node)
        finest = 0.0 if low.scheme.arithmetic == "shift" or m == 0 else out.scale * 2.0**-n  # that the shift can hold
        second, s_b = _constant(low, node, b, out.scale, finest)
    multipliers, n = _joint(low, node, (s_a, s_b), out)
    lo, hi = low.bounds(op.rectify, out)
    factors = low.constant(node, "m", np.array(signs, np.int32) * multipliers)
    low.finish(node, IntAdd(n=n, lo=lo, hi=hi), (first, second, factors))


def lower_mul(low: Lowering, node: Node, op: Mul) -> None:
    """Product of two centred operands, one rounding."""
    out = low.scheme.stored(node.output)
    a, b = node.inputs if low.is_value(node.inputs[0]) else node.inputs[::-1]
    first, s_a = _value(low, node, a)
    second, s_b = _value(low, node, b) if low.is_value(b) else _constant(low, node, b, out.scale / s_a)
    m, n = low.ratio(s_a * s_b, out.scale, node)
    lo, hi = low.bounds(op.rectify, out)
    low.finish(node, IntMul(m=m, n=n, lo=lo, hi=hi), (first, second))


def _value(low: Lowering, node: Node, name: str) -> tuple[str, float]:
    """Name and scale of an operand that is a value."""
    name, type_ = low.operand(node, name)
    return name, type_.scale


def _constant(low: Lowering, node: Node, name: str, unit: float, finest: float = 0.0) -> tuple[str, float]:
    """Name and scale of an operand that is a constant: a power of two times ``unit``, so that its ratio is exact."""
    array = np.asarray(low.scheme.graph.constants[name], np.float64)
    scale = (float(np.abs(array).max()) or 1.0) / _CONSTANT_SPAN
    scale = max(unit * 2.0 ** math.ceil(math.log2(scale / unit)), finest)
    return low.constant(node, "constant", np.rint(array / scale).astype(np.int32)), scale


def _joint(low: Lowering, node: Node, scales: tuple[float, float], out: IntType) -> tuple[npt.NDArray[np.int32], int]:
    """Multipliers of two operands over one shift: the larger ratio gets the full mantissa."""
    pairs = [low.ratio(s, out.scale, node) for s in scales]
    exact = [m * 2.0**-n for m, n in pairs]
    m, n = pairs[exact.index(max(exact))]
    if low.scheme.arithmetic == "shift":  # the smaller ratio decides, while the larger one fits
        n = max(n, min(30 - math.frexp(max(exact))[1], max(n for _, n in pairs)))
        return np.array([math.floor(r * 2.0**n) for r in exact], dtype=np.int32), n
    wide = [min(s / out.scale * 2.0**n, float(m)) for s in scales]
    return np.rint(wide).astype(np.int32), n


def lower_rectify(low: Lowering, node: Node, op: Rectify) -> None:
    """A clip that found no producer to join: a rescale, or a table where negative values have a slope."""
    x, x_type = low.operand(node, node.inputs[0])
    out = low.scheme.stored(node.output)
    if bent(op):
        table = low.table(node, "rectify", x_type, out, lambda reals: _rectified(op, reals))
        low.finish(node, IntLut(), (x, table))
        return
    m, n = low.ratio(x_type.scale, out.scale, node)
    lo, hi = low.bounds(op, out)
    low.finish(node, IntRescale(m=m, n=n, lo=lo, hi=hi), (x,))


def _rectified(op: Rectify, reals: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(np.clip(np.where(reals < 0, op.slope * reals, reals), op.lo, op.hi))


def lower_unary(low: Lowering, node: Node, op: Unary) -> None:
    """Any function of one 8-bit variable: a 256-entry table."""
    x, x_type = low.operand(node, node.inputs[0])
    out = low.scheme.stored(node.output)
    low.finish(node, IntLut(), (x, low.table(node, op.function, x_type, out, op.reals)))


RULES: Mapping[type[Op], Rule] = {
    Add: lower_add,
    Sub: lower_add,
    Mul: lower_mul,
    Rectify: lower_rectify,
    Unary: lower_unary,
}
