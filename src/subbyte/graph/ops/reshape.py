"""Change of shape in memory order: flatten, squeeze, unsqueeze, view."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np

from subbyte.graph.ops.checks import arity, fault, sized, value
from subbyte.graph.ops.op import Array, Dialect, IntCall, Op, register_op
from subbyte.graph.ops.results import moved

if TYPE_CHECKING:
    from torch import Tensor

    from subbyte.graph.ir import Constant, Shape, TensorType


@final
@register_op
@dataclass(frozen=True, kw_only=True)
class Reshape(Op):
    """The same numbers in another shape; the batch stays in front.

    Attributes:
        shape: of the result, None (the batch) first.
    """

    name: ClassVar[str] = "reshape"
    dialect: ClassVar[Dialect] = "both"

    shape: tuple[int | None, ...]

    def infer(self, operands: Sequence[TensorType | Constant]) -> Shape:
        """The attribute, if it holds as many elements."""
        arity(self, operands, 1)
        x = value(self, operands, 0).shape
        if type(self.shape) is not tuple:
            raise fault(self, f"shape is a {type(self.shape).__name__}", "shape is a tuple", "correct shape")
        shape = sized(self, self.shape)
        if math.prod(d or 1 for d in x) != math.prod(d or 1 for d in shape):
            raise fault(self, f"{list(x)} becomes {list(shape)}", "the number of elements stays", "correct shape")
        return shape

    def check(self, operands: Sequence[TensorType | Constant], out: TensorType) -> None:
        """The result keeps the operand's quantization."""
        moved(self, operands, out)

    def torch(self, *inputs: Tensor) -> Tensor:
        """Through ``torch.reshape``."""
        (x,) = inputs
        return x.reshape((x.shape[0], *(d or 1 for d in self.shape[1:])))

    def numpy(self, call: IntCall) -> Array:
        """Of stored integers."""
        x = np.asarray(call.inputs[0])
        return x.reshape((x.shape[0], *(d or 1 for d in self.shape[1:])))

    def torch_int(self, call: IntCall) -> Tensor:
        """Of stored integers."""
        return self.torch(*call.inputs)
