"""Values that share one quantization: what movement operators connect without changing a number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from subbyte.graph.ir import Graph, Node

MOVES = ("reshape", "transpose", "slice", "pad", "max_pool", "resize_nearest", "identity", "concat")
"""Operators whose result consists of their operand's numbers (and zeros)."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Values with one format, scale and zero point.

    Attributes:
        root: its first member, which names the group.
        values: members in execution order.
        observed: the members in which all numbers of the group occur.
        makers: nodes that bring numbers into the group; none for a network input.
        readers: nodes outside the group that read a member, in execution order.
    """

    root: str
    values: tuple[str, ...]
    observed: tuple[str, ...]
    makers: tuple[Node, ...]
    readers: tuple[Node, ...]


def moves(node: Node) -> bool:
    """Whether the node only moves numbers."""
    return node.op.name in MOVES and (node.op.name != "pad" or not getattr(node.op, "value", 0.0))


def find_groups(graph: Graph) -> Sequence[Group]:
    """The groups of a prepared float graph, in execution order of their first members.

    A concat joins a branch into its own group only where nothing else reads the branch; other branches are rescaled.
    """
    parent: dict[str, str] = {v: v for v in graph.types}

    def find(value: str) -> str:
        while parent[value] != value:
            value = parent[value]
        return value

    for node in graph:
        if not moves(node):
            continue
        for value in graph.activations(node):
            if node.op.name != "concat" or _only_read_by(graph, value, node):
                parent[find(value)] = find(node.output)
    members: dict[str, list[str]] = {}
    for value in _in_order(graph):
        members.setdefault(find(value), []).append(value)
    return [_group(graph, values) for values in members.values()]


def _only_read_by(graph: Graph, value: str, node: Node) -> bool:
    made = graph.producer(value)
    if made is None or value in graph.outputs:
        return False
    chain_free = all(_only_read_by(graph, i, made) for i in graph.activations(made)) if moves(made) else True
    return chain_free and graph.consumers(value) == (node,)


def _in_order(graph: Graph) -> list[str]:
    return [*graph.inputs, *(n.output for n in graph)]


def _group(graph: Graph, values: list[str]) -> Group:
    inside = set(values)
    makers = [
        n for n in graph if n.output in inside and not (moves(n) and all(i in inside for i in graph.activations(n)))
    ]
    readers = [n for n in graph if any(i in inside for i in n.inputs) and n.output not in inside]
    observed = [v for v in values if v in graph.inputs or any(n.output == v for n in makers)]
    return Group(
        root=values[0], values=tuple(values), observed=tuple(observed), makers=tuple(makers), readers=tuple(readers)
    )


def group_of(groups: Sequence[Group]) -> Mapping[str, Group]:
    """Each value's group."""
    return {value: group for group in groups for value in group.values}
