"""Convolution, linear and per-channel affine in integers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from subbyte.arithmetic.bounds import LIMIT, worst_case
from subbyte.arithmetic.fast_requant import nudge
from subbyte.formats.two_of_four import spread_tensor
from subbyte.graph.ir import IntType, Node
from subbyte.graph.ops.affine import Affine
from subbyte.graph.ops.conv import Conv, IntConv
from subbyte.graph.ops.linear import IntLinear, Linear
from subbyte.graph.ops.linear_per_token import IntLinearPerToken
from subbyte.graph.ops.op import Op
from subbyte.graph.ops.reshape import Reshape
from subbyte.graph.ops.transpose import Transpose
from subbyte.quantization.lowering.context import Lowering, Rule, shaped
from subbyte.quantization.multiplied import Multiplied, ends
from subbyte.quantization.parts import Scaling, bent

Pairs: TypeAlias = list[tuple[int, int]]
"""Multiplier and shift of every channel."""


def _constants(
    low: Lowering, node: Node, op: Scaling, x: Multiplied, clamp: tuple[int, int]
) -> tuple[int, tuple[str, ...]]:
    """The shift of the sums; names of weight, bias, m, n and, for leaky results, m_neg, n_neg."""
    layer, out = low.layers[node.name], low.scheme.stored(node.output)
    pre_shift = layer.pre_shift(x)
    each = np.broadcast_to(layer.weight.scale.astype(np.float64), layer.bias.shape)
    scales = x.scale * each * 2.0**pre_shift
    bias = np.rint(layer.bias / scales).astype(np.int32)
    kept = low.scheme.trim(node)
    weight = spread_tensor(layer.weight) if kept is not None and kept[0].pairing == "stc" else layer.weight
    names = [low.constant(node, "weight", weight), low.constant(node, "bias", bias)]
    leaky = op.rectify is not None and bent(op.rectify)
    x_most = max(map(abs, ends(x)))
    reach = worst_case(layer.weight.integers(), -x_most, x_most, bias).clip(max=LIMIT)
    bytes_only = all(isinstance(t, IntType) and t.storage == "uint8" and not t.format.coded for t in (x, out))
    fast = bytes_only and layer.weight.format.fits_int8 and pre_shift == 0
    in_float32 = fast and low.scheme.arithmetic == "m31"
    above = [low.ratio(s, out.scale, node) for s in scales]
    if in_float32:
        above = _nudged(above, out, clamp, np.zeros_like(reach) if leaky else -reach, reach)
    names.extend(low.pairs(node, "", above))
    if op.rectify is not None and leaky:
        steep, sign = abs(op.rectify.slope), -1 if op.rectify.slope < 0 else 1
        below = [(sign * m, n) for m, n in (low.ratio(s * steep, out.scale, node) for s in scales)]
        if in_float32:
            below = _nudged(below, out, clamp, -reach, np.zeros_like(reach))
        names.extend(low.pairs(node, "_neg", below))
    return pre_shift, tuple(names)


def _nudged(
    pairs: Pairs, out: IntType, clamp: tuple[int, int], least: npt.NDArray[np.int64], most: npt.NDArray[np.int64]
) -> Pairs:
    """Multipliers moved, by less than a scale's own float32 rounding, so that kernels may rescale in float32."""
    m, n = np.array(pairs, dtype=np.int32).T
    return list(zip(nudge(m, n, out.zero_point, *clamp, least, most).tolist(), n.tolist(), strict=True))


def lower_conv(low: Lowering, node: Node, op: Conv) -> None:
    """Convolution with fused bias, rescale and clip."""
    x, x_type = low.operand(node, node.inputs[0])
    lo, hi = low.bounds(op.rectify, low.scheme.stored(node.output))
    shift, constants = _constants(low, node, op, x_type, (lo, hi))
    window = {"stride": op.stride, "dilation": op.dilation, "padding": op.padding}
    integer = IntConv(**window, groups=op.groups, lo=lo, hi=hi, pre_shift=shift)
    low.finish(node, integer, (x, *constants))


def lower_linear(low: Lowering, node: Node, op: Linear) -> None:
    """Linear layer over the last axis."""
    x, _ = low.operand(node, node.inputs[0])
    lo, hi = low.bounds(op.rectify, low.scheme.stored(node.output))
    shift, constants = _constants(low, node, op, low.scheme.multiplied(node), (lo, hi))
    largest = low.scheme.largest_row_code(node)
    integer: Op = IntLinear(lo=lo, hi=hi, pre_shift=shift)
    if largest is not None:
        integer = IntLinearPerToken(lo=lo, hi=hi, largest=largest, pre_shift=shift)
    low.finish(node, integer, (x, *constants))


def lower_affine(low: Lowering, node: Node, op: Affine) -> None:
    """Per-channel scale and shift as a depthwise 1x1 convolution over [N, 1, cells, C]."""
    out = low.scheme.stored(node.output)
    x, x_type = low.operand(node, node.inputs[0])
    lo, hi = low.bounds(op.rectify, out)
    shift, constants = _constants(low, node, op, x_type, (lo, hi))
    last = len(out.shape) - 1
    perm = (*(a for a in range(last + 1) if a != op.axis), op.axis)
    moved = tuple(out.shape[a] for a in perm)
    channels = moved[-1] or 1
    flat = (None, 1, math.prod(d or 1 for d in moved[1:-1]), channels)
    if op.axis != last:
        x = low.emit(node, Transpose(perm=perm), (x,), f"{node.output}.last", shaped(x_type, moved))
    if moved != flat:
        x = low.emit(node, Reshape(shape=flat), (x,), f"{node.output}.flat", shaped(x_type, flat))
    cell = {"stride": (1, 1), "dilation": (1, 1), "padding": (0, 0, 0, 0)}
    conv = IntConv(**cell, groups=channels, lo=lo, hi=hi, pre_shift=shift)
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
