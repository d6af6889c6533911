"""Where reals become integers and integers reals: the only float arithmetic of a running model."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from subbyte.errors import RunError


def quantize(
    x: npt.NDArray[np.float32], scale: float, zero_point: int, lo: int, hi: int, storage: str
) -> npt.NDArray[Any]:
    """``clamp(rint(x / scale) + zero_point, lo, hi)``: float32 IEEE division, ties to even.

    The definition; the native engine does the same to the last bit.

    Raises:
        RunError: x holds NaN or infinity.
    """
    check_finite(x)
    # The clamp comes before the cast: a quotient may lie far outside int64, or be infinite.
    with np.errstate(over="ignore"):
        steps = np.rint(np.asarray(x, np.float32) / np.float32(scale))
    return np.asarray(np.clip(steps.astype(np.float64) + zero_point, lo, hi).astype(storage))


def check_finite(x: npt.NDArray[Any]) -> None:
    """Test the input of a model.

    Raises:
        RunError: x holds NaN or infinity; the first one is named with its place.
    """
    finite = np.isfinite(x)
    if not finite.all():
        where = tuple(int(i) for i in np.argwhere(~finite)[0])
        raise RunError(
            f"the input holds {x[where]} at {where}",
            "inputs are finite",
            "replace missing values before calling the model",
        )


def dequantize(q: npt.NDArray[Any], scale: float, zero_point: int) -> npt.NDArray[np.float32]:
    """``scale * (q - zero_point)`` in float32."""
    return np.asarray((q.astype(np.int32) - np.int32(zero_point)).astype(np.float32) * np.float32(scale))
