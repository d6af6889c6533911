"""Weights and biases of every layer, in execution order behind the already quantized prefix.

The walk carries two versions of every live value, float and fake-quantized, for a bounded sample of the calibration
data. Each layer's bias takes up the difference of the channel means (sequential bias correction, Nagel et al. 2019,
section 4.2, in its empirical form).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from subbyte.errors import SubbyteError
from subbyte.formats.qtensor import QTensor
from subbyte.graph.ir import Graph, Node
from subbyte.graph.ops.affine import Affine
from subbyte.graph.ops.rectify import rectified
from subbyte.graph.torch_executor import FloatExecutor
from subbyte.graph.verify import place_of
from subbyte.quantization.calibrate import Feeds, Progress
from subbyte.quantization.fake_quant import fake_quantize
from subbyte.quantization.parts import Layer, Scaling, without_rectify
from subbyte.quantization.scheme import Scheme
from subbyte.quantization.weights import Reals, affine_weight, fit_bias, quantize_layer_weight

if TYPE_CHECKING:
    import torch

    Chunks: TypeAlias = list[torch.Tensor]

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
        self.exact: dict[str, Chunks] = {}
        self.coarse: dict[str, Chunks] = {}
        self.last_use = {i: k for k, n in enumerate(scheme.graph) for i in n.inputs}
        for name in scheme.graph.inputs:
            samples = torch.from_numpy(np.ascontiguousarray(feeds[name], np.float32))
            self.exact[name] = list(torch.split(samples, CHUNK))
            self.coarse[name] = [fake_quantize(x, scheme.stored(name)) for x in self.exact[name]]

    def step(self, k: int, node: Node) -> None:
        """Quantize the node if it has weights, then run both versions of it."""
        operands = {name: self._operand(node, name) for name in self.graph.activations(node)}
        if isinstance(node.op, Scaling):
            exact, coarse = self._layer(node, node.op, operands[node.inputs[0]])
        else:
            exact, coarse = self._run(node, self.exact), self._run(node, operands)
        stored = self.scheme.stored(node.output)
        self.exact[node.output] = exact
        self.coarse[node.output] = [fake_quantize(y, stored) for y in coarse]
        for name in set(node.inputs) & set(self.exact):
            if self.last_use[name] <= k:
                del self.exact[name], self.coarse[name]

    def _operand(self, node: Node, name: str) -> Chunks:
        """The quantized value as the node reads it."""
        read, stored = self.scheme.operand(node, name), self.scheme.stored(name)
        chunks = self.coarse[name]
        return chunks if read == stored else [fake_quantize(x, read) for x in chunks]

    def _run(self, node: Node, env: Mapping[str, Chunks]) -> Chunks:
        names = self.graph.activations(node)
        return [self.executor.step(node, {i: env[i][c] for i in names}) for c in range(len(env[names[0]]))]

    def _layer(self, node: Node, op: Scaling, operand: Chunks) -> tuple[Chunks, Chunks]:
        """Quantize one layer and correct its bias; float and quantized results."""
        import torch

        linear = without_rectify(op)
        exact = self._run(replace(node, op=linear), self.exact)
        layer = self._quantize(node, op)
        reals = layer.weight.dequantize().reshape(self._weight(node).shape)
        weight, bias = torch.from_numpy(reals), torch.from_numpy(layer.bias.astype(np.float32))
        coarse = [linear.torch(x, weight, bias) for x in operand]
        if self.correct and isinstance(op, Layer):
            shift = _means(exact) - _means(coarse)
            coarse = [y + torch.from_numpy(shift.astype(np.float32)) for y in coarse]
            layer = self._with_bias(node, layer, layer.bias + shift)
        self.layers[node.name] = layer
        return [rectified(op.rectify, y) for y in exact], [rectified(op.rectify, y) for y in coarse]

    def _quantize(self, node: Node, op: Scaling) -> LayerWeights:
        weight, scheme = self._weight(node), self.scheme
        has_bias = len(node.inputs) > 2
        bias = np.asarray(self.graph.constants[node.inputs[2]], np.float64) if has_bias else np.zeros(len(weight))
        s_x, s_y = scheme.operand(node, node.inputs[0]).scale, scheme.stored(node.output).scale
        try:
            if isinstance(op, Affine):
                tensor = affine_weight(weight, scheme.arithmetic, bias, s_x, s_y)
            else:
                tensor = quantize_layer_weight(weight, scheme.choices[node.name], scheme.arithmetic, bias, s_x, s_y)
        except SubbyteError as error:
            raise error.at(place_of(self.graph, node)) from error
        return LayerWeights(weight=tensor, bias=bias)

    def _with_bias(self, node: Node, layer: LayerWeights, bias: Reals) -> LayerWeights:
        s_x = self.scheme.operand(node, node.inputs[0]).scale
        return LayerWeights(weight=fit_bias(self._weight(node), layer.weight, bias, s_x), bias=bias)

    def _weight(self, node: Node) -> npt.NDArray[np.float32]:
        """Float weights, output channel first."""
        return np.asarray(self.graph.constants[node.inputs[1]], np.float32)


def _means(chunks: Chunks) -> Reals:
    """Mean over everything but the channels, which come last; float64."""
    rows = [chunk.reshape(-1, chunk.shape[-1]) for chunk in chunks]
    total = sum((r.double().sum(dim=0).numpy() for r in rows), start=np.zeros(rows[0].shape[1]))
    return np.asarray(total / sum(len(r) for r in rows))
