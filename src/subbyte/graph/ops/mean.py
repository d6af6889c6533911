"""Mean over whole axes (global average pooling): float and integer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

from subbyte.arithmetic.bounds import prove_sum
from subbyte.arithmetic.requant import requantize
from subbyte.graph.ops import exact
from subbyte.graph.ops.centred import centred, centred_tensor, interval
from subbyte.graph.ops.checks import arity, boolean, fault, floats, ints, scalar_multiplier, sized
from subbyte.graph.ops.op import Array, Dialect, IntCall, Op, register_op, stored
from subbyte.graph.ops.results import clamped

if TYPE_CHECKING:
    from torch import Tensor

    from subbyte.graph.ir import Constant, Shape, TensorType


@final
@register_op
@dataclass(frozen=True, kw_only=True)
class Mean(Op):
    """Mean over axes; input x.

    Attributes:
        axes: behind the batch, ascending.
        keepdims: whether the axes stay with length 1.
    """

    name: ClassVar[str] = "mean"
    dialect: ClassVar[Dialect] = "float"

    axes: tuple[int, ...]
    keepdims: bool = False

    def infer(self, operands: Sequence[TensorType | Constant]) -> Shape:
        """The operand's shape without the axes, or with 1 in their place."""
        arity(self, operands, 1)
        return _shape(self, self.axes, floats(self, operands, 0), keepdims=boolean(self, "keepdims"))

    def torch(self, *inputs: Tensor) -> Tensor:
        """Through ``torch.mean``."""
        return inputs[0].mean(self.axes, keepdim=self.keepdims)


@final
@register_op
@dataclass(frozen=True, kw_only=True)
class IntMean(Op):
    """``clip(z + ((acc * m + 2**(n - 1)) >> n), lo, hi)``, acc the sum of X = q - zero_point over axes; input x.

    Attributes:
        axes: behind the batch, ascending.
        keepdims: whether the axes stay with length 1.
        m: multiplier, int32; holds the division too.
        n: right shift, 1..62.
        lo: smallest stored result.
        hi: largest stored result.
    """

    name: ClassVar[str] = "int_mean"
    dialect: ClassVar[Dialect] = "integer"

    axes: tuple[int, ...]
    keepdims: bool
    m: int
    n: int
    lo: int
    hi: int

    def infer(self, operands: Sequence[TensorType | Constant]) -> Shape:
        """The operand's shape without the axes, or with 1 in their place."""
        scalar_multiplier(self)
        arity(self, operands, 1)
        return _shape(self, self.axes, ints(self, operands, 0).shape, keepdims=boolean(self, "keepdims"))

    def check(self, operands: Sequence[TensorType | Constant], out: TensorType) -> None:
        """lo, hi within the result's format; the sum fits int32."""
        clamped(self, out)
        x = ints(self, operands, 0)
        count = math.prod(x.shape[a] or 1 for a in self.axes)
        prove_sum(count, *interval(x), f"operator {self.name!r}")

    def numpy(self, call: IntCall) -> Array:
        """Sum in int64, one rescale."""
        acc = centred(call, 0).sum(axis=self.axes, keepdims=self.keepdims)
        return stored(requantize(acc, self.m, self.n, call.out.zero_point, self.lo, self.hi), call.out.storage)

    def torch_int(self, call: IntCall) -> Tensor:
        """Sum in int64, one rescale."""
        acc = centred_tensor(call, 0).sum(self.axes, keepdim=self.keepdims)
        return exact.requantize(acc, self.m, self.n, call.out.zero_point, self.lo, self.hi)


def _shape(op: Op, axes: tuple[int, ...], x: Shape, *, keepdims: bool) -> Shape:
    legal = type(axes) is tuple and len(axes) > 0 and all(type(a) is int and 1 <= a < len(x) for a in axes)
    if not legal or list(axes) != sorted(set(axes)):
        rule = f"axes is a tuple of ascending axes in 1..{len(x) - 1}"
        raise fault(op, f"axes is {axes!r}", rule, "correct axes")
    ones = [1 if i in axes else d for i, d in enumerate(x)]
    return sized(op, ones if keepdims else [d for i, d in enumerate(x) if i not in axes])
