"""Write operators with one spatial axis with two."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

from subbyte.graph.ir import BATCH, Graph, Node, Shape
from subbyte.graph.ops.avg_pool import AvgPool
from subbyte.graph.ops.conv import Conv
from subbyte.graph.ops.max_pool import MaxPool
from subbyte.graph.ops.op import Op
from subbyte.graph.ops.reshape import Reshape
from subbyte.graph.passes.protocol import PassResult
from subbyte.graph.passes.rewriter import Rewriter


@final
@dataclass(frozen=True)
class Widen1d:
    """A convolution or pool over [N, C, L] becomes one over [N, C, 1, L] between two reshapes (channels last alike).

    Kernels, strides, dilations and paddings get a leading 1, 1, 1 and 0, so no number changes.
    """

    name: str = "widen_1d"
    requires: frozenset[str] = frozenset()
    ensures: frozenset[str] = frozenset({"spatial_2d"})

    def __call__(self, graph: Graph) -> PassResult:
        rewriter = Rewriter(graph)
        for node in rewriter.walk():
            if isinstance(node.op, (Conv, MaxPool, AvgPool)):
                shape = rewriter.types[node.inputs[0]].shape
                if len(shape) == 3:
                    _widen(rewriter, node, node.op, shape)
        return rewriter.finish()


def _widen(rewriter: Rewriter, node: Node, op: Conv | MaxPool | AvgPool, shape: Shape) -> None:
    at = 2 if op.layout == "channels_first" else 1
    parameters = list(node.inputs[1:])
    if parameters:
        weight = rewriter.array(parameters[0])
        if weight is None:
            return
        parameters[0] = rewriter.revise(parameters[0], weight.reshape(*weight.shape[:at], 1, *weight.shape[at:]))
    wide = Reshape(shape=(BATCH, *shape[1:at], 1, *shape[at:]))
    narrow = Reshape(shape=(BATCH, *rewriter.types[node.output].shape[1:]))
    rewriter.wrap(node, wide, _two_axes(op), parameters, narrow)


def _two_axes(op: Conv | MaxPool | AvgPool) -> Op:
    left, right = op.padding
    padding, stride = (0, left, 0, right), (1, *op.stride)
    if isinstance(op, Conv):
        return replace(op, padding=padding, stride=stride, dilation=(1, *op.dilation))
    kernel = (1, *op.kernel)
    if isinstance(op, MaxPool):
        return replace(op, kernel=kernel, padding=padding, stride=stride, dilation=(1, *op.dilation))
    return replace(op, kernel=kernel, padding=padding, stride=stride)
