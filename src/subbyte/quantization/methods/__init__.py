"""Weight methods by name: steps from a layer's trained weights to its codes."""

from __future__ import annotations

from collections.abc import Mapping

from subbyte.quantization.methods import gptq, refit, rescale
from subbyte.quantization.methods.state import Method, Problem, State

__all__ = ["BIAS_CORRECTION", "WEIGHT_METHODS", "Method", "Problem", "State"]

WEIGHT_METHODS: Mapping[str, Method] = {"refit": refit.refit, "rescale": rescale.rescale, "gptq": gptq.gptq}
"""In the order in which they make sense."""

BIAS_CORRECTION = "bias_correction"
"""The step behind them: biases take up the shift of the channel means (see ``quantization/layers.py``)."""
