"""The whole decision: formats, scales and zero points of every activation, ready for weights and lowering."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from subbyte.arithmetic.requant import Arithmetic
from subbyte.formats.trims import Trim
from subbyte.graph.ir import Graph, IntType, Node
from subbyte.quantization.clusters import Cluster, cluster_of, find_clusters
from subbyte.quantization.multiplied import Multiplied, coded_rows
from subbyte.quantization.parts import FIXED_RANGE
from subbyte.quantization.recipe import Recipe
from subbyte.quantization.resolve import LayerChoice
from subbyte.quantization.slots import Slots, find_slots, multiplied_channels, operand_format


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """A prepared float graph with a format, scale and zero point for every activation.

    Attributes:
        graph: prepared float graph.
        clusters: cluster of each value.
        slots: formats by slot.
        types: by slot key (cluster root, format name).
        choices: of each layer by node name.
        arithmetic: of every rescale.
    """

    graph: Graph
    clusters: Mapping[str, Cluster]
    slots: Slots
    types: Mapping[tuple[str, str], IntType]
    choices: Mapping[str, LayerChoice]
    arithmetic: Arithmetic

    def stored(self, value: str) -> IntType:
        """How a value is kept between layers."""
        slot = self.slots.storage[self.clusters[value].root]
        return replace(self.types[slot.key], shape=self.graph.types[value].shape)

    def operand(self, node: Node, value: str) -> IntType:
        """How a node reads a value: as stored, or re-coded."""
        stored = self.stored(value)
        wanted = operand_format(node, stored.format, self.choices)
        if wanted is None:
            return stored
        return replace(self.types[self.clusters[value].root, wanted.name], shape=stored.shape)

    def largest_row_code(self, node: Node) -> int | None:
        """Where each row of a node's operand has a scale of its own: the code of its largest number."""
        choice = self.choices.get(node.name)
        return choice.largest_row_code if choice else None

    def multiplied(self, node: Node) -> Multiplied:
        """What the products of a layer are made of, beside its weights."""
        x, largest = self.operand(node, node.inputs[0]), self.largest_row_code(node)
        return coded_rows(x, largest) if largest else x

    def trim(self, node: Node) -> tuple[Trim, int] | None:
        """What is kept of a node's operand, and how many of its channels the node multiplies together."""
        choice = self.choices.get(node.name)
        if choice is None or choice.trim is None:
            return None
        return choice.trim, multiplied_channels(self.graph, node)


def make_scheme(
    graph: Graph,
    clusters: Sequence[Cluster],
    slots: Slots,
    types: Mapping[tuple[str, str], IntType],
    choices: Mapping[str, LayerChoice],
    arithmetic: Arithmetic,
) -> Scheme:
    """A Scheme from its parts; operators whose results have one scale for all networks get that one."""
    fixed = dict(types)
    for slot in slots.storage.values():
        for maker in slot.cluster.makers:
            if type(maker.op) in FIXED_RANGE:
                scale, zero_point = FIXED_RANGE[type(maker.op)]
                fixed[slot.key] = replace(types[slot.key], scale=scale, zero_point=zero_point)
    return Scheme(
        graph=graph, clusters=cluster_of(clusters), slots=slots, types=fixed, choices=choices, arithmetic=arithmetic
    )


def with_types(scheme: Scheme, types: Mapping[tuple[str, str], IntType]) -> Scheme:
    """The scheme with other scales and zero points; results with one scale for all networks keep theirs."""
    clusters = tuple({cluster.root: cluster for cluster in scheme.clusters.values()}.values())
    return make_scheme(scheme.graph, clusters, scheme.slots, types, scheme.choices, scheme.arithmetic)


def on_graph(scheme: Scheme, graph: Graph, recipe: Recipe) -> Scheme:
    """The same decisions for a graph with the same nodes and values, some of which have other channels."""
    clusters = find_clusters(graph)
    slots = find_slots(graph, clusters, scheme.choices, recipe)
    return make_scheme(graph, clusters, slots, scheme.types, scheme.choices, scheme.arithmetic)
