"""Weights that make up for what the quantized prefix did to a layer's inputs."""

from __future__ import annotations

import numpy as np

from subbyte.quantization.methods.state import Problem, State

RIDGE = 0.02
"""Of the mean power of the inputs, towards the trained weights."""

RIDGE_PER_UNKNOWN = 2.0
"""More of it where there are few windows for each unknown."""


def refit(problem: Problem, state: State) -> State:
    """Ridge least squares: layer(quantized input) comes as near to the float layer's result as weights can bring it.

    W' = W + (C - W H) (H + ridge)^-1 with H and C the moments of ``Moments``: the distance to the trained weights is
    what the ridge holds down, not the weights themselves. In closed form; constant inputs change nothing.
    """
    moments = problem.moments
    groups, _, k = moments.cross.shape
    weight = state.weight.astype(np.float64).reshape(groups, -1, k)
    ridge = (RIDGE + RIDGE_PER_UNKNOWN * k / moments.rows) * moments.power * np.eye(k)
    missing = moments.cross - weight @ moments.gram
    change = np.linalg.solve(moments.gram + ridge, missing.transpose(0, 2, 1)).transpose(0, 2, 1)
    fitted = (weight + change).astype(np.float32).reshape(state.weight.shape)
    return State(weight=fitted, tensor=problem.find_scales(fitted, None))
