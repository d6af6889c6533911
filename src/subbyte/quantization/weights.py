"""Weights of one layer as codes, with scales that the arithmetic can use."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from subbyte.arithmetic.requant import Arithmetic
from subbyte.formats import get_format
from subbyte.formats.granularity import PerChannel
from subbyte.formats.group_scales import carried, lopsided
from subbyte.formats.qtensor import QTensor
from subbyte.formats.quantize import quantize_weight, requantize_with_scale
from subbyte.quantization.multiplied import Multiplied, ends
from subbyte.quantization.resolve import LayerChoice

Reals = npt.NDArray[np.float64]

BIAS_LIMIT = 2.0**23
"""|bias| in accumulator units stays at or below this, so that it and the products are exact in float32.

Only channels whose weights are next to nothing beside their bias get there; a step of the 8-bit result is then 2**15
units, far coarser than what their weights lose. Numbers finer than bytes have as much finer units, and the limit is
as many times higher."""

SEED = 0
"""Of stochastic rounding: the same recipe gives the same codes."""


def quantize_layer_weight(
    weight: npt.NDArray[np.float32],
    choice: LayerChoice,
    arithmetic: Arithmetic,
    bias: Reals,
    s_x: float,
    s_y: float,
    importance: Reals | None = None,
    room: float = 1.0,
) -> QTensor:
    """Codes and scales of one layer's weights.

    A rounding that is not half_even is taken wherever codes are, and then no channel takes the mirrored grid, on which
    up is down.

    Args:
        weight: float32, output channel first.
        choice: format, granularity, method and rounding.
        arithmetic: in shift arithmetic s_x * s_w / s_y is an exact power of two, chosen before rounding.
        bias: float64, one per output channel; a channel's scale is raised until it fits.
        s_x: scale of the operand.
        s_y: scale of the result.
        importance: weights of squared errors, shaped like ``weight``, where scales are searched.
        room: of the operand for biases, see ``room_for_bias``.
    """
    importance = importance if choice.weight_method == "mse" else None

    def quantized(reals: npt.NDArray[np.float32]) -> QTensor:
        return quantize_weight(
            reals,
            choice.weights,
            choice.granularity,
            choice.weight_method,
            importance,
            symmetric=choice.symmetric,
            rounding=choice.rounding,
            seed=SEED,
        )

    tensor = quantized(weight)
    channels = isinstance(choice.granularity, PerChannel)
    if choice.rounding == "half_even" and channels and choice.symmetric and lopsided(choice.weights):
        tensor = _nearer(weight, tensor, mirrored(quantized(-weight)), importance)
    if arithmetic == "shift":
        tensor = snap_weight_scale(weight, tensor, s_x, s_y, choice.rounding)
    return fit_bias(weight, tensor, bias, s_x, choice.rounding, room=room)


def mirrored(tensor: QTensor) -> QTensor:
    """The tensor of the negated reals: the grid -hi..-lo, which the zero point -1 makes of lo..hi = -hi - 1."""
    last = np.uint8(tensor.format.levels - 1)
    return replace(tensor, codes=last - tensor.codes, zero_point=np.full_like(tensor.zero_point, -1))


def _nearer(weight: npt.NDArray[np.float32], first: QTensor, second: QTensor, importance: Reals | None) -> QTensor:
    """Channel by channel the tensor of less (weighted) squared error; the first on ties."""
    errors = [_channel_errors(weight, t, importance) for t in (first, second)]
    better = errors[1] < errors[0]
    spread = better.reshape(-1, *(1,) * (weight.ndim - 1))
    return replace(
        first,
        codes=np.where(spread, second.codes, first.codes),
        scale=np.where(better, second.scale, first.scale),
        zero_point=np.where(better, second.zero_point, first.zero_point),
    )


def snap_weight_scale(
    weight: npt.NDArray[np.float32], tensor: QTensor, s_x: float, s_y: float, rounding: str = "half_even"
) -> QTensor:
    """The nearer of the two neighbouring scales that make s_x * s_w / s_y a power of two, by squared error."""
    exponent = np.log2(tensor.scale.astype(np.float64) * s_x / s_y)
    options = [_rescale(weight, tensor, np.exp2(r(exponent)) * s_y / s_x, rounding) for r in (np.ceil, np.floor)]
    errors = [_channel_errors(weight, o) for o in options]
    if tensor.scale.ndim == 0:
        return options[int(errors[1].sum() < errors[0].sum())]
    scale = np.where(errors[1] < errors[0], options[1].scale, options[0].scale)
    return _rescale(weight, tensor, scale.astype(np.float64), rounding)


def room_for_bias(x: Multiplied) -> float:
    """How many times finer than bytes an operand is: by so much may biases pass BIAS_LIMIT."""
    return max(1.0, max(map(abs, ends(x))) / 256)


def fit_bias(
    weight: npt.NDArray[np.float32],
    tensor: QTensor,
    bias: Reals,
    s_x: float,
    rounding: str = "half_even",
    *,
    room: float = 1.0,
) -> QTensor:
    """The tensor with scales doubled where |bias| would pass its limit; other channels keep their codes."""
    needed = least_scale(bias, s_x, tensor, room) / tensor.scale.astype(np.float64)
    if np.all(needed <= 1):
        return tensor
    doublings = np.ceil(np.log2(np.maximum(needed, 1.0)))
    raised = _rescale(weight, tensor, tensor.scale.astype(np.float64) * np.exp2(doublings), rounding)
    kept = np.broadcast_to((needed <= 1).reshape(-1, *(1,) * (weight.ndim - 1)), weight.shape)
    return replace(raised, codes=np.where(kept, tensor.codes, raised.codes))


def least_scale(bias: Reals, s_x: float, tensor: QTensor, room: float = 1.0) -> Reals:
    """Below which |bias| would pass its limit, shaped like the tensor's scale."""
    finer = max(1.0, tensor.format.max_abs / 128)
    each = np.abs(bias) / s_x / (BIAS_LIMIT * room * finer)
    return np.asarray(each.max(initial=0.0)) if tensor.scale.ndim == 0 else each


def affine_weight(
    scale: npt.NDArray[np.float32], arithmetic: Arithmetic, bias: Reals, s_x: float, s_y: float, room: float = 1.0
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
    return fit_bias(weight, tensor, bias, s_x, room=room)


def _rescale(weight: npt.NDArray[np.float32], tensor: QTensor, scale: Reals, rounding: str = "half_even") -> QTensor:
    single = scale.astype(np.float32)
    return requantize_with_scale(weight, carried(tensor, single), single, rounding=rounding, seed=SEED)


def _channel_errors(weight: npt.NDArray[np.float32], tensor: QTensor, importance: Reals | None = None) -> Reals:
    squares = np.square((tensor.dequantize() - weight).astype(np.float64))
    weighted = squares if importance is None else squares * importance
    return np.asarray(weighted.reshape(len(weight), -1).sum(axis=1))
