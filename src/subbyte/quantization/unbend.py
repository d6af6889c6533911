"""Leaky slopes that an integer operator cannot carry become nodes of their own, which lowering turns into tables."""

from __future__ import annotations

from dataclasses import replace

from subbyte.arithmetic.requant import Arithmetic
from subbyte.graph.ir import Graph, Node
from subbyte.quantization.parts import Carrier, Scaling, bent, without_rectify


def unbend(graph: Graph, arithmetic: Arithmetic) -> Graph:
    """The graph with fused leaky slopes taken out of their operators again, where these cannot carry them.

    Layers choose between two multipliers by the sign of the accumulator; add, sub and mul have one only. In shift
    arithmetic layers cannot either: a slope is no power of two.
    """
    nodes: list[Node] = []
    types = dict(graph.types)
    taken = {*graph.types, *graph.constants, *(n.name for n in graph)}
    for node in graph:
        op = node.op
        carries = isinstance(op, Scaling) and arithmetic != "shift"
        if carries or not isinstance(op, Carrier) or op.rectify is None or not bent(op.rectify):
            nodes.append(node)
            continue
        straight, bend = (_fresh(f"{node.output}.{suffix}", taken) for suffix in ("straight", "rectify"))
        types[straight] = types[node.output]
        nodes.append(replace(node, op=without_rectify(op), output=straight))
        nodes.append(Node(name=bend, op=op.rectify, inputs=(straight,), output=node.output, module=node.module))
    return graph.evolve(types=types, nodes=tuple(nodes))


def _fresh(hint: str, taken: set[str]) -> str:
    while hint in taken:
        hint += "'"
    taken.add(hint)
    return hint
