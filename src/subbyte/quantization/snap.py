"""Scales for shift arithmetic: every rescale ratio an exact power of two.

A layer's weight scales absorb any ratio, so its result may have any scale. Means and average pools divide by their
window: their result's scale is the operand's, times a power of two, divided by the window. Adds and concats need
operands whose scales differ by powers of two. So each value gets an odd *factor*: scale = factor * 2**k.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from subbyte.errors import LoweringError
from subbyte.graph.ir import Graph, IntType, Node
from subbyte.quantization.groups import Group, group_of


def unbend(graph: Graph) -> Graph:
    """The graph with fused leaky slopes taken out again: a slope is no power of two, so it becomes a table."""
    nodes: list[Node] = []
    types = dict(graph.types)
    for node in graph:
        rectify = getattr(node.op, "rectify", None)
        if rectify is None or rectify.slope in (0.0, 1.0):
            nodes.append(node)
            continue
        straight = f"{node.output}.straight"
        types[straight] = types[node.output]
        bare = replace(node.op, rectify=None)  # type: ignore[type-var]
        nodes.append(replace(node, op=bare, output=straight))
        bend = f"{node.name}.rectify"
        nodes.append(Node(name=bend, op=rectify, inputs=(straight,), output=node.output, module=node.module))
    return graph.evolve(types=types, nodes=tuple(nodes))


_JOINS = ("add", "sub", "concat", "rectify")


def snap_scales(
    graph: Graph, groups: Sequence[Group], types: Mapping[tuple[str, str], IntType]
) -> dict[tuple[str, str], IntType]:
    """The same types with scales raised to factor * 2**k.

    Raises:
        LoweringError: an add or concat joins values whose factors differ (a mean over 3 joined with its own operand).
    """
    factors = _factors(graph, groups)
    return {key: _snap(type_, factors[key[0]]) for key, type_ in types.items()}


def _snap(type_: IntType, factor: float) -> IntType:
    exponent = math.ceil(math.log2(type_.scale / factor) - 1e-9)
    scale = float(np.float32(math.ldexp(factor, exponent)))
    if not type_.format.uniform or type_.storage == "int16":
        return replace(type_, scale=scale)
    below_zero = (type_.zero_point - type_.lo) * type_.scale / scale  # the lower end of the range stays
    return replace(type_, scale=scale, zero_point=min(type_.lo + round(below_zero), type_.hi))


class _Classes:
    """Union-find over group roots whose factors must agree."""

    def __init__(self, roots: Sequence[str]) -> None:
        self.parent = {r: r for r in roots}

    def find(self, root: str) -> str:
        while self.parent[root] != root:
            root = self.parent[root]
        return root

    def join(self, a: str, b: str) -> None:
        self.parent[self.find(a)] = self.find(b)


def _factors(graph: Graph, groups: Sequence[Group]) -> dict[str, float]:
    owner = {v: g.root for v, g in group_of(groups).items()}
    classes = _Classes([g.root for g in groups])
    for node in graph:
        if node.op.name in _JOINS:
            for value in graph.activations(node):
                classes.join(owner[value], owner[node.output])
    factor: dict[str, float] = {}
    for node in graph:
        derived = _derived(graph, node, {v: factor.get(classes.find(owner[v]), 1.0) for v in graph.activations(node)})
        if derived is None:
            continue
        key = classes.find(owner[node.output])
        known = factor.setdefault(key, derived)
        inherits = any(classes.find(owner[v]) == key for v in graph.activations(node))
        if known != derived or (inherits and derived != 1.0):
            raise LoweringError(
                f"scales around {node.output!r} need the factors {known} and {derived}",
                "in shift arithmetic joined values have scales that differ by powers of two",
                "use arithmetic='m15' or 'm31'",
                f"node {node.name!r}",
            )
    return {g.root: factor.get(classes.find(g.root), 1.0) for g in groups}


def _derived(graph: Graph, node: Node, operands: Mapping[str, float]) -> float | None:
    """The factor that a node forces on its result; None where its scale is free."""
    if node.op.name == "mul" and len(operands) == 2:
        a, b = (operands[i] for i in node.inputs)
        return _odd(a * b)
    window = window_size(graph, node)
    if window is None:
        return None
    return _odd(next(iter(operands.values())) / window)


def window_size(graph: Graph, node: Node) -> int | None:
    """Number of cells that a mean or average pool divides by; None for other operators."""
    if node.op.name == "avg_pool":
        return math.prod(node.op.kernel)  # type: ignore[attr-defined]
    if node.op.name == "mean":
        shape = graph.types[node.inputs[0]].shape
        return math.prod(shape[a] or 1 for a in node.op.axes)  # type: ignore[attr-defined]
    return None


def _odd(factor: float) -> float:
    """The factor scaled by a power of two into [1, 2), as float32 holds it."""
    mantissa, _ = math.frexp(factor)
    return float(np.float32(2 * mantissa))
