"""Drop nodes that pass their operand on unchanged."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

from subbyte.graph.ir import Graph, Node, Shape
from subbyte.graph.ops.concat import Concat
from subbyte.graph.ops.identity import Identity
from subbyte.graph.ops.pad import Pad
from subbyte.graph.ops.rectify import Rectify
from subbyte.graph.ops.reshape import Reshape
from subbyte.graph.ops.resize_nearest import ResizeNearest
from subbyte.graph.ops.slice import Slice
from subbyte.graph.ops.transpose import Transpose
from subbyte.graph.passes.protocol import PassResult
from subbyte.graph.passes.rewriter import Rewriter


@final
@dataclass(frozen=True)
class RemoveIdentity:
    """Drop dropout, casts, and reshapes, transposes, slices, pads, resizes, concats and clips that do nothing.

    The operand's name survives, unless the node makes a graph output: then its producer makes that output. A node
    between a graph input (or another output) and an output stays, as an ``identity``.
    """

    name: str = "remove_identity"
    requires: frozenset[str] = frozenset()
    ensures: frozenset[str] = frozenset({"no_identity"})

    def __call__(self, graph: Graph) -> PassResult:
        rewriter = Rewriter(graph)
        for node in rewriter.walk():
            if _idle(node, graph.operand(node.inputs[0]).shape, graph.types[node.output].shape):
                kept = not rewriter.bypass(node)
                if kept and not isinstance(node.op, Identity):
                    rewriter.replace(node, op=Identity())
        return rewriter.finish()


def _idle(node: Node, before: Shape, after: Shape) -> bool:
    op = node.op
    if isinstance(op, Identity):
        return True
    if isinstance(op, Rectify):
        return op.slope == 1 and op.lo == -math.inf and op.hi == math.inf
    if isinstance(op, Transpose):
        return op.perm == tuple(range(len(before)))
    if isinstance(op, Slice):
        return before == after and all(s > 0 for s in op.steps)
    if isinstance(op, Concat):
        return len(node.inputs) == 1
    return before == after and isinstance(op, (Reshape, Pad, ResizeNearest))
