"""Methods by name: graph methods, weight methods and corrections, in the order in which they run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from subbyte.quantization.methods import descent, gptq, inq, refit, rescale
from subbyte.quantization.methods.absorption import bias_absorption
from subbyte.quantization.methods.analytic_bias import analytic_bias_correction
from subbyte.quantization.methods.batch_norm import batch_norm_reestimation
from subbyte.quantization.methods.bias_correction import bias_correction
from subbyte.quantization.methods.equalization import equalization
from subbyte.quantization.methods.network import GraphMethod, Network
from subbyte.quantization.methods.outcome import Correction
from subbyte.quantization.methods.smoothing import smoothing
from subbyte.quantization.methods.splitting import channel_splitting
from subbyte.quantization.methods.state import Method, Problem, State
from subbyte.quantization.methods.visible_bias import visible_bias_correction

__all__ = [
    "AFFINE_CORRECTIONS",
    "BIAS_CORRECTION",
    "CLIPPING",
    "CODE_METHODS",
    "CORRECTIONS",
    "DEFAULT_WEIGHT_METHODS",
    "GRAPH_METHODS",
    "LEARNED_METHODS",
    "SPLITTING",
    "VISIBLE_BIAS_CORRECTION",
    "WEIGHT_METHODS",
    "Method",
    "Problem",
    "State",
    "apply_graph_methods",
]

GRAPH_METHODS: Mapping[str, GraphMethod] = {
    "equalization": equalization,
    "bias_absorption": bias_absorption,
    "smoothing": smoothing,
    "channel_splitting": channel_splitting,
}
"""Rewrites of the float network before calibration."""

CLIPPING = "output_error_clipping"
"""Ranges of low-bit activations moved behind calibration (see ``quantization/clipping.py``)."""

SPLITTING = "activation_splitting"
"""Copies of channels a part of a step apart, behind calibration (see ``quantization/splitting.py``)."""

WEIGHT_METHODS: Mapping[str, Method] = {
    "refit": refit.refit,
    "rescale": rescale.rescale,
    "gptq": gptq.gptq,
    "descent": descent.descent,
    "inq": inq.inq,
}
"""Steps from a layer's trained weights to its codes."""

DEFAULT_WEIGHT_METHODS = ("refit", "rescale", "gptq", "descent")
"""Those of low-bit recipes that name none."""

CODE_METHODS = (gptq.gptq, descent.descent, inq.inq)
"""Those that choose codes themselves; a layer whose recipe names a rounding keeps the codes of that."""

BIAS_CORRECTION = "bias_correction"

VISIBLE_BIAS_CORRECTION = "visible_bias_correction"

CORRECTIONS: Mapping[str, Correction] = {
    "batch_norm_reestimation": batch_norm_reestimation,
    "analytic_bias_correction": analytic_bias_correction,
    BIAS_CORRECTION: bias_correction,
    VISIBLE_BIAS_CORRECTION: visible_bias_correction,
}
"""What is done about a layer's results when its codes are found (see ``quantization/layers.py``)."""

AFFINE_CORRECTIONS = (batch_norm_reestimation,)
"""Those that act on affines as well: what remains of a batch norm that follows no convolution."""

LEARNED_METHODS = ("adaround", "block_reconstruction", "distill")
"""What may follow them: methods that learn by gradient from the same samples (see ``distill/``); never by default."""


def apply_graph_methods(network: Network, methods: Iterable[str]) -> Network:
    """The network behind those of the methods that rewrite it, in order."""
    for name in methods:
        if name in GRAPH_METHODS:
            network = GRAPH_METHODS[name](network)
    return network
