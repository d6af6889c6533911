"""Convolution, linear and per-channel affine in integers."""

from __future__ import annotations

import math

import numpy as np

from subbyte.errors import LoweringError
from subbyte.graph.ir import IntType, Node
from subbyte.graph.ops.affine import Affine
from subbyte.graph.ops.conv import Conv, IntConv
from subbyte.graph.ops.linear import IntLinear, Linear
from subbyte.graph.ops.rectify import Rectify
from subbyte.graph.ops.reshape import Reshape
from subbyte.graph.ops.transpose import Transpose
from subbyte.quantization.lowering.context import Lowering, lowers


def _constants(low: Lowering, node: Node, s_x: float, out: IntType, rectify: Rectify | None) -> tuple[str, ...]:
    """Names of weight, bias, m, n and, for leaky results, m_neg, n_neg."""
    layer = low.layers[node.name]
    weight = layer.weight
    s_w = np.broadcast_to(weight.scale.astype(np.float64), layer.bias.shape)
    bias = np.rint(layer.bias / (s_x * s_w)).astype(np.int32)
    pairs = np.array([low.ratio(s_x * s, out.scale, node) for s in s_w], dtype=np.int32)
    names = [
        low.constant(node, "weight", weight),
        low.constant(node, "bias", bias),
        low.constant(node, "m", np.ascontiguousarray(pairs[:, 0])),
        low.constant(node, "n", np.ascontiguousarray(pairs[:, 1])),
    ]
    if rectify is not None and rectify.slope not in (0.0, 1.0):
        bent = np.array([low.ratio(s_x * s * rectify.slope, out.scale, node) for s in s_w], dtype=np.int32)
        names.append(low.constant(node, "m_neg", np.ascontiguousarray(bent[:, 0])))
        names.append(low.constant(node, "n_neg", np.ascontiguousarray(bent[:, 1])))
    return tuple(names)


def _result(low: Lowering, node: Node) -> IntType:
    out = low.scheme.stored(node.output)
    if not out.format.uniform:
        raise LoweringError(
            f"storage format {out.format.name!r} of {node.output!r}",
            "a layer's result is rounded to uniform values; other formats are re-coded at the reader",
            "choose a uniform storage format and give this one as activations",
            f"node {node.name!r}",
        )
    return out


@lowers("conv")
def lower_conv(low: Lowering, node: Node) -> None:
    """Convolution with fused bias, rescale and clip."""
    op = node.op
    assert isinstance(op, Conv)
    out = _result(low, node)
    x, x_type = low.operand(node, node.inputs[0])
    lo, hi = low.bounds(op.rectify, out)
    constants = _constants(low, node, x_type.scale, out, op.rectify)
    integer = IntConv(stride=op.stride, dilation=op.dilation, padding=op.padding, groups=op.groups, lo=lo, hi=hi)
    low.finish(node, integer, (x, *constants))


@lowers("linear")
def lower_linear(low: Lowering, node: Node) -> None:
    """Linear layer over the last axis."""
    op = node.op
    assert isinstance(op, Linear)
    out = _result(low, node)
    x, x_type = low.operand(node, node.inputs[0])
    lo, hi = low.bounds(op.rectify, out)
    low.finish(node, IntLinear(lo=lo, hi=hi), (x, *_constants(low, node, x_type.scale, out, op.rectify)))


@lowers("affine")
def lower_affine(low: Lowering, node: Node) -> None:
    """Per-channel scale and shift as a depthwise 1x1 convolution over [N, 1, cells, C]."""
    op = node.op
    assert isinstance(op, Affine)
    out = _result(low, node)
    x, x_type = low.operand(node, node.inputs[0])
    lo, hi = low.bounds(op.rectify, out)
    constants = _constants(low, node, x_type.scale, out, op.rectify)
    rank = len(out.shape)
    perm = (*(a for a in range(rank) if a != op.axis), op.axis)
    moved = tuple(out.shape[a] for a in perm)
    flat = (None, 1, math.prod(d or 1 for d in moved[1:-1]), moved[-1])
    if op.axis != rank - 1:
        x = low.emit(node, Transpose(perm=perm), (x,), f"{node.output}.last", _shaped(x_type, moved))
    if moved != flat:
        x = low.emit(node, Reshape(shape=flat), (x,), f"{node.output}.flat", _shaped(x_type, flat))
    channels = flat[-1]
    assert channels is not None
    conv = IntConv(stride=(1, 1), dilation=(1, 1), padding=(0, 0, 0, 0), groups=channels, lo=lo, hi=hi)
    if moved == flat and op.axis == rank - 1:
        low.finish(node, conv, (x, *constants))
        return
    y = low.emit(node, conv, (x, *constants), f"{node.output}.scaled", _shaped(out, flat))
    if op.axis == rank - 1:
        low.finish(node, Reshape(shape=out.shape), (y,))
        return
    y = low.emit(node, Reshape(shape=moved), (y,), f"{node.output}.moved", _shaped(out, moved))
    low.finish(node, Transpose(perm=tuple(int(a) for a in np.argsort(perm))), (y,))


def _shaped(type_: IntType, shape: tuple[int | None, ...]) -> IntType:
    return IntType(shape=shape, format=type_.format, scale=type_.scale, zero_point=type_.zero_point)
