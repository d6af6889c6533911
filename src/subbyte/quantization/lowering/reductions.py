"""Means, average pools and softmax in integers."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from subbyte.arithmetic.requant import multiplier
from subbyte.graph.ir import Node
from subbyte.graph.ops.avg_pool import AvgPool, IntAvgPool, divisors
from subbyte.graph.ops.log_softmax import IntLogSoftmax, LogSoftmax
from subbyte.graph.ops.mean import IntMean, Mean
from subbyte.graph.ops.softmax import OCTAVE, IntSoftmax, Softmax
from subbyte.quantization.lowering.context import Lowering, lowers


@lowers("mean")
def lower_mean(low: Lowering, node: Node) -> None:
    """Sum over the axes, then one rescale that divides too."""
    op = node.op
    assert isinstance(op, Mean)
    x, x_type = low.operand(node, node.inputs[0])
    out = low.scheme.stored(node.output)
    window = math.prod(x_type.shape[a] or 1 for a in op.axes)
    m, n = low.ratio(x_type.scale / window, out.scale, node)
    low.finish(node, IntMean(axes=op.axes, keepdims=op.keepdims, m=m, n=n, lo=out.lo, hi=out.hi), (x,))


@lowers("avg_pool")
def lower_avg_pool(low: Lowering, node: Node) -> None:
    """Window sums with one multiplier per distinct divisor."""
    op = node.op
    assert isinstance(op, AvgPool)
    x, x_type = low.operand(node, node.inputs[0])
    out = low.scheme.stored(node.output)
    found = divisors(op, x_type.shape)
    pairs = np.array([low.ratio(x_type.scale / d, out.scale, node) for d in found], dtype=np.int32)
    integer = IntAvgPool(
        kernel=op.kernel,
        stride=op.stride,
        padding=op.padding,
        ceil_mode=op.ceil_mode,
        count_include_pad=op.count_include_pad,
        lo=out.lo,
        hi=out.hi,
    )
    constants = (
        low.constant(node, "divisors", np.array(found, np.int32)),
        low.constant(node, "m", np.ascontiguousarray(pairs[:, 0])),
        low.constant(node, "n", np.ascontiguousarray(pairs[:, 1])),
    )
    low.finish(node, integer, (x, *constants))


@lowers("softmax")
def lower_softmax(low: Lowering, node: Node) -> None:
    """Softmax over 16-bit logits."""
    op = node.op
    assert isinstance(op, Softmax)
    x, x_type = low.operand(node, node.inputs[0])
    m, n = _exponent_ratio(x_type.scale)
    low.finish(node, IntSoftmax(axis=op.axis, m=m, n=n), (x,))


@lowers("log_softmax")
def lower_log_softmax(low: Lowering, node: Node) -> None:
    """Log-softmax over 16-bit logits."""
    op = node.op
    assert isinstance(op, LogSoftmax)
    x, x_type = low.operand(node, node.inputs[0])
    out = low.scheme.stored(node.output)
    m, n = _exponent_ratio(x_type.scale)
    ratios = (x_type.scale / out.scale, math.log(2) / 65536 / out.scale)
    _, shift = multiplier(max(ratios), "m31")
    m_in, m_log = (min(round(r * 2.0**shift), 2**31 - 1) for r in ratios)
    integer = IntLogSoftmax(axis=op.axis, m=m, n=n, m_in=m_in, m_log=m_log, shift=shift, lo=out.lo, hi=out.hi)
    low.finish(node, integer, (x,))


def _exponent_ratio(scale: float) -> tuple[int, int]:
    """(m, n) from logits to exponent units; it feeds a table and rescales no tensor, so it has 31 bits everywhere."""
    return multiplier(scale * math.log2(math.e) * OCTAVE, "m31")


@lowers("argmax")
def lower_argmax(low: Lowering, node: Node) -> None:
    """Codes order like values, so the operator stays as it is."""
    x, _ = low.operand(node, node.inputs[0])
    low.finish(node, replace(node.op), (x,))  # type: ignore[type-var]
