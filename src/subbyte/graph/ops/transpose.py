"""Exchange of axes behind the batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np

from subbyte.graph.ops.checks import arity, fault, integers, value
from subbyte.graph.ops.op import Array, Dialect, IntCall, Op, register_op
from subbyte.graph.ops.results import moved

if TYPE_CHECKING:
    from torch import Tensor

    from subbyte.graph.ir import Constant, Shape, TensorType


@final
@register_op
@dataclass(frozen=True, kw_only=True)
class Transpose(Op):
    """Axis i of the result is axis ``perm[i]`` of x.

    Attributes:
        perm: a permutation of all axes that keeps the batch: perm[0] = 0.
    """

    name: ClassVar[str] = "transpose"
    dialect: ClassVar[Dialect] = "both"

    perm: tuple[int, ...]

    def infer(self, operands: Sequence[TensorType | Constant]) -> Shape:
        """The operand's axes in the new order."""
        arity(self, operands, 1)
        x = value(self, operands, 0).shape
        perm = integers(self, "perm", len(x), 0, len(x) - 1)
        if perm[0] != 0 or sorted(perm) != list(range(len(x))):
            raise fault(self, f"perm is {perm}", "perm is a permutation with 0 first", "keep the batch in front")
        return tuple(x[p] for p in perm)

    def check(self, operands: Sequence[TensorType | Constant], out: TensorType) -> None:
        """The result keeps the operand's quantization."""
        moved(self, operands, out)

    def torch(self, *inputs: Tensor) -> Tensor:
        """Through ``torch.permute``."""
        return inputs[0].permute(self.perm)

    def numpy(self, call: IntCall) -> Array:
        """Of stored integers."""
        return np.ascontiguousarray(np.transpose(call.inputs[0], self.perm))

    def torch_int(self, call: IntCall) -> Tensor:
        """Of stored integers."""
        return self.torch(*call.inputs)
