"""Layers with weights: Conv, Gemm, MatMul, BatchNormalization."""

from __future__ import annotations

import numpy as np

from subbyte.graph.ops import BatchNorm, Conv, Linear, Reshape
from subbyte.ingest.onnx_call import Call, Floats, Table
from subbyte.ingest.onnx_window import window_padding

LAYERS = Table()


@LAYERS.add("Conv")
def _conv(call: Call) -> None:
    x, weight = call.value(0), call.floats(1)
    dims = len(x.shape) - 2
    if dims not in (1, 2) or weight.ndim != dims + 2:
        seen = f"an input of {len(x.shape)} axes and a weight {list(weight.shape)}"
        raise call.fail(seen, "convolutions have one or two spatial axes", "3-D convolutions are not supported")
    kernel = call.vector("kernel_shape", weight.shape[2:])
    if kernel != weight.shape[2:]:
        seen = f"kernel_shape {list(kernel)} with a weight {list(weight.shape)}"
        raise call.fail(seen, "kernel_shape is the weight's spatial shape", "export the model again")
    stride, dilation = call.vector("strides", (1,) * dims), call.vector("dilations", (1,) * dims)
    op = Conv(
        stride=stride,
        dilation=dilation,
        padding=window_padding(call, x.shape[2:], kernel, stride, dilation),
        groups=call.attribute("group", 1),
    )
    names = [x.name, call.constant(call.static(1).name, weight)]
    if call.has(2):
        names.append(call.constant(call.static(2).name, call.floats(2)))
    call.emit(op, *names)


@LAYERS.add("Gemm")
def _gemm(call: Call) -> None:
    x, weight = call.value(0), call.floats(1)
    alpha, beta = np.float32(call.attribute("alpha", 1.0)), np.float32(call.attribute("beta", 1.0))
    if call.attribute("transA", 0) or len(x.shape) != 2 or weight.ndim != 2:
        seen = f"transA={call.attribute('transA', 0)}, A {_text(x.shape)}, B {list(weight.shape)}"
        raise call.fail(seen, "Gemm takes (batch, K) times a constant matrix", "keep the batch as the first axis")
    if not call.attribute("transB", 0):
        weight = weight.T
    name = call.static(1).name
    names = [x.name, call.constant(name, np.ascontiguousarray(weight if alpha == 1 else weight * alpha))]
    if call.has(2):
        bias = _bias(call, weight.shape[0])
        names.append(call.constant(call.static(2).name, bias if beta == 1 else bias * beta))
    call.emit(Linear(), *names)


def _bias(call: Call, length: int) -> Floats:
    """Operand C as one number per column; rows, if there are several, must be equal."""
    bias = call.floats(2)
    if bias.ndim == 2 and bias.shape[0] > 1 and np.all(bias == bias[:1]):
        bias = bias[:1]
    if bias.ndim > 2 or (bias.ndim == 2 and bias.shape[0] != 1) or bias.shape[-1:] not in ((), (1,), (length,)):
        seen = f"C {list(bias.shape)} for {length} columns"
        raise call.fail(seen, "C is one number per column, the same for every sample", "make it a vector")
    return np.ascontiguousarray(np.broadcast_to(bias.reshape(-1), (length,)))


@LAYERS.add("MatMul")
def _matmul(call: Call) -> None:
    x, weight = call.value(0), call.floats(1)
    while weight.ndim > 2 and weight.shape[0] == 1 and weight.ndim <= len(x.shape):
        weight = weight[0]
    if weight.ndim not in (1, 2) or len(x.shape) < 2:
        seen = f"{_text(x.shape)} times {list(weight.shape)}"
        raise call.fail(seen, "MatMul takes (batch, ..., K) times one constant matrix", "use a matrix of two axes")
    name = call.static(1).name
    if weight.ndim == 2:
        call.emit(Linear(), x.name, call.constant(name, np.ascontiguousarray(weight.T)))
        return
    product = call.emit(Linear(), x.name, call.constant(name, weight.reshape(1, -1)), output="")
    call.emit(Reshape(shape=product.shape[:-1]), product.name)


@LAYERS.add("BatchNormalization")
def _batch_norm(call: Call) -> None:
    if call.attribute("training_mode", 0) or any(call.outputs[1:]):
        seen = "BatchNormalization in training mode"
        raise call.fail(seen, "statistics are constants", "call model.eval() before exporting")
    epsilon = float(call.attribute("epsilon", 1e-5))
    parameters = [call.floats(i) for i in range(1, 5)]
    if np.any(parameters[3] + np.float32(epsilon) <= 0):
        seen = f"variance {call.static(4).name!r} has {parameters[3].min()} at least, epsilon is {epsilon}"
        raise call.fail(seen, "variance + epsilon is positive", "repair the statistics of the model")
    names = [call.constant(call.static(i).name, p) for i, p in enumerate(parameters, 1)]
    call.emit(BatchNorm(axis=1, epsilon=epsilon), call.value(0).name, *names)


def _text(shape: tuple[int | None, ...]) -> str:
    return str(["batch" if d is None else d for d in shape])
