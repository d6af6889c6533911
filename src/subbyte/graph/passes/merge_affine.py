"""Let layers and affines take in the affine that follows them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from subbyte.graph.ir import Graph
from subbyte.graph.ops.affine import Affine
from subbyte.graph.passes.protocol import PassResult
from subbyte.graph.passes.rewriter import Rewriter
from subbyte.graph.passes.scaling import absorb, affine_scaling


@final
@dataclass(frozen=True)
class MergeAffine:
    """An affine whose operand is made for it alone by a convolution, linear layer or affine without activation.

    The producer keeps its name and makes the affine's value, with the affine's activation. Both must run along the
    same axis, unless one of them is the same for all channels. Numbers are combined in float64.
    """

    name: str = "merge_affine"
    requires: frozenset[str] = frozenset({"folded_constants"})
    ensures: frozenset[str] = frozenset()

    def __call__(self, graph: Graph) -> PassResult:
        rewriter = Rewriter(graph)
        for node in rewriter.walk():
            if isinstance(node.op, Affine):
                layer = rewriter.private_maker(node.inputs[0])
                scaling = affine_scaling(rewriter, node)
                if layer is not None and scaling is not None:
                    absorb(rewriter, layer, node, scaling, rectify=node.op.rectify)
        return rewriter.finish()
