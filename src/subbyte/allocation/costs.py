"""What each candidate of each layer costs: bytes in the file, bits per weight, bit operations, activations at the peak.

A cost model is a function of a layer and a candidate, and what the rest of the network costs. Time is in ``timing.py``;
costs of other targets (flash, RAM, instructions) join by the same interface.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from subbyte.allocation.candidates import BASE, bits, operand_bits, stored_bytes, weights_alone
from subbyte.allocation.problem import Candidate
from subbyte.formats.qtensor import QTensor
from subbyte.graph.ir import Graph, IntType, Node
from subbyte.runtime.modelfile import node_bytes


class CostModel(Protocol):
    """One kind of cost, additive over layers."""

    @property
    def name(self) -> str:
        """As budgets and tables call it."""

    def of(self, layer: Node, candidate: Candidate) -> float:
        """What a layer costs under a candidate."""

    @property
    def fixed(self) -> float:
        """What everything else costs."""


def weight_shape(graph: Graph, layer: Node) -> tuple[int, ...]:
    """Of a layer's weights, outputs first."""
    return graph.constants[layer.inputs[1]].shape


def weight_count(graph: Graph, layer: Node) -> int:
    """Number of a layer's weights."""
    return math.prod(weight_shape(graph, layer))


@dataclass(frozen=True)
class Bytes:
    """Bytes of the model file by layer; what no choice changes, the header above all, is fixed.

    Attributes:
        graph: prepared float graph.
        file: bytes of the file of the 8-bit network.
        seen: what layers took in files, by layer and candidate with 8-bit operands: codes, zero points, scales, and
            biases, which have fewer bits where the scale is coarse. Where it is not known, the packed codes count.
    """

    graph: Graph
    file: int
    seen: Mapping[tuple[str, Candidate], int] = field(default_factory=dict)
    name: str = "bytes"

    def of(self, layer: Node, candidate: Candidate) -> float:
        """Bytes of the layer."""
        alone = weights_alone(candidate)
        known = self.seen.get((layer.name, alone)) if (layer.name, BASE) in self.seen else None
        return float(known or stored_bytes(candidate, weight_shape(self.graph, layer)))

    @property
    def fixed(self) -> float:
        """The file without what the layers take."""
        layers = (n for n in self.graph if n.op.name in _WITH_WEIGHTS)
        return self.file - sum(self.of(n, BASE) for n in layers)


_WITH_WEIGHTS = ("conv", "linear")


@dataclass(frozen=True)
class Bits:
    """Stored bits per weight, mean over all weights; scales and zero points of groups are stored, too."""

    graph: Graph
    name: str = "bits"

    def of(self, layer: Node, candidate: Candidate) -> float:
        """The layer's share of the mean."""
        total = sum(weight_count(self.graph, n) for n in self.graph if n.op.name in _WITH_WEIGHTS)
        return 8.0 * stored_bytes(candidate, weight_shape(self.graph, layer)) / total

    @property
    def fixed(self) -> float:
        """Nothing."""
        return 0.0


@dataclass(frozen=True)
class BitOperations:
    """Multiply-accumulates times the bits of both operands (BOPs), log2 of the levels each; of trims their window's."""

    graph: Graph
    name: str = "bops"

    def of(self, layer: Node, candidate: Candidate) -> float:
        """Bit operations of one sample."""
        return macs(self.graph, layer) * bits(candidate) * operand_bits(candidate)

    @property
    def fixed(self) -> float:
        """Nothing."""
        return 0.0


def macs(graph: Graph, node: Node) -> int:
    """Multiply-accumulates of a node per sample."""
    return node.op.macs([graph.operand(i) for i in node.inputs], graph.types[node.output].shape)


def peak_activation_bytes(graph: Graph) -> tuple[int, str]:
    """(bytes, node): the most that is alive while a node of an integer graph runs, and which node that is.

    Every value lies as it is stored: bytes for formats of at most 8 bits, two bytes for int16.
    """
    last_use = {i: k for k, node in enumerate(graph) for i in node.inputs}
    last_use.update(dict.fromkeys(graph.outputs, len(graph.nodes)))
    alive = {n: _nbytes(graph, n) for n in graph.inputs}
    peak, place = sum(alive.values()), ""
    for k, node in enumerate(graph):
        alive[node.output] = _nbytes(graph, node.output)
        if sum(alive.values()) > peak:
            peak, place = sum(alive.values()), node.name
        alive = {n: size for n, size in alive.items() if last_use.get(n, -1) > k}
    return peak, place


def live_activation_bytes(graph: Graph) -> dict[str, int]:
    """By node of an integer graph: bytes of its activations and its result."""
    return {n.name: sum(_nbytes(graph, v) for v in {*graph.activations(n), n.output}) for n in graph}


def _nbytes(graph: Graph, value: str) -> int:
    kind = graph.types[value]
    assert isinstance(kind, IntType)
    return math.prod(d or 1 for d in kind.shape) * np.dtype(kind.storage).itemsize


def packed_bytes(graph: Graph) -> dict[str, int]:
    """By node of an integer graph that has weights: bytes in the file of its codes, and of what groups add."""
    weights = ((n.name, graph.constants.get(i)) for n in graph for i in n.inputs)
    return {
        name: w.packed_size + (node_bytes(graph, name, ("group_scale", "zero")) if w.groups else 0)
        for name, w in weights
        if isinstance(w, QTensor)
    }


def cost_table(
    models: Iterable[CostModel], layers: Mapping[str, Node], candidates: Mapping[str, Iterable[Candidate]]
) -> dict[tuple[str, Candidate], dict[str, float]]:
    """All costs by layer and candidate."""
    listed = list(models)
    return {
        (name, c): {m.name: m.of(layer, c) for m in listed} for name, layer in layers.items() for c in candidates[name]
    }
