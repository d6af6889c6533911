"""A network on the bench: everything needed to exchange one layer of its 8-bit integer form and look at the answer."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from subbyte.allocation.candidates import BASE
from subbyte.allocation.divergence import Distance, distance
from subbyte.allocation.plan import recipe_of
from subbyte.allocation.problem import Candidate
from subbyte.allocation.samples import Feeds, Samples
from subbyte.arithmetic import boundary
from subbyte.arithmetic.requant import Arithmetic
from subbyte.formats.trims import is_trim
from subbyte.graph.answer import Answer, find_answer
from subbyte.graph.ir import Graph, IntType, Node
from subbyte.graph.passes import prepare
from subbyte.graph.torch_executor import FloatExecutor
from subbyte.quantization.calibrate import Ranges, calibrate, with_room
from subbyte.quantization.clusters import find_clusters
from subbyte.quantization.layers import LayerWeights, quantize_layers, sample_limit, suited
from subbyte.quantization.lowering import lower
from subbyte.quantization.methods import BIAS_CORRECTION
from subbyte.quantization.methods.normals import Normal, batch_norm_normals
from subbyte.quantization.recipe import LAYER_OPERATORS, METHODS
from subbyte.quantization.resolve import resolve
from subbyte.quantization.scarcity import CalibrationWarning
from subbyte.quantization.scheme import Scheme, make_scheme
from subbyte.quantization.slots import find_slots
from subbyte.quantization.snap import snap_scales
from subbyte.quantization.unbend import unbend
from subbyte.runtime.engine import Engine

Report = Callable[[str, int, int], None]

BATCH = 32
JUDGED = 64
"""Samples on which ranges compete, as in ``quantize``."""

MOST_FIT = 128
"""Samples on which one layer's weights are fitted for a measurement; ``quantize`` takes more."""


@dataclass(frozen=True)
class Workbench:
    """A network, its samples, and its 8-bit integer form in exchangeable parts; can be sent to other processes.

    Attributes:
        graph: prepared float graph.
        samples: fitted and judged ones.
        arithmetic: of every rescale.
        types: scale and zero point of every slot that some choice of operands needs.
        base: weights of every layer.
        exact: the float network's answer on the judged samples.
        context: candidates of ``base``; layers that are not named have 8 bits.
        normals: of the results of layers, where batch norms of the network say so.
        ranges: of activations, as whole networks that were tried found them.
    """

    graph: Graph
    samples: Samples
    arithmetic: Arithmetic
    types: Mapping[tuple[str, str], IntType]
    base: Mapping[str, LayerWeights]
    exact: npt.NDArray[Any]
    context: Mapping[str, Candidate] = field(default_factory=dict)
    normals: Mapping[str, Normal] = field(default_factory=dict)
    ranges: Ranges = field(default_factory=dict)

    @property
    def layers(self) -> tuple[Node, ...]:
        """Nodes that have a choice."""
        return find_layers(self.graph)

    @cached_property
    def answer(self) -> Answer:
        """What the network is judged by."""
        return find_answer(self.graph)

    def scheme(self, choice: Mapping[str, Candidate]) -> Scheme:
        """Formats and scales of all activations under a choice; layers that are not named are as in the context."""
        return _scheme(self.graph, {**self.context, **choice}, self.types, self.arithmetic)

    def inputs_of(self, layer: Node) -> npt.NDArray[np.float32]:
        """The float network's input of a layer, on fitted samples."""
        executor, rows = FloatExecutor(self.graph), []
        wanted = layer.inputs[0]
        for feeds in _chunks(self.samples.fit, min(MOST_FIT, sample_limit(self.graph, MOST_FIT))):
            env = {n: executor_tensor(x) for n, x in feeds.items()}
            for node in self.graph:
                if wanted in env:
                    break
                env[node.output] = executor.step(node, env)
            rows.append(env[wanted].numpy())
        return np.concatenate(rows)

    def fit_layer(self, layer: Node, candidate: Candidate, x: npt.NDArray[np.float32]) -> LayerWeights:
        """A layer's weights under a candidate, behind the network as trained.

        Args:
            layer: whose.
            candidate: formats.
            x: of ``inputs_of``.
        """
        alone = self.graph.evolve(inputs=(layer.inputs[0],), outputs=(layer.output,), nodes=(layer,))
        scheme = replace(self.scheme({layer.name: candidate}), graph=alone)
        methods = suited((BIAS_CORRECTION,) if candidate == BASE else METHODS, self.samples.synthetic)
        with warnings.catch_warnings():  # fewer samples than whole networks get: what is too few is said there
            warnings.simplefilter("ignore", CalibrationWarning)
            return quantize_layers(scheme, {layer.inputs[0]: x}, methods, _silent)[layer.name]

    def integer(self, choice: Mapping[str, Candidate], layers: Mapping[str, LayerWeights]) -> Graph:
        """The integer network with some layers exchanged, giving the answer that it is judged by."""
        graph = lower(self.scheme(choice), {**self.base, **layers})
        return graph.evolve(outputs=(self.answer.value,))

    def judge(self, graph: Graph) -> Distance:
        """An integer network with the answer as its output, on the judged samples."""
        return distance(self.exact, integer_answers(graph, self.samples.judged, self.answer), self.answer.kind)


def find_layers(graph: Graph) -> tuple[Node, ...]:
    """Convolutions and linear layers."""
    return tuple(n for n in graph if n.op.name in LAYER_OPERATORS)


def make_workbench(
    model: Graph,
    samples: Samples,
    arithmetic: Arithmetic = "m31",
    activations: tuple[str, ...] = ("uint8",),
    report: Report = lambda stage, done, total: None,
) -> Workbench:
    """Calibrate a network once for each operand format and quantize its weights to 8 bits.

    Raises:
        SubbyteError: the network cannot be quantized.
    """
    graph = unbend(prepare(model), arithmetic)
    clusters = find_clusters(graph)
    types: dict[tuple[str, str], IntType] = {}
    for name in dict.fromkeys(("uint8", *(a for a in activations if not is_trim(a)))):
        choice = {n.name: Candidate("int8", name) for n in find_layers(graph)}
        recipe = recipe_of(choice, graph)
        slots = find_slots(graph, clusters, resolve(recipe, graph), recipe)
        found = calibrate(graph, slots, list(_chunks(samples.fit)), JUDGED, report)
        found = with_room(found) if samples.synthetic else found
        types = {**found, **types}  # what 8-bit operands asked for stays
    if arithmetic == "shift":
        types = snap_scales(graph, clusters, types)
    bench = Workbench(graph, samples, arithmetic, types, {}, np.empty(0))
    limit = sample_limit(graph, len(next(iter(samples.fit.values()))))
    scheme, fit = bench.scheme({}), {n: x[:limit] for n, x in samples.fit.items()}
    base = quantize_layers(scheme, fit, suited((BIAS_CORRECTION,), samples.synthetic), report)
    exact = float_answers(graph, samples.judged, bench.answer)
    return replace(bench, base=base, exact=exact, normals=batch_norm_normals(model, graph))


def float_answers(graph: Graph, feeds: Feeds, answer: Answer) -> npt.NDArray[Any]:
    """The float network's answer [samples, ...]."""
    executor = FloatExecutor(graph)
    return np.concatenate([executor.run(chunk)[answer.value].detach().numpy() for chunk in _chunks(feeds)])


def integer_answers(graph: Graph, feeds: Feeds, answer: Answer) -> npt.NDArray[np.float32]:
    """An integer network's answer in reals [samples, ...], on the native engine."""
    engine = Engine(graph)
    kinds = {n: graph.types[n] for n in (*graph.inputs, answer.value)}
    out = kinds[answer.value]
    assert isinstance(out, IntType)
    rows = []
    for chunk in _chunks(feeds):
        codes = {n: _encode(x, kinds[n]) for n, x in chunk.items()}
        rows.append(engine.run(codes)[answer.value])
    return boundary.dequantize(np.concatenate(rows), out.scale, out.zero_point)


def _encode(x: npt.NDArray[np.float32], kind: object) -> npt.NDArray[Any]:
    assert isinstance(kind, IntType)
    return boundary.quantize(x, kind.scale, kind.zero_point, kind.lo, kind.hi, kind.storage)


def _scheme(
    graph: Graph, choice: Mapping[str, Candidate], types: Mapping[tuple[str, str], IntType], arithmetic: Arithmetic
) -> Scheme:
    recipe = recipe_of({n.name: choice.get(n.name, BASE) for n in find_layers(graph)}, graph)
    choices = resolve(recipe, graph)
    clusters = find_clusters(graph)
    slots = find_slots(graph, clusters, choices, recipe)
    return make_scheme(graph, clusters, slots, types, choices, arithmetic)


def _chunks(feeds: Feeds, limit: int | None = None) -> list[dict[str, npt.NDArray[np.float32]]]:
    count = len(next(iter(feeds.values())))
    stop = count if limit is None else min(limit, count)
    return [
        {n: np.ascontiguousarray(x[i : min(i + BATCH, stop)]) for n, x in feeds.items()} for i in range(0, stop, BATCH)
    ]


def executor_tensor(x: npt.NDArray[np.float32]) -> Any:
    """A copy as a tensor; samples from an object store are read-only."""
    import torch

    return torch.tensor(x)


def _silent(stage: str, done: int, total: int) -> None:
    del stage, done, total
