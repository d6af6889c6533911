"""Multiplication, and its integer form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

from subbyte.arithmetic.bounds import prove_product
from subbyte.arithmetic.requant import requantize
from subbyte.graph.ops import broadcast, exact
from subbyte.graph.ops.centred import centred, centred_tensor, interval
from subbyte.graph.ops.checks import arity, ints, scalar_multiplier
from subbyte.graph.ops.op import Array, Dialect, IntCall, Op, register_op, stored
from subbyte.graph.ops.rectify import Rectify, rectified, validate_fused
from subbyte.graph.ops.results import clamped

if TYPE_CHECKING:
    from torch import Tensor

    from subbyte.graph.ir import Constant, Shape, TensorType


@final
@register_op
@dataclass(frozen=True, kw_only=True)
class Mul(Op):
    """``a * b``; operands as in ``broadcast``.

    Attributes:
        rectify: activation applied to the result.
    """

    name: ClassVar[str] = "mul"
    dialect: ClassVar[Dialect] = "float"

    rectify: Rectify | None = None

    def infer(self, operands: Sequence[TensorType | Constant]) -> Shape:
        """The broadcast shape."""
        validate_fused(self, self.rectify)
        return broadcast.infer_floats(self, operands)

    def torch(self, *inputs: Tensor) -> Tensor:
        """Element-wise."""
        a, b = inputs
        return rectified(self.rectify, a * b)


@final
@register_op
@dataclass(frozen=True, kw_only=True)
class IntMul(Op):
    """``clip(z + ((A * B * m + 2**(n - 1)) >> n), lo, hi)``; inputs a, b.

    A and B are centred integers; b may be an int32 constant that holds B. A * B fits int32, which is proved.

    Attributes:
        m: multiplier, int32.
        n: right shift, 1..62.
        lo: smallest stored result.
        hi: largest stored result.
    """

    name: ClassVar[str] = "int_mul"
    dialect: ClassVar[Dialect] = "integer"

    m: int
    n: int
    lo: int
    hi: int

    def infer(self, operands: Sequence[TensorType | Constant]) -> Shape:
        """The broadcast shape."""
        scalar_multiplier(self)
        arity(self, operands, 2)
        return broadcast.infer_ints(self, operands)

    def check(self, operands: Sequence[TensorType | Constant], out: TensorType) -> None:
        """lo, hi within the result's format; the product fits int32."""
        clamped(self, out)
        first, second = interval(ints(self, operands, 0)), broadcast.second_interval(self, operands)
        prove_product(*first, *second, f"operator {self.name!r}")

    def numpy(self, call: IntCall) -> Array:
        """Element-wise in int64."""
        product = centred(call, 0) * centred(call, 1)
        return stored(requantize(product, self.m, self.n, call.out.zero_point, self.lo, self.hi), call.out.storage)

    def torch_int(self, call: IntCall) -> Tensor:
        """Element-wise in int64."""
        product = centred_tensor(call, 0) * centred_tensor(call, 1)
        return exact.requantize(product, self.m, self.n, call.out.zero_point, self.lo, self.hi)
