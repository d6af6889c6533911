"""Write every batch norm that no layer took in as a multiply-add per channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from subbyte.graph.ir import Graph
from subbyte.graph.ops.batch_norm import BatchNorm
from subbyte.graph.passes.protocol import PassResult
from subbyte.graph.passes.rewriter import Rewriter
from subbyte.graph.passes.scaling import batch_norm_affine, to_affine


@final
@dataclass(frozen=True)
class BatchNormToAffine:
    """Batch norm after an add, a pool or a concat, or before a padded convolution, becomes ``x * scale + shift``.

    It is never moved into a following padded convolution: padding is zero behind the batch norm, not before it.
    """

    name: str = "batchnorm_to_affine"
    requires: frozenset[str] = frozenset({"folded_constants"})
    ensures: frozenset[str] = frozenset({"no_batch_norm"})

    def __call__(self, graph: Graph) -> PassResult:
        rewriter = Rewriter(graph)
        for node in rewriter.walk():
            if isinstance(node.op, BatchNorm):
                affine = batch_norm_affine(rewriter, node)
                if affine is not None:
                    to_affine(rewriter, node, node.inputs[0], affine, rectify=None)
        return rewriter.finish()
