"""Multiply-adds per channel in float64, and how layers take them in."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from subbyte.errors import GraphError
from subbyte.graph.ir import Node, float_shape
from subbyte.graph.ops.affine import Affine
from subbyte.graph.ops.batch_norm import BatchNorm
from subbyte.graph.ops.conv import Conv
from subbyte.graph.ops.linear import Linear
from subbyte.graph.ops.rectify import Rectify
from subbyte.graph.passes.patterns import channel_axis
from subbyte.graph.passes.rewriter import Rewriter


@dataclass(frozen=True, slots=True)
class Scaling:
    """``x * scale + shift`` along an axis; float64 arrays as long as that axis."""

    axis: int
    scale: npt.NDArray[np.float64]
    shift: npt.NDArray[np.float64]

    @property
    def uniform(self) -> bool:
        """Whether all channels are treated alike, so that the axis does not matter."""
        return bool(np.all(self.scale == self.scale[0]) and np.all(self.shift == self.shift[0]))

    def along(self, axis: int, length: int) -> Scaling | None:
        """The same function along another axis; None unless the axis is its own or it is uniform."""
        if axis == self.axis:
            return self
        if not self.uniform:
            return None
        return Scaling(axis, np.full(length, self.scale[0]), np.full(length, self.shift[0]))


def batch_norm_affine(rewriter: Rewriter, node: Node) -> Scaling | None:
    """What a batch norm computes in inference; None if its statistics are not all constants."""
    op = node.op
    arrays = [rewriter.array(name) for name in node.inputs[1:]]
    if not isinstance(op, BatchNorm) or any(a is None for a in arrays):
        return None
    gamma, beta, mean, var = (np.asarray(a, dtype=np.float64) for a in arrays)
    if np.any(var + op.epsilon <= 0):
        raise GraphError(
            f"the variance {float(var.min())} plus epsilon {op.epsilon} is not positive",
            "batch norm divides by the root of a positive number",
            "repair the statistics of the model",
            f"node {node.name!r} (batch_norm) of module {node.module!r} in graph {rewriter.graph.name!r}",
        )
    scale = gamma / np.sqrt(var + op.epsilon)
    return Scaling(op.axis, scale, beta - mean * scale)


def affine_scaling(rewriter: Rewriter, node: Node) -> Scaling | None:
    """What an affine computes, without the activation that it carries."""
    arrays = [rewriter.array(name) for name in node.inputs[1:]]
    if not isinstance(node.op, Affine) or any(a is None for a in arrays):
        return None
    scale, shift = (np.asarray(a, dtype=np.float64) for a in arrays)
    return Scaling(node.op.axis, scale, shift)


def to_affine(rewriter: Rewriter, node: Node, value: str, scaling: Scaling, *, rectify: Rectify | None) -> Node:
    """Turn a node into an affine of ``value``."""
    scale = rewriter.constant(f"{node.name}.scale", scaling.scale)
    shift = rewriter.constant(f"{node.name}.shift", scaling.shift)
    return rewriter.replace(node, op=Affine(axis=scaling.axis, rectify=rectify), inputs=(value, scale, shift))


def absorb(rewriter: Rewriter, layer: Node, node: Node, scaling: Scaling, *, rectify: Rectify | None) -> bool:
    """Let ``layer``, the private maker of ``node``'s operand, compute what ``node`` makes of it; False if it cannot."""
    if not isinstance(layer.op, (Conv, Linear, Affine)) or layer.op.rectify is not None:
        return False
    if isinstance(layer.op, Affine):
        return _absorb_affine(rewriter, layer, node, scaling, replace(layer.op, rectify=rectify))
    shape = rewriter.types[node.output].shape
    axis = channel_axis(layer.op, len(shape))
    weight = rewriter.array(layer.inputs[1])
    bias = rewriter.array(layer.inputs[2]) if len(layer.inputs) == 3 else np.zeros(1)
    fitted = None if weight is None or axis is None else scaling.along(axis, weight.shape[0])
    if weight is None or bias is None or fitted is None:
        return False
    scaled = weight * fitted.scale.reshape(-1, *(1,) * (weight.ndim - 1))
    shifted = bias * fitted.scale + fitted.shift
    names = [layer.inputs[0], rewriter.revise(layer.inputs[1], scaled)]
    if len(layer.inputs) == 3:
        names.append(rewriter.revise(layer.inputs[2], shifted))
    else:
        names.append(rewriter.constant(_bias_name(layer), shifted))
    rewriter.fuse(layer, node, replace(layer.op, rectify=rectify), names)
    return True


def _absorb_affine(rewriter: Rewriter, first: Node, second: Node, after: Scaling, op: Affine) -> bool:
    before = affine_scaling(rewriter, first)
    if before is None:
        return False
    shape = float_shape(rewriter.types[second.output])
    fitted = after.along(before.axis, len(before.scale))
    if fitted is None:
        size = shape[after.axis]
        earlier = before.along(after.axis, size) if size is not None else None
        if earlier is None:
            return False
        before, fitted = earlier, after
    scale = rewriter.constant(f"{first.name}.scale", before.scale * fitted.scale)
    shift = rewriter.constant(f"{first.name}.shift", before.shift * fitted.scale + fitted.shift)
    rewriter.fuse(first, second, replace(op, axis=fitted.axis), (first.inputs[0], scale, shift))
    return True


def _bias_name(layer: Node) -> str:
    weight = layer.inputs[1]
    return f"{weight.removesuffix('weight')}bias" if weight.endswith("weight") else f"{layer.name}.bias"
