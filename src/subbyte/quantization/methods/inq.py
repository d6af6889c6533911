"""Codes in portions: the largest weights first, and those that are left make up for what that did."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from subbyte.quantization.methods.gptq import DAMPINGS
from subbyte.quantization.methods.state import Problem, Reals, State

SHARES = (0.5, 0.75, 0.875, 1.0)
"""Of each channel's weights that have their codes after each portion (the paper's table 1)."""

STEPS = 60
"""Of conjugate gradients at most, for each re-fit."""

SMALL = 1e-6
"""Of the first residual: where they stop."""


def inq(problem: Problem, state: State) -> State:
    """Codes by incremental partition.

    Half of each channel's weights, the largest, get their nearest codes, and the others are moved so that the layer's
    result stays put; then half of those that are left, and so on.

    Zhou et al. 2017, "Incremental network quantization", sections 2.2 and 2.3, with powers of two as the format; any
    other will do. There the rest is trained again with labels; here it is fitted again by least squares to the float
    layer's results on the calibration samples, damped as in ``gptq``, which wants none. Scales stay as they are.
    """
    gram = problem.moments.gram
    groups, k = gram.shape[:2]
    hessian = gram + DAMPINGS[0] * problem.moments.power * np.eye(k)
    tensor = state.tensor
    wanted = state.weight.astype(np.float64).reshape(groups, -1, k)
    cells = tensor.cells().shaped(groups)
    weight, fixed = wanted.copy(), np.zeros(wanted.shape, dtype=bool)
    codes = np.zeros(wanted.shape, dtype=tensor.codes.dtype)
    for share in SHARES:
        portion = _largest(weight, fixed, round(share * k) if share < 1 else k)
        nearest = cells.encode(weight)
        codes[portion] = nearest[portion]
        weight[portion] = cells.decode(nearest)[portion]
        fixed |= portion
        if not fixed.all():
            weight += _made_up(weight - wanted, hessian, ~fixed)
    return replace(state, tensor=replace(tensor, codes=codes.reshape(tensor.codes.shape)))


def _largest(weight: Reals, fixed: npt.NDArray[np.bool_], count: int) -> npt.NDArray[np.bool_]:
    """The largest magnitudes of each row among those that are not fixed, as many as bring it to ``count`` fixed."""
    magnitude = np.where(fixed, np.inf, np.abs(weight))
    order = np.argsort(-magnitude, axis=-1, kind="stable")
    chosen = np.zeros(fixed.shape, dtype=bool)
    np.put_along_axis(chosen, order[..., :count], np.True_, axis=-1)
    return chosen & ~fixed


def _made_up(gap: Reals, hessian: Reals, free: npt.NDArray[np.bool_]) -> Reals:
    """The change d of free weights with the least (gap + d) H (gap + d)^T of each row, by conjugate gradients."""
    change = np.zeros_like(gap)
    residual = np.where(free, -(gap @ hessian), 0.0)
    direction = residual.copy()
    power = np.sum(residual * residual, axis=-1, keepdims=True)
    end = SMALL * SMALL * power
    for _ in range(STEPS):
        going = power > end
        if not going.any():
            break
        image = np.where(free, direction @ hessian, 0.0)
        bend = np.sum(direction * image, axis=-1, keepdims=True)
        length = np.divide(power, bend, out=np.zeros_like(power), where=going & (bend > 0))
        change += length * direction
        residual -= length * image
        before, power = power, np.sum(residual * residual, axis=-1, keepdims=True)
        direction = residual + np.divide(power, before, out=np.zeros_like(power), where=before > 0) * direction
    return change
