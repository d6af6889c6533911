"""Networks for LiteRT: a prepared float graph of subbyte's becomes a .tflite file, in float32 or full-integer int8."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import subbyte as sb
from benchmarks.cpu import workshop
from benchmarks.cpu.tflite import Scale, TfliteWriter
from benchmarks.nets import Floats
from subbyte.graph import ops
from subbyte.graph.ir import Graph, Node
from subbyte.graph.passes import prepare
from subbyte.graph.torch_executor import run_float

Array = npt.NDArray[Any]
ACTIVATIONS = {(0.0, np.inf): 1, (0.0, 6.0): 3}
"""Fused activations by their bounds: the schema's numbers of RELU and RELU6."""


def litert_network(source: Path, calibration: Floats, bits: int) -> bytes:
    """The .tflite file of an ONNX network; an input that is channels-first there is channels-last here."""
    parts: list[bytes | str] = [
        "tflite",
        str(bits),
        version("ai-edge-litert"),
        source.read_bytes(),
        calibration.tobytes(),
    ]
    parts += [p.read_bytes() for p in (Path(__file__), Path(__file__).with_name("tflite.py"))]

    def make(target: Path) -> None:
        graph = prepare(sb.load_model(source))
        target.write_bytes(_Translation(graph, _ranges(graph, calibration), bits).run())

    return workshop.made(f"{source.stem}-{bits}.tflite", parts, make).read_bytes()


def channels_last_input(source: Path, x: Floats) -> Floats:
    """A sample as ``litert_network`` of the same file takes it."""
    first = prepare(sb.load_model(source)).nodes[0]
    return np.ascontiguousarray(x.transpose(first.op.perm)) if isinstance(first.op, ops.Transpose) else x


def _ranges(graph: Graph, calibration: Floats) -> dict[str, tuple[float, float]]:
    """Smallest and largest real of every value over the calibration samples; 0 is always inside."""
    import torch

    with torch.no_grad():
        values = run_float(graph, {graph.inputs[0]: calibration})
    return {name: (min(float(v.min()), 0.0), max(float(v.max()), 1e-6)) for name, v in values.items()}


def int8_scale(lo: float, hi: float) -> Scale:
    """Scale and zero point of int8 codes for a range that holds 0."""
    scale = float(np.float32((hi - lo) / 255))
    return scale, int(np.clip(round(-128 - lo / scale), -128, 127))


class _Translation:
    """One network on its way."""

    def __init__(self, graph: Graph, ranges: Mapping[str, tuple[float, float]], bits: int) -> None:
        self.graph = graph
        self.ranges = ranges
        self.writer = TfliteWriter(bits)
        self.schema = self.writer.schema
        self.index: dict[str, int] = {}
        self.scales: dict[str, Scale] = {}

    def run(self) -> bytes:
        name = self.graph.inputs[0]
        nodes = list(self.graph.nodes)
        first = nodes[0]
        into = first.output if isinstance(first.op, ops.Transpose) else name
        self._value(into, int8_scale(*self.ranges[into]))
        handlers: dict[type, Callable[[Node], None]] = {
            ops.Conv: self._conv,
            ops.Linear: self._linear,
            ops.Add: self._add,
            ops.AvgPool: self._avg_pool,
            ops.MaxPool: self._max_pool,
            ops.Mean: self._mean,
            ops.Reshape: self._reshape,
            ops.Softmax: self._softmax,
        }
        for node in nodes[into != name :]:
            handlers[type(node.op)](node)
        return self.writer.finish([self.index[into]], [self.index[self.graph.outputs[0]]])

    def _shape(self, name: str) -> list[int]:
        return [d or 1 for d in self.graph.types[name].shape]

    def _value(self, name: str, scale: Scale) -> int:
        self.scales[name] = scale
        self.index[name] = self.writer.activation(self._shape(name), scale)
        return self.index[name]

    def _same_scale(self, node: Node) -> int:
        """The result of an operator that only moves or chooses codes."""
        return self._value(node.output, self.scales[node.inputs[0]])

    def _layer_parameters(self, node: Node, weight: Array, axis: int) -> tuple[int, int]:
        bias = (
            np.asarray(self.graph.constants[node.inputs[2]]) if len(node.inputs) > 2 else np.zeros(weight.shape[axis])
        )
        return self.writer.weights(weight, bias, axis, self.scales[node.inputs[0]][0])

    def _activated(self, node: Node, rectify: ops.Rectify | None, emit: Callable[[int, int], None]) -> None:
        """Emit a layer with its activation, fused where LiteRT can; ``emit`` takes (result, fused activation)."""
        lo, hi = self.ranges[node.output]
        if rectify is None or rectify.slope == 1:
            fused = 0 if rectify is None else ACTIVATIONS[rectify.lo, rectify.hi]
            emit(self._value(node.output, int8_scale(lo, hi)), fused)
            return
        before = self.writer.activation(self._shape(node.output), int8_scale(lo / rectify.slope, hi))
        emit(before, 0)
        options = self.schema.LeakyReluOptionsT()
        options.alpha = rectify.slope
        self.writer.operator("LEAKY_RELU", [before], self._value(node.output, int8_scale(lo, hi)), options, 2)

    def _padded(self, node: Node, op: ops.Conv | ops.MaxPool, kernel: tuple[int, ...]) -> tuple[int, int]:
        """The layer's operand and the schema's padding: SAME (0), or VALID (1) of an operand padded beforehand.

        XNNPACK takes a PAD in front of a convolution into it.
        """
        x = node.inputs[0]
        rows, columns = self._shape(x)[1:3]
        if not any(op.padding):
            return self.index[x], 1
        same: list[int] = []
        for size, taps, stride in zip((rows, columns), kernel, op.stride, strict=True):
            total = max((-(-size // stride) - 1) * stride + taps - size, 0)
            same += [total // 2, total - total // 2]
        if tuple(same) == (op.padding[0], op.padding[2], op.padding[1], op.padding[3]):
            return self.index[x], 0
        top, left, bottom, right = op.padding
        n, height, width, channels = self._shape(x)
        shape = [n, height + top + bottom, width + left + right, channels]
        padded = self.writer.activation(shape, self.scales[x])
        amounts = self.writer.integers(np.array([[0, 0], [top, bottom], [left, right], [0, 0]]))
        self.writer.operator("PAD", [self.index[x], amounts], padded, self.schema.PadOptionsT(), 2)
        return padded, 1

    def _conv(self, node: Node) -> None:
        op = node.op
        assert isinstance(op, ops.Conv)
        weight = np.asarray(self.graph.constants[node.inputs[1]])
        x, padding = self._padded(node, op, weight.shape[1:3])
        depthwise = op.groups > 1
        options: Any
        if depthwise:
            options = self.schema.DepthwiseConv2DOptionsT()
            options.depthMultiplier = weight.shape[0] // op.groups
            weights = self._layer_parameters(node, np.ascontiguousarray(weight.transpose(3, 1, 2, 0)), 3)
        else:
            options = self.schema.Conv2DOptionsT()
            weights = self._layer_parameters(node, weight, 0)
        options.padding = padding
        options.strideH, options.strideW = op.stride
        options.dilationHFactor, options.dilationWFactor = op.dilation

        def emit(result: int, fused: int) -> None:
            options.fusedActivationFunction = fused
            self.writer.operator("DEPTHWISE_CONV_2D" if depthwise else "CONV_2D", [x, *weights], result, options, 3)

        self._activated(node, op.rectify, emit)

    def _linear(self, node: Node) -> None:
        assert isinstance(node.op, ops.Linear)
        weights = self._layer_parameters(node, np.asarray(self.graph.constants[node.inputs[1]]), 0)
        options = self.schema.FullyConnectedOptionsT()

        def emit(result: int, fused: int) -> None:
            options.fusedActivationFunction = fused
            self.writer.operator("FULLY_CONNECTED", [self.index[node.inputs[0]], *weights], result, options, 4)

        self._activated(node, node.op.rectify, emit)

    def _add(self, node: Node) -> None:
        assert isinstance(node.op, ops.Add)
        options = self.schema.AddOptionsT()

        def emit(result: int, fused: int) -> None:
            options.fusedActivationFunction = fused
            self.writer.operator("ADD", [self.index[i] for i in node.inputs], result, options, 2)

        self._activated(node, node.op.rectify, emit)

    def _pool(self, node: Node, name: str, kernel: tuple[int, ...], stride: tuple[int, ...], x: int) -> None:
        options = self.schema.Pool2DOptionsT()
        options.padding = 1
        options.filterHeight, options.filterWidth = kernel
        options.strideH, options.strideW = stride
        self.writer.operator(name, [x], self._same_scale(node), options, 2)

    def _avg_pool(self, node: Node) -> None:
        assert isinstance(node.op, ops.AvgPool)
        self._pool(node, "AVERAGE_POOL_2D", node.op.kernel, node.op.stride, self.index[node.inputs[0]])

    def _max_pool(self, node: Node) -> None:
        """Padding with zeros is right here because what is pooled is never negative."""
        assert isinstance(node.op, ops.MaxPool)
        x, padding = self._padded(node, node.op, node.op.kernel)
        if padding == 0 or any(node.op.padding):
            assert self.ranges[node.inputs[0]][0] >= 0
        self._pool(node, "MAX_POOL_2D", node.op.kernel, node.op.stride, x)

    def _mean(self, node: Node) -> None:
        """A global average, as a pool, which keeps the scale."""
        assert isinstance(node.op, ops.Mean)
        assert node.op.axes == (1, 2)
        assert node.op.keepdims
        size = tuple(self._shape(node.inputs[0])[1:3])
        self._pool(node, "AVERAGE_POOL_2D", size, size, self.index[node.inputs[0]])

    def _reshape(self, node: Node) -> None:
        shape = self.writer.integers(self._shape(node.output))
        options = self.schema.ReshapeOptionsT()
        options.newShape = self._shape(node.output)
        self.writer.operator("RESHAPE", [self.index[node.inputs[0]], shape], self._same_scale(node), options)

    def _softmax(self, node: Node) -> None:
        options = self.schema.SoftmaxOptionsT()
        options.beta = 1.0
        self.writer.operator(
            "SOFTMAX", [self.index[node.inputs[0]]], self._value(node.output, (1 / 256, -128)), options, 2
        )
