"""How many values share one scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from subbyte.errors import FormatError, unknown_name


@dataclass(frozen=True)
class PerTensor:
    """One scale for the whole tensor."""

    name = "per_tensor"
    axis = 0

    def scale_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of scale and zero point: ()."""
        del shape
        return ()

    def rows(self, array: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The values that share a scale as rows: [1, everything]."""
        return array.reshape(1, -1)


@dataclass(frozen=True)
class PerChannel:
    """One scale for each index along ``axis`` (the output channel of a weight is axis 0)."""

    axis: int = 0
    name = "per_channel"

    def scale_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of scale and zero point: (shape[axis],).

        Raises:
            FormatError: the tensor has no such axis.
        """
        if not 0 <= self.axis < len(shape):
            raise FormatError(
                f"scales per channel along axis {self.axis} of a tensor of shape {list(shape)}",
                "the axis is 0 or more and below the rank",
                "name the output-channel axis, or use per_tensor",
            )
        return (shape[self.axis],)

    def rows(self, array: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The values that share a scale as rows: [channels, everything else]."""
        return np.moveaxis(array, self.axis, 0).reshape(array.shape[self.axis], -1)


Granularity: TypeAlias = PerTensor | PerChannel
GRANULARITIES: tuple[str, ...] = (PerTensor.name, PerChannel.name)


def get_granularity(name: str, axis: int = 0) -> Granularity:
    """The granularity of a recipe's word, ``per_tensor`` or ``per_channel``.

    Raises:
        FormatError: unknown, with near misses.
    """
    if name == PerTensor.name:
        return PerTensor()
    if name == PerChannel.name:
        return PerChannel(axis)
    raise FormatError(*unknown_name("granularity", name, GRANULARITIES))
