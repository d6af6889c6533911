"""A quantized float graph becomes an integer graph: one rule per operator, one file per family."""

from __future__ import annotations

from collections.abc import Mapping

from subbyte.graph.ir import Graph
from subbyte.graph.verify import verify
from subbyte.quantization.layers import LayerWeights
from subbyte.quantization.lowering import elementwise, layers, movement, reductions
from subbyte.quantization.lowering.context import RECODED, Lowering
from subbyte.quantization.scheme import Scheme

__all__ = ["RECODED", "lower"]

_FAMILIES = (elementwise, layers, movement, reductions)  # importing them registers their rules


def lower(scheme: Scheme, weights: Mapping[str, LayerWeights]) -> Graph:
    """The integer graph of a quantized float graph, verified: shapes, bounds of results, proofs of accumulators.

    Raises:
        LoweringError: a rescale has no integer form in the scheme's arithmetic, or an accumulator cannot be proved.
    """
    lowering = Lowering(scheme, weights)
    for node in scheme.graph:
        lowering.lower(node)
    graph = lowering.graph()
    verify(graph, "integer")
    return graph
