"""Fold batch norm into the convolution or linear layer before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from subbyte.graph.ir import Graph
from subbyte.graph.ops.batch_norm import BatchNorm
from subbyte.graph.passes.protocol import PassResult
from subbyte.graph.passes.rewriter import Rewriter
from subbyte.graph.passes.scaling import absorb, batch_norm_affine


@final
@dataclass(frozen=True)
class FoldBatchNorm:
    """``BN(W x + b) = (f W) x + (b - mean) f + beta`` with ``f = gamma / sqrt(var + epsilon)`` per channel, in float64.

    Only where the layer's value is read by the batch norm alone, is no graph output and carries no activation. The
    layer keeps its name and makes the batch norm's value; it gets a bias if it had none.
    Source: Jacob et al. 2017, section 3.2.
    """

    name: str = "fold_batchnorm"
    requires: frozenset[str] = frozenset()
    ensures: frozenset[str] = frozenset()

    def __call__(self, graph: Graph) -> PassResult:
        rewriter = Rewriter(graph)
        for node in rewriter.walk():
            if isinstance(node.op, BatchNorm):
                layer = rewriter.private_maker(node.inputs[0])
                affine = batch_norm_affine(rewriter, node)
                if layer is not None and affine is not None:
                    absorb(rewriter, layer, node, affine, rectify=None)
        return rewriter.finish()
