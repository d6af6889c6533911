"""Converters of element-wise operators: activations and arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from subbyte.graph.ops import Add, Mul, Op, Rectify, Sub, Unary
from subbyte.ingest.torch_call import Call, Converter, Fixed, Operand, Table, Unsupported, Value, to_numpy

ELEMENTWISE = Table()


@ELEMENTWISE.add("relu")
def _relu(call: Call) -> Value:
    return call.emit(Rectify(lo=0.0), call.value())


@ELEMENTWISE.add("relu6")
def _relu6(call: Call) -> Value:
    return call.emit(Rectify(lo=0.0, hi=6.0), call.value())


@ELEMENTWISE.add("hardtanh")
def _hardtanh(call: Call) -> Value:
    return call.emit(Rectify(lo=call.number("min_val"), hi=call.number("max_val")), call.value())


@ELEMENTWISE.add("clamp", "clip", "clamp_min", "clamp_max")
def _clamp(call: Call) -> Value:
    lo, hi = call.number("min", -math.inf), call.number("max", math.inf)
    return call.emit(Rectify(lo=min(lo, hi), hi=hi), call.value())  # torch gives max where min exceeds it


@ELEMENTWISE.add("leaky_relu")
def _leaky_relu(call: Call) -> Value:
    return call.emit(Rectify(slope=call.number("negative_slope")), call.value())


def _unary(function: str, *params: float) -> Converter:
    def convert(call: Call) -> Value:
        return call.emit(Unary(function=function, params=params), call.value())

    return convert


for _name, _function in (
    ("sigmoid", "sigmoid"),
    ("tanh", "tanh"),
    ("hardswish", "hard_swish"),
    ("silu", "silu"),
    ("exp", "exp"),
):
    ELEMENTWISE.add(_name)(_unary(_function))
ELEMENTWISE.add("hardsigmoid")(_unary("hard_sigmoid", 1 / 6, 0.5))


@ELEMENTWISE.add("gelu")
def _gelu(call: Call) -> Value:
    function = "gelu_tanh" if call["approximate"] == "tanh" else "gelu"
    return call.emit(Unary(function=function), call.value())


@ELEMENTWISE.add("add")
def _add(call: Call) -> Value:
    return _sum(call, Add(), call["self"], call["other"])


@ELEMENTWISE.add("sub", "subtract")
def _sub(call: Call) -> Value:
    return _sum(call, Sub(), call["self"], call["other"])


@ELEMENTWISE.add("rsub")
def _rsub(call: Call) -> Value:
    return _sum(call, Sub(), call["other"], call["self"])


def _sum(call: Call, op: Op, a: Any, b: Any) -> Value:
    """``a + alpha * b`` or ``a - alpha * b``."""
    alpha = call.number("alpha", 1.0)
    if alpha != 1 and _moves(b):
        b = call.emit(Mul(), b, call.constant(alpha, f"{call.name}.alpha"), part="scaled")
    elif alpha != 1:
        b = _changed(b, lambda c: c * np.float32(alpha))
    return _binary(call, op, a, b)


@ELEMENTWISE.add("mul", "multiply")
def _mul(call: Call) -> Value:
    return _binary(call, Mul(), call["self"], call["other"])


@ELEMENTWISE.add("div", "divide", "true_divide")
def _div(call: Call) -> Value:
    if call["rounding_mode"] is not None:
        raise Unsupported("it rounds the quotient")
    if _moves(call["other"]):
        raise Unsupported("it divides by a value computed from the input; only constants are possible there")
    return _binary(call, Mul(), call["self"], _changed(call["other"], np.reciprocal))


@ELEMENTWISE.add("neg", "negative")
def _neg(call: Call) -> Value:
    return _binary(call, Mul(), call.value(), -1.0)


def _moves(operand: Any) -> bool:
    return isinstance(operand, Value)


def _changed(constant: Any, change: Callable[[Any], Any]) -> Any:
    """A number or constant after a change in float32; infinite results are refused where constants are stored."""
    import torch

    tensor = constant.tensor if isinstance(constant, Fixed) else torch.tensor(float(constant))
    with np.errstate(divide="ignore"):
        changed = np.asarray(change(to_numpy(tensor)), np.float32)
    name = constant.name if isinstance(constant, Fixed) else ""
    return Fixed(name, torch.from_numpy(changed))


def _binary(call: Call, op: Op, a: Any, b: Any) -> Value:
    rank = max(o.rank for o in (a, b) if isinstance(o, Value))
    return call.emit(op, _operand(call, a, rank), _operand(call, b, rank))


def _operand(call: Call, operand: Any, rank: int) -> Operand | str:
    """A value, or a constant without the batch axis: numbers get no axes, leading axes of length 1 go."""
    if isinstance(operand, Value):
        return operand
    if not isinstance(operand, Fixed):
        return call.constant(float(operand), f"{call.name}.constant")
    array = to_numpy(operand.tensor)
    if array.ndim > rank or (array.ndim == rank and array.shape[0] != 1):
        raise Unsupported(f"its constant of shape {list(array.shape)} has a batch axis of its own")
    array = array[0] if array.ndim == rank else array
    return call.constant(array, operand.name or f"{call.name}.constant")
