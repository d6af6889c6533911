"""A quantized constant: codes, their format, scales, zero points and perhaps scales of groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from subbyte.errors import FormatError
from subbyte.formats.format import Format
from subbyte.formats.groups import MOST_SIZE, Cells, Groups, cells_within, group_count

_MOST_SCALE = 2**15


@dataclass(frozen=True, kw_only=True, eq=False)
class QTensor:
    """``real = scale * group_scale * (table[code] - zero_point)``, tested by ``check()`` in this order.

    ``group_scale`` is 1 where there are no groups.

    1. ``codes`` is a uint8 array of rank >= 1 with no axis of length 0.
    2. Every code is below ``format.levels``.
    3. ``axis`` names an axis of codes; it matters only where scale has one entry per channel.
    4. ``scale`` is float32, positive and finite, of shape () or (codes.shape[axis],).
    5. ``zero_point`` is int32 of the shape of ``scale``, or of ``groups.scale`` where there are groups; 0, or in
       format.lo .. format.hi where the format is uniform.
    6. ``groups`` is None, or: codes have rank >= 2, axis is 0, the size is in 1..2**24, scales are int32 [O, groups of
       a channel], in 1..2**15, and every integer of the tensor is within 16 bits.
    """

    codes: npt.NDArray[np.uint8]
    format: Format
    scale: npt.NDArray[np.float32]
    zero_point: npt.NDArray[np.int32]
    axis: int = 0
    groups: Groups | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the codes."""
        return self.codes.shape

    def check(self) -> None:
        """Test the six invariants; FormatError names the first that is broken."""
        codes, scale, zero = self.codes, self.scale, self.zero_point
        if codes.dtype != np.uint8 or codes.ndim < 1 or 0 in codes.shape:
            raise self._broken(f"codes are {codes.dtype}{list(codes.shape)}", "1: uint8, rank >= 1, no empty axis")
        if int(codes.max()) >= self.format.levels:
            raise self._broken(f"the largest code is {codes.max()}", f"2: codes stay below {self.format.levels}")
        if not 0 <= self.axis < codes.ndim:
            raise self._broken(f"axis is {self.axis}", f"3: axis lies in 0..{codes.ndim - 1}")
        if scale.dtype != np.float32 or scale.shape not in {(), (codes.shape[self.axis],)}:
            raise self._broken(f"scale is {scale.dtype}{list(scale.shape)}", "4: one float32 per tensor or channel")
        if not (np.all(np.isfinite(scale)) and np.all(scale > 0)):
            raise self._broken("a scale is not positive and finite", "4: scales are positive and finite")
        if zero.dtype != np.int32 or zero.shape != (scale if self.groups is None else self.groups.scale).shape:
            raise self._broken(f"zero_point is {zero.dtype}{list(zero.shape)}", "5: int32 like scales")
        legal = (zero >= self.format.lo) & (zero <= self.format.hi) if self.format.uniform else np.False_
        if not np.all((zero == 0) | legal):
            raise self._broken(
                f"{self.format.name} has the zero point {zero.reshape(-1)[np.argmax(np.abs(zero.reshape(-1)))]}",
                "5: 0, or within the values of a uniform format",
            )

        if self.groups is not None:
            self._check_groups(self.groups)

    def _check_groups(self, groups: Groups) -> None:
        size, scale = groups.size, groups.scale
        if self.codes.ndim < 2 or self.axis != 0:
            raise self._broken(f"codes {list(self.shape)} of axis {self.axis} have groups", "6: rank >= 2, axis 0")
        if type(size) is not int or not 1 <= size <= MOST_SIZE:
            raise self._broken(f"groups of {size!r} weights", f"6: a size is in 1..{MOST_SIZE}")
        if scale.dtype != np.int32 or scale.shape != (self.shape[0], group_count(self.shape, size)):
            raise self._broken(f"group scales are {scale.dtype}{list(scale.shape)}", "6: one int32 per group")
        if int(scale.min()) < 1 or int(scale.max()) > _MOST_SCALE:
            raise self._broken(f"group scales are {scale.min()}..{scale.max()}", f"6: they lie in 1..{_MOST_SCALE}")
        if not self.format.fits_int16 or max(map(abs, self.interval())) > _MOST_SCALE:
            raise self._broken("integers leave 16 bits", f"6: scale * (value - zero point) is within +-{_MOST_SCALE}")

    def _broken(self, seen: str, rule: str) -> FormatError:
        return FormatError(seen, f"QTensor invariant {rule}", "build the tensor with formats.quantize_weight")

    def _spread(self, per_channel: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if self.groups is not None and per_channel.ndim == 2:
            return self.groups.spread(per_channel, self.shape)
        if per_channel.ndim == 0:
            return per_channel
        return per_channel.reshape([-1 if i == self.axis else 1 for i in range(self.codes.ndim)])

    def integers(self) -> npt.NDArray[np.int32]:
        """``group_scale * (table[code] - zero_point)`` in int32: what multiplies the activations."""
        centred = self.format.integers[self.codes] - self._spread(self.zero_point)
        if self.groups is not None:
            centred = centred * self._spread(self.groups.scale)
        return np.asarray(centred, dtype=np.int32)

    def cells(self) -> Cells:
        """What its weights may become, as rows [O, K], or [O, 1] where a channel's share that; the axis is 0.

        Codes whose integers leave +-127 may not be used in their group.
        """
        channels = self.shape[0]
        scale = np.broadcast_to(self.scale.astype(np.float64).reshape(-1, 1), (channels, 1))
        if self.groups is None:
            zero = np.broadcast_to(self.zero_point.astype(np.int64).reshape(-1, 1), (channels, 1))
            return Cells(format=self.format, step=scale, zero=zero)
        rows = (channels, self.codes.size // channels)
        m, zero = (self.groups.spread(v.astype(np.int64), rows) for v in (self.groups.scale, self.zero_point))
        return cells_within(self.format, scale, m, zero)

    def interval(self) -> tuple[int, int]:
        """Smallest and largest of ``integers()``, which need not be made for it without groups: tables ascend."""
        if self.groups is not None:
            integers = self.integers()
            return int(integers.min()), int(integers.max())
        apart = self.zero_point.ndim == 1 and bool(self.zero_point.any())
        axes = tuple(i for i in range(self.codes.ndim) if i != self.axis) if apart else None
        smallest = self.format.integers[self.codes.min(axis=axes)] - self.zero_point
        largest = self.format.integers[self.codes.max(axis=axes)] - self.zero_point
        return int(np.min(smallest)), int(np.max(largest))

    def dequantize(self) -> npt.NDArray[np.float32]:
        """The reals, float32."""
        return np.asarray(self.integers() * self._spread(self.scale), dtype=np.float32)

    def pack(self) -> bytes:
        """The codes as the bytes stored in files, in C order."""
        return self.format.pack(self.codes)

    @property
    def packed_size(self) -> int:
        """Bytes of the packed codes, without scales, group scales and zero points."""
        return self.format.packed_size(self.codes.size)
