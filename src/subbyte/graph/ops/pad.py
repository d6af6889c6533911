"""Padding with a constant: float and integer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np

from subbyte.graph.ops.checks import MAX_WINDOW, arity, fault, floats, integer, integers, ints, real, sized
from subbyte.graph.ops.op import Array, Dialect, IntCall, Op, register_op, stored
from subbyte.graph.ops.results import moved

if TYPE_CHECKING:
    from torch import Tensor

    from subbyte.graph.ir import Constant, IntType, Shape, TensorType


@final
@register_op
@dataclass(frozen=True, kw_only=True)
class Pad(Op):
    """Adds cells of one value around x.

    Attributes:
        before: cells in front of each axis, 0 at the batch.
        after: cells behind each axis, 0 at the batch.
        value: of the new cells.
    """

    name: ClassVar[str] = "pad"
    dialect: ClassVar[Dialect] = "float"

    before: tuple[int, ...]
    after: tuple[int, ...]
    value: float = 0.0

    def infer(self, operands: Sequence[TensorType | Constant]) -> Shape:
        """Each axis with its new cells."""
        real(self, "value", self.value)
        arity(self, operands, 1)
        return _shape(self, floats(self, operands, 0))

    def torch(self, *inputs: Tensor) -> Tensor:
        """Through ``torch.nn.functional.pad``."""
        from torch.nn import functional

        return functional.pad(inputs[0], _reversed_pairs(self.before, self.after), value=self.value)


@final
@register_op
@dataclass(frozen=True, kw_only=True)
class IntPad(Op):
    """Adds cells of one stored integer around x; quantization stays.

    Attributes:
        before: cells in front of each axis, 0 at the batch.
        after: cells behind each axis, 0 at the batch.
        fill: stored integer of the new cells.
    """

    name: ClassVar[str] = "int_pad"
    dialect: ClassVar[Dialect] = "integer"

    before: tuple[int, ...]
    after: tuple[int, ...]
    fill: int

    def infer(self, operands: Sequence[TensorType | Constant]) -> Shape:
        """Each axis with its new cells."""
        arity(self, operands, 1)
        x: IntType = ints(self, operands, 0, coded=True)
        return _shape(self, x.shape)

    def check(self, operands: Sequence[TensorType | Constant], out: TensorType) -> None:
        """The result keeps the operand's quantization and may hold the fill."""
        moved(self, operands, out)
        declared = ints(self, [out], 0, coded=True)
        integer(self, "fill", declared.lo, declared.hi)

    def numpy(self, call: IntCall) -> Array:
        """Of stored integers."""
        widths = tuple(zip(self.before, self.after, strict=True))
        x = np.asarray(call.inputs[0], dtype=np.int64)
        return stored(np.pad(x, widths, constant_values=self.fill), call.out.storage)

    def torch_int(self, call: IntCall) -> Tensor:
        """Of stored integers."""
        from torch.nn import functional

        return functional.pad(call.inputs[0], _reversed_pairs(self.before, self.after), value=self.fill)


def _shape(op: Op, x: Shape) -> Shape:
    before = integers(op, "before", len(x), 0, MAX_WINDOW)
    after = integers(op, "after", len(x), 0, MAX_WINDOW)
    for field in ("before", "after"):
        if getattr(op, field)[0]:
            raise fault(op, f"{field} adds to the batch", "the batch is not padded", f"put 0 first in {field}")
    grown = [(d or 0) + b + a for d, b, a in zip(x[1:], before[1:], after[1:], strict=True)]
    return sized(op, (x[0], *grown))


def _reversed_pairs(before: Sequence[int], after: Sequence[int]) -> list[int]:
    """The order of ``torch.nn.functional.pad``: last axis first."""
    return [cells for pair in zip(before[::-1], after[::-1], strict=True) for cells in pair]
