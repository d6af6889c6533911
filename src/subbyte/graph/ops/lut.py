"""Table lookup: any function of one 8-bit activation, codes among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np

from subbyte.graph.ops.centred import tensor
from subbyte.graph.ops.checks import arity, array, fault, ints
from subbyte.graph.ops.op import Array, Dialect, IntCall, Op, register_op, stored
from subbyte.graph.ops.results import integer_result

if TYPE_CHECKING:
    from torch import Tensor

    from subbyte.graph.ir import Constant, Shape, TensorType


@final
@register_op
@dataclass(frozen=True, kw_only=True)
class IntLut(Op):
    """``y = table[q]``; inputs x (uint8 storage), table uint8[256] or int16[256] in the result's storage."""

    name: ClassVar[str] = "int_lut"
    dialect: ClassVar[Dialect] = "integer"

    def infer(self, operands: Sequence[TensorType | Constant]) -> Shape:
        """The operand's shape."""
        arity(self, operands, 2)
        x = ints(self, operands, 0, coded=True)
        if x.storage != "uint8":
            raise fault(self, f"an operand stored as {x.storage}", "tables are indexed by uint8", "rescale it before")
        entries = operands[1]
        dtype = "int16" if isinstance(entries, np.ndarray) and entries.dtype == np.int16 else "uint8"
        array(self, operands, 1, dtype, (256,))
        return x.shape

    def check(self, operands: Sequence[TensorType | Constant], out: TensorType) -> None:
        """The table has the result's storage, and what the operand can reach is legal."""
        x, table = ints(self, operands, 0, coded=True), operands[1]
        declared = integer_result(self, out, coded=True)
        assert isinstance(table, np.ndarray)  # infer has accepted it
        reached = table[x.lo : x.hi + 1]
        if table.dtype != np.dtype(declared.storage) or reached.min() < declared.lo or reached.max() > declared.hi:
            seen = f"a {table.dtype} table with {reached.min()}..{reached.max()}"
            rule = f"its entries are {declared.storage} in {declared.lo}..{declared.hi}"
            raise fault(self, seen, rule, "clip the table to the result's format")

    def numpy(self, call: IntCall) -> Array:
        """Element-wise."""
        return stored(np.asarray(call.inputs[1])[np.asarray(call.inputs[0], dtype=np.int64)], call.out.storage)

    def torch_int(self, call: IntCall) -> Tensor:
        """Element-wise."""
        x: Tensor = call.inputs[0]
        return tensor(call.inputs[1], x)[x]
