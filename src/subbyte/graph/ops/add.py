"""Addition and subtraction, and their integer form with one final rounding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np

from subbyte.arithmetic.requant import round_shift
from subbyte.graph.ops import broadcast, exact
from subbyte.graph.ops.centred import centred, centred_tensor
from subbyte.graph.ops.checks import arity, array, integer
from subbyte.graph.ops.op import Array, Dialect, IntCall, Op, register_op, stored
from subbyte.graph.ops.rectify import Rectify, rectified, validate_fused
from subbyte.graph.ops.results import clamped

if TYPE_CHECKING:
    from torch import Tensor

    from subbyte.graph.ir import Constant, Shape, TensorType


@final
@register_op
@dataclass(frozen=True, kw_only=True)
class Add(Op):
    """``a + b``; operands as in ``broadcast``.

    Attributes:
        rectify: activation applied to the result.
    """

    name: ClassVar[str] = "add"
    dialect: ClassVar[Dialect] = "float"

    rectify: Rectify | None = None

    def infer(self, operands: Sequence[TensorType | Constant]) -> Shape:
        """The broadcast shape."""
        validate_fused(self, self.rectify)
        return broadcast.infer_floats(self, operands)

    def torch(self, *inputs: Tensor) -> Tensor:
        """Element-wise."""
        a, b = inputs
        return rectified(self.rectify, a + b)


@final
@register_op
@dataclass(frozen=True, kw_only=True)
class Sub(Op):
    """``a - b``; operands as in ``broadcast``.

    Attributes:
        rectify: activation applied to the result.
    """

    name: ClassVar[str] = "sub"
    dialect: ClassVar[Dialect] = "float"

    rectify: Rectify | None = None

    def infer(self, operands: Sequence[TensorType | Constant]) -> Shape:
        """The broadcast shape."""
        validate_fused(self, self.rectify)
        return broadcast.infer_floats(self, operands)

    def torch(self, *inputs: Tensor) -> Tensor:
        """Element-wise."""
        a, b = inputs
        return rectified(self.rectify, a - b)


@final
@register_op
@dataclass(frozen=True, kw_only=True)
class IntAdd(Op):
    """``clip(z + ((A * m[0] + B * m[1] + 2**(n - 1)) >> n), lo, hi)``; inputs a, b, m.

    A and B are centred integers; b may be an int32 constant that holds B. m is int32[2]; a negative multiplier
    subtracts. The sum fits int64: |A| <= 2**16, |B| <= 2**31, |m| <= 2**31.

    Attributes:
        n: right shift, 1..62.
        lo: smallest stored result.
        hi: largest stored result.
    """

    name: ClassVar[str] = "int_add"
    dialect: ClassVar[Dialect] = "integer"

    n: int
    lo: int
    hi: int

    def infer(self, operands: Sequence[TensorType | Constant]) -> Shape:
        """The broadcast shape."""
        integer(self, "n", 1, 62)
        arity(self, operands, 3)
        array(self, operands, 2, "int32", (2,))
        return broadcast.infer_ints(self, operands)

    def check(self, operands: Sequence[TensorType | Constant], out: TensorType) -> None:
        """lo, hi within the result's format."""
        clamped(self, out)

    def numpy(self, call: IntCall) -> Array:
        """Element-wise in int64."""
        m = np.asarray(call.inputs[2], dtype=np.int64)
        scaled = round_shift(centred(call, 0) * m[0] + centred(call, 1) * m[1], self.n)
        return stored(np.clip(call.out.zero_point + scaled, self.lo, self.hi), call.out.storage)

    def torch_int(self, call: IntCall) -> Tensor:
        """Element-wise in int64."""
        m = [int(v) for v in call.inputs[2]]
        scaled = exact.round_shift(centred_tensor(call, 0) * m[0] + centred_tensor(call, 1) * m[1], self.n)
        return (call.out.zero_point + scaled).clamp(self.lo, self.hi)
