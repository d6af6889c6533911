"""Shapes of element-wise operators on two operands: values, or one value and one constant.

Values have the same rank and batch; a constant has no batch axis and broadcasts from the right, as in NumPy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from subbyte.graph.ir import IntType
from subbyte.graph.ops.centred import interval
from subbyte.graph.ops.checks import arity, array, fault, floats, ints, sized
from subbyte.graph.ops.op import Op

if TYPE_CHECKING:
    from subbyte.graph.ir import Constant, Shape, TensorType


def infer_floats(op: Op, operands: Sequence[TensorType | Constant]) -> Shape:
    """Shape of two float operands; either may be a float32 constant, not both."""
    arity(op, operands, 2)
    constants = [i for i in (0, 1) if isinstance(operands[i], np.ndarray)]
    if not constants:
        return values(op, floats(op, operands, 0), floats(op, operands, 1))
    side = constants[0]
    fixed = _constant(op, operands, side, "float32")
    return with_constant(op, floats(op, operands, 1 - side), fixed)


def infer_ints(op: Op, operands: Sequence[TensorType | Constant]) -> Shape:
    """Shape of an integer activation and a second one or an int32 constant of centred integers."""
    first = ints(op, operands, 0).shape
    if isinstance(operands[1], np.ndarray):
        return with_constant(op, first, _constant(op, operands, 1, "int32"))
    return values(op, first, ints(op, operands, 1).shape)


def second_interval(op: Op, operands: Sequence[TensorType | Constant]) -> tuple[int, int]:
    """Smallest and largest centred integer of the second operand."""
    second = operands[1]
    if isinstance(second, np.ndarray):
        return int(second.min()), int(second.max())
    assert isinstance(second, IntType)  # infer_ints has accepted it
    return interval(second)


def values(op: Op, a: Shape, b: Shape) -> Shape:
    """Result of two activations."""
    fits = len(a) == len(b) and all(x == y or 1 in (x, y) for x, y in zip(a[1:], b[1:], strict=True))
    if not fits:
        rule = "operands have the same rank and equal axes, or axes of 1"
        raise fault(op, f"operands {list(a)} and {list(b)}", rule, "reshape one of them")
    return sized(op, (None, *(y if x == 1 else x for x, y in zip(a[1:], b[1:], strict=True))))


def with_constant(op: Op, a: Shape, constant: tuple[int, ...]) -> Shape:
    """Result of an activation and a constant."""
    missing = len(a) - 1 - len(constant)
    if missing < 0:
        seen = f"an activation {list(a)} and a constant {list(constant)}"
        raise fault(op, seen, "a constant has no batch axis", "drop the constant's leading axes")
    return values(op, a, (None, *(1,) * missing, *constant))


def _constant(op: Op, operands: Sequence[TensorType | Constant], index: int, dtype: str) -> tuple[int, ...]:
    rank = len(operands[index].shape)
    return array(op, operands, index, dtype, (None,) * rank).shape
