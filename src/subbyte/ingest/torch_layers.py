"""Converters of layers: convolution, linear, batch norm, pooling, softmax, argmax."""

from __future__ import annotations

import numpy as np

from subbyte.graph.ops import (
    Argmax,
    AvgPool,
    BatchNorm,
    Conv,
    Linear,
    LogSoftmax,
    MaxPool,
    Mean,
    Softmax,
)
from subbyte.ingest.torch_call import Call, Fixed, Table, Unsupported, Value, to_numpy

LAYERS = Table()


@LAYERS.add("conv1d", "conv2d")
def _conv(call: Call) -> Value:
    x, weight, bias = call.value("input"), call.fixed("weight"), call["bias"]
    dims = call.spatial(x)
    stride, dilation = call.pair("stride", dims), call.pair("dilation", dims)
    op = Conv(
        stride=stride,
        dilation=dilation,
        padding=_conv_padding(call, dims, tuple(weight.tensor.shape[2:]), dilation),
        groups=call["groups"],
        layout="channels_first",
    )
    return call.emit(op, x, weight, *([] if bias is None else [call.fixed("bias")]))


def _conv_padding(call: Call, dims: int, kernel: tuple[int, ...], dilation: tuple[int, ...]) -> tuple[int, ...]:
    """Before every axis, then behind every one; an odd total of "same" puts the larger half behind, as torch does."""
    if call["padding"] == "valid":
        return (0,) * (2 * dims)
    if call["padding"] == "same":
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        return tuple(t // 2 for t in total) + tuple(t - t // 2 for t in total)
    return call.pair("padding", dims) * 2


@LAYERS.add("linear")
def _linear(call: Call) -> Value:
    bias = [] if call["bias"] is None else [call.fixed("bias")]
    return call.emit(Linear(), call.value("input"), call.fixed("weight"), *bias)


@LAYERS.add("matmul", "mm")
def _matmul(call: Call) -> Value:
    x = call.value()
    return call.emit(Linear(), x, _turned(call, "other" if call["other"] is not None else "mat2"))


@LAYERS.add("addmm")
def _addmm(call: Call) -> Value:
    x, weight, bias = call.value("mat1"), _turned(call, "mat2"), call.fixed("self")
    alpha, beta = call.number("alpha", 1.0), call.number("beta", 1.0)
    if alpha != 1:
        weight = Fixed(f"{weight.name}.scaled", weight.tensor * alpha)
    wide = np.broadcast_to(to_numpy(bias.tensor) * np.float32(beta), (1, weight.tensor.shape[0]))[0]
    return call.emit(Linear(), x, weight, call.constant(wide, bias.name))


def _turned(call: Call, argument: str) -> Fixed:
    """A right-hand matrix [K, O] as the weight [O, K] of a linear layer."""
    matrix = call.fixed(argument)
    if matrix.tensor.dim() != 2:
        raise Unsupported(f"its constant has {matrix.tensor.dim()} axes; a matrix is possible")
    return Fixed(matrix.name, matrix.tensor.t())


@LAYERS.add("batch_norm")
def _batch_norm(call: Call) -> Value:
    x = call.value("input")
    if call["training"] or call["running_mean"] is None:
        raise Unsupported("it uses the statistics of the batch; give it running statistics and call eval()")
    channels = call.fixed("running_mean").tensor.shape[0]
    gamma, beta = (
        call.constant(np.full(channels, neutral), f"{call.name}.{argument}")
        if call[argument] is None
        else call.fixed(argument)
        for argument, neutral in (("weight", 1.0), ("bias", 0.0))
    )
    op = BatchNorm(axis=1, epsilon=call.number("eps"))
    return call.emit(op, x, gamma, beta, call.fixed("running_mean"), call.fixed("running_var"))


@LAYERS.add("max_pool1d", "max_pool2d", "max_pool2d_with_indices", "max_pool1d_with_indices")
def _max_pool(call: Call) -> Value | list[Value | None]:
    x = call.value()
    dims = call.spatial(x)
    kernel = call.pair("kernel_size", dims)
    pooled = call.emit(
        MaxPool(
            kernel=kernel,
            stride=call.pair("stride", dims, kernel),
            dilation=call.pair("dilation", dims, (1,)),
            padding=call.pair("padding", dims, (0,)) * 2,
            ceil_mode=bool(call["ceil_mode"]),
            layout="channels_first",
        ),
        x,
    )
    return [pooled, None] if isinstance(call.meta, tuple | list) else pooled


@LAYERS.add("avg_pool1d", "avg_pool2d")
def _avg_pool(call: Call) -> Value:
    x = call.value()
    dims = call.spatial(x)
    if call["divisor_override"] is not None:
        raise Unsupported("divisor_override is set")
    kernel = call.pair("kernel_size", dims)
    return call.emit(
        AvgPool(
            kernel=kernel,
            stride=call.pair("stride", dims, kernel),
            padding=call.pair("padding", dims, (0,)) * 2,
            ceil_mode=bool(call["ceil_mode"]),
            count_include_pad=bool(call["count_include_pad"]),
            layout="channels_first",
        ),
        x,
    )


@LAYERS.add("adaptive_avg_pool1d", "adaptive_avg_pool2d")
def _adaptive_avg_pool(call: Call) -> Value:
    x = call.value()
    kernel = _divisor(call, x)
    if all(length == 1 for length in call.known_shape()[2:]):
        return call.emit(Mean(axes=tuple(range(2, x.rank)), keepdims=True), x)
    padding = (0,) * (2 * len(kernel))
    return call.emit(AvgPool(kernel=kernel, stride=kernel, padding=padding, layout="channels_first"), x)


@LAYERS.add("adaptive_max_pool1d", "adaptive_max_pool2d")
def _adaptive_max_pool(call: Call) -> list[Value | None]:
    x = call.value()
    kernel = _divisor(call, x)
    ones, padding = (1,) * len(kernel), (0,) * (2 * len(kernel))
    op = MaxPool(kernel=kernel, stride=kernel, dilation=ones, padding=padding, layout="channels_first")
    return [call.emit(op, x), None]


def _divisor(call: Call, x: Value) -> tuple[int, ...]:
    """The window of an adaptive pool: input length over output length, which must be whole."""
    dims = call.spatial(x)
    sizes = call.pair("output_size", dims)
    lengths = [int(length or 0) for length in x.shape[2:]]
    for length, size in zip(lengths, sizes, strict=True):
        if length % size:
            raise Unsupported(f"it makes {size} cells of {length}, so windows differ; the input must be a multiple")
    return tuple(length // size for length, size in zip(lengths, sizes, strict=True))


@LAYERS.add("mean")
def _mean(call: Call) -> Value:
    x, dims = call.value(), call["dim"]
    if not dims:
        raise Unsupported("it averages over all axes, the batch among them")
    axes = tuple(sorted(x.axis(d) for d in dims))
    return call.emit(Mean(axes=axes, keepdims=bool(call["keepdim"])), x)


@LAYERS.add("softmax")
def _softmax(call: Call) -> Value:
    x = call.value()
    return call.emit(Softmax(axis=x.axis(call["dim"])), x)


@LAYERS.add("log_softmax")
def _log_softmax(call: Call) -> Value:
    x = call.value()
    return call.emit(LogSoftmax(axis=x.axis(call["dim"])), x)


@LAYERS.add("argmax")
def _argmax(call: Call) -> Value:
    x = call.value()
    if call["dim"] is None:
        raise Unsupported("it searches all axes, the batch among them; give it dim")
    return call.emit(Argmax(axis=x.axis(call["dim"]), keepdims=bool(call["keepdim"])), x)
