"""What operators of nets without scales share: which weights multiply, and how results become 8 bits again.

With s the least shift at which ``max(acc) >> s <= hi`` over all sums of a sample, or of a row,
``y = min((max(acc, 0) + (2**s >> 1)) >> s, hi)``, zero point 0.

Source: BitNetMCU's documentation, "ReLUNorm"; the rule is written down from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from subbyte.formats.qtensor import QTensor
from subbyte.graph.ops.checks import fault
from subbyte.graph.ops.op import Op
from subbyte.graph.ops.results import integer_result

if TYPE_CHECKING:
    from torch import Tensor

    from subbyte.graph.ir import TensorType

INT16 = (-(2**15), 2**15 - 1)
"""What weights of these layers may be: 128 of FP1.3.0 is no int8."""


def check_weights(op: Op, weight: QTensor) -> None:
    """Weights are int16 and share no scale in groups.

    Raises:
        GraphError: they are others.
    """
    smallest, largest = weight.interval()
    if smallest < INT16[0] or largest > INT16[1] or not weight.format.fits_int16:
        rule = f"weights of such layers, and the values of their format, are {INT16[0]}..{INT16[1]}"
        seen = f"weights of format {weight.format.name} are {smallest}..{largest}"
        raise fault(op, seen, rule, "choose a weight format of smaller integers")
    if weight.groups is not None:
        raise fault(op, "weights in groups", "chains without scales have none in groups either", "use plain weights")


def check_renormalised(op: Op, out: TensorType, hi: int) -> None:
    """The result holds 0..hi with zero point 0.

    Raises:
        GraphError: it does not.
    """
    declared = integer_result(op, out)
    if declared.zero_point != 0 or declared.lo > 0 or declared.hi < hi:
        seen = f"the result has zero point {declared.zero_point} and {declared.lo}..{declared.hi}"
        raise fault(op, seen, f"it has zero point 0 and holds 0..{hi}", "use format uint7 or uint8")


def renormalised(acc: npt.NDArray[np.int64], hi: int) -> npt.NDArray[np.int64]:
    """The formula over the last axis of sums within int32."""
    peak, shift = acc.max(axis=-1, keepdims=True), np.zeros((*acc.shape[:-1], 1), dtype=np.int64)
    for _ in range(31):
        shift += (peak >> shift) > hi
    half = (np.int64(1) << shift) >> 1
    return np.asarray(np.minimum((np.maximum(acc, 0) + half) >> shift, hi), dtype=np.int64)


def renormalised_tensor(acc: Tensor, hi: int) -> Tensor:
    """The same on int64 tensors."""
    import torch

    peak = acc.amax(dim=-1, keepdim=True)
    shift = torch.zeros_like(peak)
    for _ in range(31):
        shift = shift + ((peak >> shift) > hi).long()
    half = (torch.ones_like(shift) << shift) >> 1
    return ((acc.clamp(min=0) + half) >> shift).clamp(max=hi)
