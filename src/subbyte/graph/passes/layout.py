"""How values lie in memory while layouts change: permutations, regrouping reshapes, shuffled columns."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from subbyte.graph.ir import Shape

Perm = tuple[int, ...]


def identity(rank: int) -> Perm:
    """The order of the user's own axes."""
    return tuple(range(rank))


def channels_last(rank: int) -> Perm:
    """Order that brings axis 1 of a channels-first value to the end."""
    return (0, *range(2, rank), 1)


def permuted(shape: Shape, perm: Perm) -> Shape:
    """The shape of a value whose axis i is the user's axis perm[i]."""
    return tuple(shape[axis] for axis in perm)


@dataclass(frozen=True, slots=True)
class Shuffle:
    """Order of the entries of a last axis that the user sees as a flattened block of sizes ``sizes``.

    In memory the block lies with its axes in the order ``order``.
    """

    sizes: tuple[int, ...]
    order: Perm

    def columns(self) -> npt.NDArray[np.int64]:
        """For each entry in memory the user's index."""
        index = np.arange(math.prod(self.sizes), dtype=np.int64)
        return index.reshape(self.sizes).transpose(self.order).reshape(-1)


@dataclass(frozen=True, slots=True)
class Stored:
    """Where a value of the user's graph is: axis i of ``name`` is the user's axis ``perm[i]``.

    With ``shuffle`` (rank 2 only) the entries of the last axis are reordered too.
    """

    name: str
    perm: Perm
    shuffle: Shuffle | None = None

    @property
    def plain(self) -> bool:
        """Whether memory order is the user's order."""
        return self.shuffle is None and self.perm == identity(len(self.perm))


def regroup(before: tuple[int, ...], after: tuple[int, ...]) -> list[tuple[list[int], list[int]]]:
    """Smallest groups of axes whose sizes multiply to the same number, so that a reshape works on each group alone.

    Args:
        before: sizes without batch.
        after: sizes without batch, of the same product.

    Returns:
        Pairs (axes of before, axes of after), counted from 0, axes of length 1 left out.
    """
    left = [(i, d) for i, d in enumerate(before) if d != 1]
    right = [(i, d) for i, d in enumerate(after) if d != 1]
    groups: list[tuple[list[int], list[int]]] = []
    while left:
        axes: tuple[list[int], list[int]] = ([], [])
        products = [1, 1]
        while not axes[0] or products[0] != products[1]:
            side = 0 if products[0] <= products[1] else 1
            axis, size = (left, right)[side].pop(0)
            axes[side].append(axis)
            products[side] *= size
        groups.append(axes)
    return groups


def reshaped(before: tuple[int, ...], after: tuple[int, ...], perm: Perm) -> tuple[Perm, Perm]:
    """How a reshape acts on a value that lies in another order.

    Args:
        before: the user's sizes without batch.
        after: sizes after the reshape, without batch.
        perm: how the operand lies in memory, batch included.

    Returns:
        (wanted, result): the order, batch included, in which the operand must lie so that a plain reshape of memory
        does the work (``perm`` itself wherever possible), and the order in which the result lies then.
    """
    groups = regroup(before, after)
    position = {axis - 1: place for place, axis in enumerate(perm)}
    moving = [axis - 1 for axis in perm if axis > 0 and before[axis - 1] != 1]
    ordered = sorted(groups, key=lambda group: position[group[0][0]])
    wanted = [axis for group in ordered for axis in group[0]]
    if moving != wanted:
        units = [axis for axis in range(len(before)) if before[axis] == 1]
        perm = (0, *(axis + 1 for axis in units + wanted))
    return perm, (0, *(axis + 1 for axis in _spread(ordered, after)))


def _spread(groups: list[tuple[list[int], list[int]]], after: tuple[int, ...]) -> list[int]:
    """All axes of the result in memory order: those of length 1 go before the axis that follows them."""
    if not groups:
        return list(range(len(after)))
    owner: dict[int, int] = {}
    for axis in reversed(range(len(after))):
        owner[axis] = axis if after[axis] != 1 else owner.get(axis + 1, -1)
    last = max(axis for axis, size in enumerate(after) if size != 1)
    result: list[int] = []
    for group in groups:
        for axis in group[1]:
            result += [a for a in range(len(after)) if owner[a] == axis]
            if axis == last:
                result += [a for a in range(len(after)) if owner[a] == -1]
    return result
