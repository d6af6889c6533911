"""A quantized constant: codes, their format, scales and zero points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from subbyte.errors import FormatError
from subbyte.formats.format import Format


@dataclass(frozen=True, kw_only=True, eq=False)
class QTensor:
    """``real = scale * (table[code] - zero_point)``, tested by ``check()`` in this order.

    1. ``codes`` is a uint8 array of rank >= 1 with no axis of length 0.
    2. Every code is below ``format.levels``.
    3. ``axis`` names an axis of codes; it matters only where scale has one entry per channel.
    4. ``scale`` is float32, positive and finite, of shape () or (codes.shape[axis],).
    5. ``zero_point`` is int32 of the shape of ``scale``; 0, or in format.lo .. format.hi where the format is uniform.
    """

    codes: npt.NDArray[np.uint8]
    format: Format
    scale: npt.NDArray[np.float32]
    zero_point: npt.NDArray[np.int32]
    axis: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the codes."""
        return self.codes.shape

    def check(self) -> None:
        """Test the five invariants; FormatError names the first that is broken."""
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
        if zero.dtype != np.int32 or zero.shape != scale.shape:
            raise self._broken(f"zero_point is {zero.dtype}{list(zero.shape)}", "5: int32 like scale")
        legal = (zero >= self.format.lo) & (zero <= self.format.hi) if self.format.uniform else np.False_
        if not np.all((zero == 0) | legal):
            raise self._broken(
                f"{self.format.name} has the zero point {zero.reshape(-1)[np.argmax(np.abs(zero.reshape(-1)))]}",
                "5: 0, or within the values of a uniform format",
            )

    def _broken(self, seen: str, rule: str) -> FormatError:
        return FormatError(seen, f"QTensor invariant {rule}", "build the tensor with formats.quantize_weight")

    def _spread(self, per_channel: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if per_channel.ndim == 0:
            return per_channel
        return per_channel.reshape([-1 if i == self.axis else 1 for i in range(self.codes.ndim)])

    def integers(self) -> npt.NDArray[np.int32]:
        """``table[code] - zero_point`` in int32: what multiplies the activations."""
        centred = self.format.integers[self.codes] - self._spread(self.zero_point)
        return np.asarray(centred, dtype=np.int32)

    def interval(self) -> tuple[int, int]:
        """Smallest and largest of ``integers()``, which need not be made for it: tables ascend."""
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
        """Bytes of the packed codes, without scales and zero points."""
        return self.format.packed_size(self.codes.size)
