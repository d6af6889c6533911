"""Tests of an integer operator's declared result, made by ``Op.check`` after ``infer`` has accepted the operands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from subbyte.graph.ir import FloatType, IntType
from subbyte.graph.ops.checks import fault, integer, ints
from subbyte.graph.ops.op import Op

if TYPE_CHECKING:
    from subbyte.graph.ir import Constant, TensorType


def integer_result(op: Op, out: TensorType, storage: str | None = None, *, coded: bool = False) -> IntType:
    """The result is an integer activation (of that storage), and no codes unless the operator makes them."""
    if not isinstance(out, IntType):
        raise fault(op, "the result is declared as floats", "integer operators give integers", "declare an IntType")
    ints(op, [out], 0, coded=coded)
    if storage is not None and out.storage != storage:
        raise fault(op, f"the result is stored as {out.storage}", f"it is stored as {storage}", "change its format")
    return out


def clamped(op: Op, out: TensorType, *, coded: bool = False) -> IntType:
    """Attributes lo and hi are a non-empty interval inside what the result's format allows."""
    declared = integer_result(op, out, coded=coded)
    lo = integer(op, "lo", declared.lo, declared.hi)
    integer(op, "hi", lo, declared.hi)
    return declared


def fixed(op: Op, out: TensorType, scale: float, lo: int, hi: int) -> None:
    """The result is int16 of that scale with zero point 0 and allows lo..hi."""
    declared = integer_result(op, out, "int16")
    if declared.scale != scale or declared.zero_point != 0 or declared.lo > lo or declared.hi < hi:
        seen = f"the result has scale {declared.scale}, zero point {declared.zero_point}, {declared.lo}..{declared.hi}"
        raise fault(op, seen, f"it has scale {scale}, zero point 0 and holds {lo}..{hi}", "use format int16")


def moved(op: Op, operands: Sequence[TensorType | Constant], out: TensorType) -> None:
    """The operator only moves numbers: the result has the dialect, scale, zero point and range of every operand."""
    for operand in operands:
        if isinstance(operand, FloatType) and isinstance(out, FloatType):
            continue
        if not (isinstance(operand, IntType) and isinstance(out, IntType)):
            raise fault(op, "operands and result mix reals and integers", "one dialect at a time", "lower all of them")
        integer_result(op, out, coded=True)
        same = _kept(operand) == _kept(out)
        if not same or operand.lo < out.lo or operand.hi > out.hi:
            seen = f"{_describe(operand)} becomes {_describe(out)}"
            raise fault(op, seen, "moving numbers keeps scale, zero point and range", "rescale the operand before")


def _kept(tensor: IntType) -> tuple[object, ...]:
    """What says which real a stored integer is."""
    table = tuple(tensor.format.table) if tensor.format.coded else ()
    return tensor.scale, tensor.zero_point, tensor.storage, table


def _describe(tensor: IntType) -> str:
    of = f" of {tensor.format.name}" if tensor.format.coded else ""
    return f"{tensor.storage} {tensor.lo}..{tensor.hi}{of} (scale {tensor.scale}, zero point {tensor.zero_point})"
