"""The learned methods by name, run in the recipe's order behind the walk of ``quantization/layers.py``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from subbyte.distill.distillation import distill, held_out_loss
from subbyte.distill.reconstruction import adaround, block_reconstruction
from subbyte.distill.samples import Feeds, Samples
from subbyte.distill.student import Student
from subbyte.graph.torch_executor import FloatExecutor
from subbyte.quantization.calibrate import Progress
from subbyte.quantization.layers import LayerWeights, correct_biases
from subbyte.quantization.learning import Learning
from subbyte.quantization.methods import BIAS_CORRECTION
from subbyte.quantization.recipe import Recipe
from subbyte.quantization.scheme import Scheme

Quantized: TypeAlias = tuple[Scheme, Mapping[str, LayerWeights]]
Learned: TypeAlias = Callable[[Scheme, Mapping[str, LayerWeights], Feeds, Learning, int, Progress], Quantized]

LEARNED: Mapping[str, Learned] = {
    "adaround": adaround,
    "block_reconstruction": block_reconstruction,
    "distill": distill,
}
"""Of ``quantization.methods.LEARNED_METHODS``."""


def learn(
    scheme: Scheme,
    layers: Mapping[str, LayerWeights],
    feeds: Feeds,
    recipe: Recipe,
    seed: int,
    progress: Progress,
) -> Quantized:
    """What the learned methods of a recipe make of a quantized network; the same one where there are none.

    Where biases are corrected at all, they are corrected again at the end, if held-out samples do not object.

    Args:
        scheme: the quantized network.
        layers: its weights.
        feeds: float32 samples by input name, without labels.
        recipe: methods and settings of learning.
        seed: of every random choice.
        progress: called with (stage, done, total).

    Raises:
        DataError: there are too few samples, or a loss is not finite.
    """
    methods, settings = recipe.methods or (), recipe.learning
    wanted = [m for m in methods if m in LEARNED]
    for method in wanted:
        scheme, layers = LEARNED[method](scheme, layers, feeds, settings, seed, progress)
    if not wanted or BIAS_CORRECTION not in methods:
        return scheme, layers
    corrected = correct_biases(scheme, layers, feeds, progress)
    return scheme, min((layers, corrected), key=lambda each: _distance(scheme, each, feeds, settings))


def _distance(scheme: Scheme, layers: Mapping[str, LayerWeights], feeds: Feeds, settings: Learning) -> float:
    student = Student(scheme, layers, settings.device)
    teacher = FloatExecutor(scheme.graph, settings.device)
    return held_out_loss(student, teacher, Samples.split(feeds, settings), settings)
