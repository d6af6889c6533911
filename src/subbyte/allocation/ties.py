"""Which layers share a choice because of how the network is built."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from subbyte.allocation.problem import Tie
from subbyte.graph.ir import Graph, Node
from subbyte.graph.ops.add import Add, Sub
from subbyte.graph.ops.concat import Concat
from subbyte.quantization.clusters import Cluster, cluster_of, find_clusters
from subbyte.quantization.recipe import LAYER_OPERATORS


def sibling_ties(graph: Graph) -> list[Tie]:
    """Layers that read one value, such as a downsample and its sibling, tied by their operand's format.

    What is read in one format is stored in it, without a re-coding in between.
    """
    ties = []
    for cluster in find_clusters(graph):
        readers = [n.name for n in cluster.readers if n.op.name in LAYER_OPERATORS and n.inputs[0] in cluster.values]
        if len(readers) > 1:
            ties.append(Tie(layers=tuple(readers), by="activations", why=f"read {cluster.root}"))
    return ties


def partner_ties(graph: Graph) -> list[Tie]:
    """Layers whose results meet: summands of a residual sum, and branches of a concat; tied in everything.

    The last layer of each branch is meant: behind it, sums and movements change no format.
    """
    clusters = cluster_of(find_clusters(graph))
    ties = []
    for node in graph:
        if isinstance(node.op, Add | Sub | Concat):
            makers = sorted({m for value in graph.activations(node) for m in _makers(graph, clusters, value)})
            order = {n.name: i for i, n in enumerate(graph)}
            if len(makers) > 1:
                kind = "summands" if not isinstance(node.op, Concat) else "branches"
                ties.append(Tie(layers=tuple(sorted(makers, key=order.__getitem__)), why=f"{kind} of {node.name}"))
    return _largest(ties)


def _makers(graph: Graph, clusters: Mapping[str, Cluster], value: str) -> set[str]:
    """Layers that make a value, directly or through operators that keep its numbers or sum them."""
    found: set[str] = set()
    for node in clusters[value].makers:
        found |= _behind(graph, clusters, node)
    return found


def _behind(graph: Graph, clusters: Mapping[str, Cluster], node: Node) -> set[str]:
    if node.op.name in LAYER_OPERATORS:
        return {node.name}
    if isinstance(node.op, Add | Sub | Concat):
        return set()  # has a tie of its own
    return {m for value in graph.activations(node)[:1] for m in _makers(graph, clusters, value)}


def _largest(ties: Iterable[Tie]) -> list[Tie]:
    """Without repetitions."""
    kept: dict[tuple[str, ...], Tie] = {}
    for tie in ties:
        kept.setdefault(tie.layers, tie)
    return list(kept.values())


def restrict(ties: Sequence[Tie], layers: Iterable[str]) -> list[Tie]:
    """The ties among some layers; those of fewer than two are dropped."""
    wanted = set(layers)
    inside = [Tie(layers=tuple(n for n in t.layers if n in wanted), by=t.by, why=t.why) for t in ties]
    return [t for t in inside if len(t.layers) > 1]
