"""Scales chosen by what they do to the layer's result, not to its weights."""

from __future__ import annotations

import numpy as np

from subbyte.quantization.methods.state import Problem, State


def rescale(problem: Problem, state: State) -> State:
    """Search the scales again, each weight's error weighted by the power of its input (the Hessian's diagonal)."""
    gram = problem.moments.gram
    power = np.diagonal(gram, axis1=1, axis2=2)
    outputs = len(state.weight) // len(power)
    importance = np.repeat(power, outputs, axis=0).reshape(state.weight.shape)
    return State(weight=state.weight, tensor=problem.find_scales(state.weight, importance))
