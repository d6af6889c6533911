"""Values that share one quantization: what movement operators connect without changing a number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from subbyte.graph.ir import Graph, Node
from subbyte.graph.ops.concat import Concat
from subbyte.quantization.parts import FIXED_RANGE, moves


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Values with one format, scale and zero point.

    Attributes:
        root: its first member, which names the cluster.
        values: members in execution order.
        observed: the members in which all numbers of the cluster occur.
        makers: nodes that bring numbers into the cluster; none for a network input.
        readers: nodes outside the cluster that read a member, in execution order.
    """

    root: str
    values: tuple[str, ...]
    observed: tuple[str, ...]
    makers: tuple[Node, ...]
    readers: tuple[Node, ...]


class Classes:
    """Sets of names that grow together (union-find)."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def find(self, name: str) -> str:
        """The name that stands for all names joined with this one."""
        while name in self._parent:
            name = self._parent[name]
        return name

    def join(self, a: str, b: str) -> None:
        """From now on both have one representative."""
        a, b = self.find(a), self.find(b)
        if a != b:
            self._parent[a] = b


def find_clusters(graph: Graph) -> Sequence[Cluster]:
    """The clusters of a prepared float graph, in execution order of their first members.

    A concat joins a branch into its own cluster only where nothing else reads the branch and its scale is free; other
    branches are rescaled.
    """
    classes = Classes()
    for node in graph:
        if not moves(node):
            continue
        for value in graph.activations(node):
            if not isinstance(node.op, Concat) or _joins(graph, value, node):
                classes.join(value, node.output)
    members: dict[str, list[str]] = {}
    for value in (*graph.inputs, *(n.output for n in graph)):
        members.setdefault(classes.find(value), []).append(value)
    return [_cluster(graph, values) for values in members.values()]


def _joins(graph: Graph, value: str, reader: Node) -> bool:
    """Whether a concat may decide the quantization of a branch, back to what made its numbers."""
    made = graph.producer(value)
    if made is None or value in graph.outputs or type(made.op) in FIXED_RANGE:
        return False
    if graph.consumers(value) != (reader,):
        return False
    return not moves(made) or all(_joins(graph, i, made) for i in graph.activations(made))


def _cluster(graph: Graph, values: list[str]) -> Cluster:
    inside = set(values)
    makers = [
        n for n in graph if n.output in inside and not (moves(n) and all(i in inside for i in graph.activations(n)))
    ]
    made = {n.output for n in makers}
    return Cluster(
        root=values[0],
        values=tuple(values),
        observed=tuple(v for v in values if v in graph.inputs or v in made),
        makers=tuple(makers),
        readers=tuple(n for n in graph if n.output not in inside and not inside.isdisjoint(n.inputs)),
    )


def cluster_of(clusters: Sequence[Cluster]) -> Mapping[str, Cluster]:
    """Each value's cluster."""
    return {value: cluster for cluster in clusters for value in cluster.values}
