"""Which float operator plays which part when a network is quantized."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeAlias

from subbyte.graph.ir import Node
from subbyte.graph.ops.add import Add, Sub
from subbyte.graph.ops.affine import Affine
from subbyte.graph.ops.argmax import Argmax
from subbyte.graph.ops.concat import Concat
from subbyte.graph.ops.conv import Conv
from subbyte.graph.ops.identity import Identity
from subbyte.graph.ops.linear import Linear
from subbyte.graph.ops.log_softmax import LogSoftmax
from subbyte.graph.ops.max_pool import MaxPool
from subbyte.graph.ops.mul import Mul
from subbyte.graph.ops.op import Op
from subbyte.graph.ops.pad import Pad
from subbyte.graph.ops.rectify import Rectify
from subbyte.graph.ops.reshape import Reshape
from subbyte.graph.ops.resize_nearest import ResizeNearest
from subbyte.graph.ops.slice import Slice
from subbyte.graph.ops.softmax import Softmax
from subbyte.graph.ops.transpose import Transpose
from subbyte.graph.ops.unary import Unary

Layer: TypeAlias = Conv | Linear
"""What recipes speak of: operators with weights in a format of the user's choice."""

Scaling: TypeAlias = Conv | Linear | Affine
"""Operators with an integer accumulator, whose channels have scales of their own."""

Carrier: TypeAlias = Conv | Linear | Affine | Add | Sub | Mul
"""Operators that may carry an activation."""

FIXED_RANGE: Mapping[type[Op], tuple[float, int]] = {
    Softmax: (2.0**-15, 0),
    LogSoftmax: (2.0**-11, 32767),
    Argmax: (1.0, 0),
}
"""Scale and zero point of int16 results that are the same for every network; log-softmax reaches down to -32."""

READS_WIDE = (Softmax, LogSoftmax, Argmax)
"""Operators that want 16-bit operands: 8-bit logits tie."""

MAKES_CODES = (Conv, Linear, Affine, Rectify, Unary, Concat)
"""Operators whose results may be stored as codes: of other ones steps are even."""

_MOVES = (Reshape, Transpose, Slice, MaxPool, ResizeNearest, Identity, Concat)


def moves(node: Node) -> bool:
    """Whether the node's result consists of its operands' numbers (and zeros)."""
    return isinstance(node.op, _MOVES) or (isinstance(node.op, Pad) and node.op.value == 0)


def bent(rectify: Rectify | None) -> bool:
    """Whether negative values keep a slope of their own, so that bounds of the result do not say it all."""
    return rectify is not None and rectify.slope not in {0.0, 1.0}


def without_rectify(op: Carrier) -> Op:
    """The operator without the activation that it carries."""
    return replace(op, rectify=None)


def reads_bytes(op: Op) -> bool:
    """Whether the operator multiplies or looks up 8-bit operands, and an int16 one is re-coded before it."""
    return isinstance(op, Scaling | Unary) or (isinstance(op, Rectify) and bent(op))
