"""Write multiplications and additions by constants as multiply-adds per channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from subbyte.graph.ir import Graph, Node
from subbyte.graph.ops.add import Add, Sub
from subbyte.graph.ops.mul import Mul
from subbyte.graph.passes.patterns import channel_axis, per_channel
from subbyte.graph.passes.protocol import PassResult
from subbyte.graph.passes.rewriter import Rewriter
from subbyte.graph.passes.scaling import Scaling, to_affine


@final
@dataclass(frozen=True)
class ConstantsToAffine:
    """``add``, ``sub`` and ``mul`` of a value and a scalar or per-channel constant become an ``affine``.

    A constant that varies along several axes (a mean image), or that makes the value larger, stays as it is. An
    activation that the operator carries stays on the affine.
    """

    name: str = "constants_to_affine"
    requires: frozenset[str] = frozenset({"folded_constants"})
    ensures: frozenset[str] = frozenset()

    def __call__(self, graph: Graph) -> PassResult:
        rewriter = Rewriter(graph)
        for node in rewriter.walk():
            if isinstance(node.op, (Add, Sub, Mul)):
                constant = next((i for i in node.inputs if i in graph.constants), None)
                value = next((i for i in node.inputs if i in graph.types), None)
                if constant is not None and value is not None:
                    scaling = _scaling(rewriter, node, value, constant)
                    if scaling is not None:
                        to_affine(rewriter, node, value, scaling, rectify=node.op.rectify)
        return rewriter.finish()


def _scaling(rewriter: Rewriter, node: Node, value: str, constant: str) -> Scaling | None:
    array, shape = rewriter.array(constant), rewriter.types[value].shape
    found = None if array is None else per_channel(array, shape)
    if found is None or len(shape) < 2:
        return None
    axis, numbers = found
    if axis is None:
        maker = rewriter.maker(value)
        axis = (channel_axis(maker.op, len(shape)) if maker is not None else None) or 1
    size = shape[axis]
    if size is None:
        return None
    numbers = np.broadcast_to(numbers, (size,))
    ones, zeros = np.ones_like(numbers), np.zeros_like(numbers)
    if isinstance(node.op, Mul):
        return Scaling(axis, numbers, zeros)
    if isinstance(node.op, Add):
        return Scaling(axis, ones, numbers)
    return Scaling(axis, ones, -numbers) if node.inputs[0] == value else Scaling(axis, -ones, numbers)
