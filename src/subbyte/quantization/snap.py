"""Scales for shift arithmetic: every rescale ratio an exact power of two.

A layer's weight scales absorb any ratio, so its result may have any scale. Means and average pools divide by their
window: their result's scale is the operand's, times a power of two, divided by the window. Adds and concats need
operands whose scales differ by powers of two. So each value gets a *factor*, a quotient of odd integers: scale =
factor * 2**k.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from subbyte.errors import LoweringError
from subbyte.graph.ir import Graph, IntType, Node
from subbyte.graph.ops.add import Add, Sub
from subbyte.graph.ops.avg_pool import AvgPool, divisors
from subbyte.graph.ops.mean import Mean
from subbyte.graph.ops.mul import Mul
from subbyte.graph.ops.pad import Pad
from subbyte.graph.ops.rectify import Rectify
from subbyte.graph.verify import place_of
from subbyte.quantization.clusters import Classes, Cluster, cluster_of
from subbyte.quantization.parts import FIXED_RANGE, bent, moves

Factors = Mapping[str, Fraction]

_REMEDY = "use arithmetic='m15' or 'm31'"


def snap_scales(
    graph: Graph, clusters: Sequence[Cluster], types: Mapping[tuple[str, str], IntType]
) -> dict[tuple[str, str], IntType]:
    """The same types with scales raised to factor * 2**k.

    Raises:
        LoweringError: an add or concat joins values whose factors differ (a mean over 3 joined with its own operand),
            or windows of one average pool divide by numbers that differ by more than a power of two.
    """
    factors = _factors(graph, clusters)
    return {key: _snap(type_, factors[key[0]]) for key, type_ in types.items()}


def _snap(type_: IntType, factor: Fraction) -> IntType:
    mantissa = 2 * math.frexp(factor)[0]  # in [1, 2)
    exponent = min(math.ceil(math.log2(type_.scale / mantissa) - 1e-9), 126)
    scale = float(np.float32(math.ldexp(mantissa, exponent)))
    if not type_.format.uniform or type_.storage == "int16":
        return replace(type_, scale=scale)
    below_zero = (type_.zero_point - type_.lo) * type_.scale / scale  # the lower end of the range stays
    return replace(type_, scale=scale, zero_point=min(type_.lo + round(below_zero), type_.hi))


def _factors(graph: Graph, clusters: Sequence[Cluster]) -> Factors:
    """The factor of every cluster, by root: the least fixed point of what operators force, from 1 everywhere."""
    owner = {v: g.root for v, g in cluster_of(clusters).items()}
    classes = Classes()
    for node in graph:
        if _keeps_factor(node):
            for value in graph.activations(node):
                classes.join(owner[value], owner[node.output])
    place = {v: classes.find(root) for v, root in owner.items()}
    windows = {n.name: w for n in graph if (w := _window(graph, n)) is not None}
    factors: dict[str, Fraction] = defaultdict(lambda: Fraction(1))
    for _ in range(len(windows) + 2):
        conflict = None
        for node in graph:
            if node.name in windows:
                read = () if type(node.op) in FIXED_RANGE else graph.activations(node)
                operands = [factors[place[i]] for i in read]
                forced = _odd(math.prod(operands) / windows[node.name])
                known = factors[place[node.output]]
                if forced != known:
                    conflict = _conflict(graph, node, forced / known)
                    factors[place[node.output]] = forced
        if conflict is None:
            return {g.root: factors[place[g.root]] for g in clusters}
    assert conflict is not None
    raise conflict


def _keeps_factor(node: Node) -> bool:
    """Whether operands and result have scales that differ by powers of two."""
    if isinstance(node.op, Rectify):
        return not bent(node.op)
    return isinstance(node.op, Add | Sub | Pad) or moves(node)


def _window(graph: Graph, node: Node) -> Fraction | None:
    """What the product of the operands' factors is divided by; None for operators with results of any scale.

    Scales that are the same for every network are powers of two, whatever the operands'.
    """
    if type(node.op) in FIXED_RANGE:
        return Fraction(1)
    if isinstance(node.op, Mul):
        return Fraction(1) if len(graph.activations(node)) == 2 else None
    if isinstance(node.op, Mean):
        shape = graph.types[node.inputs[0]].shape
        return Fraction(math.prod(shape[a] or 1 for a in node.op.axes))
    if isinstance(node.op, AvgPool):
        return _pool_window(divisors(node.op, graph.types[node.inputs[0]].shape), place_of(graph, node))
    return None


def _pool_window(found: Iterable[int], place: str) -> Fraction:
    odd = {_odd(Fraction(d)) for d in found}
    if len(odd) > 1:
        raise LoweringError(
            f"windows of the average pool divide by {', '.join(map(str, found))}",
            "in shift arithmetic the divisors of one pool differ by powers of two",
            f"{_REMEDY}, or count padded cells (count_include_pad)",
            place,
        )
    return odd.pop()


def _conflict(graph: Graph, node: Node, ratio: Fraction) -> LoweringError:
    return LoweringError(
        f"scales around {node.output!r} need factors that differ by {_odd(ratio)}",
        "in shift arithmetic joined values have scales that differ by powers of two",
        _REMEDY,
        place_of(graph, node),
    )


def _odd(factor: Fraction) -> Fraction:
    """The factor without its powers of two."""
    top, bottom = factor.numerator, factor.denominator
    return Fraction(top // (top & -top), bottom // (bottom & -bottom))
