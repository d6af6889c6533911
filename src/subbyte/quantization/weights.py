"""Weights of one layer as codes, with scales that the arithmetic can use."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from subbyte.arithmetic.requant import Arithmetic
from subbyte.formats import get_format
from subbyte.formats.granularity import PerChannel, PerTensor
from subbyte.formats.qtensor import QTensor
from subbyte.formats.quantize import quantize_weight, requantize_with_scale
from subbyte.quantization.resolve import LayerChoice

Reals = npt.NDArray[np.float64]

BIAS_LIMIT = 2.0**30
"""|bias| in accumulator units stays at or below this; the rest of int32 is the products'."""


def quantize_layer_weight(
    weight: npt.NDArray[np.float32], choice: LayerChoice, arithmetic: Arithmetic, bias: Reals, s_x: float, s_y: float
) -> QTensor:
    """Codes and scales of one layer's weights.

    Args:
        weight: float32, output channel first.
        choice: format, granularity and method.
        arithmetic: in shift arithmetic s_x * s_w / s_y is an exact power of two, chosen before rounding.
        bias: float64, one per output channel; a channel's scale is raised until it fits.
        s_x: scale of the operand.
        s_y: scale of the result.
    """
    granularity = PerChannel(axis=0) if choice.per_channel else PerTensor()
    tensor = quantize_weight(
        weight, choice.weights, granularity, method=choice.weight_method, symmetric=choice.symmetric
    )
    if arithmetic == "shift":
        tensor = snap_weight_scale(weight, tensor, s_x, s_y)
    return fit_bias(weight, tensor, bias, s_x)


def snap_weight_scale(weight: npt.NDArray[np.float32], tensor: QTensor, s_x: float, s_y: float) -> QTensor:
    """The nearer of the two neighbouring scales that make s_x * s_w / s_y a power of two, by squared error."""
    exponent = np.log2(tensor.scale.astype(np.float64) * s_x / s_y)
    options = [_rescale(weight, tensor, np.exp2(r(exponent)) * s_y / s_x) for r in (np.ceil, np.floor)]
    errors = [_channel_errors(weight, o) for o in options]
    if tensor.scale.ndim == 0:
        return options[int(errors[1].sum() < errors[0].sum())]
    scale = np.where(errors[1] < errors[0], options[1].scale, options[0].scale)
    return _rescale(weight, tensor, scale.astype(np.float64))


def fit_bias(weight: npt.NDArray[np.float32], tensor: QTensor, bias: Reals, s_x: float) -> QTensor:
    """The tensor with scales doubled where |bias| would pass BIAS_LIMIT."""
    needed = np.abs(bias) / (tensor.scale.astype(np.float64) * s_x) / BIAS_LIMIT
    if tensor.scale.ndim == 0:
        needed = needed.max(initial=0.0)
    if np.all(needed <= 1):
        return tensor
    doublings = np.ceil(np.log2(np.maximum(needed, 1.0)))
    return _rescale(weight, tensor, tensor.scale.astype(np.float64) * np.exp2(doublings))


def affine_weight(
    scale: npt.NDArray[np.float32], arithmetic: Arithmetic, bias: Reals, s_x: float, s_y: float
) -> QTensor:
    """A per-channel affine as int8 depthwise 1x1 weights [C, 1, 1, 1].

    Each channel's one weight is 127 or -128 of its own scale and so exact, but for shift arithmetic: there it is one of
    64..127 of a power of two.
    """
    weight = scale.reshape(-1, 1, 1, 1)
    tensor = quantize_weight(weight, get_format("int8"), PerChannel(axis=0), method="min_max", symmetric=True)
    if arithmetic == "shift":
        exponent = np.ceil(np.log2(tensor.scale.astype(np.float64) * s_x / s_y) - 1e-9)
        tensor = _rescale(weight, tensor, np.exp2(exponent) * s_y / s_x)
    return fit_bias(weight, tensor, bias, s_x)


def _rescale(weight: npt.NDArray[np.float32], tensor: QTensor, scale: Reals) -> QTensor:
    return requantize_with_scale(weight, tensor, scale.astype(np.float32))


def _channel_errors(weight: npt.NDArray[np.float32], tensor: QTensor) -> Reals:
    difference = (tensor.dequantize() - weight).astype(np.float64)
    return np.asarray(np.square(difference).reshape(len(weight), -1).sum(axis=1))
