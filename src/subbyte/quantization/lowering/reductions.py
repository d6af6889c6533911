"""Means, average pools and softmax in integers."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from subbyte.graph.ir import Node
from subbyte.graph.ops.avg_pool import AvgPool, IntAvgPool, divisors
from subbyte.graph.ops.log_softmax import IntLogSoftmax, LogSoftmax
from subbyte.graph.ops.mean import IntMean, Mean
from subbyte.graph.ops.op import Op
from subbyte.graph.ops.softmax import OCTAVE, IntSoftmax, Softmax
from subbyte.quantization.lowering.context import Lowering, Rule


def lower_mean(low: Lowering, node: Node, op: Mean) -> None:
    """Sum over the axes, then one rescale that divides too."""
    x, x_type = low.operand(node, node.inputs[0])
    out = low.scheme.stored(node.output)
    window = math.prod(x_type.shape[a] or 1 for a in op.axes)
    m, n = low.ratio(x_type.scale / window, out.scale, node)
    low.finish(node, IntMean(axes=op.axes, keepdims=op.keepdims, m=m, n=n, lo=out.lo, hi=out.hi), (x,))


def lower_avg_pool(low: Lowering, node: Node, op: AvgPool) -> None:
    """Window sums with one multiplier per distinct divisor."""
    x, x_type = low.operand(node, node.inputs[0])
    out = low.scheme.stored(node.output)
    found = divisors(op, x_type.shape)
    integer = IntAvgPool(
        kernel=op.kernel,
        stride=op.stride,
        padding=op.padding,
        ceil_mode=op.ceil_mode,
        count_include_pad=op.count_include_pad,
        lo=out.lo,
        hi=out.hi,
    )
    listed = low.constant(node, "divisors", np.array(found, np.int32))
    multipliers = low.pairs(node, "", [low.ratio(x_type.scale / d, out.scale, node) for d in found])
    low.finish(node, integer, (x, listed, *multipliers))


def lower_softmax(low: Lowering, node: Node, op: Softmax) -> None:
    """Softmax over 16-bit logits."""
    x, x_type = low.operand(node, node.inputs[0])
    m, n = _exponent_ratio(low, node, x_type.scale)
    low.finish(node, IntSoftmax(axis=op.axis, m=m, n=n), (x,))


def lower_log_softmax(low: Lowering, node: Node, op: LogSoftmax) -> None:
    """Log-softmax over 16-bit logits."""
    x, x_type = low.operand(node, node.inputs[0])
    out = low.scheme.stored(node.output)
    m, n = _exponent_ratio(low, node, x_type.scale)
    terms = (x_type.scale, math.log(2) / 65536)
    _, shift = low.ratio(max(terms), out.scale, node, "m31")
    m_in, m_log = (min(round(t / out.scale * 2.0**shift), 2**31 - 1) for t in terms)
    integer = IntLogSoftmax(axis=op.axis, m=m, n=n, m_in=m_in, m_log=m_log, shift=shift, lo=out.lo, hi=out.hi)
    low.finish(node, integer, (x,))


def _exponent_ratio(low: Lowering, node: Node, scale: float) -> tuple[int, int]:
    """(m, n) from logits to exponent units; it feeds a table and rescales no tensor, so it has 31 bits everywhere."""
    return low.ratio(scale * math.log2(math.e) * OCTAVE, 1.0, node, "m31")


RULES: Mapping[type[Op], Rule] = {
    Mean: lower_mean,
    AvgPool: lower_avg_pool,
    Softmax: lower_softmax,
    LogSoftmax: lower_log_softmax,
}
