"""Change of scale, zero point, format or range of an integer activation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

from subbyte.graph.ops.centred import centred, centred_tensor
from subbyte.graph.ops.checks import arity, ints, scalar_multiplier
from subbyte.graph.ops.op import Array, Dialect, IntCall, Op, register_op, stored
from subbyte.graph.ops.rescaled import rescaled, rescaled_tensor
from subbyte.graph.ops.results import clamped

if TYPE_CHECKING:
    from torch import Tensor

    from subbyte.graph.ir import Constant, Shape, TensorType


@final
@register_op
@dataclass(frozen=True, kw_only=True)
class IntRescale(Op):
    """``clip(z + ((X * m + 2**(n - 1)) >> n), lo, hi)``, or the nearest code, see ``rescaled.py``; input x.

    Attributes:
        m: multiplier, int32.
        n: right shift, 1..62.
        lo: smallest stored result.
        hi: largest stored result.
    """

    name: ClassVar[str] = "int_rescale"
    dialect: ClassVar[Dialect] = "integer"

    m: int
    n: int
    lo: int
    hi: int

    def infer(self, operands: Sequence[TensorType | Constant]) -> Shape:
        """The operand's shape."""
        scalar_multiplier(self)
        arity(self, operands, 1)
        return ints(self, operands, 0).shape

    def check(self, operands: Sequence[TensorType | Constant], out: TensorType) -> None:
        """lo, hi within the result's format."""
        clamped(self, out, coded=True)

    def numpy(self, call: IntCall) -> Array:
        """Element-wise in int64."""
        y = rescaled(centred(call, 0), self.m, self.n, call.out, self.lo, self.hi)
        return stored(y, call.out.storage)

    def torch_int(self, call: IntCall) -> Tensor:
        """Element-wise in int64."""
        return rescaled_tensor(centred_tensor(call, 0), self.m, self.n, call.out, self.lo, self.hi)
