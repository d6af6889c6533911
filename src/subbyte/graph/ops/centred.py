"""Operands of integer operators as centred integers: in NumPy, and the same in torch.

``X = q - zero_point``, or where codes are stored ``X = table[q] - table[zero_point]``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from subbyte.arithmetic import boundary
from subbyte.formats.qtensor import QTensor
from subbyte.graph.ops.op import IntCall

if TYPE_CHECKING:
    from torch import Tensor

    from subbyte.graph.ir import IntType


def centred(call: IntCall, index: int) -> npt.NDArray[np.int64]:
    """An activation without its zero point, or a constant as it is (already centred); int64."""
    kind = call.types[index]
    numbers = np.asarray(call.inputs[index], dtype=np.int64)
    return numbers if kind is None else decoded(numbers, kind)


def decoded(stored: npt.NDArray[np.int64], kind: IntType) -> npt.NDArray[np.int64]:
    """The centred integers of stored ones."""
    if kind.format.coded:
        return kind.format.centred(kind.zero_point)[stored]
    return stored - kind.zero_point


def reals(stored: npt.NDArray[Any], kind: IntType) -> npt.NDArray[np.float32]:
    """What stored integers stand for, float32."""
    return boundary.dequantize(decoded(stored.astype(np.int64), kind), kind.scale, 0)


def interval(kind: IntType) -> tuple[int, int]:
    """Smallest and largest centred integer of an activation."""
    lo, hi = decoded(np.array([kind.lo, kind.hi]), kind).tolist()
    return lo, hi


def weight_integers(constant: QTensor) -> npt.NDArray[np.int64]:
    """Integers that multiply the activations, int64."""
    return constant.integers().astype(np.int64)


def tensor(constant: npt.NDArray[Any], like: Tensor) -> Tensor:
    """A constant as an int64 tensor beside ``like``."""
    import torch

    return torch.tensor(np.asarray(constant, dtype=np.int64), device=like.device)


def centred_tensor(call: IntCall, index: int) -> Tensor:
    """``centred`` in torch; constants follow the first activation's device."""
    kind = call.types[index]
    if kind is None:
        like = next(x for x, t in zip(call.inputs, call.types, strict=True) if t is not None)
        return tensor(call.inputs[index], like)
    numbers: Tensor = call.inputs[index]
    if kind.format.coded:
        return tensor(kind.format.centred(kind.zero_point), numbers)[numbers]
    return numbers - kind.zero_point
