"""Let operators carry the clipping activation that follows them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import final

from subbyte.graph.ir import Graph
from subbyte.graph.ops.add import Add, Sub
from subbyte.graph.ops.affine import Affine
from subbyte.graph.ops.conv import Conv
from subbyte.graph.ops.linear import Linear
from subbyte.graph.ops.mul import Mul
from subbyte.graph.ops.rectify import Rectify
from subbyte.graph.passes.protocol import PassResult
from subbyte.graph.passes.rewriter import Rewriter


@final
@dataclass(frozen=True)
class FuseActivation:
    """A ``rectify`` (ReLU, ReLU6, clip, leaky ReLU) moves into the ``rectify`` field of its operand's private maker.

    The maker keeps its name and makes the activation's value. Two rectifies in a row become one where one expresses
    both: the second only clips, or the first lets nothing negative through.
    """

    name: str = "fuse_activation"
    requires: frozenset[str] = frozenset()
    ensures: frozenset[str] = frozenset({"fused_activations"})

    def __call__(self, graph: Graph) -> PassResult:
        rewriter = Rewriter(graph)
        for node in rewriter.walk():
            maker = rewriter.private_maker(node.inputs[0]) if isinstance(node.op, Rectify) else None
            if maker is None or not isinstance(node.op, Rectify):
                continue
            if isinstance(maker.op, Rectify):
                both = join(maker.op, node.op)
                if both is not None:
                    rewriter.fuse(maker, node, both)
            elif isinstance(maker.op, (Conv, Linear, Affine, Add, Sub, Mul)):
                both = node.op if maker.op.rectify is None else join(maker.op.rectify, node.op)
                if both is not None:
                    rewriter.fuse(maker, node, replace(maker.op, rectify=both))
        return rewriter.finish()


def join(first: Rectify, second: Rectify) -> Rectify | None:
    """One rectify that equals ``second`` after ``first``; None where there is none of that form."""
    if second.slope == 1 or first.lo >= 0:
        lo, hi = (min(max(bound, second.lo), second.hi) for bound in (first.lo, first.hi))
        return Rectify(slope=first.slope, lo=lo, hi=hi)
    unclipped = first.lo == -math.inf and first.hi == math.inf
    if unclipped and first.slope >= 0:
        return Rectify(slope=first.slope * second.slope, lo=second.lo, hi=second.hi)
    return None
