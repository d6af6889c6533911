"""Tests of attributes and operands that every operator's ``infer`` makes; each failure is a four-part GraphError.

Attributes may come from a hostile file, so types are compared exactly (``True`` is no integer) and sizes are bounded
before anything is multiplied.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from subbyte.arithmetic.bounds import MOST_WEIGHT
from subbyte.errors import FormatError, GraphError
from subbyte.formats.qtensor import QTensor
from subbyte.graph.ir import FloatType, IntType
from subbyte.graph.ops.op import Array, Op

if TYPE_CHECKING:
    from subbyte.graph.ir import Constant, Shape, TensorType

MAX_DIM = 2**24
"""Longest axis of a tensor."""

MAX_ELEMENTS = 2**31 - 1
"""Most numbers in one sample of a tensor."""

MAX_WINDOW = 2**16 - 1
"""Largest kernel, stride, dilation and padding."""

INT32 = (-(2**31), 2**31 - 1)


def fault(op: Op, seen: str, rule: str, remedy: str) -> GraphError:
    """The error of an operator; the caller raises it."""
    return GraphError(seen, rule, remedy, f"operator {op.name!r}")


def arity(op: Op, operands: Sequence[object], *allowed: int) -> None:
    """The number of operands is one of ``allowed``."""
    if len(operands) not in allowed:
        expected = " or ".join(str(n) for n in allowed)
        raise fault(op, f"{len(operands)} operands", f"it takes {expected}", "pass each operand once, in order")


def integer(op: Op, field: str, lo: int, hi: int) -> int:
    """The attribute is an int in lo..hi."""
    value = getattr(op, field)
    if type(value) is not int or not lo <= value <= hi:
        raise fault(op, f"{field} is {_short(value)}", f"{field} is an integer in {lo}..{hi}", f"correct {field}")
    return value


def integers(op: Op, field: str, length: int, lo: int, hi: int) -> tuple[int, ...]:
    """The attribute is a tuple of ``length`` ints in lo..hi."""
    value = getattr(op, field)
    good = type(value) is tuple and len(value) == length and all(type(v) is int and lo <= v <= hi for v in value)
    if not good:
        rule = f"{field} is a tuple of {length} integers in {lo}..{hi}"
        raise fault(op, f"{field} is {_short(value)}", rule, f"correct {field}")
    return tuple(value)


def boolean(op: Op, field: str) -> bool:
    """The attribute is True or False."""
    value = getattr(op, field)
    if type(value) is not bool:
        raise fault(op, f"{field} is {_short(value)}", f"{field} is True or False", f"correct {field}")
    return value


def choice(op: Op, field: str, allowed: Sequence[str]) -> str:
    """The attribute is one of the allowed words."""
    value = getattr(op, field)
    if type(value) is not str or value not in allowed:
        rule = f"{field} is one of {', '.join(allowed)}"
        raise fault(op, f"{field} is {_short(value)}", rule, f"correct {field}")
    return value


def real(op: Op, field: str, value: object, *, finite: bool = True) -> float:
    """``value``, which belongs to attribute ``field``, is a number and not NaN."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
        raise fault(op, f"{field} holds {_short(value)}", f"{field} holds real numbers", f"correct {field}")
    if finite and math.isinf(value):
        raise fault(op, f"{field} holds {value}", f"{field} is finite", f"correct {field}")
    return float(value)


def axis(op: Op, rank: int, field: str = "axis") -> int:
    """The attribute names an axis behind the batch."""
    return integer(op, field, 1, rank - 1)


def sized(op: Op, shape: Sequence[int | None], what: str = "result") -> Shape:
    """The shape of an activation: batch first, then axes of 1..MAX_DIM, at most MAX_ELEMENTS in one sample."""
    dims = tuple(shape)
    rest = dims[1:]
    good = len(dims) >= 1 and dims[0] is None and all(type(d) is int and 1 <= d <= MAX_DIM for d in rest)
    if not good or math.prod(d for d in rest if d is not None) > MAX_ELEMENTS:
        rule = f"shapes are (batch, axes of 1..{MAX_DIM}) with at most {MAX_ELEMENTS} elements in a sample"
        raise fault(op, f"the {what} has shape {_short(dims)}", rule, "correct the shapes and attributes")
    return dims


def value(op: Op, operands: Sequence[TensorType | Constant], index: int) -> TensorType:
    """The operand is an activation of either dialect with a legal shape; codes too, which order like their reals."""
    operand = operands[index]
    if isinstance(operand, FloatType):
        sized(op, operand.shape, f"operand {index}")
        return operand
    if isinstance(operand, IntType):
        return ints(op, operands, index, coded=True)
    raise fault(op, f"operand {index} is a constant", "this operand is a value", "fold the operator into a constant")


def floats(op: Op, operands: Sequence[TensorType | Constant], index: int) -> Shape:
    """The operand is a float activation; its shape."""
    operand = operands[index]
    if not isinstance(operand, FloatType):
        seen = f"operand {index} is {_kind(operand)}"
        raise fault(op, seen, "this operand is a float activation", "keep dialects apart; fold constants")
    return sized(op, operand.shape, f"operand {index}")


def ints(op: Op, operands: Sequence[TensorType | Constant], index: int, *, coded: bool = False) -> IntType:
    """The operand is an integer activation with a legal shape and zero point, and no codes unless these are welcome."""
    operand = operands[index]
    if not isinstance(operand, IntType):
        seen = f"operand {index} is {_kind(operand)}"
        raise fault(op, seen, "this operand is an integer activation", "lower the graph before")
    sized(op, operand.shape, f"operand {index}")
    limits = np.iinfo(operand.storage)
    zero = operand.zero_point
    if type(zero) is not int or not limits.min <= zero <= limits.max:
        seen = f"operand {index} has zero point {_short(zero)}"
        raise fault(op, seen, f"zero points fit {operand.storage}", "quantize the activation again")
    if operand.format.coded and not coded:
        seen = f"operand {index} is stored as codes of {operand.format.name}"
        raise fault(op, seen, "this operator computes with even steps", "store it in uint8 or int16, or look it up")
    return operand


def codes(op: Op, operands: Sequence[TensorType | Constant], index: int, rank: int) -> QTensor:
    """The operand is a quantized constant of that rank whose integers are within +-MOST_WEIGHT."""
    operand = operands[index]
    if not isinstance(operand, QTensor):
        seen = f"operand {index} is {_kind(operand)}"
        raise fault(op, seen, "this operand is a quantized constant", "quantize the weights")
    try:
        operand.check()
    except FormatError as error:
        raise fault(op, error.seen, error.rule, error.remedy) from error
    smallest, largest = operand.interval()
    if operand.codes.ndim != rank or smallest < -MOST_WEIGHT or largest > MOST_WEIGHT:
        seen = f"weights of shape {list(operand.shape)} with integers {smallest}..{largest}"
        rule = f"weights have rank {rank} and integers within +-{MOST_WEIGHT}"
        raise fault(op, seen, rule, "choose a weight format of smaller integers")
    return operand


def array(
    op: Op, operands: Sequence[TensorType | Constant], index: int, dtype: str, shape: tuple[int | None, ...]
) -> Array:
    """The operand is a plain constant of that dtype and shape (None: any length of at least 1)."""
    operand = operands[index]
    if not isinstance(operand, np.ndarray):
        seen = f"operand {index} is {_kind(operand)}"
        raise fault(op, seen, f"this operand is a {dtype} constant", "fold it to a constant")
    fits = operand.ndim == len(shape) and all(
        have >= 1 and want in (None, have) for have, want in zip(operand.shape, shape, strict=True)
    )
    if operand.dtype != np.dtype(dtype) or not fits:
        seen = f"operand {index} is {operand.dtype}{list(operand.shape)}"
        wanted = ", ".join("any" if d is None else str(d) for d in shape)
        raise fault(op, seen, f"this operand is {dtype}[{wanted}]", "convert or reshape the constant")
    return operand


def parameters(op: Op, operands: Sequence[TensorType | Constant], first: int, length: int) -> None:
    """Two operands (m, n): int32 multipliers and shifts 1..62, ``length`` of each."""
    array(op, operands, first, "int32", (length,))
    shifts = array(op, operands, first + 1, "int32", (length,))
    if shifts.min() < 1 or shifts.max() > 62:
        raise fault(op, f"shifts {shifts.min()}..{shifts.max()}", "shifts lie in 1..62", "make them with multiplier()")


def scalar_multiplier(op: Op) -> None:
    """Attributes m (int32) and n (1..62)."""
    integer(op, "m", *INT32)
    integer(op, "n", 1, 62)


def _short(thing: object) -> str:
    text = repr(thing)
    return text if len(text) <= 80 else text[:77] + "..."


def _kind(operand: object) -> str:
    if isinstance(operand, np.ndarray):
        return f"a {operand.dtype} constant"
    names = {FloatType: "a float activation", IntType: "an integer activation", QTensor: "a quantized constant"}
    return names.get(type(operand), f"a {type(operand).__name__}")
