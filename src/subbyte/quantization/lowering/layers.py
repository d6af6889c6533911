"""Convolution, linear and per-channel affine in integers."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from subbyte.graph.ir import Node
from subbyte.graph.ops.affine import Affine
from subbyte.graph.ops.conv import Conv, IntConv
from subbyte.graph.ops.linear import IntLinear, Linear
from subbyte.graph.ops.op import Op
from subbyte.graph.ops.reshape import Reshape
from subbyte.graph.ops.transpose import Transpose
from subbyte.quantization.lowering.context import Lowering, Rule, shaped
from subbyte.quantization.parts import Scaling, bent


def _constants(low: Lowering, node: Node, op: Scaling, s_x: float) -> tuple[str, ...]:
    """Names of weight, bias, m, n and, for leaky results, m_neg, n_neg."""
    layer, s_y = low.layers[node.name], low.scheme.stored(node.output).scale
    scales = s_x * np.broadcast_to(layer.weight.scale.astype(np.float64), layer.bias.shape)
    bias = np.rint(layer.bias / scales).astype(np.int32)
    names = [low.constant(node, "weight", layer.weight), low.constant(node, "bias", bias)]
    names.extend(low.pairs(node, "", [low.ratio(s, s_y, node) for s in scales]))
    if op.rectify is not None and bent(op.rectify):
        steep, sign = abs(op.rectify.slope), -1 if op.rectify.slope < 0 else 1
        below = [low.ratio(s * steep, s_y, node) for s in scales]
        names.extend(low.pairs(node, "_neg", [(sign * m, n) for m, n in below]))
    return tuple(names)


def lower_conv(low: Lowering, node: Node, op: Conv) -> None:
    """Convolution with fused bias, rescale and clip."""
    x, x_type = low.operand(node, node.inputs[0])
    lo, hi = low.bounds(op.rectify, low.scheme.stored(node.output))
    integer = IntConv(stride=op.stride, dilation=op.dilation, padding=op.padding, groups=op.groups, lo=lo, hi=hi)
    low.finish(node, integer, (x, *_constants(low, node, op, x_type.scale)))


def lower_linear(low: Lowering, node: Node, op: Linear) -> None:
    """Linear layer over the last axis."""
    x, x_type = low.operand(node, node.inputs[0])
    lo, hi = low.bounds(op.rectify, low.scheme.stored(node.output))
    low.finish(node, IntLinear(lo=lo, hi=hi), (x, *_constants(low, node, op, x_type.scale)))


def lower_affine(low: Lowering, node: Node, op: Affine) -> None:
    """Per-channel scale and shift as a depthwise 1x1 convolution over [N, 1, cells, C]."""
    out = low.scheme.stored(node.output)
    x, x_type = low.operand(node, node.inputs[0])
    lo, hi = low.bounds(op.rectify, out)
    constants = _constants(low, node, op, x_type.scale)
    last = len(out.shape) - 1
    perm = (*(a for a in range(last + 1) if a != op.axis), op.axis)
    moved = tuple(out.shape[a] for a in perm)
    channels = moved[-1] or 1
    flat = (None, 1, math.prod(d or 1 for d in moved[1:-1]), channels)
    if op.axis != last:
        x = low.emit(node, Transpose(perm=perm), (x,), f"{node.output}.last", shaped(x_type, moved))
    if moved != flat:
        x = low.emit(node, Reshape(shape=flat), (x,), f"{node.output}.flat", shaped(x_type, flat))
    conv = IntConv(stride=(1, 1), dilation=(1, 1), padding=(0, 0, 0, 0), groups=channels, lo=lo, hi=hi)
    if moved == flat and op.axis == last:
        low.finish(node, conv, (x, *constants))
        return
    y = low.emit(node, conv, (x, *constants), f"{node.output}.scaled", shaped(out, flat))
    if op.axis == last:
        low.finish(node, Reshape(shape=out.shape), (y,))
        return
    if moved != flat:
        y = low.emit(node, Reshape(shape=moved), (y,), f"{node.output}.moved", shaped(out, moved))
    low.finish(node, Transpose(perm=tuple(int(a) for a in np.argsort(perm))), (y,))


RULES: Mapping[type[Op], Rule] = {Conv: lower_conv, Linear: lower_linear, Affine: lower_affine}
