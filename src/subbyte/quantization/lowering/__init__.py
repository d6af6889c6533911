"""A quantized float graph becomes an integer graph: one rule per operator, one file per family."""

from __future__ import annotations

from collections.abc import Mapping

from subbyte.errors import LoweringError
from subbyte.graph.ir import Graph
from subbyte.graph.ops.op import Op
from subbyte.graph.verify import place_of, verify
from subbyte.quantization.layers import LayerWeights
from subbyte.quantization.lowering import elementwise, layers, movement, reductions
from subbyte.quantization.lowering.context import Lowering, Rule
from subbyte.quantization.scheme import Scheme

__all__ = ["RULES", "lower"]

RULES: Mapping[type[Op], Rule] = {**layers.RULES, **elementwise.RULES, **reductions.RULES, **movement.RULES}
"""How each float operator is written in integers."""


def lower(scheme: Scheme, weights: Mapping[str, LayerWeights]) -> Graph:
    """The integer graph of a quantized float graph, verified: shapes, bounds of results, proofs of accumulators.

    Raises:
        LoweringError: a rescale has no integer form in the scheme's arithmetic, or an accumulator cannot be proved.
    """
    lowering = Lowering(scheme, weights)
    for node in scheme.graph:
        rule = RULES.get(type(node.op))
        if rule is None:
            raise LoweringError(
                f"operator {node.op.name!r} has no integer form",
                f"operators with one are {', '.join(sorted(op.name for op in RULES))}",
                "replace it in the network",
                place_of(scheme.graph, node),
            )
        rule(lowering, node, node.op)
    graph = lowering.graph()
    verify(graph, "integer")
    return graph
