"""Softmax: float, and integer by powers of two from a table.

The integer form follows Stevens et al., "Softermax" (DAC 2021, section IV: base two, maximum subtracted, fractional
powers from a table), with a 256-entry table and one exact division at the end.
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
from subbyte.graph.ops.checks import arity, axis, floats, ints, scalar_multiplier
from subbyte.graph.ops.op import Array, Dialect, IntCall, Op, register_op, stored
from subbyte.graph.ops.results import fixed

if TYPE_CHECKING:
    from torch import Tensor

    from subbyte.graph.ir import Constant, Shape, TensorType

OCTAVE = 256
"""Units of an exponent in one octave."""

DEEPEST = 2**13
"""Largest exponent in these units, 32 octaves, where powers have vanished."""


@cache
def pow2_table() -> npt.NDArray[np.int64]:
    """``rint(2**30 * 2**(-f / 256))`` for f in 0..255, int64."""
    return np.asarray(np.rint(2.0**30 * 2.0 ** (-np.arange(OCTAVE) / OCTAVE)), dtype=np.int64)


@final
@register_op
@dataclass(frozen=True, kw_only=True)
class Softmax(Op):
    """``exp(x) / sum(exp(x))`` along an axis; input x.

    Attributes:
        axis: of the sum, behind the batch.
    """

    name: ClassVar[str] = "softmax"
    dialect: ClassVar[Dialect] = "float"

    axis: int

    def infer(self, operands: Sequence[TensorType | Constant]) -> Shape:
        """The operand's shape."""
        arity(self, operands, 1)
        shape = floats(self, operands, 0)
        axis(self, len(shape))
        return shape

    def torch(self, *inputs: Tensor) -> Tensor:
        """Through ``torch.softmax``."""
        return inputs[0].softmax(self.axis)


@final
@register_op
@dataclass(frozen=True, kw_only=True)
class IntSoftmax(Op):
    """Softmax of stored integers to int16 with scale 2**-15, zero point 0; input x of any storage.

    ``t = clip(((max - q) * m + 2**(n - 1)) >> n, 0, 2**13)`` in units of 1/256 octave;
    ``e = POW2[t & 255] >> (t >> 8)``; ``S = sum(e)`` in int64; ``y = min(32767, (e * 2**15 + S // 2) // S)``.
    (m, n) hold ``scale * log2(e) * 256``. Against the softmax of the same reals no result is off by more than 0.001:
    an exponent is off by half a unit, which moves a probability p by at most 2 * p * (1 - p) * ln(2) / 512 < 0.0007.

    Attributes:
        axis: of the sum, behind the batch.
        m: multiplier, int32.
        n: right shift, 1..62.
    """

    name: ClassVar[str] = "int_softmax"
    dialect: ClassVar[Dialect] = "integer"

    axis: int
    m: int
    n: int

    def infer(self, operands: Sequence[TensorType | Constant]) -> Shape:
        """The operand's shape."""
        scalar_multiplier(self)
        arity(self, operands, 1)
        shape = ints(self, operands, 0).shape
        axis(self, len(shape))
        return shape

    def check(self, operands: Sequence[TensorType | Constant], out: TensorType) -> None:
        """The result is int16 with scale 2**-15."""
        fixed(self, out, 2.0**-15, 0, 32767)

    def numpy(self, call: IntCall) -> Array:
        """As defined above, in int64."""
        q = np.asarray(call.inputs[0], dtype=np.int64)
        e = powers(q.max(axis=self.axis, keepdims=True) - q, self.m, self.n)
        total = e.sum(axis=self.axis, keepdims=True)
        return stored(np.minimum(32767, (e * 2**15 + total // 2) // total), call.out.storage)

    def torch_int(self, call: IntCall) -> Tensor:
        """As defined above, in int64."""
        q: Tensor = call.inputs[0]
        e = powers_tensor(q.amax(self.axis, keepdim=True) - q, self.m, self.n)
        total = e.sum(self.axis, keepdim=True)
        return ((e * 2**15 + total // 2) // total).clamp(max=32767)


def powers(below: npt.NDArray[np.int64], m: int, n: int) -> npt.NDArray[np.int64]:
    """``2**30 * 2**-t`` for t = below * m * 2**-n units of 1/256 octave, rounded down; int64."""
    t = np.clip(round_shift(below * m, n), 0, DEEPEST)
    return np.asarray(pow2_table()[t & (OCTAVE - 1)] >> (t >> 8), dtype=np.int64)


def powers_tensor(below: Tensor, m: int, n: int) -> Tensor:
    """``powers`` in torch."""
    t = exact.round_shift(below * m, n).clamp(0, DEEPEST)
    return tensor(pow2_table(), below)[t & (OCTAVE - 1)] >> (t >> 8)
