"""Operators of the integer dialect in the form that the native builder takes: lists of integers and named arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from subbyte.formats.qtensor import QTensor
from subbyte.formats.trims import get_trim
from subbyte.graph.ir import Constant
from subbyte.graph.ops.trim import IntTrim

Attributes: TypeAlias = dict[str, list[int]]
IntArrays: TypeAlias = "dict[str, npt.NDArray[np.integer[Any]]]"

OPERANDS: Mapping[str, Mapping[int, str]] = {
    "int_conv": {1: "weight", 2: "bias", 3: "m", 4: "n", 5: "m_neg", 6: "n_neg"},
    "int_linear": {1: "weight", 2: "bias", 3: "m", 4: "n", 5: "m_neg", 6: "n_neg"},
    "int_linear_per_token": {1: "weight", 2: "bias", 3: "m", 4: "n", 5: "m_neg", 6: "n_neg"},
    "int_linear_norm": {1: "weight"},
    "int_linear_argmax": {1: "weight"},
    "int_channel_stack": {1: "weight"},
    "int_add": {1: "b", 2: "m"},
    "int_mul": {1: "b"},
    "int_lut": {1: "table"},
    "int_avg_pool": {1: "divisors", 2: "m", 3: "n"},
}
"""Which operand of which operator may be a constant, and its name in the native engine."""

PAIRINGS = ("none", "pairs", "stc")
"""Of trims, as the native engine counts them."""


def constant_arrays(kind: str, constants: Sequence[tuple[int, Constant]]) -> IntArrays:
    """The constant operands by name.

    Args:
        kind: operator name.
        constants: position among the operands, and the constant.

    Raises:
        ValueError: an operand of that position is no constant of this operator, or a weight is of a kind that the
            native engine does not run.
    """
    names = OPERANDS.get(kind, {})
    arrays: IntArrays = {}
    for position, constant in constants:
        name = names.get(position)
        if name is None or isinstance(constant, QTensor) != (name == "weight"):
            raise ValueError(f"operator {kind!r} takes no such constant as operand {position}")
        if isinstance(constant, QTensor):
            arrays.update(_weight(constant))
        else:
            arrays[name] = np.require(constant, requirements=["C", "A"])
    return arrays


def _weight(weight: QTensor) -> IntArrays:
    """Codes, the table behind them, a zero point per output channel or group, and scales of groups."""
    if weight.format.levels > 256:
        raise ValueError(f"weights of format {weight.format.name!r} have more than 256 levels")
    arrays: IntArrays = {
        "codes": np.ascontiguousarray(weight.codes),
        "table": np.asarray(weight.format.integers, dtype=np.int16 if weight.format.fits_int16 else np.int32),
        "weight_zero": _zeros(weight),
    }
    if weight.groups is not None:
        arrays["group_size"] = np.array([weight.groups.size], dtype=np.int32)
        arrays["group_scale"] = np.ascontiguousarray(weight.groups.scale.reshape(-1))
    return arrays


def _zeros(weight: QTensor) -> npt.NDArray[np.int32]:
    zero = weight.zero_point
    if weight.groups is not None:
        return np.ascontiguousarray(zero.reshape(-1))
    if zero.ndim == 1 and weight.axis != 0:
        if np.any(zero != zero[0]):
            raise ValueError("zero points of a weight belong to its output channels")
        zero = zero[0]
    return np.ascontiguousarray(np.broadcast_to(zero, weight.codes.shape[:1]), dtype=np.int32)


def trim_parts(op: IntTrim, zero_point: int) -> tuple[Attributes, IntArrays]:
    """Attributes and tables of a trim: the engine knows no windows, only which table a code's neighbours choose.

    Args:
        op: the operator.
        zero_point: of its operand.
    """
    trim = get_trim(op.trim)
    reach = [min(2 ** (trim.window.bits + shift) - 1, 255) for shift in trim.window.shifts] if trim.shared else []
    plain = {"group": [op.group], "pairing": [PAIRINGS.index(trim.pairing)], "run": [trim.shared], "reach": reach}
    return plain, {"tables": trim.tables(zero_point)}


def plan_attributes(kind: str, attributes: Mapping[str, Any]) -> Attributes:
    """Attributes, as ``graph.ops.op.attributes`` gives them, as lists of integers.

    Raises:
        ValueError: an attribute is of a kind that the native engine does not know.
    """
    if kind == "reshape":
        return {}  # the declared shape of the result says it all
    plan: Attributes = {}
    for name, value in attributes.items():
        numbers = value if isinstance(value, tuple) else (value,)
        if name == "layout":
            numbers = (value == "channels_last",)
        elif kind == "slice" and name == "ends":
            numbers = (1, *numbers[1:])  # None: the batch is whole
        if not all(isinstance(v, int) and abs(v) < 2**63 for v in numbers):
            raise ValueError(f"operator {kind!r} has the attribute {name} = {value!r}")
        plan["channels_last" if name == "layout" else name] = [int(v) for v in numbers]
    return plan
