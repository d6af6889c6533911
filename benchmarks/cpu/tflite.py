"""A small writer of .tflite files: tensors, constants and the operators that the benchmarks' networks need.

The schema classes come with LiteRT. Activations are NHWC; an int8 network is full-integer as LiteRT's own converter
makes it (Jacob et al. 2017): int8 codes, int8 weights per output channel without zero point, int32 biases.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Scale = tuple[float, int]
"""Scale and zero point of int8 codes."""


class TfliteWriter:
    """Collects tensors and operators of one network; tensors are known by their index.

    Args:
        bits: of the weights: 32 (everything in float32), 8, or 4 (int4 weights, int8 activations).
    """

    def __init__(self, bits: int) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.schema: Any = schema
        self.bits = bits
        self._tensors: list[Any] = []
        self._buffers: list[Any] = [schema.BufferT()]
        self._operators: list[Any] = []
        self._codes: list[Any] = []

    def tensor(self, shape: Sequence[int], kind: str, data: bytes = b"") -> int:
        """A tensor of the schema's type name ``kind``; without data it is an activation."""
        tensor = self.schema.TensorT()
        tensor.name = f"t{len(self._tensors)}".encode()
        tensor.shape = list(shape)
        tensor.type = getattr(self.schema.TensorType, kind)
        tensor.buffer = 0
        if data:
            buffer = self.schema.BufferT()
            buffer.data = np.frombuffer(data, np.uint8)
            tensor.buffer = len(self._buffers)
            self._buffers.append(buffer)
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def _quantization(self, index: int, scale: Array, zero: Array, axis: int = 0) -> None:
        parameters = self.schema.QuantizationParametersT()
        parameters.scale = np.asarray(scale, dtype=np.float32)
        parameters.zeroPoint = np.asarray(zero, dtype=np.int64)
        parameters.quantizedDimension = axis
        self._tensors[index].quantization = parameters

    def activation(self, shape: Sequence[int], scale: Scale) -> int:
        """A value between operators; the scale is used unless the network is float32."""
        if self.bits == 32:
            return self.tensor(shape, "FLOAT32")
        index = self.tensor(shape, "INT8")
        self._quantization(index, np.array([scale[0]]), np.array([scale[1]]))
        return index

    def integers(self, values: Sequence[int] | Array) -> int:
        """A constant of int32, such as a shape."""
        array = np.asarray(values, dtype=np.int32)
        return self.tensor(array.shape, "INT32", array.tobytes())

    def weights(self, weight: Array, bias: Array, axis: int, input_scale: float) -> tuple[int, int]:
        """Weights and bias of a layer from their reals; ``axis`` is that of the output channels."""
        if self.bits == 32:
            return (
                self.tensor(weight.shape, "FLOAT32", weight.astype(np.float32).tobytes()),
                self.tensor(bias.shape, "FLOAT32", bias.astype(np.float32).tobytes()),
            )
        top = 2 ** (self.bits - 1) - 1
        others = tuple(i for i in range(weight.ndim) if i != axis)
        scale = np.maximum(np.abs(weight).max(axis=others).astype(np.float64), 1e-9) / top
        shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
        codes = np.rint(weight / scale.reshape(shape)).astype(np.int8)
        index = self.tensor(weight.shape, f"INT{self.bits}", (codes if self.bits == 8 else _nibbles(codes)).tobytes())
        zero = np.zeros(len(scale), np.int64)
        self._quantization(index, scale, zero, axis)
        unit = scale * input_scale
        biases = self.integers(np.clip(np.rint(bias.astype(np.float64) / unit), -(2**31), 2**31 - 1))
        self._quantization(biases, unit, zero)
        return index, biases

    def operator(self, name: str, inputs: Sequence[int], output: int, options: Any = None, version: int = 1) -> None:
        """Append an operator; options are the schema's object for it."""
        operator = self.schema.OperatorT()
        operator.opcodeIndex = self._code(getattr(self.schema.BuiltinOperator, name), version)
        operator.inputs, operator.outputs = list(inputs), [output]
        if options is not None:
            operator.builtinOptionsType = getattr(self.schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
            operator.builtinOptions = options
        self._operators.append(operator)

    def _code(self, builtin: int, version: int) -> int:
        for i, code in enumerate(self._codes):
            if code.builtinCode == builtin:
                return i
        code = self.schema.OperatorCodeT()
        code.builtinCode, code.deprecatedBuiltinCode, code.version = builtin, min(builtin, 127), version
        self._codes.append(code)
        return len(self._codes) - 1

    def finish(self, inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
        """The file."""
        import flatbuffers

        graph = self.schema.SubGraphT()
        graph.name, graph.tensors, graph.operators = b"main", self._tensors, self._operators
        graph.inputs, graph.outputs = list(inputs), list(outputs)
        model = self.schema.ModelT()
        model.version, model.subgraphs, model.buffers, model.operatorCodes = 3, [graph], self._buffers, self._codes
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def _nibbles(codes: Array) -> Array:
    """Two int4 codes to a byte, the first in the low half."""
    flat = codes.reshape(-1).astype(np.uint8) & 15
    flat = np.append(flat, np.zeros(flat.size % 2, np.uint8))
    return flat[::2] | (flat[1::2] << 4)
