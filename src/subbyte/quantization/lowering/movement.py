"""Operators that only move numbers: the same operator on codes."""

from __future__ import annotations

from collections.abc import Mapping

from subbyte.graph.ir import Node
from subbyte.graph.ops.argmax import Argmax
from subbyte.graph.ops.concat import Concat
from subbyte.graph.ops.identity import Identity
from subbyte.graph.ops.max_pool import MaxPool
from subbyte.graph.ops.op import Op
from subbyte.graph.ops.pad import IntPad, Pad
from subbyte.graph.ops.reshape import Reshape
from subbyte.graph.ops.resize_nearest import ResizeNearest
from subbyte.graph.ops.slice import Slice
from subbyte.graph.ops.transpose import Transpose
from subbyte.quantization.lowering.context import Lowering, Rule, nearest_to


def lower_move(low: Lowering, node: Node, op: Op) -> None:
    """Codes move like values; a concat's operands are first brought to its scale."""
    out = low.scheme.stored(node.output)
    low.finish(node, op, tuple(low.recode(node, v, out)[0] for v in node.inputs))


def lower_pad(low: Lowering, node: Node, op: Pad) -> None:
    """Padding by the code of its value, which for 0 is the zero point."""
    out = low.scheme.stored(node.output)
    x, _ = low.recode(node, node.inputs[0], out)
    low.finish(node, IntPad(before=op.before, after=op.after, fill=nearest_to(op.value, out)), (x,))


def lower_argmax(low: Lowering, node: Node, op: Argmax) -> None:
    """Codes order like values, so the operator stays as it is."""
    low.finish(node, op, (low.operand(node, node.inputs[0])[0],))


RULES: Mapping[type[Op], Rule] = {
    **dict.fromkeys((Reshape, Transpose, Slice, MaxPool, ResizeNearest, Identity, Concat), lower_move),
    Pad: lower_pad,
    Argmax: lower_argmax,
}
