"""Logarithm of softmax: float, and integer by two tables.

Integer: powers of two as in ``softmax``, the logarithm of their sum from its leading bit and a 257-entry table with
linear interpolation (Mitchell 1962, "Computer multiplication and division using binary logarithms", section II, with
a table in place of its straight line), and one rounding at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np
import numpy.typing as npt

from subbyte.arithmetic.requant import round_shift
from subbyte.graph.ops import exact
from subbyte.graph.ops.centred import tensor
from subbyte.graph.ops.checks import INT32, arity, axis, floats, integer, ints, scalar_multiplier
from subbyte.graph.ops.op import Array, Dialect, IntCall, Op, register_op, stored
from subbyte.graph.ops.results import clamped, integer_result
from subbyte.graph.ops.softmax import powers, powers_tensor

if TYPE_CHECKING:
    from torch import Tensor

    from subbyte.graph.ir import Constant, Shape, TensorType


@cache
def log2_table() -> npt.NDArray[np.int64]:
    """``rint(65536 * log2(1 + i / 256))`` for i in 0..256, int64."""
    return np.asarray(np.rint(65536 * np.log2(1 + np.arange(257) / 256)), dtype=np.int64)


@final
@register_op
@dataclass(frozen=True, kw_only=True)
class LogSoftmax(Op):
    """``x - log(sum(exp(x)))`` along an axis; input x.

    Attributes:
        axis: of the sum, behind the batch.
    """

    name: ClassVar[str] = "log_softmax"
    dialect: ClassVar[Dialect] = "float"

    axis: int

    def infer(self, operands: Sequence[TensorType | Constant]) -> Shape:
        """The operand's shape."""
        arity(self, operands, 1)
        shape = floats(self, operands, 0)
        axis(self, len(shape))
        return shape

    def torch(self, *inputs: Tensor) -> Tensor:
        """Through ``torch.log_softmax``."""
        return inputs[0].log_softmax(self.axis)


@final
@register_op
@dataclass(frozen=True, kw_only=True)
class IntLogSoftmax(Op):
    """Log-softmax of stored integers to int16; input x of any storage.

    With d = max - q along the axis, all in int64:

    1. ``t = clip((d * m + 2**(n - 1)) >> n, 0, 2**13)``, units of 1/256 octave; (m, n) hold ``scale * log2(e) * 256``.
    2. ``e = POW2[t & 255] >> (t >> 8)`` with ``POW2[f] = rint(2**30 * 2**(-f / 256))``; ``S = sum(e)``, S >= 2**30.
    3. L = log2(S / 2**30) in units of 2**-16: k = index of S's leading one bit, ``f = (S >> (k - 30)) - 2**30``,
       ``i = f >> 22``, ``r = (f >> 6) & 65535``, ``LOG2[i] = rint(65536 * log2(1 + i / 256))``,
       ``L = (k - 30) * 65536 + LOG2[i] + (((LOG2[i + 1] - LOG2[i]) * r + 2**15) >> 16)``.
    4. ``y = clip(z + ((-(d * m_in + L * m_log) + 2**(shift - 1)) >> shift), lo, hi)``.

    With s_in and s_out the scales, (m_in, shift) hold ``s_in / s_out`` and (m_log, shift) hold
    ``ln(2) / 65536 / s_out``: one shift for both, as in ``int_add``. As the result is never positive, a zero point
    at the top of int16 uses all of it. Against the log-softmax of the same reals, where the result is not clipped and
    multipliers have 31 bits, it is off by at most s_out / 2 + 0.0015: half a unit in step 1 is ln(2) / 512 < 0.00136.

    Attributes:
        axis: of the sum, behind the batch.
        m: multiplier of step 1, int32.
        n: right shift of step 1, 1..62.
        m_in: multiplier of the difference, int32.
        m_log: multiplier of the logarithm, int32.
        shift: of the last rounding, 1..62.
        lo: smallest stored result.
        hi: largest stored result.
    """

    name: ClassVar[str] = "int_log_softmax"
    dialect: ClassVar[Dialect] = "integer"

    axis: int
    m: int
    n: int
    m_in: int
    m_log: int
    shift: int
    lo: int
    hi: int

    def infer(self, operands: Sequence[TensorType | Constant]) -> Shape:
        """The operand's shape."""
        scalar_multiplier(self)
        integer(self, "m_in", *INT32)
        integer(self, "m_log", *INT32)
        integer(self, "shift", 1, 62)
        arity(self, operands, 1)
        shape = ints(self, operands, 0).shape
        axis(self, len(shape))
        return shape

    def check(self, operands: Sequence[TensorType | Constant], out: TensorType) -> None:
        """The result is int16; lo, hi lie within its format."""
        integer_result(self, out, "int16")
        clamped(self, out)

    def numpy(self, call: IntCall) -> Array:
        """As defined above."""
        q = np.asarray(call.inputs[0], dtype=np.int64)
        d = q.max(axis=self.axis, keepdims=True) - q
        log = _log2(powers(d, self.m, self.n).sum(axis=self.axis, keepdims=True))
        scaled = round_shift(-(d * self.m_in + log * self.m_log), self.shift)
        return stored(np.clip(call.out.zero_point + scaled, self.lo, self.hi), call.out.storage)

    def torch_int(self, call: IntCall) -> Tensor:
        """As defined above."""
        q: Tensor = call.inputs[0]
        d = q.amax(self.axis, keepdim=True) - q
        log = _log2_tensor(powers_tensor(d, self.m, self.n).sum(self.axis, keepdim=True))
        scaled = exact.round_shift(-(d * self.m_in + log * self.m_log), self.shift)
        return (call.out.zero_point + scaled).clamp(self.lo, self.hi)


def _log2(total: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    octaves = np.zeros_like(total)
    for bit in range(31, 63):
        octaves += (total >> bit) > 0
    f = (total >> octaves) - 2**30
    i, r = f >> 22, (f >> 6) & 65535
    table = log2_table()
    return np.asarray(octaves * 65536 + table[i] + (((table[i + 1] - table[i]) * r + 2**15) >> 16), dtype=np.int64)


def _log2_tensor(total: Tensor) -> Tensor:
    import torch

    bits = torch.arange(31, 63, device=total.device)
    octaves = ((total.unsqueeze(-1) >> bits) > 0).sum(-1)
    f = (total >> octaves) - 2**30
    i, r = f >> 22, (f >> 6) & 65535
    table = tensor(log2_table(), total)
    return octaves * 65536 + table[i] + (((table[i + 1] - table[i]) * r + 2**15) >> 16)
