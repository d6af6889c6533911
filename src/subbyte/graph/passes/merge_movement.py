"""Join neighbouring reshapes and neighbouring transposes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from subbyte.graph.ir import BATCH, Graph, Node
from subbyte.graph.ops.reshape import Reshape
from subbyte.graph.ops.transpose import Transpose
from subbyte.graph.passes.protocol import PassResult
from subbyte.graph.passes.rewriter import Rewriter


@final
@dataclass(frozen=True)
class MergeMovement:
    """A reshape of a reshape reads the first one's operand, likewise transposes (with permutations composed).

    A transpose that moves only axes of length 1 becomes a reshape, which costs nothing at run time. The skipped node
    stays for other readers; without any it is dead code. Pairs that cancel become identities.
    """

    name: str = "merge_movement"
    requires: frozenset[str] = frozenset()
    ensures: frozenset[str] = frozenset()

    def __call__(self, graph: Graph) -> PassResult:
        rewriter = Rewriter(graph)
        for found in rewriter.walk():
            node = _settle(rewriter, found)
            maker = rewriter.maker(node.inputs[0])
            if maker is None:
                continue
            if isinstance(node.op, Reshape) and isinstance(maker.op, Reshape):
                rewriter.replace(node, inputs=maker.inputs)
            elif isinstance(node.op, Transpose) and isinstance(maker.op, Transpose):
                perm = tuple(maker.op.perm[axis] for axis in node.op.perm)
                _settle(rewriter, rewriter.replace(node, op=Transpose(perm=perm), inputs=maker.inputs))
        return rewriter.finish()


def _settle(rewriter: Rewriter, node: Node) -> Node:
    """The transpose as a reshape, if all axes longer than 1 keep their order."""
    if not isinstance(node.op, Transpose):
        return node
    shape = rewriter.types[node.inputs[0]].shape
    moving = [axis for axis in node.op.perm if shape[axis] != 1]
    if moving != sorted(moving):
        return node
    sizes = rewriter.types[node.output].shape
    return rewriter.replace(node, op=Reshape(shape=(BATCH, *sizes[1:])))
