"""What follows the products of a convolution or linear layer: bias, one rescale per channel, clamp.

A ``pre_shift`` p above 0 stands between: products are summed in int64 and ``acc = ((sum + 2**(p - 1)) >> p) + bias``
continues in int32, with the bias at the scale of x times that of the weights times 2**p.

The operands behind x and weight are bias, m, n and, for leaky ReLU, m_neg, n_neg: int32[O] each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from subbyte.arithmetic.bounds import MOST_PRE_SHIFT, prove_conv
from subbyte.arithmetic.requant import round_shift
from subbyte.formats.qtensor import QTensor
from subbyte.graph.ops import exact
from subbyte.graph.ops.centred import interval, tensor
from subbyte.graph.ops.checks import array, integer, ints, parameters
from subbyte.graph.ops.op import Array, IntCall, Op, stored
from subbyte.graph.ops.rescaled import rescaled, rescaled_tensor
from subbyte.graph.ops.results import clamped

if TYPE_CHECKING:
    from torch import Tensor

    from subbyte.graph.ir import Constant, TensorType


def infer_epilogue(op: Op, operands: Sequence[TensorType | Constant], channels: int) -> None:
    """Attribute ``pre_shift``; dtypes, shapes and ranges of bias, m, n[, m_neg, n_neg]."""
    integer(op, "pre_shift", 0, MOST_PRE_SHIFT)
    array(op, operands, 2, "int32", (channels,))
    for first in range(3, len(operands), 2):
        parameters(op, operands, first, channels)


def check_epilogue(op: Op, operands: Sequence[TensorType | Constant], out: TensorType, pre_shift: int) -> None:
    """lo, hi within the result's format; the accumulator fits int32, and the sum before it int64."""
    clamped(op, out, coded=True)
    weight, bias = operands[1], operands[2]
    if isinstance(weight, QTensor) and isinstance(bias, np.ndarray):
        x = ints(op, operands, 0, coded=True)
        prove_conv(weight.integers(), *interval(x), bias, f"operator {op.name!r}", pre_shift)


def rescale(call: IntCall, sums: npt.NDArray[np.int64], pre_shift: int, lo: int, hi: int) -> Array:
    """Products summed over [..., O] to stored integers."""
    bias, *pairs = (np.asarray(p, dtype=np.int64) for p in call.inputs[2:])
    acc = (round_shift(sums, pre_shift) if pre_shift else sums) + bias
    m, n = pairs[:2]
    if len(pairs) == 4:
        m, n = np.where(acc < 0, pairs[2], m), np.where(acc < 0, pairs[3], n)
    return stored(rescaled(acc, m, n, call.out, lo, hi), call.out.storage)


def rescale_tensor(call: IntCall, sums: Tensor, pre_shift: int, lo: int, hi: int) -> Tensor:
    """``rescale`` in torch."""
    import torch

    numbers: list[Any] = [tensor(p, sums) for p in call.inputs[2:]]
    acc = (exact.round_shift(sums, pre_shift) if pre_shift else sums) + numbers[0]
    m, n = numbers[1:3]
    if len(numbers) == 5:
        m, n = torch.where(acc < 0, numbers[3], m), torch.where(acc < 0, numbers[4], n)
    return rescaled_tensor(acc, m, n, call.out, lo, hi)
