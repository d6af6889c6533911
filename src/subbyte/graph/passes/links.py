"""Channels that one operator makes and others read: where per-channel factors and offsets can be moved to and fro."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from subbyte.graph.ir import Graph, Node, float_shape
from subbyte.graph.ops.affine import Affine
from subbyte.graph.ops.avg_pool import AvgPool
from subbyte.graph.ops.conv import Conv
from subbyte.graph.ops.identity import Identity
from subbyte.graph.ops.linear import Linear
from subbyte.graph.ops.max_pool import MaxPool
from subbyte.graph.ops.mean import Mean
from subbyte.graph.ops.op import Op
from subbyte.graph.ops.pad import Pad
from subbyte.graph.ops.rectify import Rectify
from subbyte.graph.ops.reshape import Reshape
from subbyte.graph.ops.resize_nearest import ResizeNearest

End: TypeAlias = Conv | Linear | Affine
"""Operators with numbers per channel at which a link begins or ends."""

Reals = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Link:
    """The channels of one value, which run along its last axis.

    Attributes:
        maker: convolution, linear layer or affine that makes them.
        movers: operators on the way that treat every channel by itself and in the same way, in execution order.
        readers: convolutions, linear layers and affines that read them; nothing else does.
        channels: how many.
    """

    maker: Node
    movers: tuple[Node, ...]
    readers: tuple[Node, ...]
    channels: int


def links(graph: Graph) -> Iterator[Link]:
    """All links of a prepared graph, in execution order of their makers."""
    readers: dict[str, list[Node]] = {}
    for node in graph:
        for value in dict.fromkeys(node.inputs):
            readers.setdefault(value, []).append(node)
    for node in graph:
        if isinstance(node.op, End) and _last_axis(graph, node) and not _shared(node, readers):
            link = _follow(graph, node, readers)
            if link is not None:
                yield link


def rectify_of(node: Node) -> Rectify:
    """The activation that a maker carries; one that does nothing where it carries none."""
    op = node.op
    fused = op.rectify if isinstance(op, End) else None
    return fused or Rectify()


def homogeneous(rectify: Rectify) -> bool:
    """Whether ``f(s * x) = s * f(x)`` for every s > 0: ReLU, leaky ReLU, no activation."""
    return rectify.lo in {0.0, -np.inf} and rectify.hi == np.inf


def rescalable(rectify: Rectify) -> bool:
    """Whether channels in front of it may be rescaled, as far as an upper bound stays idle."""
    return homogeneous(rectify) or rectify.lo == 0


def largest_by_input(weight: Reals, op: Op) -> Reals:
    """Of every input channel of a reader, the largest magnitude that multiplies it."""
    assert isinstance(op, End)
    return np.asarray(np.abs(by_input(weight, op)).max(axis=1))


def by_input(weight: Reals, op: End) -> Reals:
    """The weights of a reader as [input channel, numbers that multiply it]."""
    if isinstance(op, Affine):
        return weight.reshape(-1, 1)
    if isinstance(op, Linear):
        return weight.T
    split = weight.reshape(op.groups, -1, weight.shape[-1])  # [groups, outputs * taps, channels per group]
    return np.asarray(split.transpose(0, 2, 1).reshape(op.groups * weight.shape[-1], -1))


def scaled_inputs(weight: Reals, op: End, factors: Reals) -> Reals:
    """The weights of a reader with the numbers of every input channel multiplied by its factor."""
    if not isinstance(op, Conv):
        return weight * factors
    split = weight.reshape(op.groups, -1, *weight.shape[1:])
    return np.asarray((split * factors.reshape(op.groups, 1, 1, 1, -1)).reshape(weight.shape))


def scaled_outputs(constant: Reals, factors: Reals) -> Reals:
    """Weights or biases of a maker with every output channel multiplied by its factor."""
    return np.asarray(constant * factors.reshape(-1, *(1,) * (constant.ndim - 1)))


def of_constants(weight: Reals, op: End, values: Reals) -> Reals:
    """What a reader makes of channels that are constant, away from borders: one number per output channel."""
    if isinstance(op, Affine):
        return weight * values
    if isinstance(op, Linear):
        return np.asarray(weight @ values)
    taps = weight.reshape(op.groups, -1, *weight.shape[1:]).sum(axis=(2, 3))  # [groups, outputs, channels per group]
    return np.asarray((taps @ values.reshape(op.groups, -1, 1)).reshape(-1))


def _follow(graph: Graph, maker: Node, readers: Mapping[str, list[Node]]) -> Link | None:
    channels = float_shape(graph.types[maker.output])[-1]
    movers: list[Node] = []
    ends: list[Node] = []
    frontier = [maker.output]
    while frontier:
        value = frontier.pop()
        if value in graph.outputs or value not in readers:
            return None
        for node in readers[value]:
            if isinstance(node.op, End) and _reads(graph, node, value) and not _shared(node, readers):
                ends.append(node)
            elif _moves(node.op, graph, node):
                movers.append(node)
                frontier.append(node.output)
            else:
                return None
    order = {n.name: k for k, n in enumerate(graph)}
    movers.sort(key=lambda n: order[n.name])
    ends.sort(key=lambda n: order[n.name])
    return Link(maker=maker, movers=tuple(movers), readers=tuple(ends), channels=int(channels or 0))


def _moves(op: Op, graph: Graph, node: Node) -> bool:
    """Whether an operator keeps channels along the last axis and commutes with positive factors on them."""
    shapes = [float_shape(graph.types[v]) for v in (node.inputs[0], node.output)]
    if isinstance(op, MaxPool | AvgPool | ResizeNearest):
        return op.layout == "channels_last"
    if isinstance(op, Mean):
        return len(shapes[0]) - 1 not in op.axes
    if isinstance(op, Pad):
        return op.value == 0 and op.before[-1] == op.after[-1] == 0
    if isinstance(op, Reshape):
        return shapes[0][-1] == shapes[1][-1]
    return isinstance(op, Identity) or (isinstance(op, Rectify) and homogeneous(op))


def _reads(graph: Graph, node: Node, value: str) -> bool:
    return node.inputs[0] == value and value not in node.inputs[1:] and _last_axis(graph, node)


def _last_axis(graph: Graph, node: Node) -> bool:
    """Whether an end's channels run along the last axis, with its numbers known."""
    if any(i not in graph.constants for i in node.inputs[1:]):
        return False
    rank = len(graph.types[node.output].shape)
    if isinstance(node.op, Conv):
        return node.op.layout == "channels_last"
    return not isinstance(node.op, Affine) or node.op.axis == rank - 1


def _shared(node: Node, readers: Mapping[str, list[Node]]) -> bool:
    """Whether another node reads the same numbers: they are then left alone."""
    return any(len(readers[name]) > 1 for name in node.inputs[1:])
