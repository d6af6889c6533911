"""Index of the largest number; the first one wins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np

from subbyte.graph.ir import IntType
from subbyte.graph.ops import checks
from subbyte.graph.ops.op import Array, Dialect, IntCall, Op, register_op, stored
from subbyte.graph.ops.results import fixed

if TYPE_CHECKING:
    from torch import Tensor

    from subbyte.graph.ir import Constant, Shape, TensorType


@final
@register_op
@dataclass(frozen=True, kw_only=True)
class Argmax(Op):
    """Position of the largest number along an axis, as a real number or as int16 with scale 1; input x.

    Attributes:
        axis: behind the batch, at most 32768 long.
        keepdims: whether the axis stays with length 1.
    """

    name: ClassVar[str] = "argmax"
    dialect: ClassVar[Dialect] = "both"

    axis: int
    keepdims: bool = False

    def infer(self, operands: Sequence[TensorType | Constant]) -> Shape:
        """The operand's shape without the axis, or with 1 in its place."""
        checks.boolean(self, "keepdims")
        checks.arity(self, operands, 1)
        x = checks.value(self, operands, 0).shape
        checks.axis(self, len(x))
        if (x[self.axis] or 0) > 32768:
            seen = f"an axis of {x[self.axis]}"
            raise checks.fault(self, seen, "positions fit int16", "split the axis")
        return (*x[: self.axis], *((1,) if self.keepdims else ()), *x[self.axis + 1 :])

    def check(self, operands: Sequence[TensorType | Constant], out: TensorType) -> None:
        """Positions are int16 with scale 1 and zero point 0."""
        if isinstance(operands[0], IntType) or isinstance(out, IntType):
            checks.ints(self, operands, 0)
            fixed(self, out, 1.0, 0, (operands[0].shape[self.axis] or 1) - 1)

    def torch(self, *inputs: Tensor) -> Tensor:
        """Through ``torch.argmax``, as floats."""
        return inputs[0].argmax(self.axis, keepdim=self.keepdims).to(inputs[0].dtype)

    def numpy(self, call: IntCall) -> Array:
        """Of stored integers."""
        return stored(np.argmax(call.inputs[0], axis=self.axis, keepdims=self.keepdims), call.out.storage)

    def torch_int(self, call: IntCall) -> Tensor:
        """Of stored integers."""
        x: Tensor = call.inputs[0]
        return x.argmax(self.axis, keepdim=self.keepdims)
