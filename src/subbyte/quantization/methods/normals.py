"""What batch norms say about a network: mean and spread of every channel without any data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from subbyte.graph.ir import Graph, Node, float_shape
from subbyte.graph.ops.add import Add
from subbyte.graph.ops.affine import Affine
from subbyte.graph.ops.avg_pool import AvgPool
from subbyte.graph.ops.batch_norm import BatchNorm
from subbyte.graph.ops.conv import Conv
from subbyte.graph.ops.identity import Identity
from subbyte.graph.ops.linear import Linear
from subbyte.graph.ops.mean import Mean
from subbyte.graph.ops.rectify import Rectify
from subbyte.graph.ops.reshape import Reshape
from subbyte.graph.passes.links import Reals, rectify_of

TOLERANCE = 1e-4
"""Relative: a layer's numbers differ less from what its batch norm alone would have made of them."""


@dataclass(frozen=True, kw_only=True)
class Normal:
    """Channels as batch norm leaves them: about normal.

    Attributes:
        mean: beta, float64 [C].
        deviation: that of gamma without its sign, float64 [C].
    """

    mean: Reals
    deviation: Reals


def batch_norm_normals(source: Graph, prepared: Graph) -> dict[str, Normal]:
    """Normals of results before their activation, by name of the prepared node that makes them.

    A batch norm lives on in the layer before it, which kept its name, or as an affine of its own name. Where anything
    else was folded in as well, what the batch norm said no longer holds and nothing is returned.

    Args:
        source: the graph as a front end built it, with its batch norms.
        prepared: what ``prepare`` made of it.
    """
    makers = {n.output: n for n in source}
    nodes = {n.name: n for n in prepared}
    normals: dict[str, Normal] = {}
    for node in source:
        if not isinstance(node.op, BatchNorm) or any(i not in source.constants for i in node.inputs[1:]):
            continue
        gamma, beta, mean, var = (np.asarray(source.constants[i], np.float64) for i in node.inputs[1:])
        scale = gamma / np.sqrt(var + node.op.epsilon)
        shift = beta - mean * scale
        before = makers.get(node.inputs[0])
        own = nodes.get(node.name)
        folded = nodes.get(before.name) if before is not None else None
        if own is not None and isinstance(own.op, Affine) and _near(_numbers(prepared, own), (scale, shift)):
            normals[own.name] = Normal(mean=beta, deviation=np.abs(gamma))
        elif folded is not None and before is not None and _folds(source, before, prepared, folded, scale, shift):
            normals[folded.name] = Normal(mean=beta, deviation=np.abs(gamma))
    return normals


def clipped_mean(normal: Normal, rectify: Rectify) -> Reals | None:
    """E[rectify(v)] of normal v; None for bounds that do not hold 0 or a negative slope.

    For ReLU this is sigma * phi(mu / sigma) + mu * Phi(mu / sigma) (Nagel et al. 2019, "Data-Free Quantization",
    appendix C, which has the general clipped form).
    """
    if rectify.slope < 0 or rectify.lo > 0 or rectify.hi < 0:
        return None
    above = _clipped(normal, 0.0, rectify.hi)
    if rectify.slope == 0 or rectify.lo == 0:
        return above
    return above + rectify.slope * _clipped(normal, rectify.lo / rectify.slope, 0.0)


def expected_means(graph: Graph, normals: Mapping[str, Normal]) -> dict[str, Reals]:
    """E of the channels of every value that follows from the normals through means, adds and reshapes.

    Borders are neglected. A value is missing where something else is in between.
    """
    known: dict[str, Reals] = {}
    bare = {n.output: normals[n.name] for n in graph if n.name in normals and rectify_of(n) == Rectify()}
    for node in graph:
        if isinstance(node.op, Rectify) and node.inputs[0] in bare:
            mean = clipped_mean(bare[node.inputs[0]], node.op)
        else:
            mean = _expected(graph, node, normals, known)
        if mean is not None:
            known[node.output] = mean
    return known


def _expected(graph: Graph, node: Node, normals: Mapping[str, Normal], known: Mapping[str, Reals]) -> Reals | None:
    op = node.op
    channels = float_shape(graph.types[node.output])[-1]
    if node.name in normals:
        return clipped_mean(normals[node.name], rectify_of(node))
    if any(i not in known for i in node.inputs):
        return None
    before = [known[i] for i in node.inputs]
    if any(len(b) != channels for b in before):
        return None
    if isinstance(op, Add) and op.rectify is None:
        return before[0] + before[1]
    if isinstance(op, AvgPool):
        return before[0] if op.layout == "channels_last" and not any(op.padding) else None
    if isinstance(op, Mean):
        return before[0] if len(float_shape(graph.types[node.inputs[0]])) - 1 not in op.axes else None
    return before[0] if isinstance(op, Reshape | Identity) else None


def _clipped(normal: Normal, lo: float, hi: float) -> Reals:
    """E[clip(v, lo, hi)]; either bound may be infinite."""
    mu, sigma = normal.mean, np.maximum(normal.deviation, 1e-30)
    a, b = (lo - mu) / sigma, (hi - mu) / sigma
    ends = (0.0 if math.isinf(lo) else lo * _below(a)) + (0.0 if math.isinf(hi) else hi * (1 - _below(b)))
    return np.asarray(ends + mu * (_below(b) - _below(a)) + sigma * (_density(a) - _density(b)))


def _below(x: Reals) -> Reals:
    """The normal distribution function."""
    return np.array([0.5 * math.erfc(-v / math.sqrt(2)) for v in np.broadcast_to(x, np.shape(x))])


def _density(x: Reals) -> Reals:
    with np.errstate(over="ignore"):
        return np.asarray(np.exp(-np.square(x) / 2) / math.sqrt(2 * math.pi))


def _numbers(graph: Graph, node: Node) -> tuple[Reals, Reals]:
    """Weight and bias of a node, float64; a bias that is missing is 0."""
    weight, *bias = (np.asarray(graph.constants[i], np.float64) for i in node.inputs[1:])
    return weight, bias[0] if bias else np.zeros(len(weight))


def _near(got: tuple[Reals, ...], wanted: tuple[Reals, ...]) -> bool:
    for g, w in zip(got, wanted, strict=True):
        if g.shape != w.shape or np.abs(g - w).max() > TOLERANCE * max(np.abs(w).max(), 1e-30):
            return False
    return True


def _folds(source: Graph, before: Node, prepared: Graph, folded: Node, scale: Reals, shift: Reals) -> bool:
    """Whether a prepared layer is the layer of the source with this batch norm and nothing else."""
    if not isinstance(before.op, Conv | Linear) or type(before.op) is not type(folded.op):
        return False
    if any(i not in source.constants for i in before.inputs[1:]):
        return False
    (old, old_bias), (new, new_bias) = _numbers(source, before), _numbers(prepared, folded)
    if len(old) != len(new) or len(old) != len(scale):
        return False
    gains = [np.sqrt(np.square(w.reshape(len(w), -1)).sum(axis=1)) for w in (old, new)]
    return _near((gains[1], new_bias), (gains[0] * np.abs(scale), old_bias * scale + shift))
