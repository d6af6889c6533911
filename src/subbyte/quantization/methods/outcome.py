"""What the corrections know of a layer whose codes are found, and what they may change about its results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from subbyte.graph.passes.links import End

if TYPE_CHECKING:
    import torch

    Chunks: TypeAlias = list[torch.Tensor]

Reals = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ChannelMoments:
    """Mean and standard deviation of every channel, float64 [O], each measured when it is first asked for.

    Over everything but the channels, which come last; one chunk at a time is held in float64.
    """

    chunks: Chunks

    @cached_property
    def mean(self) -> Reals:
        """Of all numbers of each channel."""
        mean = np.zeros(self._channels)
        for chunk in self.chunks:
            mean += chunk.reshape(-1, self._channels).double().sum(dim=0).numpy() / self._count
        return mean

    @cached_property
    def deviation(self) -> Reals:
        """Around the mean."""
        square = np.zeros(self._channels)
        for chunk in self.chunks:
            centred = chunk.reshape(-1, self._channels).double().numpy() - self.mean
            square += np.square(centred).sum(axis=0) / self._count
        return np.sqrt(square)

    @property
    def _channels(self) -> int:
        return self.chunks[0].shape[-1]

    @property
    def _count(self) -> int:
        return sum(chunk.numel() for chunk in self.chunks) // self._channels


class Change(NamedTuple):
    """Results y become ``factor * y + shift``, both float64 [O]; factors are positive."""

    factor: Reals
    shift: Reals


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One layer behind the quantized prefix, its codes found.

    Attributes:
        op: the layer.
        exact: chunks of the float layer's results before its activation, channels last.
        coarse: the same of the quantized layer.
        weight: float64 reals that the codes stand for, output channel first.
        quantized: the reals of the codes.
        find_means: means of the float input's channels: from batch norms where they say so, else measured.
        scalable: whether every output channel has a scale of its own that may be multiplied by any number.
    """

    op: End
    exact: Chunks
    coarse: Chunks
    weight: Reals
    quantized: Reals
    find_means: Callable[[], Reals]
    scalable: bool

    @cached_property
    def wanted(self) -> ChannelMoments:
        """Of the float results."""
        return ChannelMoments(self.exact)

    @cached_property
    def got(self) -> ChannelMoments:
        """Of the quantized results."""
        return ChannelMoments(self.coarse)


Correction: TypeAlias = Callable[[Outcome], Change]
"""A step behind the weight methods."""
