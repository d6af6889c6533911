"""Weights and biases of every layer, in execution order behind the already quantized prefix.

The walk carries two versions of every live value, float and fake-quantized, for a bounded sample of the calibration
data. The weight methods of ``methods/`` see a layer's quantized inputs and the float results that they should lead to.
Then the corrections act on its results, channel by channel, through scales and biases.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from subbyte.arithmetic.bounds import least_pre_shift
from subbyte.errors import SubbyteError
from subbyte.formats.granularity import Mx
from subbyte.formats.qtensor import QTensor
from subbyte.formats.two_of_four import spread_tensor
from subbyte.graph.ir import Graph, Node
from subbyte.graph.ops.affine import Affine, per_channel
from subbyte.graph.ops.rectify import rectified
from subbyte.graph.torch_executor import FloatExecutor
from subbyte.graph.verify import place_of
from subbyte.quantization.calibrate import Feeds, Progress
from subbyte.quantization.fake_quant import as_read, fake_quantize
from subbyte.quantization.methods import (
    AFFINE_CORRECTIONS,
    BIAS_CORRECTION,
    CODE_METHODS,
    CORRECTIONS,
    VISIBLE_BIAS_CORRECTION,
    WEIGHT_METHODS,
    Problem,
    State,
)
from subbyte.quantization.methods.moments import measure
from subbyte.quantization.methods.outcome import ChannelMoments, Correction, Outcome
from subbyte.quantization.multiplied import Multiplied, ends
from subbyte.quantization.parts import Layer, Scaling, without_rectify
from subbyte.quantization.recipe import METHODS
from subbyte.quantization.resolve import LayerChoice, is_coarse
from subbyte.quantization.scarcity import Scarce, warn_scarce
from subbyte.quantization.scheme import Scheme
from subbyte.quantization.weights import (
    Reals,
    affine_weight,
    fit_bias,
    least_scale,
    quantize_layer_weight,
    room_for_bias,
)

if TYPE_CHECKING:
    import torch

    Chunks: TypeAlias = list[torch.Tensor]

Floats = npt.NDArray[np.float32]

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
        reals: float32, what the codes stand for, where somebody may want to round them again.
    """

    weight: QTensor
    bias: Reals
    reals: npt.NDArray[np.float32] | None = None

    def pre_shift(self, x: Multiplied) -> int:
        """Of the layer's sums over an operand, so that with its biases they are proved to fit int32."""
        units = x.scale * self.weight.scale.astype(np.float64)
        return least_pre_shift(self.weight.integers(), *ends(x), self.bias / units)

    def held_bias(self, x: Multiplied) -> Reals:
        """The biases as integers hold them, in units of the operand's scale times the weights', times the pre-shift's.

        What a layer makes of a dead input is its bias alone; where that lies between two codes of a coarse result, the
        rounding decides for all such pixels, and the layers behind must see the same.
        """
        unit = x.scale * self.weight.scale.astype(np.float64) * 2.0 ** self.pre_shift(x)
        return np.asarray(np.rint(self.bias / unit) * unit)


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


def default_methods(choices: Mapping[str, LayerChoice], synthetic: bool = False) -> tuple[str, ...]:
    """Bias correction alone where no layer is coarse; the whole stack where one is."""
    return suited(METHODS if any(map(is_coarse, choices.values())) else (BIAS_CORRECTION,), synthetic)


def suited(methods: Sequence[str], synthetic: bool) -> tuple[str, ...]:
    """Methods as the kind of samples wants them.

    Synthetic samples have the kept means and variances, but what an activation cuts may be anything in them: biases
    are corrected by what is let through.
    """
    return tuple(VISIBLE_BIAS_CORRECTION if synthetic and m == BIAS_CORRECTION else m for m in methods)


def quantize_layers(
    scheme: Scheme,
    feeds: Feeds,
    methods: Sequence[str],
    progress: Progress,
    means: Mapping[str, Reals] | None = None,
) -> Mapping[str, LayerWeights]:
    """Quantized weights and corrected biases by node name.

    Args:
        scheme: formats and scales of all activations.
        feeds: float32 samples by input name.
        methods: names of ``recipe.ALL_METHODS``; weight methods and corrections, each in the order given;
            those that learn are left to ``distill``.
        progress: called after every node.
        means: of the channels of float values, by value, where they are known without data.

    Warns:
        CalibrationWarning: a layer has fewer windows than inputs, and a method wants their second moments.
    """
    walk = _Walk(scheme, feeds, methods, means or {}, {})
    walk.all("quantize layers", progress)
    warn_scarce(walk.scarce, len(next(iter(feeds.values()))))
    return walk.layers


def correct_biases(
    scheme: Scheme, layers: Mapping[str, LayerWeights], feeds: Feeds, progress: Progress
) -> Mapping[str, LayerWeights]:
    """Bias correction of layers whose codes stay as they are."""
    walk = _Walk(scheme, feeds, (BIAS_CORRECTION,), {}, layers)
    walk.all("correct biases", progress)
    return walk.layers


class _Walk:
    """Float and fake-quantized values, in chunks, freed after their last use."""

    def __init__(
        self,
        scheme: Scheme,
        feeds: Feeds,
        methods: Sequence[str],
        means: Mapping[str, Reals],
        given: Mapping[str, LayerWeights],
    ) -> None:
        import torch

        self.scheme = scheme
        self.graph = scheme.graph
        self.given = given
        self.steps = [WEIGHT_METHODS[m] for m in methods if m in WEIGHT_METHODS]
        self.corrections = [CORRECTIONS[m] for m in methods if m in CORRECTIONS]
        self.means = means
        self.scarce: list[Scarce] = []
        self.executor = FloatExecutor(scheme.graph)
        self.layers: dict[str, LayerWeights] = {}
        self.exact: dict[str, Chunks] = {}
        self.coarse: dict[str, Chunks] = {}
        self.last_use = {i: k for k, n in enumerate(scheme.graph) for i in n.inputs}
        for name in scheme.graph.inputs:
            samples = torch.from_numpy(np.ascontiguousarray(feeds[name], np.float32))
            self.exact[name] = list(torch.split(samples, CHUNK))
            self.coarse[name] = [fake_quantize(x, scheme.stored(name)) for x in self.exact[name]]

    def all(self, stage: str, progress: Progress) -> None:
        """Every node in order."""
        for k, node in enumerate(self.graph):
            self.step(k, node)
            progress(stage, k + 1, len(self.graph.nodes))

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
        return [as_read(x, self.scheme, node, name, versions=True) for x in self.coarse[name]]

    def _run(self, node: Node, env: Mapping[str, Chunks]) -> Chunks:
        names = self.graph.activations(node)
        return [self.executor.step(node, {i: env[i][c] for i in names}) for c in range(len(env[names[0]]))]

    def _layer(self, node: Node, op: Scaling, operand: Chunks) -> tuple[Chunks, Chunks]:
        """Quantize one layer and correct its bias; float and quantized results."""
        import torch

        linear = without_rectify(op)
        exact = self._run(replace(node, op=linear), self.exact)
        try:
            weight, layer = self._quantize(node, op, operand, exact)
            reals = torch.from_numpy(self._multiplied(node, layer.weight).reshape(*weight.shape[:-1], -1))
        except SubbyteError as error:
            raise error.at(place_of(self.graph, node)) from error
        bias = torch.from_numpy(layer.bias.astype(np.float32))
        coarse = [linear.torch(x, reals, bias) for x in operand]
        for correct in self.corrections:
            if isinstance(op, Layer) or (correct in AFFINE_CORRECTIONS and op.axis == exact[0].ndim - 1):
                weight, layer, coarse = self._corrected(correct, node, (weight, layer), exact, coarse)
        x = self.scheme.multiplied(node)
        rounding = torch.from_numpy((layer.held_bias(x) - layer.bias).astype(np.float32))
        axis = op.axis if isinstance(op, Affine) else exact[0].ndim - 1
        coarse = [y + per_channel(rounding, y, axis) for y in coarse]
        self.layers[node.name] = layer
        return [rectified(op.rectify, y) for y in exact], [rectified(op.rectify, y) for y in coarse]

    def _fixed(self, node: Node) -> bool:
        """Whether scales of channels stay as they were chosen: powers of two, or in ratios that are."""
        choice = self.scheme.choices.get(node.name)
        return self.scheme.arithmetic == "shift" or (choice is not None and isinstance(choice.granularity, Mx))

    def _corrected(
        self, correct: Correction, node: Node, made: tuple[Floats, LayerWeights], exact: Chunks, coarse: Chunks
    ) -> tuple[Floats, LayerWeights, Chunks]:
        """Weights, layer and results behind one correction."""
        import torch

        assert isinstance(node.op, Scaling)
        weight, layer = made
        value = node.inputs[0]
        outcome = Outcome(
            op=node.op,
            exact=exact,
            coarse=coarse,
            weight=weight.astype(np.float64),
            quantized=layer.weight.dequantize().reshape(weight.shape).astype(np.float64),
            find_means=lambda: self.means[value] if value in self.means else ChannelMoments(self.exact[value]).mean,
            scalable=layer.weight.scale.ndim == 1 and not self._fixed(node),
        )
        factor, shift = correct(outcome)
        if np.any(factor != 1):
            spread = factor.reshape(-1, *(1,) * (weight.ndim - 1))
            weight = (weight * spread).astype(np.float32)
            scale = (layer.weight.scale * factor).astype(np.float32)
            layer = LayerWeights(weight=replace(layer.weight, scale=scale), bias=layer.bias)
        bias = layer.bias * factor + shift
        x = self.scheme.multiplied(node)
        choice = self.scheme.choices.get(node.name)
        rounding = choice.rounding if choice else "half_even"
        fitted = fit_bias(
            weight.reshape(layer.weight.shape), layer.weight, bias, x.scale, rounding, room=room_for_bias(x)
        )
        layer = LayerWeights(weight=fitted, bias=bias, reals=weight)
        change = [torch.from_numpy(c.astype(np.float32)) for c in (factor, shift)]
        return weight, layer, [y * change[0] + change[1] for y in coarse]

    def _pruned(self, node: Node) -> bool:
        """Whether the layer lives by weights that are 0, which the weight methods would fill."""
        trim = self.scheme.trim(node)
        return trim is not None and trim[0].pairing == "stc"

    def _multiplied(self, node: Node, weight: QTensor) -> Floats:
        """The weights as reals, where its operand comes in versions at those that they read."""
        return (spread_tensor(weight) if self._pruned(node) else weight).dequantize()

    def _quantize(
        self, node: Node, op: Scaling, operand: Chunks, exact: Chunks
    ) -> tuple[npt.NDArray[np.float32], LayerWeights]:
        """The reals that the codes stand for, and the layer before bias correction."""
        scheme = self.scheme
        weight = np.asarray(self.graph.constants[node.inputs[1]], np.float32)
        if node.name in self.given:
            layer = self.given[node.name]
            reals = layer.weight.dequantize() if layer.reals is None else layer.reals
            return reals.reshape(weight.shape), layer
        has_bias = len(node.inputs) > 2
        bias = np.asarray(self.graph.constants[node.inputs[2]], np.float64) if has_bias else np.zeros(len(weight))
        x = scheme.multiplied(node)
        s_x, s_y, room = x.scale, scheme.stored(node.output).scale, room_for_bias(x)
        if isinstance(op, Affine):
            tensor = affine_weight(weight, scheme.arithmetic, bias, s_x, s_y, room)
            return weight, LayerWeights(weight=tensor, bias=bias)
        choice = scheme.choices[node.name]

        def scaled(reals: npt.NDArray[np.float32], importance: Reals | None) -> QTensor:
            return quantize_layer_weight(reals, choice, scheme.arithmetic, bias, s_x, s_y, importance, room)

        pruned = self._pruned(node)
        if self.steps and not pruned and (windows := sum(y[..., 0].numel() for y in exact)) < weight[0].size:
            self.scarce.append(Scarce(node.name, windows, weight[0].size))
        state = State(weight=weight, tensor=scaled(weight, None))
        problem = Problem(
            find_moments=lambda: measure(op, weight.shape, operand, exact),
            find_scales=scaled,
            least_scale=None if self._fixed(node) else least_scale(bias, s_x, state.tensor, room),
        )
        for step in () if pruned else self.steps:
            if choice.rounding == "half_even" or step not in CODE_METHODS:
                state = step(problem, state)
        return state.weight, LayerWeights(weight=state.tensor, bias=bias, reals=state.weight)
