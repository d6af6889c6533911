"""Read this first: the road from a trained float network to an integer-only one, step by step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subbyte.arithmetic.requant import ARITHMETICS, Arithmetic
from subbyte.errors import LoweringError, unknown_name
from subbyte.graph.ir import Graph
from subbyte.graph.passes import prepare
from subbyte.ingest.data import Preprocess, batches, take
from subbyte.ingest.onnx_file import load_onnx
from subbyte.model import QuantizedModel, provenance
from subbyte.quantization.calibrate import Feeds, Progress, Ranges, calibrate, with_room
from subbyte.quantization.clipping import output_error_clipping
from subbyte.quantization.clusters import find_clusters
from subbyte.quantization.layers import LayerWeights, default_methods, quantize_layers, sample_limit
from subbyte.quantization.lowering import lower
from subbyte.quantization.methods import CLIPPING, LEARNED_METHODS, SPLITTING, apply_graph_methods
from subbyte.quantization.methods.network import Network
from subbyte.quantization.methods.normals import batch_norm_normals, expected_means
from subbyte.quantization.recipe import Recipe, load_recipe
from subbyte.quantization.resolve import resolve
from subbyte.quantization.scheme import Scheme, make_scheme, on_graph
from subbyte.quantization.slots import find_slots
from subbyte.quantization.snap import snap_scales
from subbyte.quantization.splitting import activation_splitting
from subbyte.quantization.unbend import unbend
from subbyte.quantization.weights import Reals
from subbyte.zeroshot.domain import Synthetic, declared

if TYPE_CHECKING:
    import torch

BATCH_SIZE = 32
JUDGED_SAMPLES = 64
"""Samples on which candidate ranges compete."""


def load_model(path: str | Path) -> Graph:
    """A float graph from an ONNX file; IngestError where it cannot become integers."""
    return load_onnx(Path(path))


def trace(module: torch.nn.Module, example_inputs: tuple[torch.Tensor, ...]) -> Graph:
    """A float graph from a PyTorch module in evaluation mode and example inputs with a leading batch axis."""
    from subbyte.ingest.torch_export import trace as trace_module

    return trace_module(module, example_inputs)


def quantize(
    model: Graph,
    calibration: Any,
    *,
    recipe: str | Path | Recipe = "w8a8",
    arithmetic: Arithmetic = "m31",
    samples: int = 256,
    seed: int = 0,
    preprocess: Preprocess | None = None,
    progress: Progress | None = None,
) -> QuantizedModel:
    """An integer-only model of a trained float network, from unlabelled samples.

    Args:
        model: float graph from ``load_model`` or ``trace``.
        calibration: array, dict of arrays by input name, path (.npz, .npy, folder), list, or iterable of batches; or
            what ``synthesize`` made.
        recipe: short name (``w8a8``, ``w4a8``, ``x31_w17``, ``wternary_a8``), path of a .toml file, or a Recipe.
        arithmetic: ``m31``, ``m15`` or ``shift``: how accumulators are rescaled.
        samples: how many samples are used at most; a seeded subset of larger sets.
        seed: of every random choice.
        preprocess: applied to the calibration samples and stored in the model file.
        progress: called with (stage, done, total).

    Raises:
        SubbyteError: in four parts, for a recipe, data or network that cannot be quantized.
    """
    if arithmetic not in ARITHMETICS:
        raise LoweringError(*unknown_name("arithmetic", arithmetic, ARITHMETICS))
    report = progress or (lambda stage, done, total: None)
    chosen = load_recipe(recipe)
    prepared = unbend(prepare(declared(model, calibration)), arithmetic)
    data = batches(calibration, prepared, batch_size=BATCH_SIZE, limit=samples, seed=seed, preprocess=preprocess)
    normals = batch_norm_normals(model, prepared)
    synthetic = isinstance(calibration, Synthetic)
    known = Network(graph=prepared, normals=normals, batches=data, report=report, synthetic=synthetic)
    integer = to_integers(known, chosen, arithmetic, samples, seed=seed)
    return QuantizedModel(integer, provenance(chosen.name, arithmetic, data.samples, seed, preprocess))


def to_integers(
    known: Network, chosen: Recipe, arithmetic: Arithmetic, samples: int, ranges: Ranges | None = None, seed: int = 0
) -> Graph:
    """The integer graph of a prepared float network.

    Args:
        known: the network, prepared and without bends that the arithmetic cannot carry, and its calibration data.
        chosen: recipe.
        arithmetic: of every rescale.
        samples: how many the weight methods see at most.
        ranges: remembers the activations' ranges from one call to the next with the same network and data; the result
            is the same as without.
        seed: of methods that learn.
    """
    choices = resolve(chosen, known.graph)
    methods = default_methods(choices, known.synthetic) if chosen.methods is None else chosen.methods
    network = apply_graph_methods(known, methods)
    graph = network.graph
    clusters = find_clusters(graph)
    slots = find_slots(graph, clusters, choices, chosen)
    remembered = ranges if graph is known.graph else None
    types = calibrate(graph, slots, known.batches, JUDGED_SAMPLES, known.report, remembered)
    types = with_room(types) if known.synthetic else types
    if CLIPPING in methods:
        rough = make_scheme(graph, clusters, slots, types, choices, arithmetic)
        types = output_error_clipping(rough, known.batches, JUDGED_SAMPLES, known.report).types
    if arithmetic == "shift":
        types = snap_scales(graph, clusters, types)
    scheme = make_scheme(graph, clusters, slots, types, choices, arithmetic)
    if SPLITTING in methods:
        network = activation_splitting(network, scheme, JUDGED_SAMPLES)
        scheme = on_graph(scheme, network.graph, chosen)

    feeds = take(known.batches, sample_limit(network.graph, samples))
    means = expected_means(network.graph, network.normals)
    return lower(*_layers(scheme, feeds, replace(chosen, methods=methods), seed, known.report, means))


def _layers(
    scheme: Scheme, feeds: Feeds, recipe: Recipe, seed: int, report: Progress, means: Mapping[str, Reals]
) -> tuple[Scheme, Mapping[str, LayerWeights]]:
    """All layers' weights, and the scheme, whose steps may have been learned."""
    methods = recipe.methods or ()
    if not set(methods) & set(LEARNED_METHODS):
        return scheme, quantize_layers(scheme, feeds, methods, report, means)
    # torch's training code is loaded for these methods alone
    from subbyte.distill.samples import require
    from subbyte.distill.stack import learn

    taught = recipe.learning.learned(require(feeds))  # what is held out has no part in the start either
    layers = quantize_layers(scheme, {name: x[:taught] for name, x in feeds.items()}, methods, report, means)
    return learn(scheme, layers, feeds, recipe, seed, report)
