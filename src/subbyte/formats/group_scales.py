"""Integer scales of groups: chosen together with the real scale of their channel.

First every group finds its own best real scale, as if it were a channel (``quantize.best_scales``), and its zero point.
Then a channel's real scale is searched, every group taking the integer next to its wish, and last the integers and the
real scale are moved in turns while the (weighted) squared error falls. As in "Dual Grained Quantization" (Zhang et al.
2023, arXiv 2310.04836, and its code) in two phases; new are zero points and integers that are chosen by error.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from subbyte.formats.format import Format
from subbyte.formats.granularity import PerGroup
from subbyte.formats.groups import LIMIT, Groups, cells_within, group_count
from subbyte.formats.qtensor import QTensor
from subbyte.formats.scales import SMALLEST, Grid, best_scales, clipless, exact_error, single, zero_points

Reals = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

FRACTIONS: tuple[float, ...] = (1.0, *np.linspace(0.65, 1.4, 31).tolist())
"""Of the real scale with which the largest group just fills +-127."""

TURNS = 3
"""Rounds of moving integers, then the real scale."""

MOST_MIRRORED = 16
"""Levels up to which the side of a two's complement grid's odd value is chosen by group or channel."""


def lopsided(format: Format) -> bool:
    """Whether weights may gain from the mirrored grid: one more value below 0 than above, and few values."""
    return format.uniform and format.lo == -format.hi - 1 and format.levels <= MOST_MIRRORED


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Scales and zero points of a tensor [O, K].

    Attributes:
        scale: float64 numbers of float32, [O]; 0 for channels of zeros.
        group_scale: [O, groups].
        zero_point: [O, groups].
    """

    scale: Reals
    group_scale: Integers
    zero_point: Integers


@dataclass(frozen=True, kw_only=True)
class _Problem:
    """Weights as groups [O, groups, size], padded with zeros of no importance."""

    format: Format
    weights: Reals
    importance: Reals | None
    most: int
    powers: bool

    def error(self, scale: Reals, group_scale: Integers, zero: Integers) -> Reals:
        """(Weighted) squared error of every group, [O, groups]; channels of scale 0 are read as zeros."""
        gap = self.integers(scale, group_scale, zero) * scale[:, None, None] - self.weights
        return np.asarray(np.sum(gap * gap if self.importance is None else self.importance * gap * gap, axis=2))

    def integers(self, scale: Reals, group_scale: Integers, zero: Integers) -> Reals:
        """Integers of the nearest codes, [O, groups, size]."""
        m, z = group_scale[:, :, None], zero[:, :, None]
        cells = cells_within(self.format, np.where(scale > 0, scale, 1.0)[:, None, None], m, z)
        return np.asarray(m * (self.format.values[cells.encode(self.weights)] - z))

    def nearest(self, wish: Reals, upwards: bool = False) -> Integers:
        """Legal group scales near, or not below, real ones."""
        return near_integers(wish, self.most, self.powers, upwards)

    def moved(self, group_scale: Integers, by: int) -> Integers:
        """Legal group scales ``by`` places further up or down."""
        wide = group_scale + by
        if self.powers:
            wide = group_scale << by if by > 0 else group_scale >> -by
        return np.asarray(np.clip(wide, 1, self.most), dtype=np.int64)


def carried(tensor: QTensor, scale: npt.NDArray[np.float32]) -> QTensor:
    """The tensor under other scales of its channels, with integers of groups that keep their steps near what they were.

    Codes stay, so they want to be taken again (``requantize_with_scale``).
    """
    if tensor.groups is None:
        return replace(tensor, scale=scale)
    ratio = np.reshape(tensor.scale.astype(np.float64) / scale, (-1, 1))
    wish = tensor.groups.scale.astype(np.float64) * ratio
    near = near_integers(wish, LIMIT, tensor.groups.powers)
    return replace(tensor, scale=scale, groups=Groups(size=tensor.groups.size, scale=near.astype(np.int32)))


def near_integers(wish: Reals, most: int, powers: bool, upwards: bool = False) -> Integers:
    """Group scales in 1..most near, or not below, real ones; as powers of two next to them in ratio."""
    if powers:
        exponent = np.log2(np.maximum(wish, 2.0**-20))
        whole = np.ceil(exponent - 1e-9) if upwards else np.rint(exponent)
        return np.left_shift(1, np.clip(whole, 0, most.bit_length() - 1).astype(np.int64))
    whole = np.ceil(wish - 1e-9) if upwards else np.rint(wish)
    return np.asarray(np.clip(whole, 1, most), dtype=np.int64)


def choose(
    rows: Reals, format: Format, granularity: PerGroup, search: bool, importance: Reals | None, symmetric: bool
) -> Choice:
    """Scales and zero points of weights in rows.

    Args:
        rows: [O, K].
        format: number format.
        granularity: size and kind of groups.
        search: by squared error; otherwise nothing is clipped as far as integer scales go.
        importance: of each squared error, [O, K], or None for 1.
        symmetric: False gives groups a zero point.

    Raises:
        FormatError: the granularity refuses the format.
    """
    most = granularity.most(format, symmetric)
    weights = _grouped(rows, granularity.size)
    padded = weights.size != rows.size
    if importance is None and padded:
        importance = np.ones_like(rows)
    weight = None if importance is None else _grouped(importance, granularity.size)
    problem = _Problem(format=format, weights=weights, importance=weight, most=most, powers=granularity.powers)
    found = _start(problem, symmetric, search=False)
    if search:
        found = _better(problem, found, _improved(problem, _start(problem, symmetric, search=True)))
    return found


def _start(problem: _Problem, symmetric: bool, search: bool) -> Choice:
    """What groups wish, then integers next to that."""
    wish, zero = _wishes(problem, search, symmetric)
    scale, group_scale = _first(problem, wish, zero, search)
    alive = (scale >= SMALLEST) & (wish.max(axis=1) >= SMALLEST)
    return Choice(
        scale=np.where(alive, scale, 0.0), group_scale=np.where(alive[:, None], group_scale, 1), zero_point=zero
    )


def _better(problem: _Problem, first: Choice, second: Choice) -> Choice:
    """Channel by channel what has the smaller error; the first on ties."""
    a, b = (problem.error(c.scale, c.group_scale, c.zero_point).sum(axis=1) for c in (first, second))
    take = b < a
    return Choice(
        scale=np.where(take, second.scale, first.scale),
        group_scale=np.where(take[:, None], second.group_scale, first.group_scale),
        zero_point=np.where(take[:, None], second.zero_point, first.zero_point),
    )


def _grouped(rows: Reals, size: int) -> Reals:
    """[O, groups, size], padded with zeros."""
    channels, inputs = rows.shape
    groups, wide = group_count(rows.shape, size), min(size, inputs)
    padded = np.zeros((channels, groups * wide))
    padded[:, :inputs] = rows
    return padded.reshape(channels, groups, wide)


def _wishes(problem: _Problem, search: bool, symmetric: bool) -> tuple[Reals, Integers]:
    """The real scale that each group would like best, and its zero point: [O, groups]."""
    shape, format = problem.weights.shape, problem.format
    rows = problem.weights.reshape(-1, shape[2])
    weight = None if problem.importance is None else problem.importance.reshape(rows.shape)
    first = zero_points(rows, format, symmetric)
    shifts: tuple[int, ...] = (0, 1, -1) if search else (0,)
    if symmetric:
        shifts = (0, -1) if lopsided(format) else (0,)
    best, least, zeros = np.zeros(len(rows)), np.full(len(rows), np.inf), first
    for shift in shifts:
        zero = np.clip(first + shift, format.lo, format.hi) if shift else first
        grid = Grid(format=format, zero_point=zero)
        scale = single(clipless(rows, grid))
        alive = scale >= SMALLEST
        if search and alive.any():
            scale[alive] = best_scales(rows, grid, scale, weight, alive)
        error = np.zeros(len(rows))
        if alive.any():
            live = Grid(format=format, zero_point=zero[alive])
            error[alive] = exact_error(rows[alive], live, scale[alive], None if weight is None else weight[alive])
        better = error < least
        best, least, zeros = (np.where(better, a, b) for a, b in ((scale, best), (error, least), (zero, zeros)))
    return best.reshape(shape[:2]), zeros.reshape(shape[:2])


def _first(problem: _Problem, wish: Reals, zero: Integers, search: bool) -> tuple[Reals, Integers]:
    """The channel's real scale and the groups' integers next to their wishes."""
    table = problem.format
    reach = np.maximum(table.hi - zero, zero - table.lo)
    if problem.powers:
        top = np.ceil(np.log2(np.maximum(wish.max(axis=1), SMALLEST)) - 1e-9)
        full = np.exp2(np.maximum(top - (problem.most.bit_length() - 1), -126.0))
        fractions: tuple[float, ...] = (1.0, 0.5, 2.0, 0.25)
    else:
        full, fractions = (wish * np.minimum(reach, LIMIT)).max(axis=1) / LIMIT, FRACTIONS
    best = single(full)
    if not search:
        return best, problem.nearest(wish / np.where(best > 0, best, 1.0)[:, None], upwards=True)
    integers = np.ones(zero.shape, dtype=np.int64)
    least = np.full(len(best), np.inf)
    for fraction in fractions:
        scale = np.maximum(single(full * fraction), SMALLEST)
        near = problem.nearest(wish / scale[:, None])
        error = problem.error(scale, near, zero).sum(axis=1)
        better = error < least
        best, least = np.where(better, scale, best), np.where(better, error, least)
        integers = np.where(better[:, None], near, integers)
    return np.where(full >= SMALLEST, best, 0.0), integers


def _improved(problem: _Problem, start: Choice) -> Choice:
    """Integers, then the real scale, each where that lowers the error."""
    scale, group_scale, zero = start.scale, start.group_scale, start.zero_point
    error = problem.error(scale, group_scale, zero)
    for _ in range(TURNS):
        for by in (1, -1) if problem.powers else (1, -1, 2, -2):
            moved = problem.moved(group_scale, by)
            changed = problem.error(scale, moved, zero)
            better = changed < error
            group_scale, error = np.where(better, moved, group_scale), np.where(better, changed, error)
        if problem.powers:
            continue
        fitted = _fitted(problem, scale, group_scale, zero)
        changed = problem.error(fitted, group_scale, zero)
        good = (changed.sum(axis=1) < error.sum(axis=1)) & (scale > 0)
        scale, error = np.where(good, fitted, scale), np.where(good[:, None], changed, error)
    return Choice(scale=scale, group_scale=group_scale, zero_point=zero)


def _fitted(problem: _Problem, scale: Reals, group_scale: Integers, zero: Integers) -> Reals:
    """The least-squares scale beside the codes: sum(w q) / sum(q q); ``scale`` itself where that is 0."""
    q = problem.integers(scale, group_scale, zero)
    weighted = q if problem.importance is None else problem.importance * q
    above, below = (np.sum(weighted * x, axis=(1, 2)) for x in (problem.weights, q))
    fitted = single(np.divide(above, below, out=scale.copy(), where=below > 0))
    return np.where(fitted >= SMALLEST, fitted, scale)
