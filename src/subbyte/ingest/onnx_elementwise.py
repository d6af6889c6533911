"""Activations, arithmetic, casts, softmax and argmax."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from subbyte.graph.ops import Add, Argmax, Identity, LogSoftmax, Mul, Rectify, Reshape, Softmax, Sub, Unary
from subbyte.graph.ops.op import Op
from subbyte.ingest.onnx_call import Activation, Call, Floats, Table
from subbyte.ingest.onnx_fold import WORLDS, same

ELEMENTWISE = Table()

# ---------------------------------------------------------------- activations


@ELEMENTWISE.add("Relu")
def _relu(call: Call) -> None:
    call.emit(Rectify(lo=0.0), call.value().name)


@ELEMENTWISE.add("LeakyRelu")
def _leaky_relu(call: Call) -> None:
    call.emit(Rectify(slope=float(call.attribute("alpha", 0.01))), call.value().name)


@ELEMENTWISE.add("PRelu")
def _prelu(call: Call) -> None:
    slope = call.floats(1)
    if np.any(slope != slope.reshape(-1)[0]):
        seen = f"{slope.size} different slopes"
        raise call.fail(seen, "the negative half has one slope for the tensor", "train with one slope")
    call.emit(Rectify(slope=float(slope.reshape(-1)[0])), call.value().name)


@ELEMENTWISE.add("Clip")
def _clip(call: Call) -> None:
    lo = call.attribute("min", call.scalar(1, -math.inf))
    hi = call.attribute("max", call.scalar(2, math.inf))
    call.emit(Rectify(lo=float(lo), hi=float(hi)), call.value().name)


@ELEMENTWISE.add("Max", "Min")
def _bound(call: Call) -> None:
    """Of one value and numbers: a clip from one side."""
    values = [i for i, o in enumerate(call.operands) if isinstance(o, Activation)]
    if len(values) != 1:
        seen = f"{call.kind} of {len(values)} values computed from the inputs"
        raise call.fail(seen, f"{call.kind} bounds one value by numbers", "replace it by additions and clips")
    bounds = [call.scalar(i, math.nan) for i in range(len(call.operands)) if i not in values]
    op = Rectify(lo=max(bounds, default=-math.inf)) if call.kind == "Max" else Rectify(hi=min(bounds, default=math.inf))
    call.emit(op, call.value(values[0]).name)


_UNARY: Final = {"Sigmoid": "sigmoid", "Tanh": "tanh", "HardSwish": "hard_swish", "Exp": "exp"}


@ELEMENTWISE.add(*_UNARY)
def _unary(call: Call) -> None:
    call.emit(Unary(function=_UNARY[call.kind]), call.value().name)


@ELEMENTWISE.add("HardSigmoid")
def _hard_sigmoid(call: Call) -> None:
    params = (float(call.attribute("alpha", 0.2)), float(call.attribute("beta", 0.5)))
    call.emit(Unary(function="hard_sigmoid", params=params), call.value().name)


@ELEMENTWISE.add("Gelu")
def _gelu(call: Call) -> None:
    formula = call.attribute("approximate", "none")
    if formula not in ("none", "tanh"):
        raise call.fail(f"approximate is {formula!r}", "approximate is none or tanh", "export with one of them")
    call.emit(Unary(function="gelu" if formula == "none" else "gelu_tanh"), call.value().name)


@ELEMENTWISE.add("Swish")
def _swish(call: Call) -> None:
    alpha = float(call.attribute("alpha", 1.0))
    if alpha != 1.0:
        raise call.fail(f"alpha is {alpha}", "Swish is x * sigmoid(x)", "write it as x * Sigmoid(alpha * x)")
    call.emit(Unary(function="silu"), call.value().name)


# ---------------------------------------------------------------- arithmetic

_ARITHMETIC: Final[dict[str, type[Op]]] = {"Add": Add, "Sub": Sub, "Mul": Mul}


@ELEMENTWISE.add(*_ARITHMETIC)
def _arithmetic(call: Call) -> None:
    call.emit(_ARITHMETIC[call.kind](), _term(call, 0), _term(call, 1))


@ELEMENTWISE.add("Sum")
def _sum(call: Call) -> None:
    total = _term(call, 0)
    if len(call.operands) == 1:
        call.emit(Identity(), total)
    for index in range(1, len(call.operands)):
        last = index == len(call.operands) - 1
        total = call.emit(Add(), total, _term(call, index), output=None if last else "").name


@ELEMENTWISE.add("Div")
def _div(call: Call) -> None:
    """By a constant: times its reciprocal, rounded to float32 once."""
    x = call.value(0)
    divisor = _numbers(call, 1)
    if x.integral or np.any(divisor == 0):
        seen = "a division of integers" if x.integral else f"{call.static(1).name!r} holds 0"
        raise call.fail(seen, "real numbers are divided by numbers other than 0", "cast or correct the operands")
    with np.errstate(over="ignore"):
        factor = np.asarray(1 / divisor.astype(np.float64), np.float32)
    call.emit(Mul(), x.name, call.constant(_derived(call, "reciprocal"), factor))


@ELEMENTWISE.add("Neg")
def _neg(call: Call) -> None:
    call.emit(Mul(), call.value().name, call.constant(_derived(call, "minus_one"), np.array(-1, np.float32)))


def _derived(call: Call, what: str) -> str:
    return call.builder.invent(f"{call.outputs[0]}:{what}")


def _term(call: Call, index: int) -> str:
    """Name of an operand: a value, or a constant stored without its batch axis."""
    operand = call.operands[index]
    if isinstance(operand, Activation):
        return operand.name
    return call.constant(call.static(index).name, _numbers(call, index))


def _numbers(call: Call, index: int) -> Floats:
    """A constant operand as it broadcasts against one sample, without the batch axis."""
    rank = max(len(o.shape) for o in call.operands if isinstance(o, Activation))
    static = call.static(index)
    first, second = static.worlds
    ranks = {first.ndim, second.ndim}
    rows = call.builder.fixed_batch if static.fixed else None
    repeated = ranks == {rank} and (first.shape[0] == rows or (first.shape[0], second.shape[0]) == WORLDS)
    if repeated and all(len(w) and same(w, np.broadcast_to(w[:1], w.shape)) for w in static.worlds):
        first, second = first[0], second[0]  # the same numbers for every sample of the batch
    elif ranks == {rank} and first.shape[0] == 1:
        first, second = first[0], second[0]
    if first.ndim >= rank or first.shape != second.shape or not same(first, second):
        seen = f"constant {static.name!r} {list(static.array.shape)} beside a value of {rank} axes"
        raise call.fail(seen, "a constant is the same for every sample", "give it 1 as the batch axis")
    return call.finite(call.as_float32(first, static.name), static.name)


# ---------------------------------------------------------------- types

_REALS: Final = (1, 10, 11, 16)
"""TensorProto's float, float16, double and bfloat16."""
_INTEGERS: Final = (6, 7)
"""TensorProto's int32 and int64."""


@ELEMENTWISE.add("Identity")
def _identity(call: Call) -> None:
    x = call.value()
    call.emit(Identity(), x.name, integral=x.integral)


@ELEMENTWISE.add("Cast")
def _cast(call: Call) -> None:
    """Reals to reals, and integers to anything that holds them: the executor keeps float32 throughout."""
    x, to = call.value(), call.attribute("to", 1)
    if to not in _REALS and not (x.integral and to in _INTEGERS):
        seen = f"a cast to type {_type_name(to)}"
        raise call.fail(seen, "values are cast between float types", "do it outside the network")
    call.emit(Identity(), x.name, integral=to in _INTEGERS)


def _type_name(code: int) -> str:
    import onnx

    return onnx.TensorProto.DataType.Name(code) if code in onnx.TensorProto.DataType.values() else str(code)


@ELEMENTWISE.add("Dropout")
def _dropout(call: Call) -> None:
    call.only_first_output()
    if call.has(2) and call.scalar(2, 0):
        raise call.fail("Dropout in training mode", "the model is for inference", "call model.eval() before exporting")
    call.emit(Identity(), call.value().name)


# ---------------------------------------------------------------- along an axis


@ELEMENTWISE.add("Softmax", "LogSoftmax")
def _softmax(call: Call) -> None:
    x = call.value()
    rank = len(x.shape)
    axis = call.axis(call.attribute("axis", -1 if call.opset >= 13 else 1), rank)
    kind = Softmax if call.kind == "Softmax" else LogSoftmax
    if call.opset >= 13 or all(d == 1 for d in x.shape[axis + 1 :]):
        call.emit(kind(axis=axis), x.name)
        return
    # before opset 13 all axes from this one on are one long axis
    length = math.prod(d or 1 for d in x.shape[axis:])
    flat = call.emit(Reshape(shape=(*x.shape[:axis], length)), x.name, output="")
    soft = call.emit(kind(axis=axis), flat.name, output="")
    call.emit(Reshape(shape=x.shape), soft.name)


@ELEMENTWISE.add("ArgMax")
def _argmax(call: Call) -> None:
    x = call.value()
    if call.attribute("select_last_index", 0):
        raise call.fail("select_last_index is 1", "the first of equal numbers wins", "export without it")
    axis = call.axis(call.attribute("axis", 0), len(x.shape))
    call.emit(Argmax(axis=axis, keepdims=bool(call.attribute("keepdims", 1))), x.name, integral=True)
