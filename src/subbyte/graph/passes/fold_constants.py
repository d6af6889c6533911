"""Evaluate what depends on constants alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt

from subbyte.errors import GraphError
from subbyte.graph.ir import Graph, Node
from subbyte.graph.passes.protocol import PassResult


@final
@dataclass(frozen=True)
class FoldConstants:
    """Replace every node whose operands are all constants by its value, which keeps its name.

    The one pass that may run before ``verify``, because a graph with such nodes breaks its rule 5.
    """

    name: str = "fold_constants"
    requires: frozenset[str] = frozenset()
    ensures: frozenset[str] = frozenset({"folded_constants"})

    def __call__(self, graph: Graph) -> PassResult:
        constants = dict(graph.constants)
        nodes: list[Node] = []
        for node in graph:
            if node.inputs and node.output not in graph.outputs and all(name in constants for name in node.inputs):
                operands = [np.asarray(constants[name]) for name in node.inputs]
                constants[node.output] = _evaluate(graph, node, operands)
            else:
                nodes.append(node)
        if len(nodes) == len(graph.nodes):
            return PassResult(graph, False)
        kept = {*graph.inputs, *(n.output for n in nodes)}
        read = {i for n in nodes for i in n.inputs}
        folded = graph.evolve(
            nodes=tuple(nodes),
            types={v: t for v, t in graph.types.items() if v in kept},
            constants={c: a for c, a in constants.items() if c in read},
        )
        return PassResult(folded, True)


def _evaluate(graph: Graph, node: Node, operands: list[npt.NDArray[np.generic]]) -> npt.NDArray[np.float32]:
    import torch

    try:
        with torch.no_grad():
            value = node.op.torch(*(torch.from_numpy(np.array(a)) for a in operands))
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        raise GraphError(
            f"node {node.name!r} of constants cannot be evaluated: {error}",
            f"operator {node.op.name!r} accepts its operands",
            "repair the constants of the model",
            f"node {node.name!r} of module {node.module!r} in graph {graph.name!r}",
        ) from error
    array: npt.NDArray[np.float32] = np.ascontiguousarray(value.numpy().astype(np.float32))
    declared = graph.operand(node.output).shape
    if array.shape != declared or not np.all(np.isfinite(array)):
        raise GraphError(
            f"node {node.name!r} of constants gives shape {array.shape}, finite: {bool(np.all(np.isfinite(array)))}",
            f"constants are finite and have the declared shape {declared}",
            "repair the constants of the model",
            f"node {node.name!r} of module {node.module!r} in graph {graph.name!r}",
        )
    return array
