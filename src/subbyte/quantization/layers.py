"""Weights and biases of every layer, in execution order behind the already quantized prefix.

The walk carries two versions of every live value, float and fake-quantized, for a bounded sample of the calibration
data. Each layer's bias takes up the difference of the channel means (sequential bias correction, Nagel et al. 2019,
section 4.2, in its empirical form).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from subbyte.formats import get_format
from subbyte.formats.qtensor import QTensor
from subbyte.graph.ir import Graph, Node
from subbyte.graph.torch_executor import FloatExecutor
from subbyte.quantization.calibrate import Feeds, Progress
from subbyte.quantization.fake_quant import fake_quantize
from subbyte.quantization.recipe import LAYER_OPERATORS
from subbyte.quantization.scheme import Scheme
from subbyte.quantization.weights import Reals, affine_weight, fit_bias, quantize_layer_weight

if TYPE_CHECKING:
    import torch

CHUNK = 32
"""Samples run at once."""

MEMORY_BUDGET = 1 << 30
"""Bytes that the walk's live values may take, whatever the size of the calibration set."""


@dataclass(frozen=True, kw_only=True)
class LayerWeights:
    """A layer ready for lowering.

    Attributes:
        weight: quantized, output channel first; an affine becomes depthwise [C, 1, 1, 1].
        bias: reals, float64, one per output channel.
    """

    weight: QTensor
    bias: Reals


def sample_limit(graph: Graph, wanted: int) -> int:
    """How many samples the walk can hold: ``wanted``, or as many as the memory budget allows, at least 8."""
    last_use = {i: k for k, n in enumerate(graph) for i in n.inputs}
    live: dict[str, int] = {v: _elements(graph, v) for v in graph.inputs}
    peak = 1
    for k, node in enumerate(graph):
        live[node.output] = _elements(graph, node.output)
        peak = max(peak, sum(live.values()))
        live = {v: size for v, size in live.items() if last_use.get(v, -1) > k}
    return max(8, min(wanted, MEMORY_BUDGET // (2 * 4 * peak)))


def _elements(graph: Graph, value: str) -> int:
    return math.prod(d or 1 for d in graph.types[value].shape)


def quantize_layers(
    scheme: Scheme, feeds: Feeds, bias_correction: bool, progress: Progress
) -> Mapping[str, LayerWeights]:
    """Quantized weights and corrected biases by node name.

    Args:
        scheme: formats and scales of all activations.
        feeds: float32 samples by input name.
        bias_correction: whether biases take up the shift of the channel means.
        progress: called after every node.
    """
    walk = _Walk(scheme, feeds, bias_correction)
    for k, node in enumerate(scheme.graph):
        walk.step(k, node)
        progress("quantize layers", k + 1, len(scheme.graph.nodes))
    return walk.layers


class _Walk:
    """Float and fake-quantized values, in chunks, freed after their last use."""

    def __init__(self, scheme: Scheme, feeds: Feeds, bias_correction: bool) -> None:
        import torch

        self.scheme = scheme
        self.graph = scheme.graph
        self.correct = bias_correction
        self.executor = FloatExecutor(scheme.graph)
        self.layers: dict[str, LayerWeights] = {}
        self.exact: dict[str, list[torch.Tensor]] = {}
        self.coarse: dict[str, list[torch.Tensor]] = {}
        self.last_use = {i: k for k, n in enumerate(scheme.graph) for i in n.inputs}
        for name in scheme.graph.inputs:
            samples = torch.from_numpy(np.ascontiguousarray(feeds[name], np.float32))
            self.exact[name] = list(torch.split(samples, CHUNK))
            self.coarse[name] = [fake_quantize(x, scheme.stored(name)) for x in self.exact[name]]

    def step(self, k: int, node: Node) -> None:
        """Quantize the node if it has weights, then run both versions of it."""
        operands = self._operands(node)
        if node.op.name in (*LAYER_OPERATORS, "affine"):
            self._layer(node, operands)
        else:
            self.exact[node.output] = self._run(node, self.exact)
            self.coarse[node.output] = self._run(node, operands)
        stored = self.scheme.stored(node.output)
        self.coarse[node.output] = [fake_quantize(y, stored) for y in self.coarse[node.output]]
        for name in set(node.inputs) & set(self.exact):
            if self.last_use[name] <= k:
                del self.exact[name], self.coarse[name]

    def _operands(self, node: Node) -> dict[str, list[torch.Tensor]]:
        """The node's activations as it reads them."""
        result = {}
        for name in self.graph.activations(node):
            read, stored = self.scheme.operand(node, name), self.scheme.stored(name)
            same = read.format is stored.format
            result[name] = self.coarse[name] if same else [fake_quantize(x, read) for x in self.coarse[name]]
        return result

    def _run(self, node: Node, env: Mapping[str, list[torch.Tensor]]) -> list[torch.Tensor]:
        names = self.graph.activations(node)
        chunks = range(len(next(iter(self.exact.values()))))
        return [self.executor.step(node, {i: env[i][c] for i in names}) for c in chunks]

    def _layer(self, node: Node, operands: Mapping[str, list[torch.Tensor]]) -> None:
        import torch

        axis = node.op.axis if node.op.name == "affine" else -1  # type: ignore[attr-defined]
        rectify: Any = node.op.rectify  # type: ignore[attr-defined]
        linear = replace(node, op=replace(node.op, rectify=None))  # type: ignore[type-var]
        exact = self._run(linear, self.exact)
        layer = self._quantize(node)
        weight = torch.from_numpy(self._float_weight(node, layer.weight))
        bias = torch.from_numpy(layer.bias.astype(np.float32))
        coarse = [linear.op.torch(x, weight, bias) for x in operands[node.inputs[0]]]
        shift = _means(exact, axis) - _means(coarse, axis)
        if self.correct and node.op.name != "affine":
            coarse = [y + torch.from_numpy(shift.astype(np.float32)) for y in coarse]
            bias64 = layer.bias + shift
            s_x = self.scheme.operand(node, node.inputs[0]).scale
            float_weight = np.asarray(self.graph.constants[node.inputs[1]], np.float32)
            layer = LayerWeights(weight=fit_bias(float_weight, layer.weight, bias64, s_x), bias=bias64)
        self.layers[node.name] = layer
        self.exact[node.output] = [rectify.torch(y) if rectify else y for y in exact]
        self.coarse[node.output] = [rectify.torch(y) if rectify else y for y in coarse]

    def _quantize(self, node: Node) -> LayerWeights:
        scheme = self.scheme
        weight = np.asarray(self.graph.constants[node.inputs[1]], np.float32)
        has_bias = len(node.inputs) > 2
        bias = np.asarray(self.graph.constants[node.inputs[2]], np.float64) if has_bias else np.zeros(len(weight))
        s_x, s_y = scheme.operand(node, node.inputs[0]).scale, scheme.stored(node.output).scale
        if node.op.name == "affine":
            tensor = affine_weight(weight.astype(np.float64), get_format("int8"), scheme.arithmetic, bias, s_x, s_y)
        else:
            choice = scheme.choices[node.name]
            tensor = quantize_layer_weight(weight, choice, scheme.arithmetic, bias, s_x, s_y)
        return LayerWeights(weight=tensor, bias=bias)

    @staticmethod
    def _float_weight(node: Node, weight: QTensor) -> npt.NDArray[np.float32]:
        reals = weight.dequantize()
        return reals.reshape(-1) if node.op.name == "affine" else reals


def _means(chunks: list[torch.Tensor], axis: int) -> Reals:
    """Mean over everything but the channel axis, float64."""
    flat = [chunk.movedim(axis, -1).reshape(-1, chunk.shape[axis]) for chunk in chunks]
    total = sum((rows.double().sum(dim=0).numpy() for rows in flat), start=np.zeros(flat[0].shape[1]))
    return np.asarray(total / sum(len(rows) for rows in flat))
