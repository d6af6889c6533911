"""Operators that only move numbers: the same operator on codes."""

from __future__ import annotations

from subbyte.graph.ir import Node
from subbyte.graph.ops.pad import IntPad, Pad
from subbyte.quantization.lowering.context import Lowering, lowers


@lowers("reshape", "transpose", "slice", "max_pool", "resize_nearest", "identity", "concat")
def lower_move(low: Lowering, node: Node) -> None:
    """Codes move like values; a concat's operands are first brought to its scale."""
    out = low.scheme.stored(node.output)
    inputs = tuple(low.recode(node, v, out)[0] for v in node.inputs)
    low.finish(node, node.op, inputs)


@lowers("pad")
def lower_pad(low: Lowering, node: Node) -> None:
    """Padding by the code of its value, which for 0 is the zero point."""
    op = node.op
    assert isinstance(op, Pad)
    out = low.scheme.stored(node.output)
    x, _ = low.recode(node, node.inputs[0], out)
    fill = min(max(round(op.value / out.scale) + out.zero_point, out.lo), out.hi)
    low.finish(node, IntPad(before=op.before, after=op.after, fill=fill), (x,))
