"""Let convolutions and pools do the padding in front of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

from subbyte.errors import GraphError
from subbyte.graph.ir import Graph, Node, Shape
from subbyte.graph.ops.avg_pool import AvgPool
from subbyte.graph.ops.conv import Conv
from subbyte.graph.ops.max_pool import MaxPool
from subbyte.graph.ops.op import Op
from subbyte.graph.ops.pad import Pad
from subbyte.graph.ops.rectify import Rectify
from subbyte.graph.passes.patterns import channel_axis
from subbyte.graph.passes.protocol import PassResult
from subbyte.graph.passes.rewriter import Rewriter


@final
@dataclass(frozen=True)
class FoldPad:
    """A ``pad`` with zeros along spatial axes adds to the padding of the layer that reads it, where that is exact.

    1. Convolution: always.
    2. Average pool without ceil_mode: if it counts its padding, or has none and may start to count it.
    3. Max pool without ceil_mode: if nothing that it reads is negative, since its own padding never wins, and if every
       window meets the input.
    """

    name: str = "fold_pad"
    requires: frozenset[str] = frozenset()
    ensures: frozenset[str] = frozenset()

    def __call__(self, graph: Graph) -> PassResult:
        rewriter = Rewriter(graph)
        for node in rewriter.walk():
            pad = rewriter.maker(node.inputs[0])
            if pad is None or not isinstance(pad.op, Pad) or not isinstance(node.op, (Conv, AvgPool, MaxPool)):
                continue
            shape = rewriter.types[node.inputs[0]].shape
            added = _spatial(pad.op, node.op, shape)
            op = None if added is None else _padded(rewriter, pad, node.op, added)
            if op is not None and _accepts(rewriter, node, op, pad.inputs[0]):
                rewriter.replace(node, op=op, inputs=(pad.inputs[0], *node.inputs[1:]))
        return rewriter.finish()


def _spatial(pad: Pad, op: Op, shape: Shape) -> tuple[int, ...] | None:
    """The zeros in front of and behind the spatial axes; None if the pad does anything else."""
    channel = channel_axis(op, len(shape))
    edges = (pad.before, pad.after)
    if pad.value != 0 or channel is None or any(e[0] or e[channel] or min(e) < 0 for e in edges):
        return None
    return tuple(cells for e in edges for axis, cells in enumerate(e) if axis not in (0, channel))


def _padded(rewriter: Rewriter, pad: Node, op: Conv | AvgPool | MaxPool, added: tuple[int, ...]) -> Op | None:
    total = tuple(a + b for a, b in zip(op.padding, added, strict=True))
    if isinstance(op, Conv):
        return replace(op, padding=total)
    if op.ceil_mode:
        return None
    if isinstance(op, AvgPool):
        counted = op.count_include_pad or not any(op.padding)
        return replace(op, padding=total, count_include_pad=True) if counted else None
    return replace(op, padding=total) if _never_negative(rewriter, pad.inputs[0]) else None


def _never_negative(rewriter: Rewriter, value: str) -> bool:
    maker = rewriter.maker(value)
    if maker is None:
        return False
    rectify = maker.op if isinstance(maker.op, Rectify) else getattr(maker.op, "rectify", None)
    return isinstance(rectify, Rectify) and rectify.lo >= 0


def _accepts(rewriter: Rewriter, node: Node, op: Op, source: str) -> bool:
    """Whether the operator takes that padding and still gives the same shape."""
    operands = [rewriter.types[source], *rewriter.operands(node)[1:]]
    try:
        return op.infer(operands) == rewriter.types[node.output].shape
    except GraphError:
        return False
