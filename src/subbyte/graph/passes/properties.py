"""Properties of float graphs that passes establish, each with the test that finds what breaks it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from subbyte.errors import GraphError, unknown_name
from subbyte.graph.ir import Graph
from subbyte.graph.ops.batch_norm import BatchNorm
from subbyte.graph.ops.identity import Identity
from subbyte.graph.ops.rectify import Rectify
from subbyte.graph.passes.patterns import layout_of, takes_rectify


@dataclass(frozen=True, slots=True)
class Property:
    """A named property.

    Attributes:
        meaning: one sentence, for errors.
        find: name of a node or constant that breaks it; None where the graph has the property.
    """

    meaning: str
    find: Callable[[Graph], str | None]


def violation(graph: Graph, name: str) -> str | None:
    """What breaks a property (a node's or constant's name), or None; GraphError if the property is unknown."""
    if name not in PROPERTIES:
        raise GraphError(*unknown_name("graph property", name, PROPERTIES))
    return PROPERTIES[name].find(graph)


def _identity(graph: Graph) -> str | None:
    outputs = set(graph.outputs)
    return next((n.name for n in graph if isinstance(n.op, Identity) and n.output not in outputs), None)


def _unfolded(graph: Graph) -> str | None:
    return next((n.name for n in graph if not graph.activations(n)), None)


def _dead(graph: Graph) -> str | None:
    read = set(graph.outputs).union(*(n.inputs for n in graph))
    names = [(n.output, n.name) for n in graph] + [(c, c) for c in graph.constants]
    return next((name for value, name in names if value not in read), None)


def _batch_norm(graph: Graph) -> str | None:
    return next((n.name for n in graph if isinstance(n.op, BatchNorm)), None)


def _fusable(graph: Graph) -> str | None:
    makers = {n.output: n for n in graph}
    reads: dict[str, int] = dict.fromkeys(graph.outputs, 2)
    for value in (v for n in graph for v in n.inputs):
        reads[value] = reads.get(value, 0) + 1
    for node in graph:
        maker = makers.get(node.inputs[0]) if isinstance(node.op, Rectify) else None
        if maker is not None and reads[maker.output] == 1 and takes_rectify(maker.op):
            return node.name
    return None


def _narrow(graph: Graph) -> str | None:
    spatial = (n for n in graph if layout_of(n.op) is not None)
    return next((n.name for n in spatial if len(graph.operand(n.inputs[0]).shape) != 4), None)


def _channels_first(graph: Graph) -> str | None:
    return next((n.name for n in graph if layout_of(n.op) == "channels_first"), None)


PROPERTIES: dict[str, Property] = {
    "no_identity": Property("an identity remains only where it makes a graph output", _identity),
    "folded_constants": Property("every node reads a value", _unfolded),
    "no_dead_code": Property("everything computed or stored is read or returned", _dead),
    "no_batch_norm": Property("batch norm lives on in weights, biases and affines", _batch_norm),
    "fused_activations": Property("an activation that its only producer can carry is carried there", _fusable),
    "spatial_2d": Property("convolutions, pools and resizes have two spatial axes", _narrow),
    "channels_last": Property("convolutions, pools and resizes read and write channels last", _channels_first),
}
