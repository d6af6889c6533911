"""Pooling and means."""

from __future__ import annotations

from collections.abc import Sequence

from subbyte.graph.ops import AvgPool, Identity, MaxPool, Mean
from subbyte.ingest.onnx_call import Activation, Call, Table
from subbyte.ingest.onnx_window import window_padding

POOLS = Table()


def _window(call: Call, x: Activation) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Kernel, stride, dilation and padding."""
    dims = len(x.shape) - 2
    if dims not in (1, 2):
        seen = f"an input of {len(x.shape)} axes"
        raise call.fail(seen, "pools have one or two spatial axes", "3-D pools are not supported")
    kernel = call.vector("kernel_shape", ())
    stride, dilation = call.vector("strides", (1,) * dims), call.vector("dilations", (1,) * dims)
    return kernel, stride, dilation, window_padding(call, x.shape[2:], kernel, stride, dilation)


def _ceil_mode(call: Call) -> bool:
    return bool(call.attribute("ceil_mode", 0)) and call.attribute("auto_pad", "NOTSET") == "NOTSET"


@POOLS.add("MaxPool")
def _max_pool(call: Call) -> None:
    call.only_first_output()
    x = call.value()
    kernel, stride, dilation, padding = _window(call, x)
    op = MaxPool(kernel=kernel, stride=stride, dilation=dilation, padding=padding, ceil_mode=_ceil_mode(call))
    call.emit(op, x.name)


@POOLS.add("AveragePool")
def _average_pool(call: Call) -> None:
    x = call.value()
    kernel, stride, dilation, padding = _window(call, x)
    if any(d != 1 for d in dilation):
        raise call.fail(f"dilations {list(dilation)}", "average pools are not dilated", "use a convolution")
    include = bool(call.attribute("count_include_pad", 0))
    op = AvgPool(kernel=kernel, stride=stride, padding=padding, ceil_mode=_ceil_mode(call), count_include_pad=include)
    call.emit(op, x.name)


@POOLS.add("GlobalAveragePool")
def _global_average_pool(call: Call) -> None:
    x = call.value()
    call.emit(Mean(axes=tuple(range(2, len(x.shape))), keepdims=True), x.name)


@POOLS.add("GlobalMaxPool")
def _global_max_pool(call: Call) -> None:
    x = call.value()
    kernel, ones = tuple(d or 1 for d in x.shape[2:]), (1,) * (len(x.shape) - 2)
    call.emit(MaxPool(kernel=kernel, stride=ones, dilation=ones, padding=(0,) * (2 * len(kernel))), x.name)


@POOLS.add("ReduceMean")
def _reduce_mean(call: Call) -> None:
    x = call.value()
    axes: Sequence[int] = call.integers(1) if call.has(1) else call.vector("axes", ())
    if not axes and call.attribute("noop_with_empty_axes", 0):
        call.emit(Identity(), x.name)
        return
    if not axes:
        raise call.fail("a mean over all axes", "means leave the batch alone", "name the axes behind the batch")
    positive = tuple(sorted({call.axis(a, len(x.shape)) for a in axes}))
    call.emit(Mean(axes=positive, keepdims=bool(call.attribute("keepdims", 1))), x.name)
