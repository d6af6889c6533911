"""Questions about operators that several passes ask."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from subbyte.graph.ir import Shape
from subbyte.graph.ops.add import Add, Sub
from subbyte.graph.ops.affine import Affine
from subbyte.graph.ops.avg_pool import AvgPool
from subbyte.graph.ops.batch_norm import BatchNorm
from subbyte.graph.ops.conv import Conv
from subbyte.graph.ops.linear import Linear
from subbyte.graph.ops.max_pool import MaxPool
from subbyte.graph.ops.mul import Mul
from subbyte.graph.ops.op import Op
from subbyte.graph.ops.resize_nearest import ResizeNearest

Carrier: TypeAlias = Conv | Linear | Affine | Add | Sub | Mul
Spatial: TypeAlias = Conv | MaxPool | AvgPool | ResizeNearest


def takes_rectify(op: Op) -> bool:
    """Whether an operator can carry an activation and carries none yet."""
    return isinstance(op, Carrier) and op.rectify is None


def layout_of(op: Op) -> str | None:
    """``channels_first`` or ``channels_last`` for spatial operators, None for all others."""
    return op.layout if isinstance(op, Spatial) else None


def channel_axis(op: Op, rank: int) -> int | None:
    """The axis of an operator's result that runs over channels, where the operator itself says so."""
    if isinstance(op, Affine | BatchNorm):
        return op.axis
    if isinstance(op, Linear) or layout_of(op) == "channels_last":
        return rank - 1
    return 1 if layout_of(op) == "channels_first" else None


def per_channel(constant: npt.NDArray[np.generic], shape: Shape) -> tuple[int | None, npt.NDArray[np.float64]] | None:
    """How a broadcast constant varies over a value.

    Args:
        constant: broadcasts from the right; may carry a leading batch axis of 1.
        shape: of the value.

    Returns:
        (axis, float64 of length shape[axis]) where it varies along one axis; (None, float64 of length 1) where it is a
        scalar; None where it varies along several axes or would broadcast the value itself.
    """
    full = (1,) * (len(shape) - constant.ndim) + constant.shape
    if len(full) != len(shape):
        return None
    wide = [axis for axis, size in enumerate(full) if size != 1]
    if not wide:
        return None, constant.astype(np.float64).reshape(1)
    if len(wide) > 1 or full[wide[0]] != shape[wide[0]]:
        return None
    return wide[0], constant.astype(np.float64).reshape(-1)
