"""Rectifiers: ReLU, ReLU6, hardtanh, clip and leaky ReLU are one function with three numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

from subbyte.graph.ops.checks import arity, fault, floats, real
from subbyte.graph.ops.op import Dialect, Op, register_op

if TYPE_CHECKING:
    from torch import Tensor

    from subbyte.graph.ir import Constant, Shape, TensorType


@final
@register_op
@dataclass(frozen=True, kw_only=True)
class Rectify(Op):
    """``y = clip(slope * v if v < 0 else v, lo, hi)``.

    Attributes:
        slope: of the negative half; 1 leaves it alone.
        lo: smallest result.
        hi: largest result.
    """

    name: ClassVar[str] = "rectify"
    dialect: ClassVar[Dialect] = "float"

    slope: float = 1.0
    lo: float = -math.inf
    hi: float = math.inf

    def validate(self) -> None:
        """GraphError unless slope is finite and lo <= hi."""
        real(self, "slope", self.slope)
        lo, hi = (real(self, field, getattr(self, field), finite=False) for field in ("lo", "hi"))
        if not lo <= hi:
            raise fault(self, f"lo {lo} exceeds hi {hi}", "lo <= hi", "exchange the bounds")

    def infer(self, operands: Sequence[TensorType | Constant]) -> Shape:
        """The operand's shape."""
        self.validate()
        arity(self, operands, 1)
        return floats(self, operands, 0)

    def torch(self, *inputs: Tensor) -> Tensor:
        """Element-wise."""
        from torch.nn import functional

        (v,) = inputs
        if self.slope != 1.0:
            v = functional.leaky_relu(v, self.slope)
        if (self.lo, self.hi) == (0.0, math.inf):
            return functional.relu(v)
        return v if (self.lo, self.hi) == (-math.inf, math.inf) else v.clamp(self.lo, self.hi)


def rectified(rectify: Rectify | None, y: Tensor) -> Tensor:
    """A fused activation applied to an operator's result."""
    return y if rectify is None else rectify.torch(y)


def validate_fused(op: Op, rectify: Rectify | None) -> None:
    """The fused activation of ``op`` is absent or a legal Rectify."""
    if rectify is None:
        return
    if type(rectify) is not Rectify:
        raise fault(op, f"rectify is a {type(rectify).__name__}", "rectify is a Rectify or None", "pass Rectify(...)")
    rectify.validate()
