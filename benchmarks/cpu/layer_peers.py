"""One layer in every peer: ONNX with and without QDQ, .tflite, torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.cpu import peers
from benchmarks.cpu.layers import INPUT_SCALE, WEIGHT_SCALE, Array, Layer
from benchmarks.cpu.rounds import Output, Runner
from benchmarks.cpu.tflite import TfliteWriter


class _Onnx:
    """Collects one small ONNX model."""

    def __init__(self) -> None:
        self.constants: list[Any] = []
        self.nodes: list[Any] = []

    def constant(self, name: str, array: npt.ArrayLike) -> str:
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def real(self, name: str, array: Array, scale: Array, axis: int) -> str:
        """Integers behind a DequantizeLinear."""
        inputs = [
            self.constant(f"{name}_q", array),
            self.constant(f"{name}_s", scale.astype(np.float32)),
            self.constant(f"{name}_z", np.zeros(scale.shape, array.dtype)),
        ]
        return self.node("DequantizeLinear", inputs, name, axis=axis)

    def finish(self, x: Array, y: tuple[int, ...], kind: int) -> bytes:
        from onnx import helper

        ends = [helper.make_tensor_value_info(n, kind, list(s)) for n, s in (("x", x.shape), ("y", y))]
        graph = helper.make_graph(self.nodes, "layer", ends[:1], ends[1:], self.constants)
        domains = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=domains)
        model.ir_version = 8
        return bytes(model.SerializeToString())


def _onnx_operand(layer: Layer, x: Array) -> Array:
    """Channels first for a convolution, a plain matrix otherwise."""
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2) if layer.is_conv else x[0])


def _onnx_result(layer: Layer) -> tuple[int, ...]:
    n, *_, channels = layer.result_shape
    return (n, channels, layer.rows, layer.columns) if layer.is_conv else layer.result_shape[1:]


def _onnx_weight(layer: Layer, weight: Array) -> Array:
    return weight.transpose(0, 3, 1, 2) if layer.is_conv else weight.T


def _product(model: _Onnx, layer: Layer, names: list[str]) -> str:
    """The layer on reals."""
    if not layer.is_conv:
        return model.node("Add", [model.node("MatMul", names[:2], "product"), names[2]], "r")
    pads = [layer.kernel // 2] * 4
    model.node("Conv", names, "c", kernel_shape=[layer.kernel] * 2, pads=pads, group=layer.groups)
    return model.node("Relu", ["c"], "r")


def onnx_float(layer: Layer) -> bytes:
    """The layer in float32."""
    from onnx import TensorProto

    model = _Onnx()
    weight = model.constant("w", _onnx_weight(layer, layer.weight.dequantize()))
    _product(model, layer, ["x", weight, model.constant("b", layer.real_bias)])
    model.nodes[-1].output[0] = "y"
    return model.finish(_onnx_operand(layer, layer.real_x), _onnx_result(layer), TensorProto.FLOAT)


def onnx_int8(layer: Layer) -> bytes:
    """The layer as QDQ: uint8 codes in and out, int8 weights per channel."""
    from onnx import TensorProto

    model = _Onnx()
    zero = model.constant("zero", np.array(layer.zero_point, np.uint8))
    x = model.node("DequantizeLinear", ["x", model.constant("sx", np.array(INPUT_SCALE, np.float32)), zero], "xr")
    integers = _onnx_weight(layer, layer.weight.integers()).astype(np.int8)
    weight = model.real("w", integers, np.full(layer.outputs, WEIGHT_SCALE), 0 if layer.is_conv else 1)
    bias = model.real("b", layer.bias, np.full(layer.outputs, INPUT_SCALE * WEIGHT_SCALE), 0)
    real = _product(model, layer, [x, weight, bias])
    model.node("QuantizeLinear", [real, model.constant("sy", np.array(layer.output_scale, np.float32)), zero], "y")
    return model.finish(_onnx_operand(layer, layer.x), _onnx_result(layer), TensorProto.UINT8)


def onnx_int4(layer: Layer, block: int = 128) -> bytes:
    """A matrix product with int4 weights in blocks, int8 arithmetic inside (accuracy level 4)."""
    from onnx import TensorProto

    model = _Onnx()
    blocks = layer.inputs // block
    packed = np.random.default_rng(0).integers(0, 256, (layer.outputs, blocks, block // 2)).astype(np.uint8)
    scales = np.full((layer.outputs, blocks), WEIGHT_SCALE, np.float32)
    inputs = ["x", model.constant("w", packed), model.constant("s", scales)]
    sizes = {"K": layer.inputs, "N": layer.outputs, "bits": 4, "block_size": block, "accuracy_level": 4}
    model.node("MatMulNBits", inputs, "y", domain="com.microsoft", **sizes)
    return model.finish(layer.real_x[0], layer.result_shape[1:], TensorProto.FLOAT)


def tflite(layer: Layer, bits: int) -> bytes:
    """The layer for LiteRT."""
    writer = TfliteWriter(bits)
    schema = writer.schema
    shape = layer.sample_shape if layer.is_conv else layer.sample_shape[1:]
    result = layer.result_shape if layer.is_conv else layer.result_shape[1:]
    x = writer.activation(shape, (INPUT_SCALE, layer.zero_point - 128))
    y = writer.activation(result, (layer.output_scale, layer.zero_point - 128))
    weight = layer.weight.dequantize()
    depthwise = layer.groups > 1
    if depthwise:
        weight = np.ascontiguousarray(weight.transpose(3, 1, 2, 0))
    parameters = writer.weights(weight, layer.real_bias, 3 if depthwise else 0, INPUT_SCALE)
    options: Any
    if layer.is_conv:
        options = schema.DepthwiseConv2DOptionsT() if depthwise else schema.Conv2DOptionsT()
        options.padding, options.strideH, options.strideW = 0, 1, 1
        options.dilationHFactor = options.dilationWFactor = options.fusedActivationFunction = 1
        options.depthMultiplier = 1
        writer.operator("DEPTHWISE_CONV_2D" if depthwise else "CONV_2D", [x, *parameters], y, options, 3)
    else:
        options = schema.FullyConnectedOptionsT()
        writer.operator("FULLY_CONNECTED", [x, *parameters], y, options, 9)
    return writer.finish([x], [y])


def _litert(layer: Layer, bits: int, name: str, kind: str, *, counts: bool) -> Runner:
    if bits == 32:
        return peers.litert(name, kind, tflite(layer, bits), layer.real_x, counts=counts)
    codes = (layer.x.astype(np.int16) - 128).astype(np.int8)
    return peers.litert(name, kind, tflite(layer, bits), codes, counts=counts)


def layer_peers(layer: Layer, *, only_openvino: bool = False, int4: bool = False) -> list[Runner]:
    """All peers of an int8 layer; where ``only_openvino``, others are shown but not counted.

    Raises:
        AssertionError: a peer computes something else: the comparison would be wrong.
    """
    others = not only_openvino
    plain, quantized = onnx_float(layer), onnx_int8(layer)
    reals, codes = _onnx_operand(layer, layer.real_x), _onnx_operand(layer, layer.x)
    runners = [
        peers.ort("ort fp32", "fp32", plain, reals, counts=others),
        peers.ort("ort int8", "int8", quantized, codes, counts=others),
        peers.openvino_runner("openvino fp32", "fp32", _openvino_model(plain), reals),
        peers.openvino_runner("openvino int8", "int8", _openvino_model(quantized), codes),
        _litert(layer, 32, "litert fp32", "fp32", counts=others),
        _litert(layer, 8, "litert int8", "int8", counts=others),
    ]
    if int4 and not layer.is_conv:
        runners.append(_litert(layer, 4, "litert int4", "int4", counts=others))
        runners.append(peers.ort("ort int4", "int4", onnx_int4(layer), layer.real_x[0], counts=others))
    if not layer.is_conv and layer.rows > 16:
        runners.append(_torch_int8(layer, counts=others))
    return runners


def _openvino_model(model: bytes) -> Any:
    import io

    import openvino

    return openvino.Core().read_model(io.BytesIO(model))


def _torch_int8(layer: Layer, *, counts: bool) -> Runner:
    """The int8 product of oneDNN through torch: raw int32 sums, no rescale (kind to it)."""
    import torch

    torch.set_num_threads(1)
    x = torch.from_numpy((layer.x[0].astype(np.int16) - 128).astype(np.int8))
    weight = torch.from_numpy(np.ascontiguousarray(layer.weight.integers().T.astype(np.int8)))
    out = torch.empty((layer.rows, layer.outputs), dtype=torch.int32)
    product: Callable[..., Any] = torch._int_mm

    def output() -> Output:
        return np.asarray(product(x, weight).numpy())

    return Runner(
        name="torch int8 sums", kind="int8", call=lambda: product(x, weight, out=out), output=output, counts=counts
    )


def check(layer: Layer, runner: Runner, exact: Output, *, saturates: bool = False) -> float:
    """A peer's int8 answer is ours up to one step of rounding; its float answer correlates.

    Args:
        layer: what is computed.
        runner: of the peer.
        exact: our codes.
        saturates: the peer may clip sums of two products to 16 bits, as it does on CPUs without VNNI: wrong, but fast.

    Returns:
        The largest difference of codes; 0 for other answers.

    Raises:
        AssertionError: it is not.
    """
    got = runner.output().astype(np.float64)
    if layer.is_conv and runner.name.startswith(("ort", "openvino")):
        got = got.transpose(0, 2, 3, 1)
    got = got.reshape(exact.shape)
    assert np.all(np.isfinite(got)), f"{layer.name} {runner.name}: not finite"
    worst = 0.0
    if runner.name in {"ort int8", "openvino int8", "litert int8"}:
        codes = got if runner.name != "litert int8" else np.rint(got / layer.output_scale) + layer.zero_point
        worst = float(np.abs(codes - exact).max())
        assert worst <= 1 or saturates, f"{layer.name} {runner.name}: codes differ by {worst}"
    if runner.kind != "int4":
        together = np.corrcoef(got.reshape(-1), exact.reshape(-1))[0, 1]
        assert together > 0.95, f"{layer.name} {runner.name}: correlation {together:.3f}"
    return worst
