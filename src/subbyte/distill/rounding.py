"""Rounding to the values of a format, with gradients: clipped straight-through, and learned step size.

One function serves every format: it knows the values, not the format. For ``y = s * Q(x / s)``, Q the nearest value:

- dy/dx is 1 between the lowest and the highest value, 0 beyond (the clipped straight-through estimator);
- dy/ds is ``Q(u) - u`` for u = x / s between them, Q(u) beyond (LSQ, Esser et al. 2020, equation 3), times
  ``1 / sqrt(count * highest)`` (section 2.2), so that steps move about as fast, relative to their size, as weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from subbyte.formats.format import Format
from subbyte.graph.ir import IntType

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Values between which reals, divided by the step, are rounded.

    Attributes:
        lo: lowest value; a tensor that broadcasts where channels have zero points of their own.
        hi: highest value.
        values: all of them, ascending; None where they are the integers lo .. hi.
        middles: between neighbours; None where values is.
        coded: whether the larger of two equally near values is taken, as where codes are stored; else the lower one.
    """

    lo: Tensor
    hi: Tensor
    values: Tensor | None = None
    middles: Tensor | None = None
    coded: bool = False

    def nearest(self, steps: Tensor, up: bool) -> Tensor:
        """The nearest value of each number; of two equally near integers the larger if ``up``, else the even one."""
        if self.values is None or self.middles is None:
            whole = torch.floor(steps + 0.5) if up else torch.round(steps)
            return torch.clamp(whole, self.lo, self.hi)
        return self.values[torch.bucketize(steps.contiguous(), self.middles, right=self.coded)]

    @property
    def reach(self) -> float:
        """The highest value, which scales a step's gradient; at least 1."""
        return max(1.0, float(self.hi.max()))


def activation_grid(type_: IntType, device: torch.device | str, dtype: torch.dtype = torch.float32) -> Grid:
    """The grid of an activation: stored integers minus the zero point."""
    grid = _grid(type_.format.centred(type_.zero_point), type_.format.uniform, device, dtype)
    return replace(grid, coded=type_.format.coded)


def weight_grid(format_: Format, zero_point: Tensor) -> Grid:
    """The grid of weights in float64: table values minus the zero point.

    Args:
        format_: of the weights.
        zero_point: float64, broadcasts against the weights; 0 unless the format is uniform.
    """
    if format_.uniform:
        return Grid(lo=format_.lo - zero_point, hi=format_.hi - zero_point)
    return _grid(format_.integers, False, zero_point.device, torch.float64)


def _grid(values: Any, uniform: bool, device: torch.device | str, dtype: torch.dtype) -> Grid:
    tensor = torch.as_tensor(np.asarray(values, np.float64), dtype=dtype, device=device)
    if uniform:
        return Grid(lo=tensor[0], hi=tensor[-1])
    return Grid(lo=tensor[0], hi=tensor[-1], values=tensor, middles=(tensor[1:] + tensor[:-1]) / 2)


def rounded(x: Tensor, step: Tensor, grid: Grid, count: int, up: bool = False) -> Tensor:
    """``step * nearest(x / step)`` with gradients for x and step.

    Args:
        x: reals.
        step: positive; broadcasts against x.
        grid: values that are legal.
        count: how many numbers share one step (N of the gradient's scale).
        up: whether ties go up, as in integer rescales; else to the even integer, as codes are taken from reals.
    """
    result: Tensor = _Rounded.apply(x, step, grid, 1.0 / math.sqrt(count * grid.reach), up)  # type: ignore[no-untyped-call]
    return result


class _Rounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Tensor, grid: Grid, share: float, up: bool) -> Tensor:
        steps = x / step
        nearest = grid.nearest(steps, up)
        inside = (steps >= grid.lo) & (steps <= grid.hi)
        if ctx.needs_input_grad[1]:
            ctx.save_for_backward(inside, torch.where(inside, nearest - steps, nearest))
        else:
            ctx.save_for_backward(inside)
        ctx.shape, ctx.share = step.shape, share
        return nearest * step

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        (grad,) = grads
        inside, *slope = ctx.saved_tensors
        for_x = grad * inside if ctx.needs_input_grad[0] else None
        if not slope:
            return for_x, None, None, None, None
        return for_x, (grad * slope[0]).sum_to_size(ctx.shape) * ctx.share, None, None, None


def straight(x: Tensor, unit: Tensor) -> Tensor:
    """Rounded to multiples of ``unit`` (which takes no gradient), straight through."""
    with torch.no_grad():
        change = torch.round(x / unit) * unit - x
    return x + change
