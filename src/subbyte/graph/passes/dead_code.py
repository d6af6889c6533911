"""Drop what nobody reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from subbyte.graph.ir import Graph, Node
from subbyte.graph.passes.protocol import PassResult


@final
@dataclass(frozen=True)
class DeadCode:
    """Keep only nodes and constants that an output depends on; graph inputs always stay."""

    name: str = "dead_code"
    requires: frozenset[str] = frozenset()
    ensures: frozenset[str] = frozenset({"no_dead_code"})

    def __call__(self, graph: Graph) -> PassResult:
        needed = set(graph.outputs)
        kept: list[Node] = []
        for node in reversed(graph.nodes):
            if node.output in needed:
                needed.update(node.inputs)
                kept.append(node)
        constants = {name: c for name, c in graph.constants.items() if name in needed}
        if len(kept) == len(graph.nodes) and len(constants) == len(graph.constants):
            return PassResult(graph, False)
        made = {*graph.inputs, *(n.output for n in kept)}
        types = {v: t for v, t in graph.types.items() if v in made}
        return PassResult(graph.evolve(nodes=tuple(reversed(kept)), types=types, constants=constants), True)
