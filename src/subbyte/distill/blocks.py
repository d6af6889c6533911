"""A network cut into pieces that are learned one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from subbyte.graph.ir import Graph, Node
from subbyte.quantization.parts import Layer


@dataclass(frozen=True, kw_only=True)
class Block:
    """Consecutive nodes.

    Attributes:
        nodes: in execution order.
        target: the value that is to come out as in the float network.
    """

    nodes: tuple[Node, ...]

    @property
    def target(self) -> str:
        """The last node's result."""
        return self.nodes[-1].output

    @property
    def layers(self) -> tuple[Node, ...]:
        """Nodes with weights to be rounded."""
        return tuple(n for n in self.nodes if isinstance(n.op, Layer))


def single_layers(graph: Graph) -> Sequence[Block]:
    """Every node on its own."""
    return [Block(nodes=(n,)) for n in graph]


def cut_blocks(graph: Graph) -> Sequence[Block]:
    """Residual blocks, and single layers in chains: pieces that one value leaves, each with at least one layer.

    A piece without layers joins the one in front of it, so that a layer's activation, sum or pool is learned with it.
    """
    last_use = {i: k for k, n in enumerate(graph) for i in n.inputs}
    last_use |= dict.fromkeys(graph.outputs, len(graph.nodes))
    pieces: list[list[Node]] = [[]]
    live = {v for v in graph.inputs if v in last_use}
    for k, node in enumerate(graph):
        pieces[-1].append(node)
        live = {v for v in live | {node.output} if last_use.get(v, -1) > k}
        if len(live) <= 1:
            pieces.append([])
    blocks: list[list[Node]] = []
    for piece in filter(None, pieces):
        has_layer = any(isinstance(n.op, Layer) for n in piece)
        if blocks and not (has_layer and any(isinstance(n.op, Layer) for n in blocks[-1])):
            blocks[-1].extend(piece)
        else:
            blocks.append(piece)
    return [Block(nodes=tuple(b)) for b in blocks]
