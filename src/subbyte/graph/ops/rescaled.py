"""Accumulators to stored integers of any type: THE rescale rule in even steps, or its nearest code of a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from subbyte.arithmetic.requant import nearest_codes, requantize
from subbyte.graph.ops import exact
from subbyte.graph.ops.centred import tensor

if TYPE_CHECKING:
    from torch import Tensor

    from subbyte.graph.ir import IntType

Numbers = npt.NDArray[np.int64]


def rescaled(acc: Numbers, m: Numbers | int, n: Numbers | int, out: IntType, lo: int, hi: int) -> Numbers:
    """What ``acc * m / 2**n`` is stored as, int64, within lo..hi.

    Args:
        acc: accumulators, |acc| <= 2**31.
        m: multipliers, broadcast against acc.
        n: right shifts 1..62, broadcast against acc.
        out: type of the result.
        lo: smallest result.
        hi: largest result.
    """
    if out.format.coded:
        return nearest_codes(acc, m, n, out.format.centred(out.zero_point), lo, hi)
    return requantize(acc, m, n, out.zero_point, lo, hi)


def rescaled_tensor(acc: Tensor, m: Tensor | int, n: Tensor | int, out: IntType, lo: int, hi: int) -> Tensor:
    """``rescaled`` in torch, on int64 tensors."""
    if out.format.coded:
        return exact.nearest_codes(acc, m, n, tensor(out.format.centred(out.zero_point), acc), lo, hi)
    return exact.requantize(acc, m, n, out.zero_point, lo, hi)
