"""Concatenation of activations of one scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np

from subbyte.graph.ops.checks import axis, fault, sized, value
from subbyte.graph.ops.op import Array, Dialect, IntCall, Op, register_op, stored
from subbyte.graph.ops.results import moved

if TYPE_CHECKING:
    from torch import Tensor

    from subbyte.graph.ir import Constant, Shape, TensorType


@final
@register_op
@dataclass(frozen=True, kw_only=True)
class Concat(Op):
    """Operands one after the other along an axis; integers share scale and zero point.

    Attributes:
        axis: behind the batch.
    """

    name: ClassVar[str] = "concat"
    dialect: ClassVar[Dialect] = "both"

    axis: int

    def infer(self, operands: Sequence[TensorType | Constant]) -> Shape:
        """Lengths along the axis added up."""
        if not operands:
            raise fault(self, "no operands", "it takes at least one", "remove the operator")
        shapes = [value(self, operands, i).shape for i in range(len(operands))]
        first = shapes[0]
        axis(self, len(first))
        for shape in shapes[1:]:
            others = [(a, b) for i, (a, b) in enumerate(zip(first, shape, strict=False)) if i != self.axis]
            if len(shape) != len(first) or any(a != b for a, b in others):
                seen = f"operands {list(first)} and {list(shape)}"
                raise fault(self, seen, f"operands agree in every axis but {self.axis}", "reshape them before")
        length = sum(s[self.axis] or 0 for s in shapes)
        return sized(self, (*first[: self.axis], length, *first[self.axis + 1 :]))

    def check(self, operands: Sequence[TensorType | Constant], out: TensorType) -> None:
        """The result keeps the operands' quantization."""
        moved(self, operands, out)

    def torch(self, *inputs: Tensor) -> Tensor:
        """Through ``torch.cat``."""
        import torch

        return torch.cat(inputs, self.axis)

    def numpy(self, call: IntCall) -> Array:
        """Of stored integers."""
        return stored(np.concatenate(call.inputs, self.axis), call.out.storage)

    def torch_int(self, call: IntCall) -> Tensor:
        """Of stored integers."""
        return self.torch(*call.inputs)
