"""Batch normalisation with fixed statistics; a pass folds it away before lowering."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

from subbyte.graph.ops.affine import per_channel
from subbyte.graph.ops.checks import arity, array, axis, fault, floats, real
from subbyte.graph.ops.op import Dialect, Op, register_op

if TYPE_CHECKING:
    from torch import Tensor

    from subbyte.graph.ir import Constant, Shape, TensorType


@final
@register_op
@dataclass(frozen=True, kw_only=True)
class BatchNorm(Op):
    """``(x - mean) / sqrt(var + epsilon) * gamma + beta``; inputs x, gamma, beta, mean, var, the last four [C].

    Attributes:
        axis: of the channels.
        epsilon: added to the variance, not negative.
    """

    name: ClassVar[str] = "batch_norm"
    dialect: ClassVar[Dialect] = "float"

    axis: int = 1
    epsilon: float = 1e-5

    def infer(self, operands: Sequence[TensorType | Constant]) -> Shape:
        """The operand's shape."""
        if real(self, "epsilon", self.epsilon) < 0:
            raise fault(self, f"epsilon is {self.epsilon}", "epsilon is not negative", "correct epsilon")
        arity(self, operands, 5)
        shape = floats(self, operands, 0)
        axis(self, len(shape))
        for index in range(1, 5):
            array(self, operands, index, "float32", (shape[self.axis],))
        return shape

    def torch(self, *inputs: Tensor) -> Tensor:
        """One scale and one shift per channel."""
        x, gamma, beta, mean, var = inputs
        scale = gamma / (var + self.epsilon).sqrt()
        channels = (per_channel(t, x, self.axis) for t in (mean, scale, beta))
        center, factor, shift = channels
        return (x - center) * factor + shift
