"""Codes and scales moved one at a time, each to the best place beside all others as they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from subbyte.formats.qtensor import QTensor
from subbyte.quantization.methods.gptq import BLOCK, DAMPINGS
from subbyte.quantization.methods.state import Problem, Reals, State

SWEEPS = 6
"""At most; few codes move after the third."""

MOST_LEVELS = 5
"""Of formats that it is used for. With 8 levels the gain was small and not there on every network that was tried;
``docs/results/ptq.md`` has 2 bits and ternary with it and without (``refit_rescale_gptq``)."""


def descent(problem: Problem, state: State) -> State:
    """Coordinate descent on the damped error of the layer's result, from the codes that are there.

    Error feedback rounds each input once, knowing nothing of those that follow. Here inputs are visited again: with all
    other codes as they are, a weight's best real is known in closed form, and the nearest code to it is the best one
    (Behdin et al. 2023, "QuantEase", section 3). Between two sweeps each channel's scale moves to its best place beside
    the codes, which is closed too, where the arithmetic leaves scales free. Neither step can make the error larger.

    Formats of more than ``MOST_LEVELS`` are left as they are: there error feedback comes near enough.
    """
    if state.tensor.format.levels > MOST_LEVELS:
        return state
    gram = problem.moments.gram
    groups, k = gram.shape[:2]
    hessian = gram + DAMPINGS[0] * problem.moments.power * np.eye(k)
    weight = state.weight.astype(np.float64).reshape(groups, -1, k)
    order = np.argsort(-np.diagonal(gram, axis1=1, axis2=2).mean(axis=0), kind="stable")
    tensor = state.tensor
    for sweep in range(SWEEPS):
        tensor, moved = _swept(weight, tensor, hessian, order)
        if problem.least_scale is not None:
            tensor = _scaled(weight, tensor, hessian, problem.least_scale)
        if moved == 0 and (sweep > 0 or problem.least_scale is None):
            break
    return replace(state, tensor=tensor)


def _reals(tensor: QTensor, shape: tuple[int, ...]) -> Reals:
    return tensor.cells().decode(tensor.codes.reshape(len(tensor.codes), -1)).reshape(shape)


def _swept(weight: Reals, tensor: QTensor, hessian: Reals, order: npt.NDArray[np.intp]) -> tuple[QTensor, int]:
    """Every input once, in blocks; and how many codes moved."""
    shape, cells = weight.shape, tensor.cells().shaped(len(weight))
    codes, real = tensor.codes.reshape(shape).copy(), _reals(tensor, shape)
    slope = (real - weight) @ hessian
    moved = 0
    for first in range(0, shape[2], BLOCK):
        block = order[first : first + BLOCK]
        inner, near = hessian[:, block[:, None], block], slope[:, :, block]
        change = np.zeros(near.shape)
        for i, j in enumerate(block):
            own = cells.column(j)
            best = own.encode(real[:, :, j] - near[:, :, i] / inner[:, i, i][:, None])
            change[:, :, i] = own.decode(best) - real[:, :, j]
            moved += int(np.count_nonzero(best != codes[:, :, j]))
            codes[:, :, j] = best
            near += change[:, :, i, None] * inner[:, None, i, :]
        slope += change @ hessian[:, block, :]
        real[:, :, block] += change
    return replace(tensor, codes=codes.reshape(tensor.codes.shape)), moved


def _scaled(weight: Reals, tensor: QTensor, hessian: Reals, least: Reals) -> QTensor:
    """Scales that make the error least beside the codes, down to ``least``."""
    real = _reals(tensor, weight.shape)
    met, own = (np.einsum("gok,gok->go", x @ hessian, real).reshape(-1) for x in (weight, real))
    if tensor.scale.ndim == 0:
        met, own = met.sum(keepdims=True), own.sum(keepdims=True)
    good = (met > 0) & (own > 0)
    factor = np.where(good, met, 1.0) / np.where(good, own, 1.0)
    scale = np.maximum(tensor.scale.astype(np.float64) * factor.reshape(tensor.scale.shape), least)
    return replace(tensor, scale=scale.astype(np.float32))
