"""Nothing: dropout at inference and casts between floats; a pass removes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np

from subbyte.graph.ops.checks import arity, value
from subbyte.graph.ops.op import Array, Dialect, IntCall, Op, register_op
from subbyte.graph.ops.results import moved

if TYPE_CHECKING:
    from torch import Tensor

    from subbyte.graph.ir import Constant, Shape, TensorType


@final
@register_op
@dataclass(frozen=True, kw_only=True)
class Identity(Op):
    """``y = x``."""

    name: ClassVar[str] = "identity"
    dialect: ClassVar[Dialect] = "both"

    def infer(self, operands: Sequence[TensorType | Constant]) -> Shape:
        """The operand's shape."""
        arity(self, operands, 1)
        return value(self, operands, 0).shape

    def check(self, operands: Sequence[TensorType | Constant], out: TensorType) -> None:
        """The result keeps the operand's quantization."""
        moved(self, operands, out)

    def torch(self, *inputs: Tensor) -> Tensor:
        """The operand itself."""
        return inputs[0]

    def numpy(self, call: IntCall) -> Array:
        """The operand itself."""
        return np.asarray(call.inputs[0])

    def torch_int(self, call: IntCall) -> Tensor:
        """The operand itself."""
        x: Tensor = call.inputs[0]
        return x
