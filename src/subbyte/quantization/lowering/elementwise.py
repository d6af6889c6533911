"""Add, sub, mul, clips and functions of one variable in integers."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from subbyte.graph.ir import IntType, Node
from subbyte.graph.ops.add import Add, IntAdd, Sub
from subbyte.graph.ops.lut import IntLut
from subbyte.graph.ops.mul import IntMul, Mul
from subbyte.graph.ops.rectify import Rectify
from subbyte.graph.ops.rescale import IntRescale
from subbyte.graph.ops.unary import Unary
from subbyte.quantization.lowering.context import Lowering, lowers

_CONSTANT_SPAN = 32767
"""Constants of add and mul are rounded to this many steps each way."""


def _pair(low: Lowering, node: Node) -> tuple[list[str], list[float]]:
    """Names and scales of two operands, values first where the other is a constant."""
    names, scales = [], []
    for role, value in zip("ab", node.inputs, strict=True):
        if value in low.types:
            name, type_ = low.operand(node, value)
            scale = type_.scale
        else:
            array = np.asarray(low.scheme.graph.constants[value], np.float64)
            scale = _constant_scale(low, node, float(np.abs(array).max(initial=0.0)))
            name = low.constant(node, role, np.rint(array / scale).astype(np.int32))
        names.append(name)
        scales.append(scale)
    return names, scales


def _constant_scale(low: Lowering, node: Node, largest: float) -> float:
    scale = (largest or 1.0) / _CONSTANT_SPAN
    if low.scheme.arithmetic != "shift":
        return scale
    reference = low.scheme.stored(node.output).scale if isinstance(node.op, (Add, Sub)) else 1.0
    return reference * 2.0 ** math.ceil(math.log2(scale / reference))


@lowers("add", "sub")
def lower_add(low: Lowering, node: Node) -> None:
    """Both operands brought to one scale, one rounding."""
    op = node.op
    assert isinstance(op, (Add, Sub))
    names, scales = _pair(low, node)
    out = low.scheme.stored(node.output)
    signs = [1, -1 if isinstance(op, Sub) else 1]
    if names[0] not in low.types:  # integer adds take a constant second
        names, scales, signs = names[::-1], scales[::-1], signs[::-1]
    m, n = _joint(low, node, scales, out)
    lo, hi = low.bounds(op.rectify, out)
    factors = low.constant(node, "m", np.array(signs, np.int32) * m)
    low.finish(node, IntAdd(n=n, lo=lo, hi=hi), (*names, factors))


def _joint(low: Lowering, node: Node, scales: list[float], out: IntType) -> tuple[npt.NDArray[np.int32], int]:
    """Multipliers of two operands over one shift: the larger ratio gets the full mantissa."""
    pairs = [low.ratio(s, out.scale, node) for s in scales]
    if low.scheme.arithmetic == "shift":
        n = min(max(n for _, n in pairs), 30)
        return np.array([m << (n - k) if n >= k else 0 for m, k in pairs], dtype=np.int32), n
    m, n = max(pairs, key=lambda p: p[0] * 2.0 ** -p[1])
    exact = [s / out.scale * 2.0**n for s in scales]
    return np.rint(np.minimum(exact, float(m))).astype(np.int32), n


@lowers("mul")
def lower_mul(low: Lowering, node: Node) -> None:
    """Product of two centred operands, one rounding."""
    op = node.op
    assert isinstance(op, Mul)
    names, scales = _pair(low, node)
    out = low.scheme.stored(node.output)
    if names[0] not in low.types:
        names, scales = names[::-1], scales[::-1]
    m, n = low.ratio(scales[0] * scales[1], out.scale, node)
    lo, hi = low.bounds(op.rectify, out)
    low.finish(node, IntMul(m=m, n=n, lo=lo, hi=hi), tuple(names))


@lowers("rectify")
def lower_rectify(low: Lowering, node: Node) -> None:
    """A clip that found no producer to join: a rescale, or a table where negative values have a slope."""
    op = node.op
    assert isinstance(op, Rectify)
    x, x_type = low.operand(node, node.inputs[0])
    out = low.scheme.stored(node.output)
    if op.slope in (0.0, 1.0) and out.format.uniform:
        m, n = low.ratio(x_type.scale, out.scale, node)
        lo, hi = low.bounds(op, out)
        low.finish(node, IntRescale(m=m, n=n, lo=lo, hi=hi), (x,))
        return
    low.finish(node, IntLut(), (x, low.table(node, "rectify", x_type, out, lambda v: _rectified(op, v))))


def _rectified(op: Rectify, reals: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(np.clip(np.where(reals < 0, op.slope * reals, reals), op.lo, op.hi))


@lowers("unary")
def lower_unary(low: Lowering, node: Node) -> None:
    """Any function of one 8-bit variable: a 256-entry table."""
    op = node.op
    assert isinstance(op, Unary)
    x, x_type = low.operand(node, node.inputs[0])
    out = low.scheme.stored(node.output)
    low.finish(node, IntLut(), (x, low.table(node, op.function, x_type, out, op.reals)))
