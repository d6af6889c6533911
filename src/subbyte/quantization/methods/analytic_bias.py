"""Analytic bias correction: what rounded weights make of the mean input."""

from __future__ import annotations

import numpy as np

from subbyte.graph.passes.links import of_constants
from subbyte.quantization.methods.outcome import Change, Outcome


def analytic_bias_correction(outcome: Outcome) -> Change:
    """Take back E[y'] - E[y] = (W' - W) E[x], W' the quantized weights and x the layer's float input.

    E[x] of a ReLU'd batch norm is the mean of a clipped normal, without any data; where no batch norm says it, it is
    measured. Errors of the inputs are not seen: the empirical form sees them too. Source: Nagel et al. 2019,
    "Data-Free Quantization", sections 4.2 and 4.2.1.
    """
    shift = -of_constants(outcome.quantized - outcome.weight, outcome.op, outcome.find_means())
    return Change(np.ones_like(shift), shift)
