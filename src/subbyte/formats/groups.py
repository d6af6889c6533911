"""Groups of weights with an integer scale each, and what that scale leaves of a format's codes.

Which weights form a group: those of one output channel (axis 0) in the order in which they lie in memory, [kh, kw,
C / groups] of a convolution with channels fastest, [K] of a linear layer. Weight k of a channel belongs to group
``k // size``. The last group is shorter where the size does not divide K; a size above K makes one group.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from subbyte.arithmetic.rounding import Seed

if TYPE_CHECKING:
    from subbyte.formats.format import Format
    from subbyte.formats.packing import Codes

Reals = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

LIMIT = 127
"""Largest |group scale * (table value - zero point)| of weights that are quantized here, so that int8 holds them."""

MOST_SIZE = 2**24
"""Largest size of a group."""


def group_count(shape: tuple[int, ...], size: int) -> int:
    """How many groups a channel of a tensor [O, ...] has."""
    return -(-int(np.prod(shape[1:], dtype=np.int64)) // size)


@dataclass(frozen=True, kw_only=True, eq=False)
class Groups:
    """Integer scales of the groups of a tensor [O, ...]; ``QTensor.check`` has their invariants.

    Attributes:
        size: weights of a group.
        scale: int32 [O, groups of a channel], 1 or more.
    """

    size: int
    scale: npt.NDArray[np.int32]

    @property
    def powers(self) -> bool:
        """Whether all scales are powers of two."""
        return not np.any(self.scale & (self.scale - 1))

    def spread(self, per_group: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """What each group has, [O, groups], for each weight: ``shape``."""
        inputs = int(np.prod(shape[1:], dtype=np.int64))
        return np.asarray(per_group[:, np.arange(inputs) // self.size].reshape(shape))


@dataclass(frozen=True, kw_only=True)
class Cells:
    """What weights may become, broadcast against them: ``step * (table[code] - zero)``, of a group's codes.

    Attributes:
        format: number format.
        step: real between consecutive integers.
        zero: zero point, in table units.
        window: smallest and largest code that may be used; None where all may.
    """

    format: Format
    step: Reals
    zero: Integers
    window: tuple[npt.NDArray[np.int16], npt.NDArray[np.int16]] | None = None

    def encode(self, x: npt.ArrayLike, rounding: str = "half_even", seed: Seed = None) -> Codes:
        """The nearest codes among those that may be used."""
        codes = self.format.encode(x, self.step, self.zero, rounding, seed)
        if self.window is None:
            return codes
        return np.asarray(np.clip(codes, *self.window), dtype=codes.dtype)

    def decode(self, codes: Codes) -> Reals:
        """The reals of codes, float64."""
        return self.format.decode(codes, self.step, self.zero)

    def shaped(self, parts: int) -> Cells:
        """Rows [O, ...] as [parts, O / parts, ...]."""
        return self._each(lambda values: values.reshape(parts, -1, values.shape[-1]))

    def along(self, order: npt.NDArray[np.intp]) -> Cells:
        """Those of weights whose last axis is taken in an order."""
        return self._each(
            lambda values: (
                values
                if values.shape[-1] == 1
                else np.take_along_axis(values, np.broadcast_to(order, values.shape), -1)
            )
        )

    def column(self, j: int) -> Cells:
        """Those of one index of the last axis, which is gone."""
        return self._each(lambda values: values[..., j if values.shape[-1] > 1 else 0])

    def _each(self, change: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]) -> Cells:
        window = None if self.window is None else (change(self.window[0]), change(self.window[1]))
        return Cells(format=self.format, step=change(self.step), zero=change(self.zero), window=window)


def cells_within(format: Format, scale: Reals, group_scale: Integers, zero: Integers) -> Cells:
    """Cells of groups, of codes whose integers ``group_scale * (table[code] - zero)`` stay within +-127.

    Args:
        format: number format.
        scale: of channels; broadcasts against the others.
        group_scale: 1 or more.
        zero: zero point, in table units.
    """
    reach, table = LIMIT // group_scale, format.integers
    low = np.searchsorted(table, zero - reach, side="left").astype(np.int16)
    high = (np.searchsorted(table, zero + reach, side="right") - 1).astype(np.int16)
    return Cells(format=format, step=scale * group_scale, zero=zero, window=(low, high))
