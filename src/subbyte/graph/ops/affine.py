"""One scale and one shift per channel: what remains of a batch norm that follows no convolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

from subbyte.graph.ops.checks import arity, array, axis, floats
from subbyte.graph.ops.op import Dialect, Op, register_op
from subbyte.graph.ops.rectify import Rectify, rectified, validate_fused

if TYPE_CHECKING:
    from torch import Tensor

    from subbyte.graph.ir import Constant, Shape, TensorType


@final
@register_op
@dataclass(frozen=True, kw_only=True)
class Affine(Op):
    """``x * scale + shift`` along an axis; inputs x, scale[C], shift[C].

    Attributes:
        axis: of the channels.
        rectify: activation applied to the result.
    """

    name: ClassVar[str] = "affine"
    dialect: ClassVar[Dialect] = "float"

    axis: int = 1
    rectify: Rectify | None = None

    def infer(self, operands: Sequence[TensorType | Constant]) -> Shape:
        """The operand's shape."""
        validate_fused(self, self.rectify)
        arity(self, operands, 3)
        shape = floats(self, operands, 0)
        axis(self, len(shape))
        for index in (1, 2):
            array(self, operands, index, "float32", (shape[self.axis],))
        return shape

    def torch(self, *inputs: Tensor) -> Tensor:
        """Element-wise."""
        x, scale, shift = inputs
        return rectified(self.rectify, x * per_channel(scale, x, self.axis) + per_channel(shift, x, self.axis))


def per_channel(numbers: Tensor, x: Tensor, channels: int) -> Tensor:
    """[C] reshaped so that it broadcasts along an axis of x."""
    return numbers.reshape([-1 if i == channels else 1 for i in range(x.ndim)])
