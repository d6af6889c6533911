"""Rounding whose errors are made good by the weights that are still to be rounded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from subbyte.errors import DataError
from subbyte.formats.groups import Cells
from subbyte.quantization.methods.state import Problem, Reals, State

DAMPINGS = (0.01, 0.1, 1.0)
"""Of the mean power of the inputs, added to the Hessian's diagonal: the first that makes it positive definite."""

BLOCK = 64
"""Columns whose errors are passed on together to those behind them."""


def gptq(problem: Problem, state: State) -> State:
    """Codes by error feedback (Frantar et al. 2022, "GPTQ", section 3; OBQ in a fixed order).

    Inputs are rounded in the order of falling power; the error of each is spread over the inputs behind it by the
    inverse Hessian's Cholesky factor, so that the layer's result, not its weights, stays put. Scales stay as they are,
    those of groups too.

    The Hessian is damped by 1 % of the inputs' mean power (the paper's value); where rounding of the moments leaves it
    indefinite all the same, by ten and then a hundred times as much, which moves the codes towards the nearest ones.

    Raises:
        DataError: the Hessian is not positive definite even then.
    """
    gram = problem.moments.gram
    groups, k = gram.shape[:2]
    order = np.argsort(-np.diagonal(gram, axis1=1, axis2=2), axis=1, kind="stable")
    hessian = np.take_along_axis(np.take_along_axis(gram, order[:, :, None], 1), order[:, None, :], 2)
    factor = _factor(hessian, problem.moments.power * np.eye(k))
    weight = state.weight.astype(np.float64).reshape(groups, -1, k)
    ordered = np.take_along_axis(weight, order[:, None, :], 2)
    cells = state.tensor.cells().shaped(groups).along(order[:, None, :])
    codes = _rounded(ordered, factor, cells)
    natural = np.take_along_axis(codes, np.argsort(order, axis=1)[:, None, :], 2)
    return replace(state, tensor=replace(state.tensor, codes=natural.reshape(state.weight.shape)))


def _factor(hessian: Reals, unit: Reals) -> Reals:
    """Upper triangular U [groups, K, K] with U^T U = (hessian + damping * unit)^-1."""
    for damping in DAMPINGS:
        try:
            damped = hessian + damping * unit
            np.linalg.cholesky(damped)  # an indefinite matrix may still have an inverse
            return np.asarray(np.linalg.cholesky(np.linalg.inv(damped)).transpose(0, 2, 1))
        except np.linalg.LinAlgError:
            continue
    raise DataError(
        f"the second moments of {hessian.shape[1]} inputs are not positive definite after damping of {DAMPINGS[-1]:g}",
        "error feedback needs a positive definite Hessian",
        "give more calibration samples, or leave gptq out of the recipe's methods",
    )


def _rounded(weight: Reals, factor: Reals, cells: Cells) -> npt.NDArray[np.uint8]:
    """Codes of [groups, O / groups, K], column by column; ``weight`` is used up."""
    k = weight.shape[2]
    codes = np.empty(weight.shape, dtype=np.uint8)
    for first in range(0, k, BLOCK):
        last = min(first + BLOCK, k)
        errors = np.empty((*weight.shape[:2], last - first))
        for j in range(first, last):
            column, own = weight[:, :, j], cells.column(j)
            codes[:, :, j] = own.encode(column)
            rest = column - own.decode(codes[:, :, j])
            errors[:, :, j - first] = rest / factor[:, j, j][:, None]
            weight[:, :, j:last] -= errors[:, :, j - first, None] * factor[:, None, j, j:last]
        weight[:, :, last:] -= errors @ factor[:, first:last, last:]
    return codes
