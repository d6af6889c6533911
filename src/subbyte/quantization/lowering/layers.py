"""Convolution, linear and per-channel affine in integers."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from subbyte.arithmetic.bounds import LIMIT, worst_case
from subbyte.arithmetic.fast_requant import nudge
from subbyte.formats.two_of_four import spread_tensor
from subbyte.graph.ir import IntType, Node
from subbyte.graph.ops.affine import Affine
from subbyte.graph.ops.conv import Conv, IntConv
from subbyte.graph.ops.linear import IntLinear, Linear
from subbyte.graph.ops.op import Op
from subbyte.graph.ops.reshape import Reshape
from subbyte.graph.ops.transpose import Transpose
from subbyte.quantization.lowering.context import Lowering, Rule, shaped
from subbyte.quantization.parts import Scaling, bent


def _constants(low: Lowering, node: Node, op: Scaling, x_type: IntType, clamp: tuple[int, int]) -> tuple[str, ...]:
    """Names of weight, bias, m, n and, for leaky results, m_neg, n_neg."""
    layer, out = low.layers[node.name], low.scheme.stored(node.output)
    scales = x_type.scale * np.broadcast_to(layer.weight.scale.astype(np.float64), layer.bias.shape)
    bias = np.rint(layer.bias / scales).astype(np.int32)
    kept = low.scheme.trim(node)
    weight = spread_tensor(layer.weight) if kept is not None and kept[0].pairing == "stc" else layer.weight
    names = [low.constant(node, "weight", weight), low.constant(node, "bias", bias)]
    leaky = op.rectify is not None and bent(op.rectify)
    x_most = max(x_type.zero_point - x_type.lo, x_type.hi - x_type.zero_point)
    reach = worst_case(layer.weight.integers(), -x_most, x_most, bias).clip(max=LIMIT)
    above = [low.ratio(s, out.scale, node) for s in scales]
    names.extend(low.pairs(node, "", _nudged(low, above, out, clamp, np.zeros_like(reach) if leaky else -reach, reach)))
    if op.rectify is not None and leaky:
        steep, sign = abs(op.rectify.slope), -1 if op.rectify.slope < 0 else 1
        below = [(sign * m, n) for m, n in (low.ratio(s * steep, out.scale, node) for s in scales)]
        names.extend(low.pairs(node, "_neg", _nudged(low, below, out, clamp, -reach, np.zeros_like(reach))))
    return tuple(names)


def _nudged(
    low: Lowering,
    pairs: list[tuple[int, int]],
    out: IntType,
    clamp: tuple[int, int],
    least: npt.NDArray[np.int64],
    most: npt.NDArray[np.int64],
) -> list[tuple[int, int]]:
    """Multipliers moved, by less than a scale's own float32 rounding, so that kernels may rescale in float32."""
    if low.scheme.arithmetic != "m31" or out.storage != "uint8":
        return pairs
    m, n = np.array(pairs, dtype=np.int32).T
    return list(zip(nudge(m, n, out.zero_point, *clamp, least, most).tolist(), n.tolist(), strict=True))


def lower_conv(low: Lowering, node: Node, op: Conv) -> None:
    """Convolution with fused bias, rescale and clip."""
    x, x_type = low.operand(node, node.inputs[0])
    lo, hi = low.bounds(op.rectify, low.scheme.stored(node.output))
    integer = IntConv(stride=op.stride, dilation=op.dilation, padding=op.padding, groups=op.groups, lo=lo, hi=hi)
    low.finish(node, integer, (x, *_constants(low, node, op, x_type, (lo, hi))))


def lower_linear(low: Lowering, node: Node, op: Linear) -> None:
    """Linear layer over the last axis."""
    x, x_type = low.operand(node, node.inputs[0])
    lo, hi = low.bounds(op.rectify, low.scheme.stored(node.output))
    low.finish(node, IntLinear(lo=lo, hi=hi), (x, *_constants(low, node, op, x_type, (lo, hi))))


def lower_affine(low: Lowering, node: Node, op: Affine) -> None:
    """Per-channel scale and shift as a depthwise 1x1 convolution over [N, 1, cells, C]."""
    out = low.scheme.stored(node.output)
    x, x_type = low.operand(node, node.inputs[0])
    lo, hi = low.bounds(op.rectify, out)
    constants = _constants(low, node, op, x_type, (lo, hi))
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
