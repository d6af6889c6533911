"""A regular part of a tensor."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np

from subbyte.graph.ops.checks import MAX_DIM, arity, fault, integers, value
from subbyte.graph.ops.op import Array, Dialect, IntCall, Op, register_op
from subbyte.graph.ops.results import moved

if TYPE_CHECKING:
    from torch import Tensor

    from subbyte.graph.ir import Constant, Shape, TensorType


@final
@register_op
@dataclass(frozen=True, kw_only=True)
class Slice(Op):
    """Cells ``start, start + step, ...`` below end along every axis; one entry per axis.

    The batch is taken whole: starts[0] = 0, ends[0] = None, steps[0] = 1. Elsewhere 0 <= start < end <= length and
    step >= 1.

    Attributes:
        starts: first cell.
        ends: cell behind the last, None at the batch.
        steps: from cell to cell.
    """

    name: ClassVar[str] = "slice"
    dialect: ClassVar[Dialect] = "both"

    starts: tuple[int, ...]
    ends: tuple[int | None, ...]
    steps: tuple[int, ...]

    def infer(self, operands: Sequence[TensorType | Constant]) -> Shape:
        """The number of cells taken from each axis."""
        arity(self, operands, 1)
        x = value(self, operands, 0).shape
        starts = integers(self, "starts", len(x), 0, MAX_DIM)
        steps = integers(self, "steps", len(x), 1, MAX_DIM)
        ends = self.ends
        if type(ends) is not tuple or len(ends) != len(x) or (starts[0], ends[0], steps[0]) != (0, None, 1):
            rule = "there is one end per axis and the batch is whole: 0, None, 1"
            raise fault(self, f"ends is {ends!r}", rule, "slice behind the batch")
        shape: list[int | None] = [x[0]]
        for length, start, end, step in zip(x[1:], starts[1:], ends[1:], steps[1:], strict=True):
            if type(end) is not int or not 0 <= start < end <= (length or 0):
                seen = f"cells {start}..{end} of an axis of {length}"
                raise fault(self, seen, "0 <= start < end <= length", "normalise starts and ends")
            shape.append(-(-(end - start) // step))
        return tuple(shape)

    def check(self, operands: Sequence[TensorType | Constant], out: TensorType) -> None:
        """The result keeps the operand's quantization."""
        moved(self, operands, out)

    def torch(self, *inputs: Tensor) -> Tensor:
        """Plain indexing."""
        return inputs[0][self._index()]

    def numpy(self, call: IntCall) -> Array:
        """Of stored integers."""
        return np.ascontiguousarray(np.asarray(call.inputs[0])[self._index()])

    def torch_int(self, call: IntCall) -> Tensor:
        """Of stored integers."""
        return self.torch(*call.inputs)

    def _index(self) -> tuple[builtins.slice, ...]:
        return tuple(builtins.slice(*bounds) for bounds in zip(self.starts, self.ends, self.steps, strict=True))
