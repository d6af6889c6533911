"""Weights to quantized tensors: a scale per tensor or channel, then the nearest codes.

Granularity, symmetry, the choice of scale and the importance of inputs vary; the arithmetic does not: codes are the
exact nearest values of the float32 weights under the float32 scale.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from subbyte.arithmetic.rounding import Seed
from subbyte.errors import DataError, FormatError, unknown_name
from subbyte.formats.format import Format
from subbyte.formats.granularity import Granularity, PerChannel, PerGroup, PerTensor
from subbyte.formats.group_scales import choose
from subbyte.formats.groups import Groups
from subbyte.formats.qtensor import QTensor
from subbyte.formats.refusals import require_legal
from subbyte.formats.scales import SMALLEST, Grid, best_scales, clipless, single, zero_points

Reals = npt.NDArray[np.float64]

METHODS = ("min_max", "mse")
"""How scales are chosen."""


def quantize_weight(
    w: npt.ArrayLike,
    format: Format,
    granularity: Granularity | None = None,
    method: str = "min_max",
    importance: npt.ArrayLike | None = None,
    symmetric: bool = True,
    rounding: str = "half_even",
    seed: Seed = None,
) -> QTensor:
    """Quantize a weight tensor.

    ``min_max`` takes the smallest scale that clips nothing on either side of the table (of int4, 7 up and 8 down).
    ``mse`` searches about 90 scales around it and is never worse than it in (weighted) squared error.
    A channel of zeros gets the tensor's largest scale (1 if all are zero) and the code of 0; where the format has no
    zero it gets the smallest scale of the others and the code nearest to 0, which does the least harm.

    Args:
        w: weights, float32, rank >= 1, no empty axis.
        format: number format; legality by ``formats/refusals.py``.
        granularity: default PerChannel(0), or PerTensor for vectors. Groups get integer scales beside their channel's.
        method: ``min_max`` or ``mse``.
        importance: for ``mse``: weights of squared errors, e.g. mean squares of the inputs, shape w.shape[1:].
        symmetric: False gives each scale a zero point (in table units), with 0 exactly representable.
        rounding: a name of ``encode.ENCODE_ROUNDINGS``.
        seed: for stochastic rounding.

    Raises:
        DataError: weights or importance are not finite, or empty.
        FormatError: unknown method, format not legal for weights or in groups, or an affine 8-bit weight that leaves
            int8.
    """
    if method not in METHODS:
        raise FormatError(*unknown_name("weight method", method, METHODS))
    require_legal(format, "weight" if symmetric else "affine_weight")
    array = checked_weights(w)
    spread = granularity or (PerChannel(0) if array.ndim > 1 else PerTensor())
    spread.scale_shape(array.shape)
    if isinstance(spread, PerGroup):
        return _in_groups(array, format, spread, method, importance, symmetric, rounding, seed)
    rows = spread.rows(array)
    grid = Grid(format=format, zero_point=zero_points(rows, format, symmetric))
    start = single(clipless(rows, grid))
    alive = start >= SMALLEST
    scales = start.copy()
    if method == "mse" and alive.any():
        weight = checked_importance(importance, array, spread)
        scales[alive] = best_scales(rows, grid, start, weight, alive)
    scales[~alive] = _dead_scale(scales[alive], format)
    tensor = _encoded(array, format, scales, grid.zero_point, spread, rounding, seed)
    if not symmetric:
        _check_recentred(tensor)
    return tensor


def requantize_with_scale(
    w: npt.ArrayLike,
    like: Format | QTensor,
    scale: npt.ArrayLike,
    axis: int = 0,
    rounding: str = "half_even",
    seed: Seed = None,
) -> QTensor:
    """Codes of weights under given scales, e.g. scales that lowering raised or made powers of two.

    Args:
        w: weights, float32.
        like: a format (zero points 0), or a tensor whose format, axis, zero points and group scales are kept.
        scale: () or (w.shape[axis],), positive; taken in float32.
        axis: of the scales, where ``like`` is a format.
        rounding: a name of ``encode.ENCODE_ROUNDINGS``.
        seed: for stochastic rounding.

    Raises:
        DataError: weights are not finite, or empty.
        FormatError: shapes do not fit, a scale is not positive and finite, the format is refused for weights, or the
            result leaves int8.
    """
    array = checked_weights(w)
    if isinstance(like, QTensor) and like.groups is not None:
        return _under(array, replace(like, scale=np.asarray(scale, dtype=np.float32)), rounding, seed)
    if isinstance(like, QTensor):
        format, axis, zeros = like.format, like.axis, like.zero_point
    else:
        require_legal(like, "weight")
        format, zeros = like, np.zeros((), dtype=np.int32)
    scales = np.asarray(scale, dtype=np.float32)
    spread: Granularity = PerTensor() if scales.ndim == 0 else PerChannel(axis)
    if scales.shape != spread.scale_shape(array.shape) or zeros.shape not in {(), scales.shape}:
        raise FormatError(
            f"scales of shape {list(scales.shape)} for weights of shape {list(array.shape)}, axis {axis}",
            "there is one scale for the tensor or one per channel, and as many zero points",
            "pass a scalar or one scale per index along the axis",
        )
    # A vanished or infinite scale is refused when the codes are taken.
    wide = scales.reshape(-1).astype(np.float64)
    tensor = _encoded(array, format, wide, np.broadcast_to(zeros, scales.shape), spread, rounding, seed)
    _check_recentred(tensor)
    return tensor


def squared_error(w: npt.ArrayLike, tensor: QTensor, importance: npt.ArrayLike | None = None) -> float:
    """``sum(importance * (w - dequantized)**2)`` in float64."""
    gap = np.asarray(w, dtype=np.float64) - _exact_reals(tensor)
    weight = 1.0 if importance is None else np.asarray(importance, dtype=np.float64)
    return float(np.sum(weight * gap * gap))


def _exact_reals(tensor: QTensor) -> Reals:
    shape = [1] * tensor.codes.ndim
    if tensor.scale.ndim:
        shape[tensor.axis] = -1
    return tensor.integers() * tensor.scale.astype(np.float64).reshape(shape)


def _encoded(
    array: Reals, format: Format, scales: Reals, zeros: npt.NDArray[Any], spread: Granularity, rounding: str, seed: Seed
) -> QTensor:
    shape = spread.scale_shape(array.shape)
    against = [-1 if shape and i == spread.axis else 1 for i in range(array.ndim)]
    scale = scales.reshape(shape).astype(np.float32)
    zero_point = zeros.reshape(shape).astype(np.int32)
    # float64 holds the quotient of two float32 numbers well enough to decide every tie rightly.
    codes = format.encode(
        array, scale.astype(np.float64).reshape(against), zero_point.reshape(against), rounding=rounding, seed=seed
    )
    tensor = QTensor(codes=codes.astype(np.uint8), format=format, scale=scale, zero_point=zero_point, axis=spread.axis)
    tensor.check()
    return tensor


def _in_groups(
    array: Reals,
    format: Format,
    granularity: PerGroup,
    method: str,
    importance: npt.ArrayLike | None,
    symmetric: bool,
    rounding: str,
    seed: Seed,
) -> QTensor:
    weight = checked_importance(importance, array, granularity) if method == "mse" else None
    chosen = choose(granularity.rows(array), format, granularity, method == "mse", weight, symmetric)
    scale = np.where(chosen.scale > 0, chosen.scale, _dead_scale(chosen.scale[chosen.scale > 0], format))
    like = QTensor(
        codes=np.zeros(array.shape, dtype=np.uint8),
        format=format,
        scale=scale.astype(np.float32),
        zero_point=chosen.zero_point.astype(np.int32),
        groups=Groups(size=granularity.size, scale=chosen.group_scale.astype(np.int32)),
    )
    return _under(array, like, rounding, seed)


def _under(array: Reals, like: QTensor, rounding: str, seed: Seed) -> QTensor:
    """The nearest codes under the scales of a tensor of groups."""
    if array.shape != like.shape:
        raise FormatError(
            f"weights of shape {list(array.shape)} for group scales of a tensor of shape {list(like.shape)}",
            "group scales belong to the weights for which they were chosen",
            "pass weights of that shape",
        )
    like.check()
    codes = like.cells().encode(array.reshape(len(array), -1), rounding, seed)
    return replace(like, codes=codes.reshape(array.shape).astype(np.uint8))


def _dead_scale(alive: Reals, format: Format) -> float:
    if alive.size == 0:
        return 1.0
    return float(alive.max() if format.has_zero else alive.min())


def checked_weights(w: npt.ArrayLike) -> Reals:
    """Weights as float64 of float32 numbers; DataError where they are empty or not finite."""
    array = np.asarray(w)
    if array.ndim < 1 or array.size == 0 or array.dtype.kind not in "fiu" or not bool(np.all(np.isfinite(array))):
        raise DataError(
            f"weights of dtype {array.dtype} and shape {list(array.shape)} are empty or hold a NaN or an infinity",
            "weights are finite numbers, of rank 1 or more, without an empty axis",
            "find the layer's weights in the trained model and repair or retrain it",
        )
    # Through float32, so that the codes are those of the weights that the network has.
    return array.astype(np.float32).astype(np.float64)


def checked_importance(importance: npt.ArrayLike | None, array: Reals, spread: Granularity) -> Reals | None:
    """Importance as rows like those of the weights, 1 at most; DataError where it is negative or does not fit."""
    if importance is None:
        return None
    weight = np.asarray(importance, dtype=np.float64)
    try:
        full = np.broadcast_to(weight, array.shape)
    except ValueError:
        full = None
    if full is None or not bool(np.all(np.isfinite(weight) & (weight >= 0))):
        raise DataError(
            f"importance of shape {list(weight.shape)} for weights of shape {list(array.shape)}",
            "importance broadcasts against the weights and is finite and not negative",
            "pass the mean square of each input element, of shape w.shape[1:]",
        )
    # A common factor changes no choice; 1 at most keeps float32 sums in range.
    peak = float(full.max())
    return spread.rows(full / peak if peak > 0 else np.ones_like(full))


def _check_recentred(tensor: QTensor) -> None:
    """Affine weights are re-centred: what multiplies the activations is code minus zero point, and must be int8."""
    if not tensor.format.uniform:
        return  # no zero point, but the table's own values, of any width
    centred = tensor.integers()
    if int(centred.min()) < -128 or int(centred.max()) > 127:
        raise FormatError(
            f"{tensor.format.name} weights with zero points reach {centred.min()}..{centred.max()} once re-centred",
            "table value minus zero point lies in -128..127, because fast kernels multiply weights as int8",
            "use symmetric=True, or a format of at most 7 bits, whose values always fit",
        )
